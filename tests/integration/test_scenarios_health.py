"""Health, over both flavours: it answers whatever else is going on, and tells the truth about leaving."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from drain.errors import ConfigurationError
from drain.events import CallersReturned, State
from tests.integration._servers.calls import NOT_SERVING, PATIENCE, SERVING, Client, in_flight
from tests.integration._servers.hosted import FAST, Hosted
from tests.integration._servers.waiting import until

Serve = Callable[..., Hosted]
Clients = Callable[..., Client]
SLOW = replace(FAST, announce_min=60, announce_timeout=60)  # until it is told otherwise
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Watcher:
    """One health Watch, read on a thread: what it was told, and how it ended."""

    def __init__(self, client: Client, name: str = "") -> None:
        self._call = client.watch(name, timeout=60)
        self.told: list[int] = []
        self.ended: tuple[str, str] | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for response in self._call:
                self.told.append(response.status)
            self.ended = ("OK", "")
        except grpc.RpcError as error:
            self.ended = (error.code().name, error.details())  # type: ignore[attr-defined]

    def until(self, *statuses: int) -> None:
        """Wait until it was told exactly these."""
        until(lambda: self.told == list(statuses))

    def cancel(self) -> None:
        """The client gives up."""
        self._call.cancel()


class TestStatuses:
    """What is shown, when."""

    def test_through_a_drain(self, serve: Serve, client: Clients) -> None:
        """Every name but liveness flips when announcing begins; names that nobody set stay unknown."""
        hosted = serve(policy=SLOW)
        hosted.set_health("shop.Orders", SERVING)
        hosted.set_health("shop.Broken", NOT_SERVING)
        caller = client(hosted.port)

        def shown() -> list[int]:
            return [caller.health(name) for name in ("", "shop.Orders", "shop.Broken", "liveness")]

        assert shown() == [SERVING, SERVING, NOT_SERVING, SERVING]
        hosted.drain()
        hosted.phase(State.ANNOUNCING)
        until(lambda: shown() == [NOT_SERVING, NOT_SERVING, NOT_SERVING, SERVING])
        hosted.set_health("shop.Orders", SERVING)
        hosted.set_health("shop.Late", SERVING)
        assert [caller.health(name) for name in ("shop.Orders", "shop.Late")] == [NOT_SERVING, NOT_SERVING]
        with pytest.raises(grpc.RpcError) as error:
            caller.health("shop.Unknown")
        assert error.value.code() is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]

    def test_through_a_pause(self, serve: Serve, client: Clients) -> None:
        """Flipped, and then what the user wants is shown again, with what he has changed meanwhile."""
        hosted = serve()
        hosted.set_health("shop.Orders", SERVING)
        hosted.set_health("shop.Stock", SERVING)
        caller = client(hosted.port)
        hosted.ask(hosted.server.pause)
        assert [caller.health(name) for name in ("", "shop.Orders", "liveness")] == [NOT_SERVING, NOT_SERVING, SERVING]
        hosted.set_health("shop.Orders", NOT_SERVING)
        hosted.set_health("shop.New", SERVING)
        hosted.ask(hosted.server.resume)
        shown = [caller.health(name) for name in ("", "shop.Orders", "shop.Stock", "shop.New")]
        assert shown == [SERVING, NOT_SERVING, SERVING, SERVING]

    def test_set_and_flip_race(self, serve: Serve, client: Clients) -> None:
        """Threads that set statuses while the server leaves: nothing is shown as SERVING afterwards."""
        for _ in range(5):
            hosted = serve(policy=SLOW)
            names = [f"shop.{number}" for number in range(4)]
            done = threading.Event()

            def keep_setting(name: str, hosted: Hosted = hosted, done: threading.Event = done) -> None:
                while not done.is_set():
                    with suppress(AttributeError):  # the test is over
                        hosted.set_health(name, SERVING)

            threads = [threading.Thread(target=keep_setting, args=(name,), daemon=True) for name in names]
            for thread in threads:
                thread.start()
            hosted.drain()
            hosted.phase(State.ANNOUNCING)
            done.set()
            for thread in threads:
                thread.join(PATIENCE)
            caller = client(hosted.port)
            until(lambda: caller.health() == NOT_SERVING)  # noqa: B023  # at once
            assert [caller.health(name) for name in names] == [NOT_SERVING] * len(names)
            hosted.stop(0).result(PATIENCE)


class TestWatch:
    """Watches are told of everything, and end when finishing begins."""

    def test_through_a_drain(self, serve: Serve, client: Clients) -> None:
        """NOT_SERVING when announcing begins, UNAVAILABLE when finishing begins, while calls still go on."""
        hosted = serve()
        caller = client(hosted.port)
        watchers = [Watcher(client(hosted.port), name) for name in ("", "", "liveness", "shop.Unknown")]
        for watcher, status in zip(watchers, (SERVING, SERVING, SERVING, UNKNOWN), strict=True):
            watcher.until(status)
        (call,) = in_flight(caller, hosted.told)
        report = hosted.drain()
        for watcher in watchers:
            until(lambda: watcher.ended)  # noqa: B023  # at once
            assert watcher.ended is not None
            assert watcher.ended[0] == "UNAVAILABLE"
            assert "draining" in watcher.ended[1]
        assert hosted.server.state is State.FINISHING
        assert [watcher.told for watcher in watchers] == [
            [SERVING, NOT_SERVING],
            [SERVING, NOT_SERVING],
            [SERVING],
            [UNKNOWN],
        ]
        hosted.service.release.set()
        assert call.result() == b"hello"
        assert report.result(PATIENCE).in_flight_at_start == 1
        assert report.result().errors == ()

    def test_through_a_pause(self, serve: Serve, client: Clients) -> None:
        """On and on."""
        hosted = serve()
        watcher = Watcher(client(hosted.port))
        watcher.until(SERVING)
        hosted.ask(hosted.server.pause)
        watcher.until(SERVING, NOT_SERVING)
        hosted.ask(hosted.server.resume)
        watcher.until(SERVING, NOT_SERVING, SERVING)

    def test_it_holds_nothing_up(self, serve: Serve, client: Clients) -> None:
        """An open Watch is no call in flight, and checks are no callers that come back."""
        hosted = serve()
        watchers = [Watcher(client(hosted.port)) for _ in range(5)]
        for watcher in watchers:
            watcher.until(SERVING)
        prober, done = client(hosted.port), threading.Event()

        def probe() -> None:
            while not done.wait(0.005):
                with suppress(grpc.RpcError):
                    prober.health()

        probing = threading.Thread(target=probe)
        probing.start()
        try:
            report = hosted.drain().result(PATIENCE)
        finally:
            done.set()
            probing.join(PATIENCE)
        assert report.announcing_ended == "nobody came back"
        assert [event.calls for event in hosted.happened(CallersReturned)] == [0] * len(report.rotations)
        assert (report.in_flight_at_start, report.finished, report.cancelled, report.peers_left) == (0, 0, 0, ())

    def test_clients_that_give_up(self, serve: Serve, client: Clients) -> None:
        """Nothing of a Watch is kept when its client has gone."""
        hosted = serve()
        caller = client(hosted.port)
        watchers = [Watcher(caller) for _ in range(3)]
        for watcher in watchers:
            watcher.until(SERVING)
        assert len(hosted.server.health._watches) == 3
        for watcher in watchers:
            watcher.cancel()
        until(lambda: not hosted.server.health._watches)
        until(lambda: hosted.server._blueprint.ledger.counts()[3] == 0)
        assert caller.health() == SERVING


class TestBusy:
    """Probes are answered when nothing else is."""

    def test_every_worker_is_busy(self, serve: Serve, client: Clients) -> None:
        """Check and Watch answer at once, with all threads of the pool taken and more calls waiting."""
        hosted = serve(workers=2)
        caller, prober = client(hosted.port), client(hosted.port)
        calls = in_flight(caller, hosted.told, calls=2) if hosted.flavour == "sync" else []
        calls += [caller.begin("Wait") for _ in range(3)]
        until(lambda: hosted.server.status().in_flight == len(calls))
        assert prober.health(timeout=2) == SERVING
        assert prober.health("liveness", timeout=2) == SERVING
        watcher = Watcher(prober)
        watcher.until(SERVING)
        hosted.drain()
        watcher.until(SERVING, NOT_SERVING)
        hosted.service.release.set()
        assert {call.result() for call in calls} == {b"hello"}

    def test_two_servers_have_two_threads(self, serve: Serve, client: Clients) -> None:
        """One server's health does not depend on another's, whichever was made last, and whichever is gone."""
        first, second = serve(), serve()
        assert client(first.port).health() == SERVING
        second.drain().result(PATIENCE)
        assert client(first.port).health() == SERVING

    @pytest.mark.parametrize(
        "policy", [SLOW, replace(SLOW, goaway="classic", announce_delay=60)], ids=lambda p: p.goaway
    )
    def test_health_address(self, serve: Serve, client: Clients, policy: Any) -> None:
        """A port of its own answers where maximum_concurrent_rpcs turns calls away, through the whole drain."""
        hosted = serve(policy=policy, maximum_concurrent_rpcs=1, health_address="127.0.0.1:0", start=False)
        hosted.start(policy.goaway if policy.goaway == "classic" else "lossless")
        where = hosted.server._blueprint.health_ports[0].reservation.port
        caller, prober = client(hosted.port), client(where)
        (call,) = in_flight(caller, hosted.told)
        assert caller.code("Echo") == "RESOURCE_EXHAUSTED"
        assert (prober.health(), prober.health("liveness")) == (SERVING, SERVING)
        watcher = Watcher(prober)
        watcher.until(SERVING)
        report = hosted.drain()
        watcher.until(SERVING, NOT_SERVING)
        hosted.stop(30)
        hosted.phase(State.FINISHING)
        assert (prober.health(), prober.health("liveness")) == (NOT_SERVING, SERVING)
        hosted.service.release.set()
        assert call.result() == b"hello"
        assert report.result(PATIENCE).clean
        until(lambda: prober.channel and prober_refused(where))

    def test_health_address_of_a_busy_port(self, serve: Serve) -> None:
        """Known when the server is made."""
        hosted = serve()
        with pytest.raises(RuntimeError, match="in use"):
            serve(health_address=f"127.0.0.1:{hosted.port}")


def prober_refused(port: int) -> bool:
    """Nobody listens there any more."""
    import socket

    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


class TestWhose:
    """Ours, or the user's."""

    def test_a_second_servicer_is_refused(self, serve: Serve) -> None:
        """It would not flip; the error says what to do."""
        hosted = serve(start=False)
        servicer = health.HealthServicer() if hosted.flavour == "sync" else health.aio.HealthServicer()
        with pytest.raises(ConfigurationError, match=r"health=False"):
            health_pb2_grpc.add_HealthServicer_to_server(servicer, hosted.server)

    def test_none(self, serve: Serve, client: Clients) -> None:
        """health=False: there is none, and the property says so; with an address for it that is a contradiction."""
        hosted = serve(health=False)
        with pytest.raises(ConfigurationError, match="health=False"):
            _ = hosted.server.health
        with pytest.raises(grpc.RpcError) as error:
            client(hosted.port).health()
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]
        assert hosted.drain().result(PATIENCE).clean
        with pytest.raises(ConfigurationError, match="health_address"):
            serve(health=False, health_address="127.0.0.1:0")

    def test_the_users_own(self, serve: Serve, client: Clients) -> None:
        """health=False: his own servicer is served, its calls are no callers that come back, and flipping it is his to do."""
        hosted = serve(health=False, start=False)
        servicer = health.HealthServicer() if hosted.flavour == "sync" else health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, hosted.server)
        hosted.ask(lambda: servicer.set("mine", SERVING))
        hosted.start()
        assert client(hosted.port).health("mine") == SERVING
        assert hosted.server._blueprint.ledger.counts()[:2] == (0, 0)
        assert hosted.drain().result(PATIENCE).clean
