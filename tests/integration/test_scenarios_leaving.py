"""Leaving in step with the cluster: the own endpoint, the budget, a hold, a successor. What the cluster says is told by the test
here (`Cluster`, a stand-in); tests/kube has the real one.

Over 300 lines: the stand-in for the cluster, and all scenarios that need it.
"""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import replace

import pytest

import drain.aio
from drain import events
from drain._core.lifecycle import Input
from drain._core.own_endpoint import Standing, View
from drain._subject import Subject
from drain.errors import DrainError
from drain.events import State
from tests.integration._servers.calls import NOT_SERVING, SERVING, Client, code, in_flight
from tests.integration._servers.hosted import FAST, Hosted
from tests.integration._servers.waiting import BOUND, until

PATIENCE = 20.0
Serve = Callable[..., Hosted]
Clients = Callable[..., Client]
LISTED, LEFT = View(Standing.LISTED, "listed in 1 slice"), View(Standing.LEFT, "terminating in 1 slice")


class Cluster:
    """Stands in for what `drain._kube.own_endpoint.look` returns: the test says what is seen."""

    def __init__(self) -> None:
        self._view = View()
        self._changed: Callable[[], None] = lambda: None
        self.looks = self.stops = 0

    def look(self, changed: Callable[[], None]) -> "Cluster":
        self._changed = changed
        self.looks += 1
        return self

    def view(self) -> View:
        return self._view

    def stop(self) -> None:
        self.stops += 1

    def say(self, view: View) -> None:
        self._view = view
        self._changed()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    told = Cluster()
    monkeypatch.setattr("drain._kube.own_endpoint.look", told.look)
    yield told
    assert told.stops == told.looks, "who looks must stop looking"


def seen(hosted: Hosted) -> list[str]:
    return [event.standing for event in hosted.happened(events.EndpointSeen)]


