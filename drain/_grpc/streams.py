"""Ending streams in good order: UNAVAILABLE and a `drain-reason` trailer, so that clients reconnect elsewhere.

Only where `DrainPolicy.stream_grace` is set are streaming handlers wrapped, so without it a message costs nothing. An asyncio
handler is interrupted where it awaits; its `finally` blocks run. A thread cannot be interrupted: a synchronous handler's status
is sent in its place (`server_state.py`), and to the handler it is as if its client had cancelled: its next read or yield ends it.
"""

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc

from drain._grpc.server_state import send_status

DETAILS = "the server is draining: reconnect elsewhere"
TRAILER = "drain-reason"


class SyncGuard:
    """Wraps streaming behaviours of grpc.server; `end(reason)` ends them all. Thread safe."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._reason = ""
        self._open: dict[int, Any] = {}  # contexts by id: an interceptor's may not be hashable

    def end(self, reason: str) -> None:
        """End every stream now, and those that begin later as well."""
        self._reason = reason
        self._ended.set()
        for context in list(self._open.values()):
            send_status(context, _Ended(reason))

    def __call__(self, behavior: Callable[..., Any], arity: str) -> Callable[..., Any]:
        """`behavior` whose calls are known, and whose request and response iterators look whether the end has come."""

        @functools.wraps(behavior)
        def guarded(argument: Any, context: Any, *rest: Any) -> Any:
            self._open[id(context)] = context
            if not context.add_callback(functools.partial(self._open.pop, id(context), None)):  # its client has gone
                self._open.pop(id(context), None)
            if arity.startswith("stream"):
                argument = self._until_end(argument, context)
            answer = behavior(argument, context, *rest)
            return self._until_end(answer, context) if arity.endswith("stream") and answer is not None else answer

        return guarded

    def _until_end(self, messages: Iterator[Any], context: Any) -> Iterator[Any]:
        try:
            for message in messages:
                if self._ended.is_set():
                    context.abort_with_status(_Ended(self._reason))
                yield message
        except grpc.RpcError as error:
            if not self._ended.is_set():
                raise
            # grpc keeps the error, and with its trace the call: until the collector came by, the connection would stay open.
            error.__traceback__ = None
            context.abort_with_status(_Ended(self._reason))


class _Ended(grpc.Status):
    def __init__(self, reason: str) -> None:
        self.code = grpc.StatusCode.UNAVAILABLE
        self.details = DETAILS
        self.trailing_metadata = ((TRAILER, reason),)


class AsyncGuard:
    """Wraps streaming behaviours of grpc.aio.server; `end(reason)` ends them all. Call it on the server's loop."""

    def __init__(self) -> None:
        self._stretches: set[_Stretch] = set()
        self.reason: str | None = None

    def end(self, reason: str) -> None:
        """Interrupt every stream where its handler awaits; one that is just being written to its client ends when it goes on."""
        self.reason = reason
        for stretch in list(self._stretches):
            stretch.interrupt()

    def __call__(self, behavior: Callable[..., Any], arity: str) -> Callable[..., Any]:
        """`behavior` of the same kind that turns our interruption into the status. Plain functions are left alone."""
        if inspect.isasyncgenfunction(behavior):

            @functools.wraps(behavior)
            async def generated(argument: Any, context: Any) -> AsyncIterator[Any]:
                responses = behavior(argument, context)
                try:
                    while True:
                        # Between two responses grpc writes to the client, on this very task: to interrupt that would leave the
                        # call without a status. So only the handler's own steps are stretches.
                        async with _Stretch(self, context):
                            try:
                                response = await anext(responses)
                            except StopAsyncIteration:
                                return
                        yield response
                finally:
                    await responses.aclose()

            return generated
        if inspect.iscoroutinefunction(behavior):

            @functools.wraps(behavior)
            async def awaited(argument: Any, context: Any) -> Any:
                async with _Stretch(self, context):
                    return await behavior(argument, context)

            return awaited
        return behavior


class _Stretch:
    """The stretch of a handler in which it may be interrupted; its own cancellation by the client passes through."""

    def __init__(self, guard: AsyncGuard, context: Any) -> None:
        self._guard, self._context = guard, context
        self._interrupted = False

    def interrupt(self) -> None:
        """Wake the handler where it awaits."""
        self._interrupted = True
        self._task.cancel()

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # grpc.aio runs every handler as a task
        self._task = task
        if self._guard.reason is not None:
            await self._abort()
        self._guard._stretches.add(self)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._guard._stretches.discard(self)
        if self._interrupted and kind is asyncio.CancelledError:
            self._task.uncancel()
            await self._abort()

    async def _abort(self) -> None:
        trailer = ((TRAILER, self._guard.reason or ""),)
        await self._context.abort(grpc.StatusCode.UNAVAILABLE, DETAILS, trailer)
