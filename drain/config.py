"""Settings of a server: how long its connections live (`ServerKeepalive`) and how it leaves (`DrainPolicy`).

Both are frozen and checked when they are made, so a wrong value fails where it was written and not at the first
SIGTERM. Every field carries its documentation as data (`Setting`), from which the table in the README and the names of
grpc's arguments are taken; the strings below the fields say what does not fit into a table. Over 300 lines for that
reason.

Durations are seconds (`90`, `0.5`), a `datetime.timedelta`, or text: Go's notation (`"1m30s"`, `"250ms"`) or a plain
number, which is seconds (`"90"`: environment variables are text). They are stored as float seconds.

Every field can be overridden by the environment variable `DRAIN_<FIELD>`; the environment wins over code, because
whoever operates a server is not always who wrote it. See `overridden_by`.
"""
# ruff: noqa: RUF009  # _duration and _setting return dataclasses.field(...), once per class, which is what is wanted

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias, get_args, overload

from drain.errors import ConfigurationError

if TYPE_CHECKING:
    from datetime import timedelta

    Duration: TypeAlias = float | timedelta | str

    # To a type checker these fields are descriptors: a constructor takes any Duration, reading gives float seconds. At
    # run time they are plain slots that `__post_init__` fills with the normalised value.
    class _Seconds:
        @overload
        def __get__(self, instance: None, owner: type) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: type) -> float: ...
        def __get__(self, instance: object | None, owner: type) -> Self | float: ...
        def __set__(self, instance: object, value: Duration) -> None: ...

    class _OptionalSeconds:
        @overload
        def __get__(self, instance: None, owner: type) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: type) -> float | None: ...
        def __get__(self, instance: object | None, owner: type) -> Self | float | None: ...
        def __set__(self, instance: object, value: Duration | None) -> None: ...


__all__ = ["DrainPolicy", "GoawayMode", "ServerKeepalive", "Setting", "settings_markdown", "settings_table"]

GoawayMode: TypeAlias = Literal["auto", "require", "classic"]

