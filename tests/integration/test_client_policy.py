"""What a ClientPolicy makes real channels do: real servers, grpc's own xDS client, the embedded control plane between them.

Over 300 lines: a case for each setting, all with the same servers and channels.
"""

import asyncio
import json
import shutil
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from drain._core.endpoints import Endpoint, Locality
from drain._grpc.channel_options import channel_options
from drain._grpc.timeouts import async_timeouts, with_timeouts
from drain._xds import client
from drain._xds.ads import ControlPlane
from drain._xds.bootstrap import BOOTSTRAP_ARGUMENT
from drain._xds.messages import CLUSTER, ENDPOINTS, LISTENER
from drain.config import ClientPolicy, OutlierDetection, RetryPolicy
from tests.integration._servers.waiting import AT_ONCE

BOUND = 10.0
UNAVAILABLE, DEADLINE = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED


def until(condition: Callable[[], object], what: str, seconds: float = BOUND) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.002)


class Service:
    """A server that says who it is, and does what it is told to."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.calls: Counter[str] = Counter()
        self.fail: Callable[[str], grpc.StatusCode | None] = lambda method: None
        self.load: bytes | None = None
        self.released = threading.Event()
        self.released.set()
        self._server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        methods = {
            name: grpc.unary_unary_rpc_method_handler(lambda request, context, name=name: self._answer(name, context))
            for name in ("Who", "Other")
        }
        for service in ("test.One", "test.Two"):
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        self.port = self._server.add_insecure_port(f"{host}:{port}")
        self.host, self.name = host, str(self.port)
        self._server.start()

    def _answer(self, method: str, context: grpc.ServicerContext) -> bytes:
        self.calls[method] += 1
        self.released.wait(BOUND)
        if self.load is not None:
            context.set_trailing_metadata((("endpoint-load-metrics-bin", self.load),))
        if (code := self.fail(method)) is not None:
            context.abort(code, "on purpose")
        return self.name.encode()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(address=self.host, port=self.port)

    def stop(self) -> None:
        self.released.set()
        self._server.stop(0).wait(BOUND)


class Channel:
    """A channel `xds:///name` and the source of its resources, as drain's own channels have it."""

    def __init__(
        self, plane: ControlPlane, name: str, policy: ClientPolicy, options: Sequence[tuple[str, Any]]
    ) -> None:
        made = channel_options(policy, options, authority="test.svc", ours=True)
        self._plane, self._name, self._policy = plane, name, made.policy
        self._localities: tuple[Locality, ...] = ()
        self.endpoints_name = f"{name}/good"
        self.refusals: list[str] = []
        plane.attach(name, self)
        arguments = [*made.arguments, (BOOTSTRAP_ARGUMENT, plane.bootstrap(node_id="test"))]
        opened = grpc.insecure_channel(f"xds:///{name}", [*arguments, ("grpc.use_local_subchannel_pool", 1)])
        self.grpc = with_timeouts(opened, made.timeouts)

    def resource(self, type_url: str, name: str) -> bytes | None:
        if type_url == LISTENER:
            return client.listener(name, f"{self._name}/cluster", self._policy)
        if type_url == CLUSTER:
            return client.cluster(name, self.endpoints_name, self._policy)
        assert type_url == ENDPOINTS
        good = name == f"{self._name}/good"
        return client.endpoints(name, self._localities if good else (), self._policy)

    def subscribed(self, type_url: str, name: str) -> None: ...

    def unsubscribed(self, type_url: str, name: str) -> None: ...

    def refused(self, type_url: str, names: Sequence[str], message: str) -> None:
        self.refusals.append(message)

    def follow(self, *found: Service | Endpoint | Locality) -> "Channel":
        """These are its endpoints from now on."""
        plain = tuple(each.endpoint if isinstance(each, Service) else each for each in found)
        endpoints = tuple(each for each in plain if isinstance(each, Endpoint))
        given = tuple(each for each in plain if isinstance(each, Locality))
        self._localities = given or ((Locality("", 0, endpoints),) if endpoints else ())
        assert self._plane.changed(self._name, ENDPOINTS).wait(BOUND), self.refusals
        return self

    def lead_to(self, endpoints_name: str) -> None:
        """The Cluster points there from now on."""
        self.endpoints_name = endpoints_name
        assert self._plane.changed(self._name, CLUSTER).wait(BOUND), self.refusals

    def call(self, path: str = "/test.One/Who", wait: bool = True, timeout: float = BOUND, **header: str) -> str:
        """Who answered."""
        metadata = tuple((key.replace("_", "-"), value) for key, value in header.items())
        method = self.grpc.unary_unary(path)
        return str(method(b"", timeout=timeout, metadata=metadata, wait_for_ready=wait).decode())

    def code(self, path: str = "/test.One/Who", **arguments: Any) -> grpc.StatusCode | None:
        """How a call ended; None: well."""
        try:
            self.call(path, **arguments)
        except grpc.RpcError as error:
            return error.code()
        return None

    def who(self, calls: int, **arguments: Any) -> Counter[str]:
        return Counter(self.call(**arguments) for _ in range(calls))

    def reaches(self, *services: Service) -> None:
        """Wait until each of them, and nobody else, is called."""
        names = {each.name for each in services}
        until(lambda: set(self.who(4 * len(names))) == names, f"only {names} are called")


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    directory = Path(tempfile.mkdtemp(prefix="cp-"))
    made = ControlPlane(directory)
    made.start()
    yield made
    made.close()
    shutil.rmtree(directory)


