"""What there is to measure in a process: one table. readings.py reads it; `drain.metrics` and `drain.otel` tell it on."""

import enum
from dataclasses import dataclass, field

PHASES = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
"""Bounds in seconds: a drain fits 30 s unless it was given more."""
NEWS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Of what should take milliseconds."""


class Kind(enum.Enum):
    """What a measure is to whoever stores it."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Measure:
    """One of them. `unit`: "s" or none. `known`: values of its label that are told as 0 before they occur.

    What appears with its first value is no increase to Prometheus, and a pod drains but once.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    known: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


@dataclass(slots=True)
class Histogram:
    """How many values were at most each bound, how many there were, and their sum."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    count: int = 0
    sum: float = 0.0

    def add(self, value: float) -> None:
        """One more."""
        counts = self.counts or [0] * len(self.bounds)
        self.counts = [n + (value <= bound) for n, bound in zip(counts, self.bounds, strict=True)]
        self.count += 1
        self.sum += value

    def copy(self) -> "Histogram":
        """As it is now."""
        return Histogram(self.bounds, list(self.counts or [0] * len(self.bounds)), self.count, self.sum)


_G, _C, _H = Kind.GAUGE, Kind.COUNTER, Kind.HISTOGRAM
_SERVER, TARGET = ("server",), ("target",)

MEASURES: dict[str, Measure] = {
    each.name: each
    for each in (
        # Servers.
        Measure("server_state", _G, "1 for the state in which a server is.", ("server", "state")),
        Measure("server_info", _G, "1; how a server says goodbye.", ("server", "goaway")),
        Measure("calls_in_flight", _G, "Calls not yet ended, health and reflection apart.", _SERVER),
        Measure("connections", _G, "Open connections.", _SERVER),
        Measure(
            "connection_age", _G, "Of open connections: for how long they have been seen.", ("server", "quantile"), "s"
        ),
        Measure("time_left", _G, "Until the drain is over at the latest.", _SERVER, "s"),
        # Drains.
        Measure(
            "drains", _C, "Drains that are over: clean, or lossy where calls were cut.", ("outcome",),
            known=("clean", "lossy"),
        ),
        Measure(
            "calls_while_leaving", _C, "Calls during drains: finished, cancelled when the time was up, refused.",
            ("outcome",), known=("finished", "cancelled", "refused"),
        ),
        Measure(
            "phase", _H, "How long phases of drains took.", ("phase",), "s",
            bounds=PHASES, known=("announcing", "closing", "finishing"),
        ),
        Measure(
            "announcing_ended", _C, "What ended announcing.", ("why",),
            known=("nobody came back", "endpoint left", "announce_timeout", "announce_delay", "skipped", "forced"),
        ),
        Measure("rotations", _C, "GOAWAY rounds while serving."),
        Measure("rebalances", _C, "Rotations because the service has grown."),
        Measure("fallbacks", _C, "Something better was not to be had.", ("what",)),
        Measure("steps_failed", _C, "Steps of a drain that failed or outlasted their bound.", ("step",)),
        # Targets.
        Measure("resolver_endpoints", _G, "Endpoints of a target, by state.", ("target", "state")),
        Measure("resolver_age", _G, "Since the last news of a target; grows through an outage.", TARGET, "s"),
        Measure("resolver_failing", _G, "For how long a target cannot be followed; 0: it is.", TARGET, "s"),
        Measure("resolver_stale", _G, "1: the endpoints in use are those of before a failure.", TARGET),
        Measure("resolver_updates", _C, "Sets of endpoints that differed from the one before.", TARGET),
        Measure("resolver_failures", _C, "Times that a target could not be followed, once for each reason.", TARGET),
        Measure("resolver_refused", _C, "Updates that grpc did not take (NACK).", TARGET),
        Measure("resolver_restarts", _C, "Lists and watches of the API that ended, by why.", ("service", "why")),
        Measure(
            "resolver_propagation", _H, "From a change in the cluster, to the second, until it was known here.",
            TARGET, "s", bounds=PHASES,
        ),
        Measure(
            "resolver_update", _H, "From news of a target until grpc had taken it.", TARGET, "s", bounds=NEWS
        ),
        # The control plane.
        Measure("control_plane_streams", _G, "Open streams: one a server and channel."),
        Measure("control_plane_nacks", _C, "Updates that grpc did not take."),
    )
}  # fmt: skip
