"""Metrics for Prometheus: how servers drain, and how targets are followed. Needs the extra `metrics` (prometheus-client).

    drain.metrics.serve(9464)                        # an HTTP port of its own
    drain.metrics.register(my_registry)              # or among your own: prometheus_client.REGISTRY, if you have one

All servers and targets of this process are in it, whenever they were made. What is counted is counted by events, which are rare,
and what is looked at is looked at when it is scraped: calls cost nothing. Counting begins with the first `register` or `serve`.
Durations in seconds. Everything here may be called from any thread.
"""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from drain import events
from drain._observe import watched
from drain.errors import ConfigurationError
from drain.events import State
from drain.status import ServerStatus

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import CollectorRegistry

__all__ = ["Collector", "register", "serve"]

BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
"""Of phases: a drain fits 30 s unless it was given more."""

_KNOWN = {"drains": ("clean", "lossy"), "calls_while_leaving": ("finished", "cancelled", "refused")}
_MOST_PORT = 65535


class Collector:
    """A collector for a `prometheus_client` registry. Thread safe. `close()` ends its counting.

    Raises ConfigurationError where prometheus-client is not installed.
    """

    def __init__(self) -> None:
        _prometheus()
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._phases: dict[str, list[float]] = {}  # count of each bucket, of all, and the sum
        self._by_target: Counter[tuple[str, str]] = Counter()
        self.close: Callable[[], None] = watched.listen(self._heard)

    def collect(self) -> "Iterable[Metric]":
        """What there is now; called by the registry, at each scrape."""
        yield from self._servers()
        yield from self._drains()
        yield from self._targets()

    def describe(self) -> "Iterable[Metric]":
        """The same, by which a registry sees that it has them already."""
        return self.collect()

    # What is counted.

    def _heard(self, event: events.Event) -> None:
        with self._lock:
            match event:
                case events.Drained(report=report):
                    self._drained(report)
                case events.Rotated():
                    self._counts["rotations", ""] += 1
                case events.Rebalanced():
                    self._counts["rebalances", ""] += 1
                case events.FallbackTaken(what=what):
                    self._counts["fallbacks", what] += 1
                case events.StepFailed(step=step):
                    self._counts["steps_failed", step] += 1
                case events.EndpointsChanged(target=target):
                    self._by_target["updates", target] += 1
                case events.WatchFailed(target=target):
                    self._by_target["failures", target] += 1
                case events.UpdateRefused(target=target):
                    self._by_target["refused", target] += 1

    def _drained(self, report: Any) -> None:
        self._counts["drains", "clean" if report.clean else "lossy"] += 1
        self._counts["announcing_ended", report.announcing_ended] += 1
        for outcome in ("finished", "cancelled", "refused"):
            self._counts["calls_while_leaving", outcome] += getattr(report, outcome)
        for phase, seconds in report.phases.items():
            line = self._phases.setdefault(phase, [0.0] * (len(BUCKETS) + 2))
            for n, bound in enumerate(BUCKETS):
                line[n] += seconds <= bound
            line[-2] += 1
            line[-1] += seconds

    # What is told.

    def _servers(self) -> "Iterator[Metric]":
        gauge = _prometheus().GaugeMetricFamily
        state = gauge("drain_server_state", "1 for the state in which a server is.", labels=["server", "state"])
        info = gauge("drain_server_info", "1; how a server says goodbye.", labels=["server", "goaway"])
        flight = gauge("drain_calls_in_flight", "Calls not yet ended, health and reflection apart.", labels=["server"])
        peers = gauge("drain_connections", "Open connections.", labels=["server"])
        left = gauge("drain_time_left_seconds", "Until the drain is over at the latest.", labels=["server"])
        for server, status in _by_address().items():
            for each in State:
                state.add_metric([server, each.value], float(status.state is each))
            info.add_metric([server, status.goaway], 1.0)
            flight.add_metric([server], status.in_flight)
            peers.add_metric([server], len(status.peers))
            if status.time_left is not None:
                left.add_metric([server], status.time_left)
        yield from (state, info, flight, peers, left)

    def _drains(self) -> "Iterator[Metric]":
        core = _prometheus()
        with self._lock:
            counts, phases = self._counts.copy(), {phase: list(line) for phase, line in self._phases.items()}
        for name, help_, label in (
            ("drains", "Drains that are over: clean, or lossy where calls were cut.", "outcome"),
            (
                "calls_while_leaving",
                "Calls during drains: finished, cancelled when the time was up, refused.",
                "outcome",
            ),
            ("announcing_ended", "What ended announcing.", "why"),
            ("rotations", "GOAWAY rounds while serving.", ""),
            ("rebalances", "Rotations because the service has grown.", ""),
            ("fallbacks", "Something better was not to be had.", "what"),
            ("steps_failed", "Steps of a drain that failed or outlasted their bound.", "step"),
        ):
            family = core.CounterMetricFamily(f"drain_{name}", help_, labels=[label] if label else [])
            told = dict.fromkeys(_KNOWN.get(name, () if label else ("",)), 0)  # from the beginning, for rate()
            told |= {value: count for (kind, value), count in sorted(counts.items()) if kind == name}
            for value, count in told.items():
                family.add_metric([value] if label else [], count)
            yield family
        seconds = core.HistogramMetricFamily("drain_phase_seconds", "How long phases of drains took.", labels=["phase"])
        for phase, line in phases.items():
            buckets = [(f"{bound:g}", line[n]) for n, bound in enumerate(BUCKETS)]
            seconds.add_metric([phase], [*buckets, ("+Inf", line[-2])], line[-1])
        yield seconds

    def _targets(self) -> "Iterator[Metric]":
        core = _prometheus()
        endpoints = core.GaugeMetricFamily(
            "drain_resolver_endpoints", "Endpoints of a target, by state.", labels=["target", "state"]
        )
        age = core.GaugeMetricFamily(
            "drain_resolver_age_seconds", "Since the last news of a target; grows through an outage.", labels=["target"]
        )
        failing = core.GaugeMetricFamily(
            "drain_resolver_failing_seconds", "For how long a target cannot be followed; 0: it is.", labels=["target"]
        )
        stale = core.GaugeMetricFamily(
            "drain_resolver_stale", "1: the endpoints in use are those of before a failure.", labels=["target"]
        )
        for each in _snapshots():
            for name, count in _states(each).items():
                endpoints.add_metric([each.target, name], count)
            if each.age is not None:
                age.add_metric([each.target], each.age)
            failing.add_metric([each.target], each.failing_for or 0.0)
            stale.add_metric([each.target], float(each.stale))
        yield from (endpoints, age, failing, stale)
        with self._lock:
            counts = self._by_target.copy()
        for name, help_ in (
            ("updates", "Sets of endpoints that differed from the one before."),
            ("failures", "Times that a target could not be followed, once for each reason."),
            ("refused", "Updates that grpc did not take (NACK)."),
        ):
            family = core.CounterMetricFamily(f"drain_resolver_{name}", help_, labels=["target"])
            for (kind, target), count in sorted(counts.items()):
                if kind == name:
                    family.add_metric([target], count)
            yield family
        yield from _plane()


