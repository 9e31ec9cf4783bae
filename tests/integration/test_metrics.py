"""`drain.metrics`: what a scrape says of real servers and targets; each series is there once; who does not ask does not pay."""

import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

import drain
from drain._observe import watched
from tests.integration._servers.calls import Client, in_flight
from tests.integration._servers.hosted import Hosted
from tests.integration._servers.waiting import until

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def serving() -> Iterator[Any]:
    stop = drain.metrics.serve(0, "127.0.0.1")
    yield stop
    stop()
    assert watched.listeners() == ()


def scrape(port: int) -> Series:
    """All series; one that is there twice is an error, as it is to Prometheus."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def value(port: int, name: str, **labels: str) -> float | None:
    return scrape(port).get((name, frozenset(labels.items())))


def test_a_server(serving: Any, serve: Any) -> None:
    """From its start to its end."""
    hosted: Hosted = serve(policy=drain.DrainPolicy(announce_min=0.2))
    server = f"127.0.0.1:{hosted.port}"
    assert value(serving.port, "drain_server_state", server=server, state="serving") == 1
    assert value(serving.port, "drain_server_state", server=server, state="announcing") == 0
    assert value(serving.port, "drain_server_info", server=server, goaway="lossless") == 1
    assert value(serving.port, "drain_drains_total", outcome="clean") == 0
    with grpc.insecure_channel(server) as channel:
        grpc.channel_ready_future(channel).result(10)
        until(lambda: value(serving.port, "drain_connections", server=server) == 1)
        hosted.drain()
        until(lambda: value(serving.port, "drain_drains_total", outcome="clean") == 1)
    found = scrape(serving.port)
    assert found["drain_server_state", frozenset({("server", server), ("state", "stopped")})] == 1
    assert found["drain_calls_while_leaving_total", frozenset({("outcome", "cancelled")})] == 0
    assert found["drain_announcing_ended_total", frozenset({("why", "nobody came back")})] == 1
    assert found["drain_rotations_total", frozenset()] >= 2
    for phase in ("announcing", "closing", "finishing"):
        assert found["drain_phase_seconds_count", frozenset({("phase", phase)})] == 1
    assert found["drain_phase_seconds_sum", frozenset({("phase", "announcing")})] >= 0.2


def test_one_that_takes_anothers_place(serving: Any) -> None:
    """The series is there once, and is the living one's."""
    made = []
    port = 0
    for _ in range(2):
        server = drain.server(futures.ThreadPoolExecutor(2), policy=drain.DrainPolicy(announce_timeout=0))
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        made.append(server)
        if len(made) == 1:
            server.drain("test").result(20)
    assert value(serving.port, "drain_server_state", server=f"127.0.0.1:{port}", state="serving") == 1
    made[1].stop(0).wait(10)
    unstarted = drain.server(futures.ThreadPoolExecutor(2))
    assert value(serving.port, "drain_server_state", server="", state="starting") is None
    del unstarted


def test_targets(serving: Any, tmp_path: Path) -> None:
    """Endpoints by state, and what went wrong."""
    file = tmp_path / "endpoints.yaml"
    file.write_text("- {address: 10.0.0.1, port: 1}\n- {address: 10.0.0.2, port: 1, ready: false}\n")
    target = f"file://{file}"
    with drain.resolver.watch(target) as watching:
        watching.next(10)
        assert value(serving.port, "drain_resolver_endpoints", target=target, state="ready") == 1
        assert value(serving.port, "drain_resolver_endpoints", target=target, state="not_ready") == 1
        assert value(serving.port, "drain_resolver_endpoints", target=target, state="terminating") == 0
        assert value(serving.port, "drain_resolver_updates_total", target=target) == 1
        assert value(serving.port, "drain_resolver_stale", target=target) == 0
        file.write_text("- {address: [")
        until(lambda: value(serving.port, "drain_resolver_stale", target=target) == 1)
        assert (value(serving.port, "drain_resolver_failing_seconds", target=target) or 0) >= 0
        until(lambda: value(serving.port, "drain_resolver_failures_total", target=target) == 1)
        assert value(serving.port, "drain_resolver_endpoints", target=target, state="ready") == 1
        file.write_text("- {address: 10.0.0.3, port: 1}\n")
        until(lambda: value(serving.port, "drain_resolver_stale", target=target) == 0)