@pytest.fixture
def servers() -> Iterator[Callable[[int], list[Service]]]:
    with ExitStack() as made:

        def start(count: int) -> list[Service]:
            services = [Service() for _ in range(count)]
            for each in services:
                made.callback(each.stop)
            return services

        yield start


Open = Callable[..., Channel]


@pytest.fixture
def channel(plane: ControlPlane) -> Iterator[Open]:
    with ExitStack() as made:
        number = 0

        def make(policy: ClientPolicy | None = None, *options: tuple[str, Any]) -> Channel:
            nonlocal number
            number += 1
            opened = Channel(plane, f"c{number}", policy or ClientPolicy(), options)
            made.callback(opened.grpc.close)
            return opened

        yield make


# -- load balancing --------------------------------------------------------------------------------------------------


def test_round_robin_spreads_evenly(servers: Any, channel: Open) -> None:
    services = servers(3)
    opened = channel().follow(*services)
    opened.reaches(*services)
    assert set(opened.who(300).values()) == {100}


def test_weights_are_obeyed_although_grpcs_round_robin_knows_none(servers: Any, channel: Open) -> None:
    """Endpoints of another weight are a locality of their own."""
    one, two, four = servers(3)
    heavy = Endpoint(address=four.host, port=four.port, weight=4)
    opened = channel().follow(one, two, heavy)
    opened.reaches(one, two, four)
    found = opened.who(1200)
    assert 600 < found[four.name] < 1000, found  # 800 expected, 16 standard deviation
    assert abs(found[one.name] - found[two.name]) <= 2


def test_zones_of_one_priority_share_by_their_endpoints(servers: Any, channel: Open) -> None:
    services = servers(4)
    ends = [each.endpoint for each in services]
    opened = channel().follow(Locality("a", 0, tuple(ends[:1])), Locality("b", 0, tuple(ends[1:])))
    opened.reaches(*services)
    assert 200 < opened.who(1200)[services[0].name] < 400  # 300 expected, 15 standard deviation


def test_pick_first_sticks_through_changes_and_moves_on_when_it_must(servers: Any, channel: Open) -> None:
    services = servers(3)
    opened = channel(ClientPolicy(load_balancing="pick_first")).follow(*services)
    first = opened.call()
    assert opened.who(50) == {first: 50}
    (chosen,) = [each for each in services if each.name == first]
    others = [each for each in services if each is not chosen]
    opened.follow(others[0], chosen)
    assert opened.who(50) == {first: 50}
    opened.follow(*others)
    until(lambda: opened.call() != first, "another one is called")
    assert len(opened.who(50)) == 1


