"""Settings of a server: how long its connections live (`ServerKeepalive`) and how it leaves (`DrainPolicy`). See config.py.

The strings below the fields say what does not fit into docs/settings.md, hence over 300 lines.
"""
# ruff: noqa: RUF009  # duration and setting return dataclasses.field(...), once per class, which is what is wanted

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias, get_args

from drain._settings import SHORTEST, Settings, duration, setting, text

if TYPE_CHECKING:
    from drain._settings import OptionalSeconds, Seconds

GoawayMode: TypeAlias = Literal["auto", "require", "classic"]

_ANNOUNCE_DELAY = 5.0
_DRAIN_TIMEOUT = 20.0
_NEVER_SO_LONG = "announcing could not last so long"
_ROUNDING = 1e-9  # 0.1 + 0.2 is no contradiction to 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerKeepalive(Settings):
    """How long a server keeps connections, and how it finds dead peers (gRFC A8 and A9, grpc's doc/keepalive.md).

    A client that opened one connection stays on it for ever; `max_connection_age` bounds how long a client that knows
    nothing of new servers stays away from them. Durations: see the module. None everywhere means that grpc's argument
    is not set, so that grpc's own default applies. Immutable, so safe to share between servers and threads.

    Raises `ConfigurationError` for a value out of range, and for a value that another one keeps from ever acting.
    """

    max_connection_age: OptionalSeconds = duration(
        300.0,
        "After this age a connection gets a GOAWAY: its client opens a new one, calls in flight finish.",
        none="no limit",
        arguments=("grpc.max_connection_age_ms",),
        minimum=SHORTEST,
    )
    """grpc varies it by +-10 % for each connection, so that clients do not all return at once."""

    max_connection_age_grace: OptionalSeconds = duration(
        None,
        "How long after that GOAWAY calls in flight may take; then the connection is closed and they fail.",
        none="no limit",
        arguments=("grpc.max_connection_age_grace_ms",),
        minimum=SHORTEST,
    )
    """No jitter. Needs `max_connection_age`. Unlimited by default, because no call is to be lost."""

    max_connection_idle: OptionalSeconds = duration(
        None,
        "A connection without a call for this long is closed.",
        none="never",
        arguments=("grpc.max_connection_idle_ms",),
        minimum=SHORTEST,
    )
    """grpc varies it by +-10 % for each connection. Counts from the end of the last call, or from the connection's
    beginning. grpc closes at once, without the graceful GOAWAY of `max_connection_age`: a call that starts in that very
    moment can fail, so choose it longer than your clients' pauses."""

    keepalive_time: OptionalSeconds = duration(
        None,
        "After this long without anything received the server sends a PING, to learn whether the peer still lives.",
        none="grpc's default, 2 hours",
        arguments=("grpc.keepalive_time_ms",),
        minimum=SHORTEST,
    )
    """No jitter. Only while calls are in flight, unless `permit_without_calls`. Left to grpc, because
    `max_connection_age` already parts a server from idle dead peers; set it (a minute is usual) for servers with long
    streams, whose handlers would otherwise wait up to two hours for a client that lost its network."""

    keepalive_timeout: OptionalSeconds = duration(
        None,
        "How long the answer to a PING may take before the connection is closed.",
        none="grpc's default, 1 minute",
        arguments=("grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms"),
        minimum=SHORTEST,
    )
    """No jitter. May be longer than `keepalive_time`: grpc sends the next PING only after the answer to the last.

    Becomes two arguments. grpc.keepalive_timeout_ms, documented with a default of 20 s, is not obeyed by any grpcio
    from 1.76.0 to 1.85.1: C-core starts its timer only where it already runs (chttp2 writing.cc), and what closes the
    connection is the time limit of all PINGs, one minute. Guarded by
    test_grpc_itself_does_not_obey_its_keepalive_timeout."""

    permit_without_calls: bool | None = setting(
        "flag",
        None,
        "Whether PINGs are sent, and clients' are tolerated, on connections without calls.",
        none="grpc's default, false",
        arguments=("grpc.keepalive_permit_without_calls",),
    )
    """On a server this does both: it sends its own keepalive PINGs on connections without a call, and measures clients'
    PINGs there by `min_recv_ping_interval_without_data` instead of two hours."""

    min_recv_ping_interval_without_data: OptionalSeconds = duration(
        None,
        "A client's PING that comes sooner than this after its last one, with no data sent between, is a strike.",
        none="grpc's default, 5 minutes",
        arguments=("grpc.http2.min_ping_interval_without_data_ms",),
    )
    """No jitter. 0: no PING is too soon. Clients must ping more slowly than this, or they get `too_many_pings`."""

    max_ping_strikes: int | None = setting(
        "count",
        None,
        "After more strikes than this the client gets a GOAWAY `too_many_pings` and its connection is closed.",
        none="grpc's default, 2",
        arguments=("grpc.http2.max_ping_strikes",),
    )
    """0: any number of strikes is tolerated. Data or headers sent by the server set the count to 0."""

    def _contradiction(self) -> str | None:
        age, grace, idle = self.max_connection_age, self.max_connection_age_grace, self.max_connection_idle
        if age is None and grace is not None:
            return (
                f"{self._told('max_connection_age_grace')} never acts without max_connection_age. "
                "Set max_connection_age, or leave the grace at None."
            )
        if age is not None and idle is not None and idle > age:
            return (
                f"{self._told('max_connection_idle')} never acts, because {self._told('max_connection_age')} ends "
                "every connection sooner. Lower max_connection_idle, or raise max_connection_age."
            )
        if self.max_ping_strikes == 0 and self.min_recv_ping_interval_without_data:
            return (
                f"{self._told('min_recv_ping_interval_without_data')} never acts, because max_ping_strikes=0 tolerates "
                "any number of strikes. Leave one of the two at None."
            )
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class RebalancePolicy(Settings):
    """How a server spreads its connections when its service has grown: each one gets a GOAWAY, once, and reconnects.

    For clients that know nothing of endpoints: behind a layer-4 balancer they would stay on the old pods until
    `max_connection_age`. Opt-in (`DrainPolicy.rebalance`), because it needs a standing watch of the endpoints in each pod. Off
    without lossless GOAWAY. Immutable, so safe to share between servers and threads. Durations: see the module.

    Raises `ConfigurationError` for a value out of range.
    """

    PREFIX: ClassVar[str] = "DRAIN_REBALANCE_"

    target: str | None = setting(
        "text",
        None,
        "Whose endpoints are followed, as a client would name them: `kubernetes:///geoipd:9200`.",
        none="the services that have this pod",
        pattern=r"[a-z][a-z0-9+.-]*:[^\x00-\x1f\x7f]+",
        expects='a target with its scheme, such as "kubernetes:///geoipd:9200"',
    )
    spread: Seconds = duration(
        10.0, "The rotation comes at a random moment within this time, so that servers do not rotate all at once."
    )
    still: Seconds = duration(2.0, "Only when the endpoints have not changed for this long: a rollout adds many.")
    min_interval: Seconds = duration(
        60.0, "Rotations are at least this far apart; growth in between is answered after it."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainPolicy(Settings):
    """How a server leaves: how long each phase of a drain may take (phases: ARCHITECTURE.md).

    One budget: `announce_timeout + drain_timeout + reserve` fit `termination_grace_period`, after which Kubernetes kills the
    pod: 8 + 20 + 2 are its default of 30 s. Where the period is given, `drain_timeout` is what the others leave of it, and a
    sum that cannot hold is refused. Immutable, so safe to share between servers and threads. Durations: see the module. grpc
    adds no jitter to any of these.

    Raises `ConfigurationError` for a value out of range and for values that contradict each other.
    """

    goaway: GoawayMode = setting(
        "choice",
        "auto",
        "Lossless GOAWAY where this grpcio can do it (auto), or else refuse to start (require), or never (classic).",
        choices=get_args(GoawayMode),
    )
    """`server.goaway` and `server.goaway_reason` tell what was found and why."""

    # Announcing: health says NOT_SERVING, calls are still served, until the cluster has stopped sending new ones.
    announce_timeout: Seconds = duration(8.0, "Announcing ends after this at the latest. 0 skips announcing.")
    """Enough for a balancer that checks health every few seconds. A skipped announcing loses calls behind any balancer
    that has not yet learned of the leaving; it is for processes that nothing is balanced to."""

    announce_min: Seconds = duration(1.0, "Announcing never ends before this, even when nobody comes back.")
    """Covers clients that call too seldom to be seen coming back. Not used when announcing is skipped."""

    rotation_interval: Seconds = duration(
        0.5,
        "Lossless: while announcing, every connection gets a GOAWAY this often, to see who comes back.",
        minimum=0.05,
    )
    return_window: Seconds = duration(
        0.3, "Lossless: announcing may end when no call came back for this long after a GOAWAY.", minimum=0.01
    )
    """At most `rotation_interval`, since the next GOAWAY begins the next window. Measured without loss: 0.3 of 0.5 s
    and 0.25 of 0.4 s."""

    announce_delay: Seconds = duration(
        _ANNOUNCE_DELAY, "Classic: announcing lasts this long, since there is no GOAWAY to observe by."
    )
    """Never longer than `announce_timeout`: see `classic_announcement`. Not used with lossless GOAWAY, nor where the pod's
    own endpoint can be seen: then `settle` counts."""

    watch_endpoint: bool = setting(
        "flag",
        True,
        "In a pod: announcing also waits until every service has taken this pod out, as far as RBAC lets us see it.",
    )
    """Needs list and watch on endpointslices in the pod's namespace; without them announcing goes by observation alone."""

    settle: Seconds = duration(2.0, "Announcing lasts this long after every service was seen to take this pod out.")
    """kube-proxy writes its rules at most once a second while endpoints change. Lossless: only for a pod that was seen listed
    while it announced, or of which nobody knew for a second; mostly it is out by then, and `announce_min` is enough."""

    # Closing and finishing: no new calls, those in flight go on.
    quiet_period: Seconds = duration(0.5, "Classic: the server stops when no new call has come for this long.")
    """Waited for at most half of `drain_timeout`, the rest is for calls in flight. Not used with lossless GOAWAY."""

    drain_timeout: OptionalSeconds = duration(
        None,
        "Calls in flight may take this long after announcing; the rest is cancelled.",
        none="what termination_grace_period leaves after announce_timeout and reserve; 20 s where that is not given",
    )
    """0 cancels calls in flight at once. See `finishing_time`."""

    stream_grace: OptionalSeconds = duration(
        None,
        "Streams still open this long after announcing are ended with UNAVAILABLE, so that clients go elsewhere.",
        none="streams are not ended before drain_timeout",
    )
    """Streams are told of the drain when announcing begins (`server.draining`), so that handlers may end in their own
    time. 0 ends them as soon as announcing is over."""

    # The budget.
    termination_grace_period: OptionalSeconds = duration(
        None,
        "The pod's terminationGracePeriodSeconds, as its manifest has it: the drain is over `reserve` before it ends.",
        none="not known: nothing is checked",
        minimum=SHORTEST,
    )
    """Counts from the beginning of the preStop hook, or else from SIGTERM. A shorter one given when the pod is deleted
    (`kubectl delete --grace-period`, an eviction) is read from the pod itself, where RBAC allows `get pods`."""

    reserve: Seconds = duration(
        2.0, "This much of termination_grace_period is kept for what comes after the drain: the process's own exit."
    )

    # What is left behind for whoever asks later.
    kubernetes_events: bool = setting(
        "flag",
        True,
        "In a pod: its drain is told as Kubernetes Events (Draining, Drained, CallsCut), as far as RBAC lets us.",
    )
    """Needs create on events in the pod's namespace; without it nothing is told, and nobody waits. The last one may hold up the
    end by half a second, within `reserve`."""

    termination_log: str | None = setting(
        "text",
        "/dev/termination-log",
        "In a pod: the report's first line is added to this file, the container's terminationMessagePath, if it is there.",
        none="nothing is written",
    )

    rebalance: RebalancePolicy | None = setting(
        "nested",
        None,
        "Whether connections are told to go elsewhere once, when the service has got new endpoints.",
        none="no",
        nested=RebalancePolicy,
    )
    """Needs lossless GOAWAY, and a standing watch in each pod."""

    _ORDERED: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("return_window", "rotation_interval", "the next GOAWAY would come before the window has closed"),
    )

    @property
    def finishing_time(self) -> float:
        """How long calls in flight may take, in seconds: `drain_timeout`, or what the budget leaves."""
        if self.drain_timeout is not None:
            return self.drain_timeout
        if self.termination_grace_period is None:
            return _DRAIN_TIMEOUT
        return self.termination_grace_period - self.announce_timeout - self.reserve

    @property
    def classic_announcement(self) -> float:
        """How long classic mode announces, in seconds: `announce_delay`, within `announce_timeout`."""
        return min(self.announce_delay, self.announce_timeout)

    def _contradiction(self) -> str | None:
        for lesser, greater, reason in self._ORDERED:
            bound = getattr(self, greater)
            if (value := getattr(self, lesser)) is not None and value > bound:
                return self._too_long(lesser, self._told(greater), bound, reason)
        if (contradiction := self._budget_contradiction()) is not None:
            return contradiction
        finishing = self.finishing_time
        if self.stream_grace is not None and self.stream_grace > finishing:
            reason = "streams are cancelled at drain_timeout, so the grace would never act"
            return self._too_long("stream_grace", self._finishing_told, finishing, reason)
        if self.quiet_period > finishing / 2:
            reason = "it may take half of drain_timeout at most, the rest is for calls in flight"
            return self._too_long("quiet_period", self._finishing_told, finishing / 2, reason)
        return self._announcing_contradiction() if self.announce_timeout else None

    def _budget_contradiction(self) -> str | None:
        period = self.termination_grace_period
        if period is None:
            return None
        parts = [("announce_timeout", self.announce_timeout), ("reserve", self.reserve)]
        if self.drain_timeout is not None:
            parts.insert(1, ("drain_timeout", self.drain_timeout))
        needed = sum(value for _, value in parts)
        listed = " + ".join(f"{name} {text(value)}" for name, value in parts)
        if self.drain_timeout is None and needed >= period:
            return (
                f"{self._told('termination_grace_period')} leaves no time for calls in flight after {listed}. Raise "
                f"terminationGracePeriodSeconds above {needed:.10g}, or lower announce_timeout."
            )
        if needed > period + _ROUNDING:
            return (
                f"{self._told('termination_grace_period')} is too short for {listed} = {text(needed)}: calls in flight would be "
                f"killed. Raise terminationGracePeriodSeconds to {needed:.10g} at least, or lower one of the others."
            )
        return None

    def _announcing_contradiction(self) -> str | None:
        limit = self.announce_timeout
        if self.announce_min > limit:
            return self._too_long("announce_min", self._told("announce_timeout"), limit, _NEVER_SO_LONG)
        # The default gives way (classic_announcement), so that a short announce_timeout alone is no error.
        if self.announce_delay > max(limit, _ANNOUNCE_DELAY):
            return self._too_long("announce_delay", self._told("announce_timeout"), limit, _NEVER_SO_LONG)
        if limit < self.rotation_interval + self.return_window:
            return (
                f"{self._told('announce_timeout')} has no room for two rotations ({self._told('rotation_interval')}, "
                f"{self._told('return_window')}). Raise it to {text(self.rotation_interval + self.return_window)} at "
                "least, or set it to 0 to skip announcing."
            )
        return None

    @property
    def _finishing_told(self) -> str:
        return f"drain_timeout={text(self.finishing_time)}"

    def _too_long(self, lesser: str, greater: str, bound: float, reason: str) -> str:
        return (
            f"{self._told(lesser)} is too long for {greater}: {reason}. "
            f"Lower {lesser} to {text(bound)} at most, or raise {greater.partition('=')[0]}."
        )