def test_how_long_news_take(serving: Any, serve: Any, client: Any, tmp_path: Path) -> None:
    """From the file's change until grpc has taken it: of each update but the first, which a channel asks for itself."""
    hosted: Hosted = serve()
    file = tmp_path / "endpoints.yaml"
    file.write_text(f"- {{address: 127.0.0.1, port: {hosted.port}}}\n")
    target = f"file://{file}"
    told: list[Any] = []
    leave = drain.resolver.subscribe(told.append)
    with drain.insecure_channel(target) as channel:
        grpc.channel_ready_future(channel).result(20)
        file.write_text(f"- {{address: 127.0.0.1, port: {hosted.port}}}\n- {{address: 127.0.0.2, port: 1}}\n")
        until(lambda: (value(serving.port, "drain_resolver_update_seconds_count", target=target) or 0) >= 1)
    leave()
    taken = [each for each in told if isinstance(each, drain.events.UpdateTaken)]
    assert {each.target for each in taken} == {target}
    assert all(0 <= each.after < 5 for each in taken)
    assert scrape(serving.port)["drain_resolver_update_seconds_count", frozenset({("target", target)})] == len(taken)


def test_ages_of_connections(serving: Any, serve: Any) -> None:
    """They grow, and one that has gone is counted no more; those of another do not become its."""
    hosted: Hosted = serve()
    server = f"127.0.0.1:{hosted.port}"

    def oldest() -> float:
        return value(serving.port, "drain_connection_age_seconds", server=server, quantile="1") or 0.0

    with grpc.insecure_channel(server) as first:
        grpc.channel_ready_future(first).result(10)
        until(lambda: oldest() > 0.3)
        with grpc.insecure_channel(server, [("grpc.use_local_subchannel_pool", 1)]) as second:
            grpc.channel_ready_future(second).result(10)
            until(lambda: value(serving.port, "drain_connections", server=server) == 2)
            first.close()
            until(lambda: value(serving.port, "drain_connections", server=server) == 1)
            assert oldest() < 20
    until(lambda: value(serving.port, "drain_connections", server=server) == 0)
    assert value(serving.port, "drain_connection_age_seconds", server=server, quantile="1") is None


def test_the_control_plane(serving: Any) -> None:
    before = value(serving.port, "drain_control_plane_streams") or 0
    with drain.insecure_channel("static:///127.0.0.1:1") as channel:
        channel.subscribe(lambda state: None, try_to_connect=True)
        until(lambda: (value(serving.port, "drain_control_plane_streams") or 0) > before)
    assert value(serving.port, "drain_control_plane_nacks_total") is not None


def test_ones_own_registry() -> None:
    registry = CollectorRegistry()
    collector = drain.metrics.register(registry)
    assert registry.get_sample_value("drain_rotations_total") == 0
    with pytest.raises(drain.ConfigurationError, match="Register once"):
        drain.metrics.register(registry)
    registry.unregister(collector)
    collector.close()
    assert watched.listeners() == ()


@pytest.mark.parametrize("port", [-1, 65536, "9464", True, 1.5])
def test_what_is_no_port(port: Any) -> None:
    with pytest.raises(drain.ConfigurationError, match="must be a port"):
        drain.metrics.serve(port)
    assert watched.listeners() == ()


def test_a_port_that_is_taken(serving: Any) -> None:
    with pytest.raises(OSError, match="in use"):
        drain.metrics.serve(serving.port, "127.0.0.1")


def test_nobody_pays_who_does_not_ask() -> None:
    """A server without metrics loads nothing of it; and without prometheus-client it is told what to install."""
    program = (
        "import sys; import drain; from concurrent import futures; drain.server(futures.ThreadPoolExecutor(1)); "
        "assert 'prometheus_client' not in sys.modules; sys.modules['prometheus_client'] = None\n"
        "try: drain.metrics.serve(0)\n"
        "except drain.ConfigurationError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "pip install 'grpc-drain[metrics]'" in done.stdout, done.stderr


def test_calls_are_seen_in_flight(serving: Any, serve: Any, client: Any) -> None:
    hosted: Hosted = serve()
    caller: Client = client(hosted.port)

    (call,) = in_flight(caller, hosted.told)
    server = f"127.0.0.1:{hosted.port}"
    until(lambda: value(serving.port, "drain_calls_in_flight", server=server) == 1)
    hosted.service.release.set()
    assert call.result(20) is not None


def test_all_of_them_are_documented(serving: Any) -> None:
    """docs/metrics.md has what a scrape has, with the same labels, and nothing else."""
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    rows = [
        [cell.strip() for cell in line.split("|")[1:3]] for line in page.splitlines() if line.startswith("| `drain_")
    ]
    documented = {name.strip("`"): set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    registry = CollectorRegistry()
    collector = drain.metrics.Collector()
    registry.register(collector)
    collector.close()
    found = {}
    for family in registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = set(family._labelnames)
    assert documented == found
