"""Leaving, told as scenarios over both flavours: what callers, handlers and whoever asked for it see of a drain.

The suite goes on in test_scenarios_processes.py (signals) and test_scenarios_starting.py (addresses, starts that fail). Over 300
lines: it is one list of scenarios.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc
import pytest

from drain import events
from drain.errors import DrainError
from drain.events import State
from tests.integration._servers.calls import PATIENCE, Client, Load, Talk, code, ending, in_flight
from tests.integration._servers.hosted import FAST, Hosted
from tests.integration._servers.http2 import GOAWAY, Peer
from tests.integration._servers.service import path
from tests.integration._servers.waiting import listening_ports, until

Serve = Callable[..., Hosted]
Clients = Callable[..., Client]
AT_ONCE = replace(FAST, announce_timeout=0)
CUT = {"CANCELLED", "UNAVAILABLE"}  # what a call that we cut ends with


class TestDrain:
    """`drain()`: the phases, and who gets the report."""

    def test_the_whole_life(self, serve: Serve, client: Clients) -> None:
        """STARTING, SERVING, the three phases, STOPPED; the report and the events tell the same story."""
        hosted = serve()
        assert hosted.server.state is State.SERVING
        assert not hosted.server.draining.is_set()
        assert client(hosted.port).call("Echo") == b"hello"
        report = hosted.drain("because").result(PATIENCE)
        assert hosted.server.state is State.STOPPED
        assert hosted.server.draining.is_set()
        assert (report.reason, report.goaway, report.clean, report.errors) == ("because", "lossless", True, ())
        assert report.announcing_ended == "nobody came back"
        assert len(report.rotations) >= 2
        assert set(report.phases) == {"announcing", "closing", "finishing"}
        hosted.events.until(lambda event: isinstance(event, events.Drained))
        states = [event.state.value for event in hosted.happened(events.StateChanged)]
        assert states == ["serving", "announcing", "closing", "finishing", "stopped"]
        assert [event.number for event in hosted.happened(events.Rotated)] == list(range(1, len(report.rotations) + 1))
        assert len(hosted.happened(events.CallersReturned)) == len(report.rotations)
        assert hosted.happened(events.Drained)[0].report is report

    def test_nobody_can_connect_afterwards(self, serve: Serve, client: Clients) -> None:
        """Refused at once, so that callers go elsewhere."""
        hosted = serve(policy=AT_ONCE)
        hosted.drain().result(PATIENCE)
        assert client(hosted.port).code("Echo", timeout=2) == "UNAVAILABLE"

    def test_twice_at_the_same_time(self, serve: Serve) -> None:
        """Any number of callers, on any thread: one drain, one report, and the first one's reason."""
        hosted = serve()
        first = hosted.drain("first")
        hosted.phase(State.ANNOUNCING)
        reports = [future.result(PATIENCE) for future in (first, *(hosted.drain(f"{n}") for n in range(20)))]
        reports.append(hosted.drain("after the end").result(PATIENCE))
        assert all(report is reports[0] for report in reports)
        assert reports[0].reason == "first"
        assert [event.state for event in hosted.happened(events.StateChanged)].count(State.ANNOUNCING) == 1

    def test_one_who_gives_up_waiting_harms_nobody(self, serve: Serve) -> None:
        """A cancelled future is its caller's own."""
        hosted = serve()
        given_up, patient = hosted.drain(), hosted.drain()
        given_up.cancel()
        assert patient.result(PATIENCE).clean

    def test_before_start(self, serve: Serve) -> None:
        """Over at once; the address is free again; starting it then is an error that says so."""
        hosted = serve(start=False)
        report = hosted.drain("too early").result(PATIENCE)
        assert (report.reason, report.phases, hosted.server.state) == ("too early", {}, State.STOPPED)
        with pytest.raises(DrainError, match="drained before it was started"):
            hosted.start()
        serve(addresses=[f"127.0.0.1:{hosted.port}"])

    def test_during_start(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        """A drain that comes while the server starts waits for it, and is then carried out."""
        hosted = serve(start=False)
        settle, asked = hosted.server._blueprint.settle, []

        def meanwhile(emit: Any) -> Any:
            asked.append(hosted.server._driver.report())
            hosted.server._leave("impatient")
            assert hosted.server.state is State.STARTING
            return settle(emit)

        monkeypatch.setattr(hosted.server._blueprint, "settle", meanwhile)
        hosted.start()
        report = asked[0].result(PATIENCE)
        assert (report.reason, report.announcing_ended) == ("impatient", "nobody came back")
        assert hosted.server.state is State.STOPPED

    def test_from_within_a_call(self, serve: Serve, client: Clients) -> None:
        """A handler may begin the drain of its own server: the call that did is answered."""
        hosted = serve()
        assert client(hosted.port).call("Leave") == b"hello"
        report = hosted.drain().result(PATIENCE)
        assert (report.reason, report.cancelled) == ("asked by a call", 0)

    def test_from_any_thread(self, serve: Serve, client: Clients) -> None:
        """Also where there is no event loop: from a plain function on grpc.aio's migration pool, from a thread of the user's."""
        hosted = serve()
        if hosted.flavour == "aio":
            assert client(hosted.port).call("PlainLeave") == b"hello"
            assert hosted.drain().result(PATIENCE).reason == "asked by a call"
            hosted = serve()
        asking = threading.Thread(target=hosted.server.drain, args=("a thread",))
        asking.start()
        asking.join(PATIENCE)
        hosted.phase(State.STOPPED)
        assert hosted.drain().result(PATIENCE).reason == "a thread"
        never_run = serve(start=False)
        asking = threading.Thread(target=never_run.server.drain, args=("a thread",))
        asking.start()
        asking.join(PATIENCE)
        assert never_run.drain().result(PATIENCE).reason == "a thread"

    def test_while_another_thread_starts_it(self, serve: Serve) -> None:
        """Whichever comes first: it ends, everybody is told, the address is free; and the one who starts it may be told no."""
        for _ in range(12):
            hosted = serve(start=False, policy=AT_ONCE)
            gate, errors = threading.Barrier(2), []

            def begin(hosted: Hosted = hosted, gate: threading.Barrier = gate, errors: Any = errors) -> None:
                gate.wait()
                try:
                    hosted.start()
                except DrainError as error:
                    errors.append(error)

            starting = threading.Thread(target=begin)
            starting.start()
            gate.wait()
            report = hosted.drain("meanwhile").result(PATIENCE)
            starting.join(PATIENCE)
            assert not starting.is_alive()
            assert (report.reason, hosted.server.state) == ("meanwhile", State.STOPPED)
            until(lambda: hosted.port not in listening_ports())  # noqa: B023  # at once
            assert bool(errors) == (report.phases == {})

    def test_run_of_a_server_that_is_gone(self, flavour: str) -> None:
        """The report, at once."""
        import asyncio
        from concurrent import futures

        import drain

        if flavour == "sync":
            server = drain.server(futures.ThreadPoolExecutor(1))
            server.drain("earlier")
            assert server.run().reason == "earlier"
        else:

            async def scenario() -> None:
                server = drain.aio.server()
                await server.drain("earlier")
                assert (await server.run()).reason == "earlier"

            asyncio.run(scenario())

    def test_a_control_plane_that_died(self, serve: Serve, client: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
        """No rotation can be sent any more; the drain ends all the same, and calls in flight are served."""
        from drain._xds.ads import ControlPlane

        monkeypatch.setattr(ControlPlane, "_shared", None)
        hosted = serve()
        (call,) = in_flight(client(hosted.port), hosted.told)
        ControlPlane.shared().close()
        future = hosted.drain()
        hosted.phase(State.FINISHING)
        assert client(hosted.port).code("Echo", timeout=2) == "UNAVAILABLE"
        hosted.service.release.set()
        assert code(call) == "OK"
        assert future.result(PATIENCE).cancelled == 0
        assert serve().server.goaway == "lossless"  # the next server has a control plane of its own

    def test_a_stuck_event_loop(self) -> None:
        """A loop that is blocked keeps its server neither in the cluster nor alive."""
        hosted = Hosted("aio", policy=replace(FAST, announce_min=0.5)).start()
        try:
            future = hosted.drain()
            hosted.events.until(lambda event: isinstance(event, events.Rotated))
            hosted.server._loop.call_soon_threadsafe(time.sleep, 3)
            began = time.monotonic()
            until(lambda: hosted.server.state is State.FINISHING, every=0.001)
            assert hosted.port not in listening_ports()
            assert time.monotonic() - began < 2.9
            assert future.result(PATIENCE).cancelled == 0
        finally:
            hosted.close()

    def test_calls_turned_away_are_counted(self, serve: Serve, client: Clients) -> None:
        """maximum_concurrent_rpcs refuses calls before any handler sees them: the report says how many while it left."""
        hosted = serve(policy=replace(FAST, announce_min=60, announce_timeout=60), maximum_concurrent_rpcs=1)
        caller = client(hosted.port)
        (call,) = in_flight(caller, hosted.told)
        assert caller.code("Echo") == "RESOURCE_EXHAUSTED"
        report = hosted.drain()
        until(hosted.server.draining.is_set)  # the books are open
        for _ in range(3):
            assert caller.code("Echo") == "RESOURCE_EXHAUSTED"
        hosted.stop(20)
        hosted.service.release.set()
        assert code(call) == "OK"
        assert (report.result(PATIENCE).refused, report.result().finished_by_method) == (3, {path("Wait"): 1})

    def test_from_a_callback(self, serve: Serve) -> None:
        """Whoever is told of an event may drain; before start, too, where the event comes within the call."""
        hosted = serve()
        answers: list[Any] = []
        hosted.server.subscribe(lambda event: answers.append(hosted.server.drain("again")))
        hosted.drain("first").result(PATIENCE)
        until(lambda: hosted.happened(events.Drained))
        assert len(answers) >= 5
        never_run = serve(start=False)
        never_run.server.subscribe(lambda event: never_run.server.drain("again"))
        assert never_run.drain("first").result(PATIENCE).reason == "first"

    def test_events_come_without_a_lock_held(self, serve: Serve) -> None:
        """A callback may wait for another thread that asks the server something: no lock of ours is held meanwhile."""
        hosted = serve(start=False)
        answered: list[object] = []

        def ask(event: object) -> None:
            future: Any = None

            def elsewhere() -> None:
                hosted.server._driver.report()
                hosted.server.subscribe(lambda event: None)()
                hosted.server._leave("a callback's thread")
                answered.append(hosted.server.state)

            future = threading.Thread(target=elsewhere, daemon=True)
            future.start()
            future.join(3)
            if future.is_alive():
                answered.append("stuck")

        hosted.server.subscribe(ask)
        hosted.start()
        hosted.server._driver.report().result(PATIENCE)
        hosted.events.until(lambda event: isinstance(event, events.Drained))
        assert "stuck" not in answered
        # What never ran ends within the call to drain() itself.
        never_run = serve(start=False)
        hosted = never_run
        never_run.server.subscribe(ask)
        never_run.drain().result(PATIENCE)
        assert "stuck" not in answered


class TestCallsInFlight:
    """Nothing that has begun is lost."""

    def test_a_long_call(self, serve: Serve, client: Clients) -> None:
        """A unary call across the whole drain ends OK, and is in the report."""
        hosted = serve()
        calls = in_flight(client(hosted.port), hosted.told, calls=2)
        future = hosted.drain()
        hosted.phase(State.FINISHING)
        assert not future.done()
        hosted.service.release.set()
        report = future.result(PATIENCE)
        assert [code(call) for call in calls] == ["OK", "OK"]
        assert (report.in_flight_at_start, report.finished, report.cancelled) == (2, 2, 0)
        assert report.finished_by_method == {path("Wait"): 2}

    def test_streams(self, serve: Serve, client: Clients) -> None:
        """Streams of every arity go on through announcing, closing and finishing, in both directions, until they end."""
        hosted = serve()
        talk, more = Talk(), Talk()
        caller = client(hosted.port)
        chat = caller.chat(iter(talk))
        talk.say(b"before")
        assert next(chat) == b"before"
        collected: list[bytes] = []
        collecting = threading.Thread(target=lambda: collected.append(caller.collect(iter(more))))
        collecting.start()
        more.say(b"one")
        hosted.told.name("Collect")
        counted = caller.stream("Count", b"60")
        assert next(counted) == b"0"
        report = hosted.drain()
        hosted.phase(State.FINISHING)
        for word in (b"after", b"more"):
            talk.say(word)
            assert next(chat) == word
        more.say(b"two")
        for speaker in (talk, more):
            speaker.say(None)
        assert list(chat) == []
        collecting.join(PATIENCE)
        assert collected == [b"one two"]
        assert list(counted)[-1] == b"59"
        assert report.result(PATIENCE).finished_by_method == {path(name): 1 for name in ("Chat", "Collect", "Count")}
        assert report.result().clean

    def test_handlers_are_told(self, serve: Serve, client: Clients) -> None:
        """`server.draining` is set when announcing begins: a stream that looks at it says goodbye in its own words."""
        hosted = serve()
        stream = client(hosted.port).stream("Until", b"")
        assert next(stream) == b"tick"
        hosted.drain()
        assert list(stream)[-1] == b"bye"
        assert hosted.drain().result(PATIENCE).clean

    @pytest.mark.parametrize("method", ["Chat", "Flood", "Count", "Collect"])
    def test_stream_grace(self, serve: Serve, client: Clients, method: str) -> None:
        """Streams that do not end are ended with UNAVAILABLE and the reason as a trailer; unary calls are left alone."""
        hosted = serve(policy=replace(AT_ONCE, stream_grace=0.1))
        talk, caller = Talk(), client(hosted.port)
        (unary,) = in_flight(caller, hosted.told)
        if method == "Chat":
            stream = caller.chat(iter(talk))
            talk.say(b"a word")
            assert next(stream) == b"a word"
        elif method == "Collect":
            stream = caller.channel.stream_unary(path("Collect")).future(iter(talk), timeout=PATIENCE)
            hosted.told.name("Collect")
        else:
            stream = caller.stream(method, b"10000")
            assert next(stream)
        hosted.drain("moving house")
        hosted.phase(State.FINISHING)

        def talk_on() -> None:
            while stream.is_active():  # a sync handler that blocks in a read ends at the next message
                talk.say(b"another")
                time.sleep(0.05)

        threading.Thread(target=talk_on, daemon=True).start()
        assert (code if method == "Collect" else ending)(stream) == "UNAVAILABLE"
        assert ("drain-reason", "moving house") in stream.trailing_metadata()
        hosted.service.release.set()
        assert code(unary) == "OK"
        assert hosted.drain().result(PATIENCE).clean

    def test_a_hung_handler(self, serve: Serve, client: Clients) -> None:
        """At drain_timeout it is cancelled and named, and the others had their time."""
        hosted = serve(policy=replace(AT_ONCE, drain_timeout=1))
        caller = client(hosted.port)
        hung = in_flight(caller, hosted.told, calls=2, method="Hang")
        quick = caller.begin("Sleep", b"0.3")
        hosted.told.name("Sleep")
        began = time.monotonic()
        report = hosted.drain().result(PATIENCE)
        assert time.monotonic() - began < 8
        assert (report.cancelled, report.cancelled_by_method) == (2, {path("Hang"): 2})
        assert (report.finished, report.finished_by_method) == (1, {path("Sleep"): 1})
        assert not report.clean
        assert hosted.happened(events.CallsCancelled)[0].methods == {path("Hang"): 2}
        assert code(quick) == "OK"
        assert {code(call) for call in hung} <= CUT

    def test_calls_that_wait_for_a_worker(self, serve: Serve, client: Clients) -> None:
        """More calls than threads: those that no handler has seen yet are in flight as well, and are served."""
        hosted = serve(workers=2)
        calls = in_flight(client(hosted.port), hosted.told, calls=2)
        calls += [client(hosted.port).begin("Sleep", b"0.1") for _ in range(4)]
        until(lambda: hosted.server.status().in_flight == 6)
        future = hosted.drain()
        hosted.phase(State.FINISHING)
        hosted.service.release.set()
        report = future.result(PATIENCE)
        assert {code(call) for call in calls} == {"OK"}
        assert (report.in_flight_at_start, report.finished, report.clean) == (6, 6, True)

    def test_endings_leave_nothing_behind(self, serve: Serve, client: Clients) -> None:
        """However calls end, none stays open in the books, so none holds up a drain."""
        hosted = serve()
        caller = client(hosted.port)
        assert caller.code("Abort") == "FAILED_PRECONDITION"
        assert caller.code("Raise") == "UNKNOWN"
        assert caller.code("Nowhere") == "UNIMPLEMENTED"
        assert ending(caller.stream("AbortLater", b"")) == "FAILED_PRECONDITION"
        assert caller.code("Sleep", b"0.4", timeout=0.1) == "DEADLINE_EXCEEDED"
        given_up = caller.stream("Count", b"10000")
        assert next(given_up) == b"0"
        given_up.cancel()
        abandoned = caller.begin("Sleep", b"0.4")
        hosted.told.name("Sleep", times=2)
        abandoned.cancel()
        hanging_up = Client(hosted.port)
        assert next(hanging_up.stream("Count", b"10000"))
        hanging_up.channel.close()
        if hosted.flavour == "aio":
            assert caller.code("PlainRaise") == "UNKNOWN"
        until(lambda: not hosted.open_by_method)
        until(lambda: hosted.server.status().in_flight == 0)
        report = hosted.drain().result(PATIENCE)
        assert (report.clean, report.in_flight_at_start, report.errors) == (True, 0, ())

    def test_a_client_that_gives_up_meanwhile(self, serve: Serve, client: Clients) -> None:
        """A call cancelled by its client during the drain is not one that we cancelled."""
        hosted = serve(policy=AT_ONCE)
        (call,) = in_flight(client(hosted.port), hosted.told)
        report = hosted.drain()
        hosted.phase(State.FINISHING)
        call.cancel()
        hosted.service.release.set()
        assert report.result(PATIENCE).cancelled == 0


class TestRotate:
    """GOAWAY on every connection, while serving."""

    def test_under_load(self, serve: Serve) -> None:
        """Ten rotations, no call lost, and the server serves on."""
        hosted = serve()
        with Load([hosted.port]) as load:
            for _ in range(10):
                assert hosted.ask(hosted.server.rotate) >= 1
                load.more(1)
        assert load.failures == []
        assert hosted.server.state is State.SERVING
        assert [event.number for event in hosted.happened(events.Rotated)] == list(range(1, 11))

    def test_it_makes_clients_reconnect(self, serve: Serve, client: Clients) -> None:
        """The connection really is another one afterwards; the stream on the old one lives on."""
        hosted = serve()
        caller = client(hosted.port)
        stream = caller.stream("Count", b"50")
        next(stream)
        before = set(hosted.server.status().peers)
        hosted.ask(hosted.server.rotate)
        until(lambda: caller.call("Echo") and set(hosted.server.status().peers) - before)
        assert list(stream)[-1] == b"49"

    def test_at_the_wrong_time(self, serve: Serve) -> None:
        """Before start it is an error, and none that takes seconds; afterwards nobody is there to be told."""
        hosted = serve(start=False)
        began = time.monotonic()
        with pytest.raises(DrainError, match="starting"):
            hosted.ask(hosted.server.rotate)
        assert time.monotonic() - began < 5
        hosted.start()
        hosted.drain().result(PATIENCE)
        assert hosted.ask(hosted.server.rotate) == 0


class TestPause:
    """Drain without dying."""

    def test_pause_and_resume(self, serve: Serve, client: Clients) -> None:
        """Calls are served throughout, every connection is told to go once, and a second pause changes nothing."""
        hosted = serve()
        with Load([hosted.port], callers=3, streaming=1) as load:
            for _ in range(2):
                hosted.ask(hosted.server.pause)
                assert hosted.server.state is State.PAUSED
                load.more(1)
            assert len(hosted.happened(events.Rotated)) == 1
            assert client(hosted.port).call("Echo") == b"hello"  # a new connection is accepted
            hosted.ask(hosted.server.rotate)
            hosted.ask(hosted.server.resume)
            assert hosted.server.state is State.SERVING
            load.more(1)
        assert load.failures == []
        assert not hosted.server.draining.is_set()

    def test_drain_while_paused(self, serve: Serve) -> None:
        """As from SERVING."""
        hosted = serve()
        hosted.ask(hosted.server.pause)
        assert hosted.drain().result(PATIENCE).announcing_ended == "nobody came back"

    def test_at_the_wrong_time(self, serve: Serve, client: Clients) -> None:
        """A server that starts or leaves cannot be paused or resumed: an error that says so."""
        hosted = serve(start=False)
        with pytest.raises(DrainError, match="cannot pause a server that is starting"):
            hosted.ask(hosted.server.pause)
        hosted.start()
        hosted.drain()
        hosted.phase(State.ANNOUNCING)
        with pytest.raises(DrainError, match="cannot resume a server that is"):
            hosted.ask(hosted.server.resume)
        hosted.drain().result(PATIENCE)
        with pytest.raises(DrainError, match="cannot pause a server that is stopped"):
            hosted.ask(hosted.server.pause)


class TestStop:
    """grpc's contract of `stop` and `wait_for_termination`."""

    def test_grace(self, serve: Serve, client: Clients) -> None:
        """A call within its grace ends OK, new ones are refused meanwhile, nothing is announced."""
        hosted = serve()
        caller = client(hosted.port)
        (call,) = in_flight(caller, hosted.told)
        stopped = hosted.stop(10)
        hosted.phase(State.FINISHING)
        assert client(hosted.port).code("Echo", timeout=2) == "UNAVAILABLE"
        hosted.service.release.set()
        stopped.result(PATIENCE)
        assert code(call) == "OK"
        report = hosted.drain().result(PATIENCE)
        assert (report.reason, report.announcing_ended, report.clean) == ("stop()", "skipped", True)

    def test_grace_is_the_callers(self, serve: Serve, client: Clients) -> None:
        """A grace longer than drain_timeout holds: it was asked for."""
        hosted = serve(policy=replace(FAST, drain_timeout=0.2))
        call = client(hosted.port).begin("Sleep", b"0.8")
        hosted.told.name("Sleep")
        hosted.stop(10).result(PATIENCE)
        assert code(call) == "OK"

    def test_grace_over(self, serve: Serve, client: Clients) -> None:
        """A call that outlasts it is cut."""
        hosted = serve()
        (call,) = in_flight(client(hosted.port), hosted.told)
        began = time.monotonic()
        hosted.stop(0.3).result(PATIENCE)
        assert 0.3 <= time.monotonic() - began < 6
        assert code(call) in CUT
        assert hosted.drain().result(PATIENCE).cancelled == 1

    def test_none(self, serve: Serve, client: Clients) -> None:
        """No grace: calls are cut at once, and it returns when that is done."""
        hosted = serve()
        (call,) = in_flight(client(hosted.port), hosted.told)
        began = time.monotonic()
        hosted.ask(lambda: hosted.server.stop(None))
        assert time.monotonic() - began < 5
        assert hosted.server.state is State.STOPPED
        assert code(call) in CUT

    def test_the_smallest_grace_counts(self, serve: Serve, client: Clients) -> None:
        """Any number of times, in any phase; a larger one changes nothing."""
        hosted = serve()
        (call,) = in_flight(client(hosted.port), hosted.told)
        began = time.monotonic()
        stops = [hosted.stop(grace) for grace in (20, 0.3, 30)]
        for stopped in stops:
            stopped.result(PATIENCE)
        assert time.monotonic() - began < 8
        assert code(call) in CUT

    def test_during_announcing(self, serve: Serve) -> None:
        """It ends the announcing, and bounds the rest."""
        hosted = serve(policy=replace(FAST, announce_min=60, announce_timeout=60))
        report = hosted.drain("slowly")
        hosted.phase(State.ANNOUNCING)
        hosted.stop(1).result(PATIENCE)
        assert (report.result().reason, report.result().announcing_ended) == ("slowly", "skipped")

    def test_before_start(self, serve: Serve) -> None:
        """Nothing to stop: it returns, and the server may still be started, as in grpc."""
        hosted = serve(start=False)
        hosted.stop(None).result(PATIENCE)
        hosted.stop(1).result(PATIENCE)
        hosted.start()
        assert hosted.server.state is State.SERVING

    def test_wait_for_termination(self, serve: Serve) -> None:
        """True when the time has passed, False when the server has stopped; any number may wait."""
        hosted = serve()
        assert hosted.ask(lambda: hosted.server.wait_for_termination(0.1)) is True
        answers: list[bool] = []
        waiting = threading.Thread(target=lambda: answers.append(hosted.ask(hosted.server.wait_for_termination)))
        waiting.start()
        hosted.stop(0).result(PATIENCE)
        waiting.join(PATIENCE)
        assert answers == [False]
        assert hosted.ask(lambda: hosted.server.wait_for_termination(0.1)) is False
        assert hosted.ask(hosted.server.wait_for_termination) is False

    def test_waiting_in_slices_keeps_nothing(self, serve: Serve) -> None:
        """`while server.wait_for_termination(1)` for a year must not fill the memory."""
        hosted = serve()
        before = len(hosted.server._driver._finals)
        for _ in range(50):
            hosted.ask(lambda: hosted.server.wait_for_termination(0.001))
        assert len(hosted.server._driver._finals) <= before + 1

    def test_started_twice(self, serve: Serve) -> None:
        """grpc's own error."""
        hosted = serve()
        with pytest.raises(ValueError, match="already-started"):
            hosted.start()

    def test_drain_and_stop_race(self, serve: Serve, client: Clients) -> None:
        """From many threads at once: one end, everybody is told of it, and nothing hangs."""
        for _ in range(5):
            hosted = serve(policy=replace(FAST, drain_timeout=2))
            caller = client(hosted.port)
            calls = [caller.begin("Sleep", b"0.1") for _ in range(4)]
            ends: list[Any] = []
            gate = threading.Barrier(6)

            def act(number: int, hosted: Hosted = hosted, gate: threading.Barrier = gate, ends: Any = ends) -> None:
                gate.wait()
                ends.append(hosted.drain(f"{number}") if number % 2 else hosted.stop(2))

            threads = [threading.Thread(target=act, args=(number,)) for number in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
            for end in ends:
                end.result(PATIENCE)
            assert hosted.server.state is State.STOPPED
            assert {code(call) for call in calls} <= {"OK", "UNAVAILABLE"}


class TestPeers:
    """Peers that do not do what they should."""

    def test_one_that_never_answers_the_ping(self, serve: Serve) -> None:
        """A graceful GOAWAY waits for a PING's answer: without one the drain ends all the same, and the peer is counted."""
        hosted = serve()
        deaf, polite = Peer(hosted.port, deaf=True), Peer(hosted.port, deaf=False)
        until(lambda: len(hosted.server.status().peers) == 2)
        began = time.monotonic()
        report = hosted.drain().result(PATIENCE)
        assert time.monotonic() - began < 8
        assert report.clean
        assert len(report.peers_left) == 1
        assert hosted.happened(events.PeersCut)[0].peers == report.peers_left
        assert deaf.seen(GOAWAY) >= 1
        assert polite.seen(GOAWAY) >= 1
        assert deaf.closed.wait(PATIENCE)
        assert polite.closed.wait(PATIENCE)

    def test_one_that_only_connects(self, serve: Serve) -> None:
        """A TCP connection that never says a word holds nothing up for longer than a deaf peer does."""
        import socket

        hosted = serve()
        with socket.create_connection(("127.0.0.1", hosted.port)) as silent:
            began = time.monotonic()
            assert hosted.drain().result(PATIENCE).clean
            assert time.monotonic() - began < 8
            silent.settimeout(PATIENCE)
            while silent.recv(4096):
                pass


class TestSubscribe:
    """Callbacks."""

    def test_order_and_unsubscribing(self, serve: Serve) -> None:
        """Called in the order of subscription, for every event; one that unsubscribed is not called any more."""
        hosted = serve()
        heard: list[tuple[str, object]] = []
        leave = [hosted.server.subscribe(lambda event, name=name: heard.append((name, event))) for name in "abc"]
        leave[1]()
        leave[1]()
        hosted.drain().result(PATIENCE)
        hosted.events.until(lambda event: isinstance(event, events.Drained))
        until(lambda: sum(isinstance(event, events.Drained) for _, event in heard) == 2)
        assert [name for name, _ in heard] == ["a", "c"] * (len(heard) // 2)
        assert [event for name, event in heard if name == "a"] == [event for name, event in heard if name == "c"]
        times = [event.at for _, event in heard if hasattr(event, "at")]
        assert times == sorted(times)

    def test_an_exception_harms_nobody(self, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
        """It is logged; the others are called, and the drain goes on."""
        hosted = serve()

        def broken(event: object) -> None:
            raise RuntimeError("the callback's own fault")

        heard: list[object] = []
        hosted.server.subscribe(broken)
        hosted.server.subscribe(heard.append)
        assert hosted.drain().result(PATIENCE).clean
        until(lambda: any(isinstance(event, events.Drained) for event in heard))
        assert "the callback's own fault" in caplog.text

    def test_where_they_are_called(self, serve: Serve) -> None:
        """asyncio: on the server's own loop, from the first event on; sync: on a thread of drain's or the caller's."""
        import asyncio

        hosted = serve(start=False)
        threads: list[str] = []
        hosted.server.subscribe(lambda event: threads.append(threading.current_thread().name))
        on_loop: list[bool] = []

        def look(event: object) -> None:
            try:
                on_loop.append(asyncio.get_running_loop() is hosted.server._loop)
            except RuntimeError:
                on_loop.append(False)

        hosted.server.subscribe(look)
        hosted.start()
        hosted.drain().result(PATIENCE)
        hosted.events.until(lambda event: isinstance(event, events.Drained))
        if hosted.flavour == "aio":
            assert set(threads) == {"test-loop"}
            assert all(on_loop)
        else:
            assert set(threads) <= {"MainThread", "drain-driver"}


def test_grpc_is_told_of_everything_else(serve: Serve, client: Clients) -> None:
    """`drain.server` is a `grpc.Server`, `drain.aio.server` a `grpc.aio.Server`."""
    hosted = serve()
    assert isinstance(hosted.server, grpc.Server if hosted.flavour == "sync" else grpc.aio.Server)
