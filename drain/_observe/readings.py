"""Counts what is measured (measures.py), and looks at it. `drain.metrics` and `drain.otel` tell it on.

What happens is counted by events, which are rare; what stands is looked at when somebody asks. So calls cost nothing. Whatever is
not loaded (channels, the Kubernetes client) is not loaded for this: it has nothing to tell.
"""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from drain import _clock, events
from drain._observe import watched
from drain._observe.measures import MEASURES, TARGET, Histogram, Kind, Measure
from drain.events import State
from drain.status import ServerStatus

QUANTILES = (0.5, 0.9, 1.0)
_SHORTEST = 0.05  # seconds for which a reading is good: an exporter may ask for each measure by itself

Labels: TypeAlias = tuple[str, ...]
Sample: TypeAlias = tuple[Labels, float | Histogram]
Observed: TypeAlias = Callable[[Measure, Labels, float], object]

_COUNTED: dict[type, tuple[str, str]] = {  # an event: its measure, and the field that is the label
    events.Rotated: ("rotations", ""),
    events.Rebalanced: ("rebalances", ""),
    events.FallbackTaken: ("fallbacks", "what"),
    events.StepFailed: ("steps_failed", "step"),
    events.EndpointsChanged: ("resolver_updates", "target"),
    events.WatchFailed: ("resolver_failures", "target"),
    events.UpdateRefused: ("resolver_refused", "target"),
}


class Readings:
    """Counts from when it is made until `close`, and reads. Thread safe.

    Args:
        observed: is told each value of a histogram as it comes, on the thread where it does: it must not block.
    """

    def __init__(self, observed: Observed | None = None) -> None:
        self._observed = observed
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, Labels]] = Counter()
        self._histograms: dict[tuple[str, Labels], Histogram] = {}
        self._reading = threading.Lock()  # servers are asked with it held, and events must not wait for that
        self._first_seen: dict[str, dict[int, float]] = {}  # connections of servers
        self._read_at = float("-inf")
        self._read: dict[str, list[Sample]] = {}
        self.close: Callable[[], None] = watched.listen(self._heard)

    def all(self) -> list[tuple[Measure, list[Sample]]]:
        """What there is now."""
        read = self._known()
        return [(measure, read.get(name, [])) for name, measure in MEASURES.items()]

    def of(self, measure: Measure) -> list[Sample]:
        """One of them."""
        return self._known().get(measure.name, [])

    def _known(self) -> dict[str, list[Sample]]:
        with self._reading:
            now = _clock.now()
            if now - self._read_at >= _SHORTEST:
                self._read_at = now  # first: an event that comes meanwhile is read the next time
                self._read = self._look(now)
            return self._read

    # What is counted.

    def _heard(self, event: events.Event) -> None:
        self._read_at = float("-inf")
        with self._lock:
            observed = list(self._count(event))
            for name, labels, value in observed:
                if (histogram := self._histograms.get((name, labels))) is None:
                    histogram = self._histograms[name, labels] = Histogram(MEASURES[name].bounds)
                histogram.add(value)
        if self._observed is not None:
            for name, labels, value in observed:
                self._observed(MEASURES[name], labels, value)

    def _count(self, event: events.Event) -> Iterator[tuple[str, Labels, float]]:
        """What is counted of an event; what it brings for a histogram."""
        if (counted := _COUNTED.get(type(event))) is not None:
            name, label = counted
            self._counts[name, (getattr(event, label),) if label else ()] += 1
        match event:
            case events.Drained(report=report):
                yield from self._drained(report)
            case events.EndpointsChanged(target=target, behind=float(behind)):
                yield "resolver_propagation", (target,), behind
            case events.UpdateTaken(target=target, after=after):
                yield "resolver_update", (target,), after

    def _drained(self, report: Any) -> Iterator[tuple[str, Labels, float]]:
        self._counts["drains", ("clean" if report.clean else "lossy",)] += 1
        self._counts["announcing_ended", (report.announcing_ended,)] += 1
        for outcome in ("finished", "cancelled", "refused"):
            self._counts["calls_while_leaving", (outcome,)] += getattr(report, outcome)
        for phase, seconds in report.phases.items():
            yield "phase", (phase,), seconds

    # What is looked at.

    def _look(self, now: float) -> dict[str, list[Sample]]:
        found: dict[str, list[Sample]] = {}

        def tell(name: str, value: float | Histogram, *labels: str) -> None:
            found.setdefault(name, []).append((labels, value))

        self._servers(tell, now)
        _targets(tell)
        _plane(tell)
        with self._lock:
            counts = dict(sorted(self._counts.items()))
            histograms = {key: histogram.copy() for key, histogram in self._histograms.items()}
        targets = [labels[0] for labels, _ in found.get("resolver_failing", ())]
        for measure in MEASURES.values():
            known: list[Labels] = [(each,) for each in (targets if measure.labels == TARGET else measure.known)]
            if measure.kind is Kind.COUNTER and measure.name not in found:
                for labels in known if measure.labels else [()]:
                    counts.setdefault((measure.name, labels), 0)
            elif measure.kind is Kind.HISTOGRAM:
                for labels in known:
                    histograms.setdefault((measure.name, labels), Histogram(measure.bounds).copy())
        for (name, labels), count in counts.items():
            tell(name, count, *labels)
        for (name, labels), histogram in histograms.items():
            tell(name, histogram, *labels)
        return found

    def _servers(self, tell: Callable[..., None], now: float) -> None:
        seen = {}
        for address, (server, status) in _by_address().items():
            for each in State:
                tell("server_state", float(status.state is each), address, each.value)
            tell("server_info", 1.0, address, status.goaway)
            tell("calls_in_flight", status.in_flight, address)
            before, connections = self._first_seen.get(address, {}), server.connections()
            seen[address] = {number: before.get(number, now) for number in connections}
            tell("connections", len(connections), address)
            ages = sorted(now - first for first in seen[address].values())
            for quantile in QUANTILES if ages else ():
                age = ages[max(0, round(quantile * len(ages)) - 1)]
                tell("connection_age", age, address, f"{quantile:g}")
            if status.time_left is not None:
                tell("time_left", status.time_left, address)
        self._first_seen = seen


