"""Every handler that is registered with a server passes through here, so that its calls are counted, and streams can be ended.

The user's handler object is replaced by one of the same shape whose behaviour notes the beginning and the end of the call,
and else is the user's own. What a synchronous stream yields is not touched; an asyncio generator is passed on message by message.
Sync and asyncio differ only in `watch_sync` and `watch_async`.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import grpc

from drain._grpc.home import CURRENT, Home, enter
from drain._grpc.inflight import IGNORED_SERVICES, MOST_METHODS, Entry, Ledger

Watch: TypeAlias = Callable[[Callable[..., Any], bool, Entry, Home], Callable[..., Any]]
Guard: TypeAlias = Callable[[Callable[..., Any], str], Callable[..., Any]]

_ARITY = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


def watch_sync(behavior: Callable[..., Any], streams: bool, entry: Entry, home: Home) -> Callable[..., Any]:
    """`behavior` of grpc.server, counted. functools.wraps keeps grpc's experimental_* attributes on it."""

    @functools.wraps(behavior)
    def returned(argument: Any, context: Any) -> Any:
        entry.begin()
        try:
            enter(context, home)
            return behavior(argument, context)
        finally:
            entry.end()

    @functools.wraps(behavior)
    def streamed(argument: Any, context: Any, *rest: Any) -> Any:  # what it returns is still to be iterated
        entry.begin()
        if not context.add_callback(entry.end):  # already terminated: nobody would call us back
            entry.end()
        enter(context, home)
        return behavior(argument, context, *rest)

    return streamed if streams else returned


def watch_async(behavior: Callable[..., Any], streams: bool, entry: Entry, home: Home) -> Callable[..., Any]:
    """`behavior` of grpc.aio.server, counted. grpc.aio asks `inspect` what kind of function it is: so the kind is kept."""
    if inspect.isasyncgenfunction(behavior):

        @functools.wraps(behavior)
        async def generated(argument: Any, context: Any) -> Any:
            entry.begin()
            CURRENT.set(home)
            responses = behavior(argument, context)
            try:
                async for response in responses:
                    yield response
            finally:
                entry.end()
                await responses.aclose()

        return generated
    if inspect.iscoroutinefunction(behavior):

        @functools.wraps(behavior)
        async def awaited(argument: Any, context: Any) -> Any:
            entry.begin()
            CURRENT.set(home)
            try:
                return await behavior(argument, context)
            finally:
                entry.end()

        return awaited

    @functools.wraps(behavior)
    def yielded(argument: Any, context: Any) -> Any:  # a plain generator, on the migration thread pool
        entry.begin()
        try:
            enter(context, home)
            yield from behavior(argument, context)
        finally:
            entry.end()

    return yielded if streams else watch_sync(behavior, False, entry, home)


class Watched:
    """Replaces handlers by counted ones. One per server; `watch` is `watch_sync` or `watch_async`.

    `guard`, where given, wraps the behaviour of every streaming method before it is counted (see streams.py); `report`, where
    given, that of every method (see load_report.py). `home` is what handlers may know of their server (see home.py).
    """

    def __init__(
        self, ledger: Ledger, watch: Watch, home: Home, guard: Guard | None = None, report: Guard | None = None
    ) -> None:
        self._ledger, self._watch, self._home, self._guard, self._report = ledger, watch, home, guard, report

    def method(self, name: str, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """The counted twin of one method's handler. `name` is the full one, "/package.Service/Method"."""
        attribute, make = _ARITY[bool(handler.request_streaming), bool(handler.response_streaming)]
        behavior = getattr(handler, attribute)
        if not name.startswith(IGNORED_SERVICES):
            if self._guard is not None and attribute != "unary_unary":
                behavior = self._guard(behavior, attribute)
            if self._report is not None:
                behavior = self._report(behavior, attribute)
        entry = self._ledger.entry(name, streams=attribute != "unary_unary")
        counted = self._watch(behavior, bool(handler.response_streaming), entry, self._home)
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
        if len(self._twins) < MOST_METHODS:
            self._twins[name] = (found, twin)
        return twin
