"""Long calls and a drain: handlers that learn of it (`drain.draining`), and those that are ended (`stream_grace`).

Over 300 lines: handlers of every kind and both flavours, and each way in which they end.
"""

import asyncio
import contextvars
import gc
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest

import drain
import drain.aio
from drain import events
from drain._grpc import streams
from drain._subject import Subject
from drain.errors import DrainError
from drain.events import State
from tests.integration._servers.calls import PATIENCE, Client, Talk, code, ending
from tests.integration._servers.hosted import FAST, Hosted
from tests.integration._servers.waiting import until

Serve = Callable[..., Hosted]
Clients = Callable[..., Client]
NAME = "drain.test.Long"
ARITIES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
STREAMS = ARITIES[1:]
AT_ONCE = replace(FAST, announce_timeout=0)
REASON = ("drain-reason", "moving house")
MAKERS = {arity: getattr(grpc, f"{arity}_rpc_method_handler") for arity in ARITIES}


def sync_handler(arity: str, ask: Callable[[Any], bytes]) -> grpc.RpcMethodHandler:
    """Answers once what `ask(context)` says."""

    def returned(request: Any, context: Any) -> bytes:
        return ask(context)

    def yielded(request: Any, context: Any) -> Iterator[bytes]:
        yield ask(context)

    return MAKERS[arity](yielded if arity.endswith("stream") else returned)


def async_handler(arity: str, ask: Callable[[Any], Any]) -> grpc.RpcMethodHandler:
    """The same, and `ask` may be a coroutine function."""

    async def asked(context: Any) -> Any:
        answer = ask(context)
        return await answer if asyncio.iscoroutine(answer) else answer

    async def returned(request: Any, context: Any) -> Any:
        return await asked(context)

    async def yielded(request: Any, context: Any) -> Any:
        yield await asked(context)

    return MAKERS[arity](yielded if arity.endswith("stream") else returned)


def handler(flavour: str, arity: str, ask: Callable[[Any], Any]) -> grpc.RpcMethodHandler:
    return (sync_handler if flavour == "sync" else async_handler)(arity, ask)


def generic(**methods: grpc.RpcMethodHandler) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(NAME, methods)


def call(client: Client, arity: str = "unary_unary", method: str = "It", requests: Any = None) -> Any:
    """Begin it. `result_of` has its one answer."""
    made = getattr(client.channel, arity)(f"/{NAME}/{method}")
    argument = b"" if arity.startswith("unary") else iter([b""]) if requests is None else iter(requests)
    begin = made if arity.endswith("stream") else made.future
    return begin(argument, timeout=PATIENCE)


def result_of(begun: Any, arity: str) -> bytes:
    return bytes(next(begun) if arity.endswith("stream") else begun.result(PATIENCE))


def event_of(flavour: str, context: Any) -> Any:
    return drain.draining(context) if flavour == "sync" else drain.aio.draining(context)


