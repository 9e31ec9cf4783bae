"""`drain.otel`: a drain's span and its phases, the same measures as drain.metrics, and nothing for who does not ask.

With OpenTelemetry's own SDK and exporters, in one process with real servers.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from prometheus_client import REGISTRY, CollectorRegistry

import drain
from drain._observe import watched
from tests.integration._servers.calls import Client, in_flight
from tests.integration._servers.hosted import Hosted
from tests.integration._servers.waiting import until


class Seen:
    """What was exported."""

    def __init__(self) -> None:
        self.spans, self.reader, self.prometheus = (
            InMemorySpanExporter(),
            InMemoryMetricReader(),
            PrometheusMetricReader(),
        )
        self.meters = MeterProvider([self.reader, self.prometheus])
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))

    def measures(self) -> dict[str, list[Any]]:
        """The points of each measure that has any."""
        data = self.reader.get_metrics_data()
        scopes = [scope for resource in (data.resource_metrics if data else ()) for scope in resource.scope_metrics]
        return {
            each.name: list(each.data.data_points)
            for scope in scopes
            for each in scope.metrics
            if each.data.data_points
        }


@pytest.fixture
def seen() -> Iterator[Seen]:
    it = Seen()
    stop = drain.otel.instrument(meter_provider=it.meters, tracer_provider=it.tracers)
    yield it
    stop()
    assert watched.listeners() == ()
    assert "drain.server_state" not in it.measures()
    it.meters.shutdown()


def test_a_clean_drain_is_a_span_with_its_phases(seen: Seen, serve: Any) -> None:
    hosted: Hosted = serve(policy=drain.DrainPolicy(announce_min=0.2))
    began = time.time_ns()
    hosted.drain()
    until(lambda: any(span.name == "drain" for span in seen.spans.get_finished_spans()))
    spans = {span.name: span for span in seen.spans.get_finished_spans()}
    assert list(spans) == ["drain announcing", "drain closing", "drain finishing", "drain"]
    whole = spans.pop("drain")
    assert whole.parent is None
    assert whole.status.status_code is StatusCode.UNSET
    assert whole.attributes["rpc.system.name"] == "grpc"
    assert whole.attributes["server.address"] == "127.0.0.1"
    assert whole.attributes["server.port"] == hosted.port
    assert whole.attributes["drain.announcing_ended"] == "nobody came back"
    assert whole.attributes["drain.calls.cancelled"] == 0
    assert 0.2e9 <= whole.end_time - whole.start_time < 20e9
    assert began - 1e7 <= whole.start_time
    at = whole.start_time
    for phase in spans.values():  # one after the other, and all of it
        assert phase.parent.span_id == whole.context.span_id
        assert phase.start_time == at
        at = phase.end_time
    assert abs(at - whole.end_time) < 1e6


def test_calls_that_are_cut_are_an_error_and_named(seen: Seen, serve: Any, client: Any) -> None:
    hosted: Hosted = serve(policy=drain.DrainPolicy(announce_timeout=0, drain_timeout=0.2, quiet_period=0.05))
    caller: Client = client(hosted.port)
    (call,) = in_flight(caller, hosted.told)
    hosted.drain()
    with pytest.raises(grpc.RpcError):
        call.result(20)
    until(lambda: any(span.name == "drain" for span in seen.spans.get_finished_spans()))
    (whole,) = [span for span in seen.spans.get_finished_spans() if span.name == "drain"]
    assert whole.status.status_code is StatusCode.ERROR
    assert whole.attributes["drain.calls.cancelled"] == 1
    (event,) = whole.events
    assert event.name == "calls cancelled"
    assert event.attributes["drain.calls"] == 1
    assert not str(event.attributes["rpc.method"]).startswith("/")


def test_the_measures_are_those_of_metrics(seen: Seen, serve: Any) -> None:
    """By another way, under the same names: so the dashboard and the alerts hold for both."""
    plain = CollectorRegistry()
    collector = drain.metrics.register(plain)
    hosted: Hosted = serve(policy=drain.DrainPolicy(announce_min=0.2))
    with grpc.insecure_channel(f"127.0.0.1:{hosted.port}") as channel:
        grpc.channel_ready_future(channel).result(10)
        until(lambda: plain.get_sample_value("drain_connections", {"server": f"127.0.0.1:{hosted.port}"}) == 1)
        ours, others = _series(plain), _series(REGISTRY)
        assert {key for key in ours if key[0].startswith("drain_")} - set(others) == set()
        hosted.drain()
    until(lambda: any(point.count == 1 for point in seen.measures().get("drain.phase", ())))
    ours, others = _series(plain), _series(REGISTRY)
    assert {key for key in ours if key[0].startswith("drain_")} - set(others) == set()
    assert len(ours) > 40
    counted = [key for key in ours if key[0].endswith(("_total", "_count", "_bucket"))]
    assert {key: others[key] for key in counted} == {key: ours[key] for key in counted}
    collector.close()


def _series(registry: CollectorRegistry) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Names, labels and values; without what the exporter says of itself, and histograms of which there is nothing yet.

    Bounds are numbers, however they are written.
    """
    counts = [
        each
        for family in registry.collect()
        if family.type == "histogram"
        for each in family.samples
        if each.name.endswith("_count")
    ]
    nothing = {each.name.removesuffix("_count") for each in counts} - {
        each.name.removesuffix("_count") for each in counts if each.value
    }
    return {
        (
            sample.name,
            frozenset(_label(*pair) for pair in sample.labels.items() if not pair[0].startswith("otel_")),
        ): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") not in nothing
    }


def _label(name: str, value: str) -> tuple[str, str]:
    return (name, f"{float(value):g}") if name == "le" else (name, value)


def test_nobody_pays_who_does_not_ask() -> None:
    program = (
        "import sys; import drain; from concurrent import futures; drain.server(futures.ThreadPoolExecutor(1)); "
        "assert 'opentelemetry' not in sys.modules; sys.modules['opentelemetry.metrics'] = None\n"
        "try: drain.otel.instrument()\n"
        "except drain.ConfigurationError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "pip install 'grpc-drain[otel]'" in done.stdout, done.stderr


def test_without_an_sdk_nothing_happens(serve: Any) -> None:
    """The API alone takes everything and does nothing."""
    stop = drain.otel.instrument()
    hosted: Hosted = serve(policy=drain.DrainPolicy(announce_timeout=0))
    assert hosted.drain().result(20).clean
    stop()
