"""Servers restart one after the other behind each proxy, configured as its example is: no call fails, and no client does anything for it.

(But for what a proxy does to a call by itself: `Front.own_faults`.)
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from examples.greeter import greeter_pb2, greeter_pb2_grpc
from examples.processes import free_address
from tests._parts import proxies
from tests._parts.making import PartMissingError
from tests.integration._servers.waiting import until
from tests.proxies._fronts import FRONTS, Front, Nginx
from tests.proxies._load import Load
from tests.proxies._servers import Server

BOUND = 60.0
ENOUGH = 20  # calls that a server answers, until it is taken for one of those in use
NGINX = {"DRAIN_ANNOUNCE_TIMEOUT": "1"}
every_front = pytest.mark.parametrize("name", FRONTS)

Starting = Callable[[str, list[str]], Front]


@pytest.fixture(scope="module")
def programs() -> dict[str, Path]:
    try:
        return proxies.ready(lambda line: print(line, file=sys.stderr, flush=True))
    except PartMissingError as error:
        pytest.fail(f"tests/proxies needs Envoy, HAProxy, Traefik and nginx: {error}", pytrace=False)


@pytest.fixture
def servers(request: pytest.FixtureRequest) -> Iterator[list[Server]]:
    """Three: two synchronous, one asyncio. What examples/proxies/nginx advises is in their environment."""
    environment: dict[str, str] = getattr(request, "param", {})
    with ExitStack() as ended:
        made = []
        for pod, module in (("a", "server"), ("b", "aio_server"), ("c", "server")):
            made.append(Server(pod, f"examples.greeter.{module}", **environment))
            ended.callback(lambda server=made[-1]: server.process.kill())
        yield made


@pytest.fixture
def start(programs: dict[str, Path], tmp_path: Path) -> Iterator[Starting]:
    """Start a proxy; returns when calls go through."""
    with ExitStack() as ended:

        def started(name: str, backends: list[str]) -> Front:
            port = int(free_address().rpartition(":")[2])
            front = FRONTS[name](programs, tmp_path / name, port, backends)
            ended.callback(front.stop)
            until(front.answers, BOUND, every=0.1)
            return front

        yield started


@pytest.mark.parametrize(
    ("name", "servers"), [(each, NGINX if each == "nginx" else {}) for each in FRONTS], indirect=["servers"]
)
def test_no_call_fails(name: str, servers: list[Server], start: Starting) -> None:
    front = start(name, [each.address for each in servers])
    load = Load(front.address)
    try:
        reports = []
        for server in servers:
            until(lambda server=server: load.count(server.pod) > ENOUGH, BOUND, every=0.05)
            reports.append(server.leave())
            server.start()
        for server in servers:
            until(lambda server=server: load.count(server.pod) > ENOUGH, BOUND, every=0.05)
    finally:
        load.stop()
    assert front.lost(load) == [], f"{len(load.failed)} of {load.answered.total()}; {front.log}"
    assert len(load.answered) == 2 * len(servers)
    for report in reports:
        assert ", 0 cancelled" in report, report


@every_front
def test_streams_pass(name: str, servers: list[Server], start: Starting) -> None:
    """A stream in both directions stays with its server, message by message."""
    front = start(name, [each.address for each in servers])
    with grpc.insecure_channel(front.address) as channel:
        names = [f"you {number}" for number in range(50)]
        replies = greeter_pb2_grpc.GreeterStub(channel).Chat(
            (greeter_pb2.HelloRequest(name=each) for each in names), timeout=BOUND
        )
        told = list(replies)
    assert [each.message for each in told] == [f"Hello, {each}!" for each in names]
    assert len({each.pod for each in told}) == 1


def test_marking_nginx(servers: list[Server], start: Starting) -> None:
    """A server that is marked `down` gets no calls any more, and leaves when nobody comes back. What fails then is the reload's doing:
    nginx closes its clients' connections, and a call that was just under way on one of them is lost, server or no server.
    """
    front = start("nginx", [each.address for each in servers])
    assert isinstance(front, Nginx)
    load = Load(front.address)
    try:
        until(lambda: all(load.count(each.pod) > ENOUGH for each in servers), BOUND, every=0.05)
        front.mark("down", servers[0].address)
        report = servers[0].leave()
        servers[0].start()
        front.mark("up", servers[0].address)
        until(lambda: load.count(servers[0].pod) > ENOUGH, BOUND, every=0.05)
    finally:
        load.stop()
    assert "nobody came back" in report, report
    assert [each for each in load.failed if "GOAWAY received" not in each] == [], front.log
    with pytest.raises(subprocess.CalledProcessError):
        front.mark("down", "127.0.0.1:1")