class TestOwnEndpoint:
    """Announcing and what can be seen of the pod's own endpoint."""

    @pytest.mark.parametrize("goaway", ["lossless", "classic"])
    def test_it_is_waited_for(self, serve: Serve, cluster: Cluster, goaway: str) -> None:
        """As long as a service sends here the server stays, though nobody comes back."""
        policy = replace(FAST, goaway="auto" if goaway == "lossless" else goaway, announce_timeout=15, settle=1.0)
        hosted = serve(start=False, policy=policy).start(goaway)
        cluster.say(LISTED)
        report = hosted.drain()
        hosted.phase(State.ANNOUNCING)
        until(lambda: "listed" in seen(hosted))
        time.sleep(1.0)  # long past `announce_delay` and the first rotations
        assert hosted.server.state is State.ANNOUNCING
        assert hosted.server.status().endpoint == "listed in 1 slice"
        began = time.monotonic()
        cluster.say(LEFT)
        told = report.result(PATIENCE)
        assert policy.settle <= time.monotonic() - began < 8
        assert (told.announcing_ended, told.endpoint) == ("endpoint left", "terminating in 1 slice")
        assert seen(hosted) == ["listed", "left"]
        assert "endpoint    terminating in 1 slice" in told.text()

    @pytest.mark.parametrize("goaway", ["lossless", "classic"])
    def test_one_that_never_leaves(self, serve: Serve, cluster: Cluster, goaway: str) -> None:
        policy = replace(FAST, goaway="auto" if goaway == "lossless" else goaway, announce_timeout=1)
        hosted = serve(start=False, policy=policy).start(goaway)
        cluster.say(LISTED)
        told = hosted.drain().result(PATIENCE)
        assert told.announcing_ended == "announce_timeout"
        assert told.phases["announcing"] == pytest.approx(1, abs=0.5)

    @pytest.mark.parametrize(("goaway", "ended"), [("lossless", "nobody came back"), ("classic", "announce_delay")])
    def test_who_may_not_look(self, serve: Serve, cluster: Cluster, goaway: str, ended: str) -> None:
        """Without access observation alone decides, or the delay; said once, with the remedy."""
        policy = replace(FAST, goaway="auto" if goaway == "lossless" else goaway)
        hosted = serve(start=False, policy=policy).start(goaway)
        cluster.say(View(Standing.UNKNOWN, "endpointslices: may not list"))
        told = hosted.drain().result(PATIENCE)
        assert (told.announcing_ended, told.endpoint) == (ended, "endpointslices: may not list")
        fallbacks = [e for e in hosted.happened(events.FallbackTaken) if e.what == "the pod's own endpoint"]
        assert [(each.reason, "Role" in each.remedy) for each in fallbacks] == [("endpointslices: may not list", True)]

    def test_switched_off(self, serve: Serve, cluster: Cluster) -> None:
        hosted = serve(policy=replace(FAST, watch_endpoint=False))
        hosted.drain().result(PATIENCE)
        assert cluster.looks == 0

    def test_a_look_that_fails(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        """A bug in there is a line in the report, and the drain goes on."""

        def broken(changed: Callable[[], None]) -> None:
            raise ValueError("out of order")

        monkeypatch.setattr("drain._kube.own_endpoint.look", broken)
        told = serve().drain().result(PATIENCE)
        assert told.errors == ("looking at the pod's own endpoint: ValueError: out of order",)
        assert told.announcing_ended == "nobody came back"

    def test_stop_asks_nobody(self, serve: Serve, cluster: Cluster) -> None:
        """`stop(grace)` has grpc's contract: it announces nothing, and its own time is the bound."""
        hosted = serve()
        hosted.stop(1).result(PATIENCE)
        assert cluster.looks == 0


class TestBudget:
    """A pod that is given less time than its manifest says."""

    def test_shortened_while_announcing(self, serve: Serve, client: Clients, cluster: Cluster) -> None:
        """2 s left: announcing gives its share, and the call that never ends is cut before the kill."""
        hosted = serve(policy=replace(FAST, announce_timeout=20, drain_timeout=40))
        (call,) = in_flight(client(hosted.port), hosted.told)
        cluster.say(LISTED)
        report, began = hosted.drain(), time.monotonic()
        hosted.phase(State.ANNOUNCING)
        until(lambda: seen(hosted))
        cluster.say(replace(LISTED, grace=2.0))
        told = report.result(PATIENCE)
        assert time.monotonic() - began < 2.5
        assert (told.announcing_ended, told.cancelled) == ("announce_timeout", 1)
        assert told.budget is not None
        assert 1.4 < told.budget < 2.5, "the rest, less a quarter in reserve, from the drain's beginning on"
        assert [event.left for event in hosted.happened(events.BudgetShortened)] == [2.0]
        assert code(call) != "OK"

    def test_shortened_while_finishing(self, serve: Serve, client: Clients, cluster: Cluster) -> None:
        hosted = serve(policy=replace(FAST, drain_timeout=40))
        (_call,) = in_flight(client(hosted.port), hosted.told)
        report = hosted.drain()
        hosted.phase(State.FINISHING)
        began = time.monotonic()
        cluster.say(replace(LEFT, grace=1.0))
        assert report.result(PATIENCE).cancelled == 1
        assert time.monotonic() - began < 2

    def test_a_longer_one_changes_nothing(self, serve: Serve, client: Clients, cluster: Cluster) -> None:
        hosted = serve(policy=replace(FAST, drain_timeout=0.5))
        (_call,) = in_flight(client(hosted.port), hosted.told)
        cluster.say(replace(LEFT, grace=3600.0))
        told = hosted.drain().result(PATIENCE)
        assert (told.cancelled, told.budget) == (1, None)
        assert hosted.happened(events.BudgetShortened) == []

    def test_time_left(self, serve: Serve) -> None:
        """What status tells of it: nothing while serving, then the sum, then less."""
        hosted = serve(policy=replace(FAST, drain_timeout=10, announce_timeout=3))
        assert hosted.server.status().time_left is None
        assert hosted.server.status().longest == 13
        hosted.drain()
        hosted.phase(State.ANNOUNCING)
        left = hosted.server.status().time_left
        assert left is not None
        assert 5 < left <= 13


class TestLongCalls:
    """Whose callers cannot come back before they have ended."""

    def test_a_unary_call_in_flight_is_waited_for(self, serve: Serve, client: Clients) -> None:
        """Its caller has not answered the question yet: he comes back when it ends, and is served."""
        hosted = serve(policy=replace(FAST, announce_timeout=15))
        caller = client(hosted.port)
        (call,) = in_flight(caller, hosted.told)
        report = hosted.drain()
        until(lambda: len(hosted.happened(events.CallersReturned)) >= 4)  # long past the time of a server without calls
        assert hosted.server.state is State.ANNOUNCING
        hosted.service.release.set()
        assert code(call) == "OK"
        assert caller.call("Echo") == b"hello", "the balancer may not have learned yet"
        told = report.result(PATIENCE)
        assert (told.announcing_ended, told.clean) == ("nobody came back", True)

    def test_a_stream_is_not(self, serve: Serve, client: Clients) -> None:
        """It may be open for hours."""
        hosted = serve(policy=replace(FAST, announce_timeout=15))
        stream = client(hosted.port).stream("Count", b"1000000")
        next(stream)
        report = hosted.drain()
        hosted.phase(State.FINISHING)
        stream.cancel()
        assert report.result(PATIENCE).phases["announcing"] < 10


class TestHold:
    """After a drain on behalf of a preStop hook."""

    def test_wait_for_termination_is_held(self, serve: Serve) -> None:
        hosted = serve()
        subject = Subject(hosted.server)
        told = subject.leave("preStop", hold=True).result(PATIENCE)
        assert (told.reason, hosted.server.state) == ("preStop", State.STOPPED)
        assert hosted.server.status().held
        until(lambda: hosted.happened(events.Held))
        assert hosted.ask(lambda: hosted.server.wait_for_termination(0.2)) is True, "it must wait"
        subject.leave("SIGTERM")
        assert hosted.ask(lambda: hosted.server.wait_for_termination(BOUND)) is False
        assert not hosted.server.status().held

    def test_stop_frees(self, serve: Serve) -> None:
        """A handler of SIGTERM that the program has itself."""
        hosted = serve()
        Subject(hosted.server).leave("preStop", hold=True).result(PATIENCE)
        hosted.stop(0).result(PATIENCE)
        assert hosted.ask(lambda: hosted.server.wait_for_termination(BOUND)) is False

    def test_sigterm_comes_first(self, serve: Serve) -> None:
        """A hook that joins holds nothing."""
        hosted = serve()
        hosted.drain()
        hosted.phase(State.ANNOUNCING)
        Subject(hosted.server).leave("preStop", hold=True).result(PATIENCE)
        assert hosted.ask(lambda: hosted.server.wait_for_termination(BOUND)) is False
        assert hosted.happened(events.Held) == []


class TestReplaced:
    """A worker whose successor listens already."""

    def test_health_stays(self, serve: Serve, client: Clients, cluster: Cluster) -> None:
        """A probe that reaches it must not unready the pod. No announcing, no look at the cluster, no call lost."""
        hosted = serve()
        (call,) = in_flight(client(hosted.port), hosted.told)
        caller = client(hosted.port)
        report = Subject(hosted.server).replace("replaced")
        hosted.phase(State.FINISHING)
        assert hosted.server.draining.is_set()
        assert hosted.server.status().report is None
        assert _health(hosted) == SERVING
        hosted.service.release.set()
        told = report.result(PATIENCE)
        assert (told.reason, told.announcing_ended, told.clean) == ("replaced", "skipped", True)
        assert call.result() is not None
        assert cluster.looks == 0
        assert caller.code("Echo", timeout=2) == "UNAVAILABLE"

    def test_a_drain_of_all_meanwhile(self, serve: Serve, client: Clients) -> None:
        """The whole pod leaves while one worker is being replaced: now health turns."""
        hosted = serve()
        (_call,) = in_flight(client(hosted.port), hosted.told)
        report = Subject(hosted.server).replace("replaced")
        hosted.phase(State.FINISHING)
        Subject(hosted.server).leave("SIGTERM")
        until(lambda: _health(hosted) == NOT_SERVING)
        hosted.service.release.set()
        assert report.result(PATIENCE).clean


class TestSubject:
    """What the admin socket may ask of a server."""

    def test_it_keeps_no_server_alive(self, serve: Serve) -> None:
        hosted = serve()
        assert Subject(hosted.server).status().addresses == (f"127.0.0.1:{hosted.port}",)
        dropped = drain.server(hosted.pool) if hosted.flavour == "sync" else drain.aio.server()
        subject = Subject(dropped)
        assert subject.alive
        del dropped
        gc.collect()
        assert not subject.alive
        with pytest.raises(ReferenceError):
            subject.status()

    def test_asking(self, serve: Serve, client: Clients) -> None:
        hosted = serve()
        client(hosted.port).call("Echo")
        subject = Subject(hosted.server)
        assert subject.request(Input.ROTATE, "by hand").result(PATIENCE) == 1
        assert subject.status().rotations == 1
        subject.request(Input.PAUSE, "by hand").result(PATIENCE)
        assert subject.status().state is State.PAUSED
        subject.request(Input.RESUME, "by hand").result(PATIENCE)
        assert subject.status().state is State.SERVING
        hosted.drain().result(PATIENCE)
        with pytest.raises(DrainError, match="cannot pause a server that is stopped"):
            subject.request(Input.PAUSE, "by hand")

    def test_from_many_threads(self, serve: Serve) -> None:
        """One report for all who ask at the same time."""
        hosted = serve()
        gate = threading.Barrier(8)

        def ask() -> object:
            gate.wait(BOUND)
            return Subject(hosted.server).leave("together", hold=False).result(PATIENCE)

        with futures.ThreadPoolExecutor(8) as pool:
            reports = list(pool.map(lambda _: ask(), range(8)))
        assert len(set(map(id, reports))) == 1


def _health(hosted: Hosted) -> int:
    return int(hosted.server.health._server_status[""])  # no connection of a client's own is needed
