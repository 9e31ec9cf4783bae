"""Settings of a client: `ClientPolicy` and its parts. See config.py.

The strings below the fields say what does not fit into docs/settings.md, hence over 300 lines. "Our targets" are those
that drain resolves itself (`kubernetes:`, `static:`, ...); the others are grpc's own (`dns:`, `ipv4:`, ...).
"""
# ruff: noqa: RUF009  # duration and setting return dataclasses.field(...), once per class, which is what is wanted

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias, get_args

from drain._server_settings import ServerKeepalive
from drain._settings import SHORTEST, Settings, duration, setting, text

if TYPE_CHECKING:
    from drain._settings import Codes, OptionalJson, OptionalSeconds, Seconds

LoadBalancing: TypeAlias = Literal["round_robin", "pick_first", "ring_hash", "weighted_round_robin"]

RETRYABLE = ("CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED", "UNAVAILABLE")
"""The codes that a retry policy in xDS can name (gRFC A44; xds_route_config_parser.cc, RetryPolicyParse)."""

MOST_ATTEMPTS = 5
"""grpc makes no more, whatever it is told (gRFC A6; MAX_MAX_RETRY_ATTEMPTS)."""

_SHORTEST_WAIT = 0.005  # see RetryPolicy.initial_backoff
# C-core raises shorter back-offs to this without a word (subchannel.cc, ParseArgsForBackoffValues).
_SHORTEST_BACKOFF = 0.1
# What grpc's servers hold against a client's pings, where they are told nothing else (ping_abuse_policy.cc).
_SERVERS_INTERVAL = 300.0
_SERVERS_IDLE_INTERVAL = 7200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy(Settings):
    """Calls that failed are made again (gRFC A6 and A44). **A call may run twice**: the server may have done its work, and only
    the answer was lost. So retry what may be repeated; `service_config` says it for single methods.

    Calls of which grpc knows that no server has seen them are made again in any case, without a RetryPolicy. A call that has
    begun to answer (its first headers came) is not retried. Immutable, so safe to share between channels and threads.

    Raises `ConfigurationError` for a value out of range, and for back-offs that contradict each other.
    """

    PREFIX: ClassVar[str] = "DRAIN_CLIENT_RETRY_"

    max_attempts: int = setting(
        "count", 4, "How often a call is tried in all, the first time included.", minimum=2, maximum=MOST_ATTEMPTS
    )
    codes: Codes = setting(
        "codes", ("UNAVAILABLE",), "With which status codes a call is tried again.", choices=RETRYABLE
    )
    """Names, or `grpc.StatusCode`s. Stored as sorted names."""

    initial_backoff: Seconds = duration(
        0.05,
        "How long to wait before the second attempt; each further one waits twice as long.",
        minimum=_SHORTEST_WAIT,
    )
    """grpc varies it by +-20 %. Not shorter than 5 ms: what rounds to 0 ms is a call that is never retried and never ends before
    its deadline (measured with 1 ms: half of the calls on 1.85.1; on 1.76.0 without an end at all)."""

    max_backoff: Seconds = duration(1.0, "No wait between attempts is longer.", minimum=_SHORTEST_WAIT)

    def _contradiction(self) -> str | None:
        if self.initial_backoff > self.max_backoff:
            return (
                f"{self._told('initial_backoff')} is longer than {self._told('max_backoff')}, which would always act. "
                "Lower initial_backoff, or raise max_backoff."
            )
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierDetection(Settings):
    """Endpoints whose calls fail more than others' get no calls for a while (gRFC A50, whose defaults these are).

    Two judges: the success rate, which compares endpoints with each other, and the failure percentage, which compares each with a
    fixed threshold. Either can be None: off. Every failed call counts, whatever its code. Immutable.

    Raises `ConfigurationError` for a value out of range, and for values that contradict each other.
    """

    PREFIX: ClassVar[str] = "DRAIN_CLIENT_OUTLIER_"

    interval: Seconds = duration(
        10.0, "How often endpoints are judged, by their calls since the last time.", minimum=0.01
    )
    base_ejection_time: Seconds = duration(
        30.0, "How long an ejected endpoint gets no calls, times how often it was ejected.", minimum=SHORTEST
    )
    max_ejection_time: Seconds = duration(300.0, "No ejection is longer.", minimum=SHORTEST)
    max_ejection_percent: int = setting(
        "count", 10, "When more of the endpoints than this are ejected, no further one is.", maximum=100
    )
    """One can always be ejected: of two endpoints one is 50 %, and the check comes before the ejection. 0: none ever is."""

    success_rate_stdev_factor: int | None = setting(
        "count",
        1900,
        "Ejected below the mean success rate minus this many thousandths of the standard deviation.",
        none="success rates are not compared",
        minimum=1,
    )
    success_rate_enforcement: int = setting(
        "count", 100, "Percentage of such endpoints that is really ejected.", maximum=100
    )
    success_rate_minimum_hosts: int = setting(
        "count", 5, "Success rates of fewer endpoints than this are not compared."
    )
    success_rate_request_volume: int = setting(
        "count", 100, "An endpoint with fewer calls than this in an interval is not compared."
    )
    failure_percentage_threshold: int | None = setting(
        "count",
        None,
        "Ejected when more than this percentage of an endpoint's calls failed (85 is usual).",
        none="failure percentages do not count",
        maximum=100,
    )
    failure_percentage_enforcement: int = setting(
        "count", 100, "Percentage of such endpoints that is really ejected.", maximum=100
    )
    failure_percentage_minimum_hosts: int = setting(
        "count", 5, "Among fewer endpoints than this none is ejected for its failure percentage."
    )
    failure_percentage_request_volume: int = setting(
        "count", 50, "An endpoint with fewer calls than this in an interval is not judged by its failure percentage."
    )

    def _contradiction(self) -> str | None:
        if self.base_ejection_time > self.max_ejection_time:
            return (
                f"{self._told('base_ejection_time')} is longer than {self._told('max_ejection_time')}, which would always "
                "act. Lower base_ejection_time, or raise max_ejection_time."
            )
        if self.success_rate_stdev_factor is None and self.failure_percentage_threshold is None:
            return (
                "success_rate_stdev_factor=None and failure_percentage_threshold=None: nothing would ever be ejected. "
                "Set one of them, or leave outlier_detection at None."
            )
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientKeepalive(Settings):
    """How a client finds dead connections (gRFC A8, grpc's doc/keepalive.md). Immutable.

    A server that is pinged too often answers with GOAWAY `too_many_pings`; its `ServerKeepalive` says what it permits. See
    `ClientPolicy.server_keepalive`. None everywhere means that grpc's argument is not set.

    Raises `ConfigurationError` for a value out of range, and for a value that another one keeps from ever acting.
    """

    PREFIX: ClassVar[str] = "DRAIN_CLIENT_"

    keepalive_time: OptionalSeconds = duration(
        360.0,
        "After this long without anything received the client sends a PING, to learn whether the server still lives.",
        none="never",
        arguments=("grpc.keepalive_time_ms",),
        minimum=SHORTEST,
    )
    """No jitter. A minute more than the 5 minutes that grpc's servers permit by default."""

    keepalive_timeout: OptionalSeconds = duration(
        20.0,
        "How long the answer to a PING may take before the connection is closed.",
        none="grpc's default, 1 minute",
        arguments=("grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms"),
        minimum=SHORTEST,
    )
    """Two arguments, for the reason told at `ServerKeepalive.keepalive_timeout`."""

    permit_without_calls: bool | None = setting(
        "flag",
        None,
        "Whether PINGs are sent on connections without calls.",
        none="grpc's default, false",
        arguments=("grpc.keepalive_permit_without_calls",),
    )
    """The server must permit it, too: otherwise it measures such PINGs by two hours."""

    max_pings_without_data: int | None = setting(
        "count",
        None,
        "After this many PINGs with no data sent between, further ones come at most once a minute. 0: no limit.",
        none="grpc's default, 2",
        arguments=("grpc.http2.max_pings_without_data",),
    )

    def _contradiction(self) -> str | None:
        if self.keepalive_time is None:
            for name in ("permit_without_calls", "max_pings_without_data"):
                if getattr(self, name) is not None:
                    return f"{self._told(name)} never acts without keepalive_time. Set keepalive_time, or leave {name} at None."
        return None

    def too_many_pings(self, server: ServerKeepalive | None) -> str | None:
        """Why a server with these settings (None: grpc's defaults) would answer `too_many_pings`; None: it would not. Pure."""
        if self.keepalive_time is None:
            return None
        server = server if server is not None else ServerKeepalive(max_connection_age=None)
        interval, strikes = server.min_recv_ping_interval_without_data, server.max_ping_strikes
        if strikes == 0:
            return None
        if (
            self.permit_without_calls
            and not server.permit_without_calls
            and self.keepalive_time < _SERVERS_IDLE_INTERVAL
        ):
            return (
                f"ClientKeepalive.permit_without_calls=True: on connections without calls the server permits a PING every "
                f"{text(_SERVERS_IDLE_INTERVAL)} only, and answers {self._told('keepalive_time')} with GOAWAY too_many_pings. "
                "Set ServerKeepalive.permit_without_calls there, or leave it out here."
            )
        interval = interval if interval is not None else _SERVERS_INTERVAL
        if self.keepalive_time < interval:
            return (
                f"ClientKeepalive.{self._told('keepalive_time')}: the server permits a PING every {text(interval)}, and answers "
                f"more with GOAWAY too_many_pings. Raise it to {text(interval)} at least, or lower "
                "ServerKeepalive.min_recv_ping_interval_without_data there."
            )
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPolicy(Settings):
    """How a channel uses the endpoints of its target. Immutable, so safe to share between channels and threads.

    On grpc's own targets only those parts act that grpc's channel arguments can say: load balancing (but for ring_hash's zones
    and weights), `retry`, `service_config`, back-off, `keepalive`, `authority`. The rest is refused there, by name, when the
    channel is made.

    Raises `ConfigurationError` for a value out of range, and for values that contradict each other.
    """

    PREFIX: ClassVar[str] = "DRAIN_CLIENT_"

    load_balancing: LoadBalancing = setting(
        "choice", "round_robin", "Which endpoint gets a call.", choices=get_args(LoadBalancing)
    )
    """round_robin: each in turn. pick_first: one (a random one) for all calls, while it lives. ring_hash: the same one for
    the same value of `hash_header` (gRFC A42). weighted_round_robin: by the load that servers report (gRFC A58): they need
    `load_report=True`; those that do not report count as the average."""

    hash_header: str | None = setting(
        "text",
        None,
        "Metadata key whose value chooses the endpoint, for ring_hash.",
        none="there is none, and no ring_hash",
        pattern=r"(?!.*-bin$)[0-9a-z_.-]+",
        expects='a metadata key in lower case, such as "x-user-id", not ending in "-bin"',
    )
    """A call without it goes to a random endpoint."""

    retry: RetryPolicy | None = setting(
        "nested",
        None,
        "Which calls are made again when they fail. Mind that **a call may then run twice**.",
        none="none but those that no server has seen",
        nested=RetryPolicy,
    )
    """For every method to which `service_config` gives no retryPolicy of its own."""

    service_config: OptionalJson = setting(
        "json",
        None,
        "A gRPC service config: timeouts and retries by method, loadBalancingConfig.",
        none="none",
    )
    """Text or a dict, in grpc's own JSON (grpc/doc/service_config.md); stored as text. On our targets it is translated, and what
    xDS cannot say is refused by name when the channel is made: waitForReady, message sizes, hedging, throttling, other codes."""

    outlier_detection: OutlierDetection | None = setting(
        "nested",
        None,
        "Whether endpoints whose calls fail get none for a while.",
        none="no",
        nested=OutlierDetection,
    )
    max_concurrent_requests: int | None = setting(
        "count",
        None,
        "With this many calls in flight further ones fail UNAVAILABLE at once.",
        none="no limit",
        minimum=1,
    )
    """Counted for all channels of the process to the same target with an equal policy (gRFC A32)."""

    subset_size: int | None = setting(
        "count", None, "At most this many endpoints are used, chosen by `subset_key`.", none="all", minimum=1
    )
    """A deterministic choice (gRFC A68): 5,000 endpoints need not mean 5,000 connections."""

    subset_key: str | None = setting(
        "text",
        None,
        "What tells this client from others, so that each chooses other endpoints.",
        none="the host's name",
    )
    zone: str | None = setting(
        "text", None, "In which topology zone this client runs.", none="not known", variable="DRAIN_ZONE"
    )
    """Endpoints with hints for zones are chosen by it (KEP-2433). See `prefer_same_zone`."""

    prefer_same_zone: bool = setting(
        "flag", False, "Whether endpoints of the own zone get all calls while one of them can be reached."
    )
    """Needs `zone`, or DRAIN_ZONE: without either it has no effect, and `warnings` says so."""

    initial_reconnect_backoff: Seconds = duration(
        0.1,
        "How long to wait after the first failed attempt to connect; each further one waits 1.6 times as long.",
        arguments=("grpc.initial_reconnect_backoff_ms",),
        minimum=_SHORTEST_BACKOFF,
    )
    """grpc's own default is 1 s: two servers restarted within a second would leave no endpoint to call. Jitter +-20 %."""

    min_reconnect_backoff: Seconds = duration(
        5.0,
        "How long one attempt to connect may take at least.",
        arguments=("grpc.min_reconnect_backoff_ms",),
        minimum=_SHORTEST_BACKOFF,
    )
    """grpc's name misleads: it is the time limit of one attempt, TLS handshake included (subchannel.cc, min_connect_timeout),
    and no attempt waits for it. grpc's own default is 20 s."""

    max_reconnect_backoff: Seconds = duration(
        3.0,
        "No wait between attempts to connect is longer.",
        arguments=("grpc.max_reconnect_backoff_ms",),
        minimum=_SHORTEST_BACKOFF,
    )
    """grpc's own default is 2 minutes. Jitter +-20 %."""

    keepalive: ClientKeepalive | None = setting(
        "nested", None, "How dead connections are found.", none="as grpc does, by TCP alone", nested=ClientKeepalive
    )
    server_keepalive: ServerKeepalive | None = setting(
        "nested",
        None,
        "What the servers permit, so that a keepalive that they would refuse is warned of.",
        none="grpc's defaults",
        nested=ServerKeepalive,
        variable="",
    )
    """The object that the servers are made with, where it is known. Sets nothing."""

    authority: str | None = setting(
        "text",
        None,
        "The :authority of calls, and the name that the servers' certificates must have.",
        none="the service's DNS name",
        arguments=("grpc.default_authority",),
    )

    def _contradiction(self) -> str | None:
        if self.load_balancing == "ring_hash" and self.hash_header is None:
            return (
                "load_balancing=ring_hash without hash_header: every call would go to a random endpoint. Set hash_header, or "
                "use round_robin."
            )
        if self.hash_header is not None and self.load_balancing != "ring_hash" and self.service_config is None:
            return (
                f"{self._told('hash_header')} never acts with {self._told('load_balancing')}. Set load_balancing to ring_hash, "
                "or leave hash_header at None."
            )
        if self.subset_key is not None and self.subset_size is None:
            return f"{self._told('subset_key')} never acts without subset_size. Set subset_size, or leave subset_key at None."
        if self.initial_reconnect_backoff > self.max_reconnect_backoff:
            return (
                f"{self._told('initial_reconnect_backoff')} is longer than {self._told('max_reconnect_backoff')}, which would "
                "always act. Lower initial_reconnect_backoff, or raise max_reconnect_backoff."
            )
        return None

    def warnings(self) -> Iterator[str]:
        """What is allowed and yet will not do what it seems to: one sentence each. Pure; ask after `overridden_by`."""
        if self.keepalive is not None and (told := self.keepalive.too_many_pings(self.server_keepalive)) is not None:
            yield told
        if self.prefer_same_zone and self.zone is None:
            yield "ClientPolicy.prefer_same_zone=True has no effect, because the own zone is not known. Set zone, or DRAIN_ZONE."
