"""Every handler that is registered with a server passes through here, so that its calls are counted, and streams can be ended.

The user's handler object is replaced by one of the same shape whose behaviour notes the beginning of the call, asks grpc to
say when it has ended, and then is the user's own: what it returns is passed on untouched, so there is no cost per message.
Sync and asyncio differ only in `watch_sync` and `watch_async`.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import grpc

from drain._grpc.inflight import IGNORED_SERVICES, Ledger

Begin: TypeAlias = Callable[[], None]
End: TypeAlias = Callable[..., None]
Watch: TypeAlias = Callable[[Callable[..., Any], bool, Begin, End], Callable[..., Any]]
Guard: TypeAlias = Callable[[Callable[..., Any], str], Callable[..., Any]]

_ARITY = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}
# A generic handler may make a new handler object for any name a client sends: what is kept for them is bounded.
_MOST_METHODS = 1000


def watch_sync(behavior: Callable[..., Any], streams: bool, begin: Begin, end: End) -> Callable[..., Any]:
    """`behavior` of grpc.server, counted. functools.wraps keeps grpc's experimental_* attributes on it."""

    @functools.wraps(behavior)
    def counted(argument: Any, context: Any, *rest: Any) -> Any:
        begin()
        if not context.add_callback(end):  # already terminated: nobody would call us back
            end()
        return behavior(argument, context, *rest)

    return counted


def watch_async(behavior: Callable[..., Any], streams: bool, begin: Begin, end: End) -> Callable[..., Any]:
    """`behavior` of grpc.aio.server, counted. grpc.aio asks `inspect` what kind of function it is: so the kind is kept."""
    if inspect.isasyncgenfunction(behavior):

        @functools.wraps(behavior)
        async def generated(argument: Any, context: Any) -> Any:
            begin()
            context.add_done_callback(end)
            responses = behavior(argument, context)
            try:
                async for response in responses:
                    yield response
            finally:
                await responses.aclose()

        return generated
    if inspect.iscoroutinefunction(behavior):

        @functools.wraps(behavior)
        async def awaited(argument: Any, context: Any) -> Any:
            begin()
            context.add_done_callback(end)
            return await behavior(argument, context)

        return awaited
    return _watch_migrated(behavior, streams, begin, end)


def _watch_migrated(behavior: Callable[..., Any], streams: bool, begin: Begin, end: End) -> Callable[..., Any]:
    """A plain function on grpc.aio's migration thread pool. Its context calls nobody back when a call fails: so we look."""

    @functools.wraps(behavior)
    def returned(argument: Any, context: Any) -> Any:
        begin()
        try:
            return behavior(argument, context)
        finally:
            end()

    @functools.wraps(behavior)
    def yielded(argument: Any, context: Any) -> Any:
        begin()
        try:
            yield from behavior(argument, context)
        finally:
            end()

    return yielded if streams else returned


class Watched:
    """Replaces handlers by counted ones. One per server; `watch` is `watch_sync` or `watch_async`.

    `guard`, where given, wraps the behaviour of every streaming method before it is counted (see streams.py).
    """

    def __init__(self, ledger: Ledger, watch: Watch, guard: Guard | None = None) -> None:
        self._ledger, self._watch, self._guard = ledger, watch, guard

    def method(self, name: str, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """The counted twin of one method's handler. `name` is the full one, "/package.Service/Method"."""
        attribute, make = _ARITY[bool(handler.request_streaming), bool(handler.response_streaming)]
        behavior = getattr(handler, attribute)
        if self._guard is not None and attribute != "unary_unary" and not name.startswith(IGNORED_SERVICES):
            behavior = self._guard(behavior, attribute)
        begin, end = self._ledger.entry(name)
        counted = self._watch(behavior, bool(handler.response_streaming), begin, end)
        return make(counted, handler.request_deserializer, handler.response_serializer)

    def registered(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler]
    ) -> dict[str, grpc.RpcMethodHandler]:
        """Counted twins of what generated code hands to `add_registered_method_handlers`."""
        return {method: self.method(f"/{service}/{method}", handler) for method, handler in handlers.items()}

    def generic(self, handlers: Iterable[grpc.GenericRpcHandler]) -> list[grpc.GenericRpcHandler]:
        """Counted twins of generic handlers."""
        return [_Generic(handler, self) for handler in handlers]


class _Generic(grpc.GenericRpcHandler):
    """Asks the user's generic handler, and hands out the counted twin of what it says; the same twin for the same handler."""

    def __init__(self, handler: grpc.GenericRpcHandler, watched: Watched) -> None:
        self._handler, self._watched = handler, watched
        self._twins: dict[str, tuple[grpc.RpcMethodHandler, grpc.RpcMethodHandler]] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        found = self._handler.service(handler_call_details)
        if found is None:
            return None
        name = handler_call_details.method
        known = self._twins.get(name)
        if known is not None and known[0] is found:
            return known[1]
        twin = self._watched.method(name, found)
        if len(self._twins) < _MOST_METHODS:
            self._twins[name] = (found, twin)
        return twin
