"""Drains and targets for OpenTelemetry: a span for each drain, and the measures of `drain.metrics` through its API.

    drain.otel.instrument()                          # with the global providers, once they are set

Needs the extra `otel` (opentelemetry-api); which SDK and exporter, the program says. Measures have the names of docs/metrics.md
with a dot behind "drain" ("drain.calls_in_flight"): OpenTelemetry's exporter for Prometheus leads to the same series, so the
dashboard and the alerts hold for both. A drain's span is made when it is over, with its phases as children: one that SIGKILL
ends has none. Calls themselves are for opentelemetry-instrumentation-grpc, whose interceptors work with drain's servers as ever.
Everything here may be called from any thread.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from drain import events
from drain._observe import watched
from drain._observe.measures import MEASURES, Histogram, Kind, Measure
from drain._observe.readings import Labels, Readings
from drain.errors import ConfigurationError
from drain.report import DrainReport

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import Tracer, TracerProvider

__all__ = ["instrument"]

_NAME = "grpc-drain"
_SCHEMA = "https://opentelemetry.io/schemas/1.38.0"  # whose names for RPC these are
_PHASES = MEASURES["phase"].known  # in their order
_NANO = 1_000_000_000


def instrument(
    *, meter_provider: "MeterProvider | None" = None, tracer_provider: "TracerProvider | None" = None
) -> Callable[[], None]:
    """Tell OpenTelemetry of all servers and targets of this process from now on, whenever they were made.

    Args:
        meter_provider, tracer_provider: None: the global one.

    Returns what ends it; the measures that are looked at are then told no more. Raises ConfigurationError where opentelemetry-api
    is not installed. Instrument once: the second time everything would be told twice.
    """
    metrics, trace = _api("metrics"), _api("trace")
    meter = metrics.get_meter(_NAME, meter_provider=meter_provider, schema_url=_SCHEMA)
    histograms: dict[str, Any] = {}
    readings = Readings(lambda measure, labels, value: _record(histograms, measure, labels, value))
    ended: list[bool] = []
    for measure in MEASURES.values():
        about = {"unit": measure.unit or "1", "description": measure.help}
        if measure.kind is Kind.HISTOGRAM:
            bounds = list(measure.bounds)
            histograms[measure.name] = meter.create_histogram(
                _dotted(measure), explicit_bucket_boundaries_advisory=bounds, **about
            )
        else:
            looked = _looking(readings, measure, ended)
            make = meter.create_observable_gauge if measure.kind is Kind.GAUGE else meter.create_observable_counter
            make(_dotted(measure), callbacks=[looked], **about)
    tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider, schema_url=_SCHEMA)
    leave = watched.listen(lambda event: _drained(tracer, event))

    def stop() -> None:
        ended.append(True)
        leave()
        readings.close()

    return stop


def _dotted(measure: Measure) -> str:
    return f"drain.{measure.name}"


def _record(histograms: Mapping[str, Any], measure: Measure, labels: Labels, value: float) -> None:
    if (histogram := histograms.get(measure.name)) is not None:  # else it is being made
        histogram.record(value, dict(zip(measure.labels, labels, strict=True)))


def _looking(
    readings: Readings, measure: Measure, ended: list[bool]
) -> "Callable[[CallbackOptions], Iterable[Observation]]":
    observation = _api("metrics").Observation

    def look(_: "CallbackOptions") -> "Iterable[Observation]":
        for labels, value in [] if ended else readings.of(measure):
            assert not isinstance(value, Histogram)
            yield observation(value, dict(zip(measure.labels, labels, strict=True)))

    return look


def _drained(tracer: "Tracer", event: events.Event) -> None:
    """A span that ends now, and one in it for each phase."""
    if not isinstance(event, events.Drained):
        return
    trace, report, end = _api("trace"), event.report, time.time_ns()
    at = end - round(report.duration * _NANO)
    span = tracer.start_span("drain", start_time=at, attributes=_attributes(report))
    within = trace.set_span_in_context(span)
    for phase in _PHASES:
        if phase in report.phases:
            child = tracer.start_span(f"drain {phase}", context=within, start_time=at)
            at += round(report.phases[phase] * _NANO)
            child.end(at)
    for method, calls in report.cancelled_by_method.items():
        told: dict[str, Any] = {"rpc.system.name": "grpc", "rpc.method": method.lstrip("/"), "drain.calls": calls}
        span.add_event("calls cancelled", told, end)
    if not report.clean:
        span.set_status(trace.StatusCode.ERROR, f"{report.cancelled} calls were cancelled")
    span.end(end)


def _attributes(report: DrainReport) -> dict[str, Any]:
    about: dict[str, Any] = {
        "rpc.system.name": "grpc",
        "drain.reason": report.reason,
        "drain.goaway": report.goaway,
        "drain.announcing_ended": report.announcing_ended,
        "drain.rotations": len(report.rotations),
        "drain.calls.finished": report.finished,
        "drain.calls.cancelled": report.cancelled,
        "drain.calls.refused": report.refused,
        "drain.peers_left": len(report.peers_left),
        "drain.forced": report.forced,
    }
    for server in watched.servers():
        status = server.status()
        if status.report is report and status.addresses:
            host, _, port = status.addresses[0].rpartition(":")
            about["server.address"] = host.strip("[]") or status.addresses[0]
            with contextlib.suppress(ValueError):  # a socket's path has none
                about["server.port"] = int(port)
    return about


def _api(module: str) -> Any:
    """Imported by whoever wants it, and nobody else."""
    import importlib  # noqa: PLC0415

    try:
        return importlib.import_module(f"opentelemetry.{module}")
    except ModuleNotFoundError:
        raise ConfigurationError("drain.otel needs opentelemetry-api: pip install 'grpc-drain[otel]'") from None
