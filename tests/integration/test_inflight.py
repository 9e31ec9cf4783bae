"""Facts about counting calls (drain/_grpc/inflight.py): what channelz knows of both flavours, and what it does not.

channelz has no public Python API but a servicer: if a new grpcio changes what it tells, this fails by name.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent import futures

import grpc
import grpc.aio
import pytest

from drain._grpc.inflight import Gauge, Identify, Ledger, server_ids
from tests.integration._servers.calls import Client, code, ending, in_flight
from tests.integration._servers.hosted import Hosted
from tests.integration._servers.service import path
from tests.integration._servers.waiting import until

Serve = Callable[..., Hosted]
Clients = Callable[..., Client]


def gauge(hosted: Hosted) -> Gauge:
    """The gauge of a started server."""
    return hosted.server._driver._hands.gauge  # type: ignore[no-any-return]


def test_calls_are_counted_from_their_headers_to_their_status(serve: Serve, client: Clients) -> None:
    """Begun when they arrive, in flight until they are answered; whatever they end with."""
    hosted = serve()
    caller = client(hosted.port)
    calls = in_flight(caller, hosted.told, calls=3)
    assert (gauge(hosted).flow().begun, gauge(hosted).flow().in_flight) == (3, 3)
    for method in ("Echo", "Abort", "Raise", "Nowhere"):
        caller.code(method)
    ending(caller.stream("AbortLater", b""))
    until(lambda: (gauge(hosted).flow().begun, gauge(hosted).flow().in_flight) == (8, 3))
    calls[0].cancel()
    hosted.service.release.set()
    assert [code(call) for call in calls[1:]] == ["OK", "OK"]
    until(lambda: (gauge(hosted).flow().begun, gauge(hosted).flow().in_flight) == (8, 0))


def test_succeeded_and_failed_are_told_apart_and_both_end(serve: Serve, client: Clients) -> None:
    """started = succeeded + failed, once all is over: `in_flight` rests on it."""
    hosted = serve()
    caller = client(hosted.port)
    caller.call("Echo")
    for method in ("Abort", "Raise"):
        caller.code(method)
    caller.code("Sleep", b"0.3", timeout=0.05)

    def settled() -> bool:
        data = gauge(hosted)._data() or {}
        ended = int(data.get("callsSucceeded", 0)) + int(data.get("callsFailed", 0))
        return int(data.get("callsStarted", 0)) == ended == 4

    until(settled)


def test_health_is_left_out(serve: Serve, client: Clients) -> None:
    """Checks and open Watches are neither callers nor calls in flight."""
    hosted = serve()
    caller = client(hosted.port)
    for _ in range(5):
        caller.health()
    watch = caller.watch()
    next(watch)
    until(lambda: (gauge(hosted).flow().begun, gauge(hosted).flow().in_flight) == (0, 0))
    (call,) = in_flight(caller, hosted.told)
    until(lambda: (gauge(hosted).flow().begun, gauge(hosted).flow().in_flight) == (1, 1))
    hosted.service.release.set()
    assert code(call) == "OK"
    watch.cancel()
    until(lambda: (gauge(hosted).flow().begun, gauge(hosted).flow().in_flight) == (1, 0))


def test_calls_that_wait_for_a_worker_count(client: Clients) -> None:
    """channelz knows calls that no handler has seen yet; the ledger does not."""
    hosted = Hosted("sync", workers=1).start()
    try:
        calls = in_flight(client(hosted.port), hosted.told)
        calls += [client(hosted.port).begin("Echo") for _ in range(3)]
        until(lambda: gauge(hosted).flow().in_flight == 4)
        assert hosted.open_by_method == {path("Wait"): 1}
        hosted.service.release.set()
        assert {code(call) for call in calls} == {"OK"}
        until(lambda: gauge(hosted).flow().in_flight == 0)
    finally:
        hosted.close()


def test_peers(serve: Serve, client: Clients) -> None:
    """Every open connection has its address there, as long as it is open; pages of channelz are joined."""
    hosted = serve()
    clients = [Client(hosted.port) for _ in range(7)]
    for each in clients:
        each.call("Echo")
    assert len(gauge(hosted).peers()) == 7
    assert len(set(gauge(hosted).peers())) == 7
    assert all(peer.startswith("ipv4:127.0.0.1:") for peer in gauge(hosted).peers())
    assert len(gauge(hosted).peers(limit=3)) == 3
    for each in clients:
        each.channel.close()
    until(lambda: not gauge(hosted).any_peer())


def test_the_ledger_knows_methods(serve: Serve, client: Clients) -> None:
    """Which calls are open, and which have ended since it was asked to follow them."""
    hosted = serve()
    ledger: Ledger = hosted.server._blueprint.ledger
    caller = client(hosted.port)
    caller.call("Echo")
    until(lambda: ledger.counts()[:2] == (1, 0))
    ledger.follow_endings()
    calls = in_flight(caller, hosted.told, calls=2)
    caller.call("Echo")
    until(lambda: ledger.ended_by_method == {path("Echo"): 1})
    assert ledger.open_by_method == {path("Wait"): 2}
    hosted.service.release.set()
    assert [code(call) for call in calls] == ["OK", "OK"]
    until(lambda: ledger.ended_by_method == {path("Echo"): 1, path("Wait"): 2})
    assert ledger.open_by_method == {}


def test_the_ledger_under_many_threads() -> None:
    """No update is lost."""
    ledger = Ledger()
    entries = [ledger.entry(f"/a.B/{number}") for number in range(4)]

    def call(number: int) -> None:
        for _ in range(2000):
            entries[number % 4].begin()
            entries[number % 4].end()

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.counts()[:2] == (16_000, 0)
    assert ledger.open_by_method == {}


class TestIdentify:
    """Which of channelz's servers is ours."""

    @pytest.mark.parametrize("make", [grpc.server, lambda pool: grpc.server(pool, xds=False)])
    def test_the_new_one(self, make: Callable[..., grpc.Server]) -> None:
        """Ids are given in order, and a server is known from its construction on."""
        with Identify() as new:
            server = make(futures.ThreadPoolExecutor(1))
        assert new.id in server_ids()
        server.start()
        assert new.id in server_ids()
        assert Gauge(Ledger(), new.id).flow().in_flight == 0
        server.stop(0).wait(5)

    def test_asyncio(self) -> None:
        """The same for grpc.aio."""

        async def scenario() -> None:
            with Identify() as new:
                server = grpc.aio.server()
            assert new.id in server_ids()
            await server.start()
            await server.stop(0)

        asyncio.run(scenario())

    def test_none_or_two(self) -> None:
        """Where it is not clear which one is ours, none is taken: the ledger alone counts then."""
        with Identify() as none:
            pass
        with Identify() as two:
            kept = [grpc.server(futures.ThreadPoolExecutor(1)) for _ in range(2)]
        assert (none.id, two.id) == (None, None)
        for server in kept:
            server.start()
            server.stop(0).wait(5)
        without = Gauge(Ledger(), None)
        assert (without.flow().in_flight, without.peers()) == (0, ())

    def test_a_server_that_is_gone(self) -> None:
        """Its gauge reads the ledger, and does not raise."""
        ledger = Ledger()
        ledger.entry("/a.B/C").begin()
        assert Gauge(ledger, 2**40).flow().in_flight == 1
        assert Gauge(ledger, 2**40).peers() == ()
