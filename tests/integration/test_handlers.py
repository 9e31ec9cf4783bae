"""Replacing handlers by counted ones (drain/_grpc/handlers.py) changes nothing that grpc or the user's code could see."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from drain._grpc.handlers import Watched, watch_async, watch_sync
from drain._grpc.home import Home
from drain._grpc.inflight import MOST_METHODS, Ledger
from tests.integration._servers.calls import PATIENCE, Client, Talk
from tests.integration._servers.hosted import Hosted
from tests.integration._servers.service import NAME, path
from tests.integration._servers.waiting import until

Serve = Callable[..., Hosted]
Clients = Callable[..., Client]
HOME = Home("sync")
MAKERS = {
    ("unary", "unary"): grpc.unary_unary_rpc_method_handler,
    ("unary", "stream"): grpc.unary_stream_rpc_method_handler,
    ("stream", "unary"): grpc.stream_unary_rpc_method_handler,
    ("stream", "stream"): grpc.stream_stream_rpc_method_handler,
}


@pytest.mark.parametrize("arity", MAKERS, ids="-".join)
@pytest.mark.parametrize("watch", [watch_sync, watch_async])
def test_the_shape_is_kept(watch: Any, arity: tuple[str, str]) -> None:
    """Arity and serializers of a handler are those of the user's."""
    handler = MAKERS[arity](lambda argument, context: argument, str.encode, bytes.decode)
    twin = Watched(Ledger(), watch, HOME).method("/a.B/C", handler)
    assert (twin.request_streaming, twin.response_streaming) == (arity[0] == "stream", arity[1] == "stream")
    assert twin.request_deserializer is handler.request_deserializer
    assert twin.response_serializer is handler.response_serializer
    attribute = "_".join(arity)
    assert [
        name for name in ("unary_unary", "unary_stream", "stream_unary", "stream_stream") if getattr(twin, name)
    ] == [attribute]


async def coroutine(request: bytes, context: Any) -> bytes:
    return request


async def generator(request: bytes, context: Any) -> Any:
    yield request


def plain(request: bytes, context: Any) -> bytes:
    return request


def plain_generator(request: bytes, context: Any) -> Any:
    yield request


@pytest.mark.parametrize(
    ("behaviour", "streams", "kind"),
    [
        (coroutine, False, inspect.iscoroutinefunction),
        (coroutine, True, inspect.iscoroutinefunction),
        (generator, True, inspect.isasyncgenfunction),
        (plain, False, inspect.isfunction),
        (plain_generator, True, inspect.isgeneratorfunction),
    ],
)
def test_the_kind_of_function_is_kept(behaviour: Any, streams: bool, kind: Callable[[Any], bool]) -> None:
    """grpc.aio asks `inspect` how to run a handler; name and documentation stay for those who trace."""
    watched = watch_async(behaviour, streams, Ledger().entry("/a.B/C"), HOME)
    assert kind(watched)
    assert kind(behaviour)
    assert not (inspect.iscoroutinefunction(watched) and kind is not inspect.iscoroutinefunction)
    assert watched.__name__ == behaviour.__name__


@pytest.mark.parametrize("streams", [False, True])
def test_grpcs_experimental_attributes_are_kept(streams: bool) -> None:
    """They pick a thread pool, or say that the handler does not block."""

    def behaviour(request: bytes, context: Any) -> bytes:
        return request

    behaviour.experimental_thread_pool = "a pool"  # type: ignore[attr-defined]
    behaviour.experimental_non_blocking = True  # type: ignore[attr-defined]
    watched = watch_sync(behaviour, streams, Ledger().entry("/a.B/C"), HOME)
    assert watched.experimental_thread_pool == "a pool"  # type: ignore[attr-defined]
    assert watched.experimental_non_blocking is True  # type: ignore[attr-defined]