class TestServed:
    """Sync and asyncio."""

    @pytest.mark.parametrize("registered", [False, True], ids=["generic", "generated"])
    @pytest.mark.parametrize("arity", ARITIES)
    def test_a_context_leads_to_its_server(
        self, serve: Serve, client: Clients, flavour: str, arity: str, registered: bool
    ) -> None:
        """Whichever way its handler came to the server, and however many servers there are."""
        hosts: list[Hosted] = []
        methods = {"It": handler(flavour, arity, lambda context: b"%d" % found(hosts, event_of(flavour, context)))}
        for _ in range(2):
            hosted = serve(start=False, handlers=() if registered else [generic(**methods)])
            if registered:
                hosted.ask(lambda each=hosted: each.server.add_registered_method_handlers(NAME, methods))
            hosts.append(hosted.start())
        for number, hosted in enumerate(hosts):
            assert result_of(call(client(hosted.port), arity), arity) == b"%d" % number

    def test_it_is_set_when_the_drain_begins(self, serve: Serve, client: Clients, flavour: str) -> None:
        """A handler that looks at it ends in its own time, well after `stream_grace` would have ended nothing."""
        told = threading.Event()

        def watching(request: bytes, context: Any) -> Iterator[bytes]:
            draining = drain.draining(context)
            assert not draining.is_set()
            told.set()
            assert draining.wait(PATIENCE)
            yield b"bye"

        async def awaiting(request: bytes, context: Any) -> Any:
            draining = drain.aio.draining(context)
            assert not draining.is_set()
            told.set()
            await asyncio.wait_for(draining.wait(), PATIENCE)
            yield b"bye"

        method = grpc.unary_stream_rpc_method_handler(watching if flavour == "sync" else awaiting)
        hosted = serve(policy=replace(FAST, stream_grace=5), handlers=[generic(It=method)])
        stream = call(client(hosted.port), "unary_stream")
        assert told.wait(PATIENCE)
        report = hosted.drain().result(PATIENCE)
        assert list(stream) == [b"bye"]
        assert report.clean
        assert report.finished_by_method == {f"/{NAME}/It": 1}

    def test_an_interceptors_context_leads_there_too(self, serve: Serve, client: Clients, flavour: str) -> None:
        hosts: list[Hosted] = []
        ask = handler(flavour, "unary_unary", lambda context: b"%d" % found(hosts, event_of(flavour, Opaque(context))))
        interceptor = (Wrapping if flavour == "sync" else AsyncWrapping)()
        hosts.append(serve(handlers=[generic(It=ask)], interceptors=[interceptor]))
        assert call(client(hosts[0].port)).result(PATIENCE) == b"0"

    def test_generated_stubs_may_be_the_only_ones_who_know(self, serve: Serve, client: Clients, flavour: str) -> None:
        """Deep down in somebody's code, with the context alone, while the load is reported as well."""
        hosts: list[Hosted] = []
        ask = handler(flavour, "unary_stream", lambda context: b"%d" % found(hosts, event_of(flavour, context)))
        hosts.append(serve(handlers=[generic(It=ask)], load_report=True, policy=replace(FAST, stream_grace=1)))
        assert list(call(client(hosts[0].port), "unary_stream")) == [b"0"]

    @pytest.mark.parametrize("arity", STREAMS)
    def test_who_ignores_it_is_ended(self, serve: Serve, client: Clients, flavour: str, arity: str) -> None:
        """`stream_grace` after announcing, with UNAVAILABLE and the reason: a stream of every arity."""
        hosted = serve(policy=replace(AT_ONCE, stream_grace=0.2), handlers=[generic(It=endless(flavour, arity))])
        talk = Talk()
        stream = call(client(hosted.port), arity, requests=Chattering(talk))
        if arity.endswith("stream"):
            assert next(stream)
        until(lambda: hosted.open_by_method)
        began = time.monotonic()
        report = hosted.drain("moving house")
        assert (ending if arity.endswith("stream") else code)(stream) == "UNAVAILABLE"
        assert 0.2 <= time.monotonic() - began < 5
        assert REASON in stream.trailing_metadata()
        assert stream.details() == streams.DETAILS
        assert report.result(PATIENCE).clean
        assert hosted.happened(events.PeersCut) == []

    @pytest.mark.parametrize("arity", ["stream_unary", "stream_stream"])
    def test_who_waits_for_a_request_is_ended(self, serve: Serve, client: Clients, flavour: str, arity: str) -> None:
        """A handler that reads from a client that says nothing."""
        hosted = serve(policy=replace(AT_ONCE, stream_grace=0.2), handlers=[generic(It=endless(flavour, arity))])
        talk = Talk()
        talk.say(b"one")
        stream = call(client(hosted.port), arity, requests=talk)
        if arity.endswith("stream"):
            assert next(stream)
        until(lambda: hosted.open_by_method)
        report = hosted.drain("moving house")
        assert (ending if arity.endswith("stream") else code)(stream) == "UNAVAILABLE"
        assert REASON in stream.trailing_metadata()
        assert report.result(PATIENCE).clean, "nor is the connection held up by what nobody will read"
        assert hosted.happened(events.PeersCut) == []
        talk.say(None)

    def test_who_waits_for_anything_else_is_ended(self, serve: Serve, client: Clients, flavour: str) -> None:
        """Its client is told to go elsewhere in time, though a thread cannot be interrupted."""
        release = threading.Event()

        def blocked(request: bytes, context: Any) -> Iterator[bytes]:
            yield b"first"
            assert release.wait(PATIENCE)
            yield b"too late"

        async def ablocked(request: bytes, context: Any) -> Any:
            yield b"first"
            await asyncio.sleep(60)
            yield b"too late"

        method = grpc.unary_stream_rpc_method_handler(blocked if flavour == "sync" else ablocked)
        hosted = serve(policy=replace(AT_ONCE, stream_grace=0.1), handlers=[generic(It=method)])
        stream = call(client(hosted.port), "unary_stream")
        assert next(stream) == b"first"
        report = hosted.drain("moving house")
        try:
            assert ending(stream) == "UNAVAILABLE"
            assert REASON in stream.trailing_metadata()
        finally:
            release.set()
        assert report.result(PATIENCE).clean

    def test_a_unary_call_is_left_alone(self, serve: Serve, client: Clients) -> None:
        hosted = serve(policy=replace(AT_ONCE, stream_grace=0))
        caller = client(hosted.port)
        waiting = caller.begin("Wait")
        hosted.told.name("Wait")
        report = hosted.drain()
        hosted.phase(State.FINISHING)
        hosted.service.release.set()
        assert waiting.result(PATIENCE) == b"hello"
        assert report.result(PATIENCE).clean

    def test_a_client_goes_on_elsewhere(self, serve: Serve, flavour: str) -> None:
        """What all of it is for: the stream ends with UNAVAILABLE, its client opens it anew, and another server has it."""
        hosts = [
            serve(policy=replace(AT_ONCE, stream_grace=0), handlers=[generic(It=numbered(flavour, number))])
            for number in range(2)
        ]
        target = "ipv4:" + ",".join(f"127.0.0.1:{hosted.port}" for hosted in hosts)
        with Client(target) as client:
            first = call(client, "unary_stream")
            at = int(next(first))
            hosts[at].drain("moving house")
            assert ending(first) == "UNAVAILABLE"
            assert REASON in first.trailing_metadata()
            second = call(client, "unary_stream")
            assert int(next(second)) == 1 - at
            second.cancel()