def test_pick_first_keeps_to_one_of_several_zones(servers: Any, channel: Open) -> None:
    services = servers(3)
    opened = channel(ClientPolicy(load_balancing="pick_first"))
    opened.follow(*(Locality(str(number), 0, (each.endpoint,)) for number, each in enumerate(services)))
    assert len(opened.who(60)) == 1


def test_not_everybody_picks_the_same_first(servers: Any, channel: Open) -> None:
    services = servers(4)
    policy = ClientPolicy(load_balancing="pick_first")
    assert len({channel(policy).follow(*services).call() for _ in range(24)}) > 1  # all alike: 4 * 4**-24


@pytest.mark.parametrize("zones", [1, 2])
def test_ring_hash_sticks_to_the_header(zones: int, servers: Any, channel: Open) -> None:
    services = servers(4)
    ends = tuple(each.endpoint for each in services)
    opened = channel(ClientPolicy(load_balancing="ring_hash", hash_header="x-user"))
    opened.follow(
        *([Locality("a", 0, ends)] if zones == 1 else [Locality("a", 0, ends[:1]), Locality("b", 0, ends[1:])])
    )
    homes = {str(user): opened.call(x_user=str(user)) for user in range(200)}
    assert {user: opened.call(x_user=user) for user in homes} == homes
    shares = Counter(homes.values())
    assert set(shares) == {each.name for each in services}
    assert max(shares.values()) < 130, "a zone's size is no weight on the ring"
    gone = services[0]
    opened.follow(*services[1:])
    until(
        lambda: all(opened.call(x_user=user) != gone.name for user, home in homes.items() if home == gone.name), "gone"
    )
    kept = [opened.call(x_user=user) == home for user, home in homes.items() if home != gone.name]
    assert sum(kept) > len(kept) / 2, "grpc gives those that stay more of the ring, so some move; not most"


def test_weighted_round_robin_follows_the_reported_load(servers: Any, channel: Open) -> None:
    """Across zones, too: grpc alone would compare within a zone only."""
    from drain._xds.xds_pb2 import OrcaLoadReport

    easy, busy = servers(2)
    easy.load = OrcaLoadReport(cpu_utilization=0.2, rps_fractional=100).SerializeToString()
    busy.load = OrcaLoadReport(cpu_utilization=0.8, rps_fractional=100).SerializeToString()
    config = {"loadBalancingConfig": [{"weighted_round_robin": {"blackoutPeriod": "0s", "weightUpdatePeriod": "0.1s"}}]}
    opened = channel(ClientPolicy(load_balancing="weighted_round_robin", service_config=config))
    opened.follow(Locality("a", 0, (easy.endpoint,)), Locality("b", 0, (busy.endpoint,)))
    opened.reaches(easy, busy)
    until(lambda: 70 <= opened.who(100)[easy.name] <= 90, "four calls of five go where there is room")


# -- retries, timeouts -----------------------------------------------------------------------------------------------


def test_without_retry_a_failure_is_a_failure(servers: Any, channel: Open) -> None:
    (only,) = servers(1)
    only.fail = lambda method: UNAVAILABLE
    assert channel().follow(only).code() is UNAVAILABLE
    assert only.calls["Who"] == 1


def test_retry_makes_up_for_a_failing_server(servers: Any, channel: Open) -> None:
    good, bad = servers(2)
    bad.fail = lambda method: UNAVAILABLE
    policy = ClientPolicy(retry=RetryPolicy(max_attempts=4, initial_backoff=0.005, max_backoff=0.01))
    opened = channel(policy).follow(good, bad)
    until(lambda: opened.call() and bad.calls["Who"], "both are called")
    assert opened.who(100) == {good.name: 100}
    assert bad.calls["Who"] >= 30