_ENV_PREFIX = "DRAIN_"
# C-core keeps these as a C int of milliseconds and takes INT_MAX for "never"; so the longest duration is one less.
_INT_MAX = 2**31 - 1
_LONGEST = (_INT_MAX - 1) / 1000
_SHORTEST = 0.001
# durationpy alone would let "1m!30s" and "1mm" (a month) through, which Go refuses.
_GO_DURATION = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+")
_ANNOUNCE_DELAY = 5.0
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One field of a settings class, as data: a row of the README's table."""

    owner: str
    name: str
    kind: Literal["duration", "flag", "count", "choice"]
    default: float | bool | int | str | None
    meaning: str
    none: str | None = None
    """What None means; None here: the field cannot be None."""
    arguments: tuple[str, ...] = ()
    """grpc's channel arguments, where the field becomes one or several."""
    minimum: float = 0
    choices: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """The environment variable that overrides the field."""
        return _ENV_PREFIX + self.name.upper()

    @property
    def unit(self) -> str:
        """How the value is written: for people, in a table."""
        return {"duration": "duration", "flag": "true or false", "count": "number"}.get(
            self.kind, ", ".join(self.choices)
        )

    @property
    def default_text(self) -> str:
        """The default, for people."""
        if isinstance(self.default, bool):
            return str(self.default).lower()
        if self.default is None:
            return "none"
        return _text(self.default) if isinstance(self.default, float) else str(self.default)

    def normalised(self, value: object, label: str) -> float | bool | int | str | None:
        """The value as it is stored. `label` names it in the error: the field with its value, or the variable."""
        if value is None:
            if self.none is None:
                raise ConfigurationError(f"{label}: must be {self._expected}, not None.")
            return None
        return getattr(self, f"_{self.kind}")(value, label)  # type: ignore[no-any-return]

    def parsed(self, text: str, label: str) -> float | bool | int | str | None:
        """The value from an environment variable's text."""
        text = text.strip()
        word = text.lower()
        if word == "none":
            return self.normalised(None, label)
        if self.kind == "flag" and word in _TRUE | _FALSE:
            return word in _TRUE
        if self.kind == "count" and re.fullmatch(r"[+-]?\d{1,18}", text):
            return self.normalised(int(text), label)
        return self.normalised(word if self.kind == "choice" else text, label)

    @property
    def _expected(self) -> str:
        expected = {
            "duration": 'a duration: seconds (2.5), a timedelta, or text such as "1m30s"',
            "flag": "True or False",
            "count": "a whole number",
        }.get(self.kind, "one of " + ", ".join(map(repr, self.choices)))
        return expected if self.none is None else f"{expected}, or None ({self.none})"

    def _duration(self, value: object, label: str) -> float:
        seconds = _seconds(value)
        if seconds is None:
            raise ConfigurationError(f"{label}: must be {self._expected}.")
        if not self.minimum <= seconds <= _LONGEST:
            hint = f" Write None for: {self.none}." if self.none is not None else ""
            raise ConfigurationError(
                f"{label}: must be at least {_text(self.minimum)} and at most {_text(_LONGEST)} (24 days).{hint}"
            )
        return seconds

    def _flag(self, value: object, label: str) -> bool:
        if not isinstance(value, bool):
            raise ConfigurationError(f"{label}: must be {self._expected}.")
        return value

    def _count(self, value: object, label: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not self.minimum <= value <= _INT_MAX:
            raise ConfigurationError(
                f"{label}: must be {self._expected}, at least {self.minimum:g} and at most {_INT_MAX}."
            )
        return value

    def _choice(self, value: object, label: str) -> str:
        if value not in self.choices:
            raise ConfigurationError(f"{label}: must be {self._expected}.")
        return str(value)


def _seconds(value: object) -> float | None:
    """Any form of a duration as finite float seconds; None: it is none of these forms."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return _seconds_from_text(value.strip())
    if isinstance(value, (int, float)):
        return float(value) if abs(value) <= 1e300 else None  # nan and infinity fail the comparison, too
    from datetime import timedelta  # noqa: PLC0415  # 2 ms that plain numbers do not need

    return value.total_seconds() if isinstance(value, timedelta) else None


def _seconds_from_text(text: str) -> float | None:
    if not _GO_DURATION.fullmatch(text):
        try:
            number = float(text)
        except ValueError:
            return None
        return number if math.isfinite(number) else None
    import durationpy  # noqa: PLC0415  # only a process that writes "1m30s" pays for it

    try:
        return float(durationpy.from_str(text).total_seconds())
    except durationpy.DurationError:  # out of range
        return None


def _text(seconds: float) -> str:
    return f"{seconds:.10g} s"


def _setting(kind: str, default: object, meaning: str, **details: Any) -> Any:
    return field(default=default, metadata={"kind": kind, "meaning": meaning, **details})


def _duration(default: float | None, meaning: str, **details: Any) -> Any:
    return _setting("duration", default, meaning, **details)


class _Settings:
    """What the settings classes share: normalise, check, override. Subclasses are frozen dataclasses."""

    __slots__ = ()

    @classmethod
    def settings(cls) -> Iterator[Setting]:
        """The fields as data, in the order of their declaration."""
        for each in fields(cls):  # type: ignore[arg-type]  # every subclass is a dataclass
            default = None if each.default is MISSING else each.default
            yield Setting(owner=cls.__name__, name=each.name, default=default, **each.metadata)

    def __post_init__(self) -> None:
        for setting in self.settings():
            value = getattr(self, setting.name)
            label = f"{setting.owner}.{setting.name}={value!r}"
            object.__setattr__(self, setting.name, setting.normalised(value, label))
        if (contradiction := self._contradiction()) is not None:
            raise ConfigurationError(f"{type(self).__name__}: {contradiction}")

    def _contradiction(self) -> str | None:
        """The first pair of values that cannot both hold, with the way out; None: all is well."""
        return None

    def _told(self, name: str) -> str:
        value = getattr(self, name)
        return f"{name}={_text(value) if isinstance(value, float) else value}"

    def overridden_by(self, environ: Mapping[str, str]) -> Self:
        """These settings with what the environment overrides: `DRAIN_DRAIN_TIMEOUT=40s` sets `drain_timeout`.

        `environ` is usually `os.environ`. An empty variable counts as not set; `none` in any case is None where None is
        allowed; flags are true/false, 1/0, yes/no, on/off. Variables that are no setting's are passed over, because
        Kubernetes itself injects names like `DRAIN_PORT` and `DRAIN_X_SERVICE_HOST` for services called drain and
        drain-x. Returns `self` when nothing applies. Raises `ConfigurationError`, which names the variable.
        """
        found = {s: text for s in self.settings() if (text := environ.get(s.variable, "")).strip()}
        changes = {s.name: s.parsed(text, f"{s.variable}={text!r} (environment)") for s, text in found.items()}
        if not changes:
            return self
        try:
            return replace(self, **changes)  # type: ignore[type-var]  # every subclass is a dataclass
        except ConfigurationError as error:
            given = ", ".join(f"{s.variable}={text!r}" for s, text in found.items())
            raise ConfigurationError(f"{error} Set by the environment: {given}.") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerKeepalive(_Settings):
    """How long a server keeps connections, and how it finds dead peers (gRFC A8 and A9, grpc's doc/keepalive.md).

    A client that opened one connection stays on it for ever; `max_connection_age` bounds how long a client that knows
    nothing of new servers stays away from them. Durations: see the module. None everywhere means that grpc's argument
    is not set, so that grpc's own default applies. Immutable, so safe to share between servers and threads.

    Raises `ConfigurationError` for a value out of range, and for a value that another one keeps from ever acting.
    """

    max_connection_age: _OptionalSeconds = _duration(
        300.0,
        "After this age a connection gets a GOAWAY: its client opens a new one, calls in flight finish.",
        none="no limit",
        arguments=("grpc.max_connection_age_ms",),
        minimum=_SHORTEST,
    )
    """grpc varies it by +-10 % for each connection, so that clients do not all return at once."""

    max_connection_age_grace: _OptionalSeconds = _duration(
        None,
        "How long after that GOAWAY calls in flight may take; then the connection is closed and they fail.",
        none="no limit",
        arguments=("grpc.max_connection_age_grace_ms",),
        minimum=_SHORTEST,
    )
    """No jitter. Needs `max_connection_age`. Unlimited by default, because no call is to be lost."""

    max_connection_idle: _OptionalSeconds = _duration(
        None,
        "A connection without a call for this long is closed.",
        none="never",
        arguments=("grpc.max_connection_idle_ms",),
        minimum=_SHORTEST,
    )
    """grpc varies it by +-10 % for each connection. Counts from the end of the last call, or from the connection's
    beginning. grpc closes at once, without the graceful GOAWAY of `max_connection_age`: a call that starts in that very
    moment can fail, so choose it longer than your clients' pauses."""

    keepalive_time: _OptionalSeconds = _duration(
        None,
        "After this long without anything received the server sends a PING, to learn whether the peer still lives.",
        none="grpc's default, 2 hours",
        arguments=("grpc.keepalive_time_ms",),
        minimum=_SHORTEST,
    )
    """No jitter. Only while calls are in flight, unless `permit_without_calls`. Left to grpc, because
    `max_connection_age` already parts a server from idle dead peers; set it (a minute is usual) for servers with long
    streams, whose handlers would otherwise wait up to two hours for a client that lost its network."""

    keepalive_timeout: _OptionalSeconds = _duration(
        None,
        "How long the answer to a PING may take before the connection is closed.",
        none="grpc's default, 1 minute",
        arguments=("grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms"),
        minimum=_SHORTEST,
    )
    """No jitter. May be longer than `keepalive_time`: grpc sends the next PING only after the answer to the last.

    Becomes two arguments. grpc.keepalive_timeout_ms, documented with a default of 20 s, is not obeyed by any grpcio
    from 1.76.0 to 1.85.1: C-core starts its timer only where it already runs (chttp2 writing.cc), and what closes the
    connection is the time limit of all PINGs, one minute. Guarded by
    test_grpc_itself_does_not_obey_its_keepalive_timeout."""

    permit_without_calls: bool | None = _setting(
        "flag",
        None,
        "Whether PINGs are sent, and clients' are tolerated, on connections without calls.",
        none="grpc's default, false",
        arguments=("grpc.keepalive_permit_without_calls",),
    )
    """On a server this does both: it sends its own keepalive PINGs on connections without a call, and measures clients'
    PINGs there by `min_recv_ping_interval_without_data` instead of two hours."""

    min_recv_ping_interval_without_data: _OptionalSeconds = _duration(
        None,
        "A client's PING that comes sooner than this after its last one, with no data sent between, is a strike.",
        none="grpc's default, 5 minutes",
        arguments=("grpc.http2.min_ping_interval_without_data_ms",),
    )
    """No jitter. 0: no PING is too soon. Clients must ping more slowly than this, or they get `too_many_pings`."""

    max_ping_strikes: int | None = _setting(
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
class DrainPolicy(_Settings):
    """How a server leaves: how long each phase of a drain may take (phases: ARCHITECTURE.md).

    Worst case, announcing and finishing together: `announce_timeout + drain_timeout`, 28 s by default. Kubernetes
    kills a pod after `terminationGracePeriodSeconds` (30 s by default): keep the sum 2 s below it. Immutable, so safe
    to share between servers and threads. Durations: see the module. grpc adds no jitter to any of these.

    Raises `ConfigurationError` for a value out of range and for values that contradict each other.
    """

    goaway: GoawayMode = _setting(
        "choice",
        "auto",
        "Lossless GOAWAY where this grpcio can do it (auto), or else refuse to start (require), or never (classic).",
        choices=get_args(GoawayMode),
    )
    """`server.goaway` and `server.goaway_reason` tell what was found and why."""

    # Announcing: health says NOT_SERVING, calls are still served, until the cluster has stopped sending new ones.
    announce_timeout: _Seconds = _duration(8.0, "Announcing ends after this at the latest. 0 skips announcing.")
    """Enough for a balancer that checks health every few seconds. A skipped announcing loses calls behind any balancer
    that has not yet learned of the leaving; it is for processes that nothing is balanced to."""

    announce_min: _Seconds = _duration(1.0, "Announcing never ends before this, even when nobody comes back.")
    """Covers clients that call too seldom to be seen coming back. Not used when announcing is skipped."""

    rotation_interval: _Seconds = _duration(
        0.5,
        "Lossless: while announcing, every connection gets a GOAWAY this often, to see who comes back.",
        minimum=0.05,
    )
    return_window: _Seconds = _duration(
        0.3, "Lossless: announcing may end when no call came back for this long after a GOAWAY.", minimum=0.01
    )
    """At most `rotation_interval`, since the next GOAWAY begins the next window. Measured without loss: 0.3 of 0.5 s
    and 0.25 of 0.4 s."""

    announce_delay: _Seconds = _duration(
        _ANNOUNCE_DELAY, "Classic: announcing lasts this long, since there is no GOAWAY to observe by."
    )
    """Never longer than `announce_timeout`: see `classic_announcement`. Not used with lossless GOAWAY."""

    # Closing and finishing: no new calls, those in flight go on.
    quiet_period: _Seconds = _duration(0.5, "Classic: the server stops when no new call has come for this long.")
    """Waited for at most half of `drain_timeout`, the rest is for calls in flight. Not used with lossless GOAWAY."""

    drain_timeout: _Seconds = _duration(
        20.0, "Calls in flight may take this long after announcing; the rest is cancelled."
    )
    """0 cancels calls in flight at once."""

    stream_grace: _OptionalSeconds = _duration(
        None,
        "Streams still open this long after announcing are ended with UNAVAILABLE, so that clients go elsewhere.",
        none="streams are not ended before drain_timeout",
    )
    """Streams are told of the drain when announcing begins (`server.draining`), so that handlers may end in their own
    time. 0 ends them as soon as announcing is over."""

    _ORDERED: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("return_window", "rotation_interval", "the next GOAWAY would come before the window has closed"),
        ("stream_grace", "drain_timeout", "streams are cancelled at drain_timeout, so the grace would never act"),
    )

    @property
    def classic_announcement(self) -> float:
        """How long classic mode announces, in seconds: `announce_delay`, within `announce_timeout`."""
        return min(self.announce_delay, self.announce_timeout)

    def _contradiction(self) -> str | None:
        for lesser, greater, reason in self._ORDERED:
            bound = getattr(self, greater)
            if (value := getattr(self, lesser)) is not None and value > bound:
                return self._too_long(lesser, greater, bound, reason)
        if self.quiet_period > self.drain_timeout / 2:
            reason = "it may take half of drain_timeout at most, the rest is for calls in flight"
            return self._too_long("quiet_period", "drain_timeout", self.drain_timeout / 2, reason)
        return self._announcing_contradiction() if self.announce_timeout else None

    def _announcing_contradiction(self) -> str | None:
        limit = self.announce_timeout
        if self.announce_min > limit:
            return self._too_long("announce_min", "announce_timeout", limit, "announcing could not last so long")
        # The default gives way (classic_announcement), so that a short announce_timeout alone is no error.
        if self.announce_delay > max(limit, _ANNOUNCE_DELAY):
            return self._too_long("announce_delay", "announce_timeout", limit, "announcing could not last so long")
        if limit < self.rotation_interval + self.return_window:
            return (
                f"{self._told('announce_timeout')} has no room for two rotations ({self._told('rotation_interval')}, "
                f"{self._told('return_window')}). Raise it to {_text(self.rotation_interval + self.return_window)} at "
                "least, or set it to 0 to skip announcing."
            )
        return None

    def _too_long(self, lesser: str, greater: str, bound: float, reason: str) -> str:
        return (
            f"{self._told(lesser)} is too long for {self._told(greater)}: {reason}. "
            f"Lower {lesser} to {_text(bound)} at most, or raise {greater}."
        )


_CLASSES: tuple[type[_Settings], ...] = (ServerKeepalive, DrainPolicy)


def settings_table() -> Iterator[Setting]:
    """Every setting of every class, in the order of the README's table."""
    for each in _CLASSES:
        yield from each.settings()


def settings_markdown() -> str:
    """The README's table of settings."""
    rows = ["| setting | environment | default | value | meaning |", "| --- | --- | --- | --- | --- |"]
    for s in settings_table():
        meaning = s.meaning if s.none is None else f"{s.meaning} none: {s.none}."
        rows.append(f"| `{s.owner}.{s.name}` | `{s.variable}` | {s.default_text} | {s.unit} | {meaning} |")
    return "\n".join(rows) + "\n"