def _by_address() -> dict[str, ServerStatus]:
    """Of servers that listen, or did. One that took another's place is told in its place: a series must be there once."""
    found: dict[str, ServerStatus] = {}
    for status in [each.status() for each in watched.servers()]:
        server = ", ".join(status.addresses)
        if server and (server not in found or found[server].state is State.STOPPED):
            found[server] = status
    return found


def _states(snapshot: Any) -> dict[str, int]:
    """Endpoints by state; all of them, so that one that falls to 0 is seen to."""
    found = {"ready": 0, "not_ready": 0, "terminating": 0}
    for each in snapshot.endpoints.endpoints if snapshot.endpoints is not None else ():
        found["terminating" if each.terminating else "ready" if each.ready else "not_ready"] += 1
    return found


def _snapshots() -> tuple[Any, ...]:
    """Of targets that are followed. A process without channels of ours loads nothing for it."""
    resolver = sys.modules.get("drain.resolver")
    return resolver.snapshot() if resolver is not None else ()


def _plane() -> "Iterator[Metric]":
    ads = sys.modules.get("drain._xds.ads")
    plane = ads.ControlPlane._shared if ads is not None else None
    core = _prometheus()
    streams = core.GaugeMetricFamily("drain_control_plane_streams", "Open streams: one a server and channel.")
    refused = core.CounterMetricFamily("drain_control_plane_nacks", "Updates that grpc did not take.")
    streams.add_metric([], plane.streams if plane is not None else 0)
    refused.add_metric([], plane.refusals if plane is not None else 0)
    yield from (streams, refused)


def register(registry: "CollectorRegistry | None" = None) -> Collector:
    """Put all of it into a registry.

    Args:
        registry: yours; None: `prometheus_client.REGISTRY`.

    Returns what is in it now. Raises ConfigurationError where prometheus-client is not installed, or the registry has it already.
    """
    into = registry if registry is not None else _prometheus("prometheus_client").REGISTRY
    collector = Collector()
    try:
        into.register(collector)
    except ValueError as error:
        collector.close()
        raise ConfigurationError(f"drain.metrics.register: {error}. Register once for each registry.") from None
    return collector


def serve(port: int, address: str = "0.0.0.0", *, registry: "CollectorRegistry | None" = None) -> Callable[[], None]:  # noqa: S104
    """Serve them over HTTP, on a daemon thread: `GET /metrics`.

    Args:
        port: 0: any that is free. address: "127.0.0.1" keeps it on this machine.
        registry: what is served besides; None: nothing but drain's own.

    Returns what ends it; its attribute `port` is the number. Raises ConfigurationError (not installed, no port), OSError (taken).
    """
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= _MOST_PORT:
        raise ConfigurationError(f"drain.metrics.serve(port={port!r}): must be a port, 0 to {_MOST_PORT}.")
    client = _prometheus("prometheus_client")
    into = registry if registry is not None else client.CollectorRegistry()
    server, thread = client.start_http_server(port, address, into)
    try:
        collector = register(into)
    except BaseException:
        server.shutdown()
        server.server_close()
        raise

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(1.0)
        collector.close()

    stop.port = server.server_port  # type: ignore[attr-defined]
    return stop


def _prometheus(module: str = "prometheus_client.core") -> Any:
    """Imported by whoever wants metrics, and nobody else."""
    import importlib  # noqa: PLC0415

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise ConfigurationError("drain.metrics needs prometheus-client: pip install 'grpc-drain[metrics]'") from None