@pytest.mark.parametrize(
    ("code", "attempts"), [(UNAVAILABLE, 3), (grpc.StatusCode.RESOURCE_EXHAUSTED, 3), (grpc.StatusCode.INTERNAL, 1)]
)
def test_only_the_codes_that_are_named_are_retried(code: Any, attempts: int, servers: Any, channel: Open) -> None:
    (only,) = servers(1)
    only.fail = lambda method: code
    codes = [UNAVAILABLE, "resource_exhausted"]
    policy = ClientPolicy(retry=RetryPolicy(max_attempts=3, codes=codes, initial_backoff=0.005, max_backoff=0.01))
    assert channel(policy).follow(only).code() is code
    assert only.calls["Who"] == attempts


RETRY = {"maxAttempts": 3, "initialBackoff": "0.005s", "maxBackoff": "0.01s", "backoffMultiplier": 2}


def test_a_service_config_retries_and_times_out_by_method(servers: Any, channel: Open) -> None:
    (only,) = servers(1)
    only.fail = lambda method: UNAVAILABLE
    config = {
        "methodConfig": [
            {"name": [{"service": "test.One", "method": "Other"}], "timeout": "0.2s"},
            {
                "name": [{"service": "test.One"}],
                "retryPolicy": {**RETRY, "retryableStatusCodes": ["UNAVAILABLE"]},
            },
            {"name": [{"service": "test.Two", "method": "Who"}], "timeout": "0.3s"},
        ]
    }
    opened = channel(ClientPolicy(service_config=config)).follow(only)

    def attempts(path: str) -> int:
        only.calls.clear()
        assert opened.code(path) is UNAVAILABLE
        return only.calls.total()

    assert attempts("/test.One/Who") == 3, "the service's"
    assert attempts("/test.One/Other") == 1, "the method's, which says nothing of retries"
    assert attempts("/test.Two/Other") == 1, "nobody's"
    only.fail = lambda method: None
    only.released.clear()
    started = time.monotonic()
    assert opened.code("/test.One/Other") is DEADLINE
    assert 0.15 < time.monotonic() - started < 2
    assert opened.code("/test.Two/Who") is DEADLINE
    assert opened.code("/test.Two/Other", timeout=0.5) is DEADLINE, "the caller's own"
    assert time.monotonic() - started >= 0.95