def _by_address() -> dict[str, tuple[watched.HasStatus, ServerStatus]]:
    """Of servers that listen, or did. One that took another's place is told in its place: a series must be there once."""
    found: dict[str, tuple[watched.HasStatus, ServerStatus]] = {}
    for server in watched.servers():
        status = server.status()
        address = ", ".join(status.addresses)
        if address and (address not in found or found[address][1].state is State.STOPPED):
            found[address] = server, status
    return found


def _targets(tell: Callable[..., None]) -> None:
    """Those that are followed."""
    resolver = sys.modules.get("drain.resolver")
    for each in resolver.snapshot() if resolver is not None else ():
        for state, count in _states(each).items():
            tell("resolver_endpoints", count, each.target, state)
        if each.age is not None:
            tell("resolver_age", each.age, each.target)
        tell("resolver_failing", each.failing_for or 0.0, each.target)
        tell("resolver_stale", float(each.stale), each.target)
    kubernetes = sys.modules.get("drain._resolvers.kubernetes")
    for (service, why), count in sorted(kubernetes.restarts().items()) if kubernetes is not None else ():
        tell("resolver_restarts", count, service, why)


def _states(snapshot: Any) -> dict[str, int]:
    """Endpoints by state; all of them, so that one that falls to 0 is seen to."""
    found = {"ready": 0, "not_ready": 0, "terminating": 0}
    for each in snapshot.endpoints.endpoints if snapshot.endpoints is not None else ():
        found["terminating" if each.terminating else "ready" if each.ready else "not_ready"] += 1
    return found


def _plane(tell: Callable[..., None]) -> None:
    ads = sys.modules.get("drain._xds.ads")
    plane = ads.ControlPlane._shared if ads is not None else None
    tell("control_plane_streams", plane.streams if plane is not None else 0)
    tell("control_plane_nacks", plane.refusals if plane is not None else 0)