class TestConnectionAge:
    """`drain.connection_age_left`: how long the call's connection lives yet."""

    def ages(self, serve: Serve, flavour: str, **arguments: Any) -> tuple[Hosted, list[Any]]:
        told: list[Any] = []

        def asking(context: Any) -> bytes:
            try:
                told.append(
                    (drain.connection_age_left if flavour == "sync" else drain.aio.connection_age_left)(context)
                )
            except DrainError as error:
                told.append(error)
            return b"told"

        return serve(handlers=[generic(It=handler(flavour, "unary_unary", asking))], **arguments), told

    def test_it_is_what_is_left(
        self, serve: Serve, client: Clients, flavour: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of two connections, the older one has less; and never more than is true."""
        monkeypatch.setattr("drain._grpc.ages.INTERVAL", 0.05)
        hosted, told = self.ages(
            serve, flavour, connection_ages=True, keepalive=drain.ServerKeepalive(max_connection_age=100)
        )
        older, since = client(hosted.port), time.monotonic()
        call(older).result(PATIENCE)
        assert 88 < told[0] <= 90
        looked = hosted.server._blueprint.home.ages
        until(lambda: looked._began)
        until(lambda: looked._looked_at > since + 1)
        newer = client(hosted.port)
        for each in (older, newer):
            call(each).result(PATIENCE)
        assert told[1] < 90 - 1
        assert told[1] + 0.9 < told[2] <= 90

    def test_when_it_is_over_grpc_ends_the_connection(self, serve: Serve, client: Clients, flavour: str) -> None:
        """What it is for, and that it is on the safe side: not before it said so."""
        hosted, told = self.ages(
            serve, flavour, connection_ages=True, keepalive=drain.ServerKeepalive(max_connection_age=2)
        )
        caller, began = client(hosted.port), time.monotonic()
        call(caller).result(PATIENCE)
        (first,) = hosted.server._driver._hands.gauge.peers()
        until(lambda: first not in hosted.server._driver._hands.gauge.peers())
        assert 0.5 < told[0] <= time.monotonic() - began

    @pytest.mark.parametrize(
        "arguments",
        [
            {"keepalive": None},
            {"keepalive": drain.ServerKeepalive(max_connection_age=None)},
            {"options": [("grpc.max_connection_age_ms", 2**31 - 1)]},
            {"options": [("grpc.enable_channelz", 0)]},
        ],
    )
    def test_none(self, serve: Serve, client: Clients, flavour: str, arguments: dict[str, Any]) -> None:
        """No limit, or nobody who knows when connections begin; and no thread for that."""
        hosted, told = self.ages(serve, flavour, connection_ages=True, **arguments)
        call(client(hosted.port)).result(PATIENCE)
        assert told == [None]
        assert "drain-ages" not in [thread.name for thread in threading.enumerate()]

    def test_the_users_own_option_counts(self, serve: Serve, client: Clients, flavour: str) -> None:
        hosted, told = self.ages(serve, flavour, connection_ages=True, options=[("grpc.max_connection_age_ms", 50_000)])
        call(client(hosted.port)).result(PATIENCE)
        assert 43 < told[0] <= 45

    def test_it_must_be_asked_for(self, serve: Serve, client: Clients, flavour: str) -> None:
        hosted, told = self.ages(serve, flavour)
        call(client(hosted.port)).result(PATIENCE)
        assert isinstance(told[0], DrainError)
        assert "connection_ages=True" in str(told[0])
        assert "drain-ages" not in [thread.name for thread in threading.enumerate()]

    def test_the_thread_ends_with_the_server(self, serve: Serve, flavour: str, monkeypatch: pytest.MonkeyPatch) -> None:
        hosted, _ = self.ages(serve, flavour, connection_ages=True)
        assert "drain-ages" in [thread.name for thread in threading.enumerate()]
        hosted.stop(0).result(PATIENCE)
        until(lambda: "drain-ages" not in [thread.name for thread in threading.enumerate()])


class TestAsyncio:
    """`finally` blocks of asyncio handlers run to their end before the drain says that it is over (grpc/grpc#37239)."""

    @pytest.fixture
    def flavour(self) -> str:
        return "aio"

    @pytest.mark.parametrize("arity", ARITIES)
    @pytest.mark.parametrize("end", ["finishes", "is ended", "is cancelled"])
    def test_finally(self, serve: Serve, client: Clients, arity: str, end: str) -> None:
        if (arity, end) == ("unary_unary", "is ended"):
            end = "is cancelled"  # unary calls are not ended by stream_grace
        cleaned: list[str] = []
        release = threading.Event()

        async def held(context: Any) -> None:
            try:
                while not release.is_set():
                    await asyncio.sleep(0.01)
            finally:
                await asyncio.sleep(0.3)  # closing a file, a transaction, ...
                cleaned.append(arity)

        async def returned(request: Any, context: Any) -> bytes:
            await held(context)
            return b"done"

        async def yielded(request: Any, context: Any) -> Any:
            yield b"first"
            await held(context)
            yield b"done"

        method = MAKERS[arity](yielded if arity.endswith("stream") else returned)
        policy = {
            "finishes": AT_ONCE,
            "is ended": replace(AT_ONCE, stream_grace=0.1),
            "is cancelled": replace(AT_ONCE, drain_timeout=0.3, quiet_period=0.1),
        }[end]
        hosted = serve(policy=policy, handlers=[generic(It=method)])
        begun = call(client(hosted.port), arity)
        if arity.endswith("stream"):
            assert next(begun) == b"first"
        until(lambda: hosted.open_by_method)
        drained = hosted.drain()
        hosted.phase(State.FINISHING)
        if end == "finishes":
            release.set()
        report = drained.result(PATIENCE)
        assert cleaned == [arity], "the report came before the handler had ended"
        assert report.errors == ()
        assert report.cancelled == (end == "is cancelled")
        wanted = {"finishes": {"OK"}, "is ended": {"UNAVAILABLE"}, "is cancelled": {"CANCELLED", "UNAVAILABLE"}}[end]
        assert (ending if arity.endswith("stream") else code)(begun) in wanted

    def test_a_finally_that_never_ends_is_not_waited_for(self, serve: Serve, client: Clients) -> None:
        """Cancelled calls get a moment, no more: the drain is over within its bound, and names who would not end."""
        release = asyncio.Event()

        async def stubborn(request: bytes, context: Any) -> bytes:
            try:
                await asyncio.sleep(60)
            finally:
                await release.wait()
            return b""

        method = grpc.unary_unary_rpc_method_handler(stubborn)
        policy = replace(AT_ONCE, drain_timeout=0.2, quiet_period=0.1)
        hosted = serve(policy=policy, handlers=[generic(It=method)])
        begun = call(client(hosted.port))
        until(lambda: hosted.open_by_method)
        began = time.monotonic()
        report = hosted.drain().result(PATIENCE)
        assert time.monotonic() - began < 6
        assert report.cancelled == 1
        assert any(f"/{NAME}/It" in error for error in report.errors)
        hosted.ask(release.set)
        assert code(begun) in {"CANCELLED", "UNAVAILABLE"}

    def test_a_stuck_loop_is_left_before_the_kill(self, serve: Serve, client: Clients) -> None:
        """Whatever its steps wait for, the drain is over within the grace period, and its report is told."""
        release = threading.Event()

        async def stuck(request: bytes, context: Any) -> bytes:
            release.wait(60)  # what should have been awaited
            return b""

        grace = 8.0
        policy = replace(AT_ONCE, announce_timeout=1.0, drain_timeout=5.0, termination_grace_period=grace, reserve=2.0)
        hosted = serve(policy=policy, handlers=[generic(It=grpc.unary_unary_rpc_method_handler(stuck))])
        begun = call(client(hosted.port))
        until(lambda: hosted.open_by_method)
        try:
            began = time.monotonic()
            report = Subject(hosted.server).leave("preStop").result(PATIENCE)
            assert time.monotonic() - began < grace
        finally:
            release.set()
        assert report.budget == grace - 2.0
        assert any(f"/{NAME}/It" in error for error in report.errors)
        code(begun)  # it ends, with whatever the loop comes to first

    def test_tasks_and_threads_of_a_handler(self, serve: Serve, client: Clients) -> None:
        """A task that the handler makes, and asyncio.to_thread, know their call; a bare executor does not, and says so."""

        async def asking(context: Any) -> bytes:
            direct = drain.aio.draining(context)

            async def in_task() -> Any:
                return drain.aio.draining(context)

            assert await asyncio.create_task(in_task()) is direct
            assert await asyncio.to_thread(drain.aio.draining, context) is direct
            assert isinstance(await asyncio.to_thread(drain.draining, context), threading.Event)
            with ThreadPoolExecutor(1) as pool, pytest.raises(DrainError, match="its own context"):
                await asyncio.get_running_loop().run_in_executor(pool, drain.aio.draining, context)
            return b"done"

        hosted = serve(handlers=[generic(It=async_handler("unary_unary", asking))])
        assert call(client(hosted.port)).result(PATIENCE) == b"done"

    def test_a_synchronous_event_in_a_coroutine_is_refused(self, serve: Serve, client: Clients) -> None:
        def asking(context: Any) -> bytes:
            with pytest.raises(DrainError, match=r"drain\.aio\.draining"):
                drain.draining(context)
            return b"refused"

        hosted = serve(handlers=[generic(It=async_handler("unary_unary", asking))])
        assert call(client(hosted.port)).result(PATIENCE) == b"refused"

    @pytest.mark.parametrize("arity", ["unary_unary", "unary_stream"])
    def test_plain_handlers(self, serve: Serve, client: Clients, arity: str) -> None:
        """Synchronous handlers, on the migration thread pool: they get a threading.Event, and learn of the drain."""
        told = threading.Event()

        def waiting(context: Any) -> bytes:
            draining = drain.draining(context)
            told.set()
            return b"bye" if draining.wait(PATIENCE) else b"never told"

        hosted = serve(handlers=[generic(It=sync_handler(arity, waiting))])
        begun = call(client(hosted.port), arity)
        assert told.wait(PATIENCE)
        report = hosted.drain()
        assert result_of(begun, arity) == b"bye"
        assert report.result(PATIENCE).clean


class TestSync:
    @pytest.fixture
    def flavour(self) -> str:
        return "sync"

    def test_threads_of_the_users_own(self, serve: Serve, client: Clients) -> None:
        """The context is enough, on any thread."""
        hosts: list[Hosted] = []

        def asking(context: Any) -> bytes:
            with ThreadPoolExecutor(1) as pool:
                for each in (context, Delegating(context), Opaque(context), Opaque(Delegating(Opaque(context)))):
                    assert pool.submit(drain.draining, each).result(PATIENCE) is hosts[0].server.draining
            return b"done"

        hosts.append(serve(handlers=[generic(It=sync_handler("unary_unary", asking))]))
        assert call(client(hosts[0].port)).result(PATIENCE) == b"done"

    def test_a_context_that_takes_no_attribute(self, serve: Serve, client: Clients) -> None:
        hosts: list[Hosted] = []

        class Closed(grpc.ServerInterceptor):
            def intercept_service(self, continuation: Any, details: Any) -> Any:
                inner = continuation(details)
                return inner and grpc.unary_unary_rpc_method_handler(lambda r, c: inner.unary_unary(r, Slotted(c)))

        ask = sync_handler("unary_unary", lambda context: b"%d" % found(hosts, drain.draining(context)))
        hosts.append(serve(handlers=[generic(It=ask)], interceptors=[Closed()]))
        assert call(client(hosts[0].port)).result(PATIENCE) == b"0"

    def test_the_asyncio_event_is_refused(self, serve: Serve, client: Clients) -> None:
        def asking(context: Any) -> bytes:
            with pytest.raises(DrainError, match=r"use drain\.draining"):
                drain.aio.draining(context)
            return b"refused"

        hosted = serve(handlers=[generic(It=sync_handler("unary_unary", asking))])
        assert call(client(hosted.port)).result(PATIENCE) == b"refused"


def test_a_dropped_server_takes_the_thread_for_ages_along() -> None:
    pool = ThreadPoolExecutor(1)
    server = drain.server(pool, connection_ages=True)
    server.add_insecure_port("127.0.0.1:0")
    server.start()
    gone = weakref.ref(server)
    del server
    gc.collect()
    assert gone() is None
    until(lambda: "drain-ages" not in [thread.name for thread in threading.enumerate()])
    pool.shutdown(wait=False)


@pytest.mark.parametrize("ask", [drain.draining, drain.aio.draining, drain.connection_age_left])
@pytest.mark.parametrize("context", [None, object(), "context"])
def test_outside_of_a_call(ask: Any, context: Any) -> None:
    with pytest.raises(DrainError, match="Ask in the handler"):
        contextvars.Context().run(ask, context)  # an empty one: other tests call handlers by hand, on this very thread


def test_a_plain_servers_context() -> None:
    """grpc.server's own: there is no drain to learn of."""
    errors: list[Exception] = []

    def asking(context: Any) -> bytes:
        try:
            drain.draining(context)
        except DrainError as error:
            errors.append(error)
        return b""

    server = grpc.server(ThreadPoolExecutor(1), [generic(It=sync_handler("unary_unary", asking))])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with Client(port) as client:
        call(client).result(PATIENCE)
    server.stop(0).wait(PATIENCE)
    assert "drain.server" in str(errors[0])


# Helpers.


def found(hosts: list[Hosted], event: Any) -> int:
    return [hosted.server.draining for hosted in hosts].index(event)


class Chattering:
    """The requests of a client that never stops talking, slowly."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    def __iter__(self) -> Iterator[bytes]:
        for _ in itertools.count():
            yield b"word"
            time.sleep(0.02)


def endless(flavour: str, arity: str) -> grpc.RpcMethodHandler:
    """Goes on as long as its client does, whatever the server's plans are; of one that hears nothing, for ever."""

    def counted(request: Any, context: Any) -> Iterator[bytes]:
        while True:
            yield b"tick"
            time.sleep(0.02)

    def echoed(requests: Any, context: Any) -> Iterator[bytes]:
        yield from requests

    def collected(requests: Any, context: Any) -> bytes:
        return b" ".join(requests)

    async def acounted(request: Any, context: Any) -> Any:
        yield b"tick"
        await asyncio.sleep(60)

    async def aechoed(requests: Any, context: Any) -> Any:
        async for request in requests:
            yield request

    async def acollected(requests: Any, context: Any) -> bytes:
        return b" ".join([request async for request in requests])

    behaviours = (counted, collected, echoed) if flavour == "sync" else (acounted, acollected, aechoed)
    return MAKERS[arity](dict(zip(STREAMS, behaviours, strict=True))[arity])


def numbered(flavour: str, number: int) -> grpc.RpcMethodHandler:
    """A stream of its server's number."""

    def sync(request: bytes, context: Any) -> Iterator[bytes]:
        while context.is_active():
            yield b"%d" % number
            time.sleep(0.02)

    async def aio(request: bytes, context: Any) -> Any:
        while True:
            yield b"%d" % number
            await asyncio.sleep(0.02)

    return grpc.unary_stream_rpc_method_handler(sync if flavour == "sync" else aio)


class Delegating:
    """A context as interceptors wrap it: what it does not know it passes on."""

    def __init__(self, context: Any) -> None:
        self._inner = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Opaque:
    """One that passes on only what it knows."""

    def __init__(self, context: Any) -> None:
        self._inner = context

    def invocation_metadata(self) -> Any:
        return self._inner.invocation_metadata()


class Slotted:
    """One that takes no attribute."""

    __slots__ = ("_inner",)

    def __init__(self, context: Any) -> None:
        self._inner = context

    def code(self) -> Any:
        return self._inner.code()


class Wrapping(grpc.ServerInterceptor):  # type: ignore[misc]
    def intercept_service(self, continuation: Any, details: Any) -> Any:
        inner = continuation(details)
        return inner and grpc.unary_unary_rpc_method_handler(lambda r, c: inner.unary_unary(r, Delegating(c)))


class AsyncWrapping(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        inner = await continuation(details)

        async def wrapped(request: bytes, context: Any) -> Any:
            return await inner.unary_unary(request, Delegating(context))

        return inner and grpc.unary_unary_rpc_method_handler(wrapped)