def test_a_generic_handler_is_asked_each_time() -> None:
    """It may answer for any name, and differently each time; for the same handler there is one twin."""
    asked: list[str] = []
    known = grpc.unary_unary_rpc_method_handler(plain)

    class Changing(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            asked.append(details.method)
            return known if details.method == "/a.B/Known" else None

    class Details:
        def __init__(self, method: str) -> None:
            self.method = method

    (twin,) = Watched(Ledger(), watch_sync, HOME).generic([Changing()])
    first, second = twin.service(Details("/a.B/Known")), twin.service(Details("/a.B/Known"))
    assert first is second
    assert first is not known
    assert twin.service(Details("/a.B/Other")) is None
    assert asked == ["/a.B/Known", "/a.B/Known", "/a.B/Other"]


def test_any_number_of_names_is_bounded() -> None:
    """A generic handler that serves whatever name a client sends must not fill the memory."""

    class Anything(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(plain)

    class Details:
        def __init__(self, method: str) -> None:
            self.method = method

    ledger = Ledger()
    (twin,) = Watched(ledger, watch_sync, HOME).generic([Anything()])
    for number in range(3 * MOST_METHODS):
        twin.service(Details(f"/a.B/{number}")).unary_unary(b"", None)
    assert ledger.counts()[:2] == (3 * MOST_METHODS, 0)
    assert len(twin._twins) <= MOST_METHODS
    assert len(ledger.ended_by_method) <= MOST_METHODS + 1


class TestServed:
    """By real servers."""

    def test_every_arity(self, serve: Serve, client: Clients) -> None:
        """Answers are what they were, and each call is one in the books."""
        hosted = serve()
        caller = client(hosted.port)
        assert caller.call("Echo") == b"hello"
        assert list(caller.stream("Count", b"4")) == [b"0", b"1", b"2", b"3"]
        assert caller.collect(iter([b"a", b"b"])) == b"a b"
        assert list(caller.chat(iter([b"a", b"b"]))) == [b"a", b"b"]
        until(lambda: hosted.server._blueprint.ledger.counts()[:2] == (4, 0))

    def test_messages_come_one_by_one(self, serve: Serve, client: Clients) -> None:
        """A stream is not collected first: each message is answered before the next is sent."""
        hosted = serve()
        talk = Talk()
        chat = client(hosted.port).chat(iter(talk))
        for word in (b"one", b"two", b"three"):
            talk.say(word)
            assert next(chat) == word
        talk.say(None)
        assert list(chat) == []

    def test_a_stream_that_its_client_leaves_is_closed(self, serve: Serve, client: Clients) -> None:
        """The handler's `finally` runs, as without us, and soon; the books are closed."""
        hosted = serve(handlers=[], start=False)
        closed: list[str] = []

        def counting(request: bytes, context: Any) -> Any:
            try:
                while context.is_active():
                    yield b"x"
                    context._rpc_event  # noqa: B018  # grpc's own context, not one of ours
                    import time

                    time.sleep(0.01)
            finally:
                closed.append("closed")

        async def counting_aio(request: bytes, context: Any) -> Any:
            try:
                while True:
                    yield b"x"
                    await asyncio.sleep(0.01)
            finally:
                closed.append("closed")

        behaviour = counting if hosted.flavour == "sync" else counting_aio
        handler = grpc.unary_stream_rpc_method_handler(behaviour)
        hosted.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, {"Count": handler}),))
        hosted.start()
        stream = client(hosted.port).stream("Count", b"")
        assert next(stream) == b"x"
        stream.cancel()
        until(lambda: closed == ["closed"])
        until(lambda: not hosted.open_by_method)

    def test_context_is_grpcs_own(self, serve: Serve, client: Clients) -> None:
        """Metadata, trailing metadata, code, peer, deadline: all that a handler may ask of its context."""
        hosted = serve(handlers=[], start=False)

        def tell(request: bytes, context: Any) -> bytes:
            assert 0 < context.time_remaining() <= PATIENCE + 1  # grpc converts between two clocks
            assert context.peer().startswith("ipv4:127.0.0.1:")
            context.set_trailing_metadata((("trailer", dict(context.invocation_metadata())["key"]),))
            return request

        async def tell_aio(request: bytes, context: Any) -> bytes:
            return tell(request, context)

        handler = grpc.unary_unary_rpc_method_handler(tell if hosted.flavour == "sync" else tell_aio)
        hosted.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, {"Tell": handler}),))
        hosted.start()
        call = client(hosted.port).channel.unary_unary(path("Tell"))
        answer, told = call.with_call(b"hello", timeout=PATIENCE, metadata=(("key", "value"),))
        assert answer == b"hello"
        assert ("trailer", "value") in told.trailing_metadata()
