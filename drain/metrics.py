"""Metrics for Prometheus: how servers drain, and how targets are followed. Needs the extra `metrics` (prometheus-client).

    drain.metrics.serve(9464)                        # an HTTP port of its own
    drain.metrics.register(my_registry)              # or among your own: prometheus_client.REGISTRY, if you have one

All servers and targets of this process are in it, whenever they were made. What is counted is counted by events, which are rare,
and what is looked at is looked at when it is scraped: calls cost nothing. Counting begins with the first `register` or `serve`.
Durations in seconds. Everything here may be called from any thread.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from drain._observe.measures import Histogram, Kind, Measure
from drain._observe.readings import Readings, Sample
from drain.errors import ConfigurationError

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import CollectorRegistry

__all__ = ["Collector", "register", "serve"]

_MOST_PORT = 65535
_UNITS = {"s": "_seconds", "": ""}


class Collector:
    """A collector for a `prometheus_client` registry. Thread safe. `close()` ends its counting.

    Raises ConfigurationError where prometheus-client is not installed.
    """

    def __init__(self) -> None:
        self._core = _prometheus()
        self._readings = Readings()
        self.close: Callable[[], None] = self._readings.close

    def collect(self) -> "Iterable[Metric]":
        """What there is now; called by the registry, at each scrape."""
        for measure, samples in self._readings.all():
            yield self._family(measure, samples)

    def describe(self) -> "Iterable[Metric]":
        """The same, by which a registry sees that it has them already."""
        return self.collect()

    def _family(self, measure: Measure, samples: list[Sample]) -> Any:
        families = {
            Kind.GAUGE: self._core.GaugeMetricFamily,
            Kind.COUNTER: self._core.CounterMetricFamily,
            Kind.HISTOGRAM: self._core.HistogramMetricFamily,
        }
        name = f"drain_{measure.name}{_UNITS[measure.unit]}"
        family = families[measure.kind](name, measure.help, labels=list(measure.labels))
        for labels, value in samples:
            if isinstance(value, Histogram):
                buckets = [(f"{bound:g}", count) for bound, count in zip(value.bounds, value.counts, strict=True)]
                family.add_metric(list(labels), [*buckets, ("+Inf", value.count)], value.sum)
            else:
                family.add_metric(list(labels), value)
        return family


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