def plain_options(timeout: str) -> list[tuple[str, Any]]:
    return [("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "timeout": timeout}]}))]


def test_grpcs_own_timeouts_of_a_service_config_are_short_by_more_than_a_second(servers: Any) -> None:
    """Why drain/_grpc/timeouts.py is there. If this fails grpc has mended it, and that can go."""
    (only,) = servers(1)
    only.released.clear()
    with grpc.insecure_channel(f"127.0.0.1:{only.port}", plain_options("1s")) as opened:
        method, started = opened.unary_unary("/test.One/Who"), time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            method(b"", timeout=BOUND)
    assert caught.value.code() is DEADLINE
    assert time.monotonic() - started < 0.9


def test_timeouts_hold_for_asyncio_too(servers: Any) -> None:
    """For each kind of method; the most particular path counts."""

    async def main() -> None:
        import grpc.aio

        (only,) = servers(1)
        bounds = {"": 0.2, "/test.One/": 0.1, "/test.One/Other": None}
        async with grpc.aio.insecure_channel(f"127.0.0.1:{only.port}", interceptors=async_timeouts(bounds)) as opened:
            assert await opened.unary_unary("/test.One/Who")(b"") == only.name.encode()
            only.released.clear()
            for path, expected in (("/test.One/Who", 0.1), ("/test.Two/Who", 0.2), ("/test.One/Other", 0.6)):
                started = time.monotonic()
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await opened.unary_unary(path)(b"", timeout=0.6)
                assert caught.value.code() is DEADLINE
                assert expected - 0.02 < time.monotonic() - started < expected + 2

            async def requests() -> Any:
                yield b""

            for kind, request in (("unary_stream", b""), ("stream_unary", requests()), ("stream_stream", requests())):
                started = time.monotonic()
                call = getattr(opened, kind)("/test.One/Who")(request)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call.read() if "stream" in kind.rpartition("_")[2] else await call
                assert caught.value.code() is DEADLINE
                assert time.monotonic() - started < 2

    asyncio.run(main())


def test_a_timeout_never_lengthens_the_callers_own(servers: Any, channel: Open) -> None:
    (only,) = servers(1)
    opened = channel(ClientPolicy(service_config={"methodConfig": [{"name": [{}], "timeout": "60s"}]})).follow(only)
    opened.call()
    only.released.clear()
    started = time.monotonic()
    assert opened.code(timeout=0.2) is DEADLINE
    assert time.monotonic() - started < 5


def test_the_option_grpc_service_config_is_obeyed(servers: Any, channel: Open) -> None:
    """On a plain xDS channel grpc ignores it."""
    (only,) = servers(1)
    only.fail = lambda method: UNAVAILABLE
    config = {"methodConfig": [{"name": [{}], "retryPolicy": {**RETRY, "retryableStatusCodes": ["UNAVAILABLE"]}}]}
    opened = channel(ClientPolicy(), ("grpc.service_config", json.dumps(config))).follow(only)
    assert opened.code() is UNAVAILABLE
    assert only.calls["Who"] == 3


# -- protection ------------------------------------------------------------------------------------------------------


def test_outlier_detection_ejects_who_fails_and_takes_him_back(servers: Any, channel: Open) -> None:
    good, also_good, bad = servers(3)
    bad.fail = lambda method: grpc.StatusCode.INTERNAL
    detection = OutlierDetection(
        interval=0.1,
        base_ejection_time=0.5,
        max_ejection_percent=50,
        success_rate_stdev_factor=None,
        failure_percentage_threshold=50,
        failure_percentage_minimum_hosts=2,
        failure_percentage_request_volume=3,
    )
    opened = channel(ClientPolicy(outlier_detection=detection)).follow(good, also_good, bad)

    def spared() -> bool:
        before = bad.calls["Who"]
        return all(opened.code() is None for _ in range(30)) and bad.calls["Who"] == before

    until(spared, "the failing one gets no call")
    bad.fail = lambda method: None
    opened.reaches(good, also_good, bad)


def test_max_concurrent_requests_refuses_at_once(servers: Any, channel: Open) -> None:
    (only,) = servers(1)
    opened = channel(ClientPolicy(max_concurrent_requests=2)).follow(only)
    opened.call()
    only.released.clear()
    only.calls.clear()
    pending = [opened.grpc.unary_unary("/test.One/Who").future(b"", timeout=BOUND) for _ in range(2)]
    until(lambda: only.calls["Who"] == 2, "both are in flight")
    started = time.monotonic()
    assert opened.code(wait=False) is UNAVAILABLE
    assert time.monotonic() - started < 2
    only.released.set()
    assert [each.result().decode() for each in pending] == [only.name] * 2
    until(lambda: opened.code() is None, "there is room again")


def test_a_lower_priority_is_used_while_the_higher_one_is_down(servers: Any, channel: Open) -> None:
    near, far = servers(2)
    opened = channel(ClientPolicy(zone="a", prefer_same_zone=True))
    opened.follow(Locality("a", 0, (near.endpoint,)), Locality("b", 1, (far.endpoint,)))
    assert opened.who(20) == {near.name: 20}
    near.stop()
    until(lambda: opened.call() == far.name, "failover")
    back = Service(port=near.port)
    try:
        until(lambda: opened.call() == back.name, "and back")
        assert opened.who(20) == {back.name: 20}
    finally:
        back.stop()


def test_a_returning_server_is_used_again_within_its_back_off(servers: Any, channel: Open) -> None:
    """grpc's own back-off begins with a second, and doubles."""
    (only,) = servers(1)
    opened = channel().follow(only)
    opened.call()
    only.stop()
    until(lambda: opened.code(wait=False) is UNAVAILABLE, "it is missed")
    back = Service(port=only.port)
    try:
        started = time.monotonic()
        opened.call()
        assert time.monotonic() - started < 0.9
    finally:
        back.stop()


def test_grpc_gives_a_connection_up_after_min_reconnect_backoff() -> None:
    """Nobody documents that; `ClientPolicy.min_reconnect_backoff` and docs/guides/troubleshooting.md count on it. By itself: after 20 s."""
    with socket.socket() as full, ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # its queue is full now: the next one is not answered
            each = waiting.enter_context(socket.socket())
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        target, options = f"127.0.0.1:{full.getsockname()[1]}", [("grpc.min_reconnect_backoff_ms", 1000)]
        opened = waiting.enter_context(grpc.insecure_channel(target, options))
        started = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:  # in words of two timers with one deadline, whichever is first
            opened.unary_unary("/test.One/Who")(b"", timeout=BOUND)
    assert caught.value.code() is UNAVAILABLE
    assert 0.9 < time.monotonic() - started < AT_ONCE


# -- what a channel is told ------------------------------------------------------------------------------------------

MESSAGE = 'kubernetes: service "geoipd" in namespace "ns" is not known: create it, or mend the target (HTTP 404; 100 %)'


def details(opened: Channel) -> tuple[grpc.StatusCode, str, float]:
    started = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        opened.call(wait=False)
    return caught.value.code(), caught.value.details() or "", time.monotonic() - started


@pytest.mark.parametrize("balancing", ["round_robin", "pick_first", "ring_hash", "weighted_round_robin"])
def test_a_failure_is_told_through_the_name_of_the_endpoints(balancing: Any, servers: Any, channel: Open) -> None:
    (only,) = servers(1)
    policy = ClientPolicy(load_balancing=balancing, hash_header="x-user" if balancing == "ring_hash" else None)
    opened = channel(policy)
    opened.endpoints_name = f"c1/bad: {MESSAGE}"
    code, text, seconds = details(opened)
    assert code is UNAVAILABLE
    assert MESSAGE in text
    assert seconds < AT_ONCE
    opened.follow(only)
    opened.lead_to("c1/good")
    started = time.monotonic()
    assert opened.call() == only.name
    assert time.monotonic() - started < AT_ONCE
    other = MESSAGE.replace("404", "403")
    opened.lead_to(f"c1/bad: {other}")
    until(lambda: opened.code(wait=False) is UNAVAILABLE, "it fails again")
    assert other in details(opened)[1]


def test_five_thousand_endpoints_in_one_resource(servers: Any, channel: Open) -> None:
    """Taken whole, again and again; and the one that lives is found among them."""
    (only,) = servers(1)
    dead = [Endpoint(address=f"127.{n // 250}.{n % 250}.1", port=only.port) for n in range(250, 5250)]
    opened = channel(ClientPolicy(load_balancing="pick_first")).follow(only)
    assert opened.call() == only.name
    for some in (dead[1:], dead, dead[:-1]):
        started = time.monotonic()
        opened.follow(*some, only)
        assert time.monotonic() - started < AT_ONCE  # measured: 35 - 170 ms
        assert opened.call() == only.name
    assert not opened.refusals


# -- grpc's own targets ----------------------------------------------------------------------------------------------


def test_on_grpcs_own_targets_the_policy_acts_through_the_service_config(servers: Any) -> None:
    """Round robin, retries and timeouts, with no control plane."""
    good, bad = servers(2)
    bad.fail = lambda method: UNAVAILABLE
    config = {"methodConfig": [{"name": [{"service": "test.Two"}], "timeout": "0.2s"}]}
    retry = RetryPolicy(max_attempts=4, initial_backoff=0.005, max_backoff=0.01)
    made = channel_options(ClientPolicy(retry=retry, service_config=config), None, authority=None, ours=False)
    target = f"ipv4:127.0.0.1:{good.port},127.0.0.1:{bad.port}"
    with grpc.insecure_channel(target, list(made.arguments)) as plain:
        opened = with_timeouts(plain, made.timeouts)
        method = opened.unary_unary("/test.One/Who")
        until(lambda: method(b"", timeout=BOUND, wait_for_ready=True) and bad.calls["Who"], "both are called")
        assert {method(b"", timeout=BOUND).decode() for _ in range(40)} == {good.name}
        good.released.clear()
        bad.released.clear()
        started = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            opened.unary_unary("/test.Two/Who")(b"")
        assert caught.value.code() is DEADLINE
        assert 0.15 < time.monotonic() - started < 2
