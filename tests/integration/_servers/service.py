"""The service of the scenarios, sync and asyncio: each method is one way in which a call can go.

Requests and answers are bytes. `tell(name)` is called when a call that takes its time has begun.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from drain._demo import echo

NAME = "drain.test.Scenes"
ON_PURPOSE = "on purpose"


def path(method: str) -> str:
    """Full name of a method."""
    return f"/{NAME}/{method}"


class Service:
    """Behaviours by method; those whose names are the same in both flavours behave the same.

    `server` is set by whoever serves it: `Until` looks at its `draining`, `Leave` drains it from within a call.
    """

    def __init__(self, tell: Callable[[str], object] = lambda what: None) -> None:
        self.tell = tell
        self.release = threading.Event()
        self.server: Any = None

    def handlers(self, flavour: str) -> dict[str, grpc.RpcMethodHandler]:
        """Method handlers, as generated code would make them."""
        behaviours = _Sync(self) if flavour == "sync" else _Async(self)
        made = {
            name: _ARITY.get(name, grpc.unary_unary_rpc_method_handler)(getattr(behaviours, name)) for name in _BOTH
        }
        if flavour == "aio":
            plain = _Sync(self)
            made["PlainEcho"] = grpc.unary_unary_rpc_method_handler(plain.Echo)
            made["PlainCount"] = grpc.unary_stream_rpc_method_handler(plain.Count)
            made["PlainRaise"] = grpc.unary_unary_rpc_method_handler(plain.Raise)
            made["PlainLeave"] = grpc.unary_unary_rpc_method_handler(plain.Leave)
            made["Written"] = grpc.unary_stream_rpc_method_handler(behaviours.Written)  # type: ignore[union-attr]
        return made

    def generic(self, flavour: str, name: str = "server") -> list[grpc.GenericRpcHandler]:
        """As generic handlers, and the demo's echo service beside them, for its callers."""
        demo = echo.handler(name) if flavour == "sync" else echo.aio_handler(name)
        return [grpc.method_handlers_generic_handler(NAME, self.handlers(flavour)), demo]


_BOTH = (
    "Echo",
    "Sleep",
    "Wait",
    "Hang",
    "Count",
    "Until",
    "Collect",
    "Chat",
    "Abort",
    "Raise",
    "AbortLater",
    "Leave",
    "Flood",
)
_ARITY = {
    "Count": grpc.unary_stream_rpc_method_handler,
    "Until": grpc.unary_stream_rpc_method_handler,
    "AbortLater": grpc.unary_stream_rpc_method_handler,
    "Flood": grpc.unary_stream_rpc_method_handler,
    "Collect": grpc.stream_unary_rpc_method_handler,
    "Chat": grpc.stream_stream_rpc_method_handler,
}
_MEBIBYTE = b"x" * (1 << 20)


class _Sync:
    def __init__(self, service: Service) -> None:
        self._service = service

    def Echo(self, request: bytes, context: Any) -> bytes:
        return request

    def Sleep(self, request: bytes, context: Any) -> bytes:
        self._service.tell("Sleep")
        time.sleep(float(request))
        return request

    def Wait(self, request: bytes, context: Any) -> bytes:
        """Until `release` is set."""
        self._service.tell("Wait")
        self._service.release.wait(60)
        return request

    def Hang(self, request: bytes, context: Any) -> bytes:
        self._service.tell("Hang")
        self._service.release.wait(60)
        return request

    def Count(self, request: bytes, context: Any) -> Iterator[bytes]:
        """Request: how many messages."""
        self._service.tell("Count")
        for number in range(int(request)):
            yield b"%d" % number
            time.sleep(0.02)

    def Until(self, request: bytes, context: Any) -> Iterator[bytes]:
        """Messages until the server drains."""
        self._service.tell("Until")
        while not self._service.server.draining.wait(0.02):
            yield b"tick"
        yield b"bye"

    def Collect(self, requests: Iterator[bytes], context: Any) -> bytes:
        self._service.tell("Collect")
        return b" ".join(requests)

    def Chat(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        self._service.tell("Chat")
        yield from requests

    def Abort(self, request: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, ON_PURPOSE)
        return b""

    def Raise(self, request: bytes, context: Any) -> bytes:
        raise LookupError(ON_PURPOSE)

    def AbortLater(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield b"first"
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, ON_PURPOSE)

    def Leave(self, request: bytes, context: Any) -> bytes:
        """A call that begins the drain."""
        self._service.server.drain("asked by a call")
        return request

    def Flood(self, request: bytes, context: Any) -> Iterator[bytes]:
        """More than fits into the connection: who does not read holds us up."""
        self._service.tell("Flood")
        while True:
            yield _MEBIBYTE


class _Async:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def Echo(self, request: bytes, context: Any) -> bytes:
        return request

    async def Sleep(self, request: bytes, context: Any) -> bytes:
        self._service.tell("Sleep")
        await asyncio.sleep(float(request))
        return request

    async def Wait(self, request: bytes, context: Any) -> bytes:
        self._service.tell("Wait")
        while not self._service.release.is_set():
            await asyncio.sleep(0.01)
        return request

    async def Hang(self, request: bytes, context: Any) -> bytes:
        """Does not even listen to its cancellation."""
        self._service.tell("Hang")
        while not self._service.release.is_set():
            try:
                await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                continue
        return request

    async def Count(self, request: bytes, context: Any) -> Any:
        self._service.tell("Count")
        for number in range(int(request)):
            yield b"%d" % number
            await asyncio.sleep(0.02)

    async def Until(self, request: bytes, context: Any) -> Any:
        self._service.tell("Until")
        while not self._service.server.draining.is_set():
            yield b"tick"
            await asyncio.sleep(0.02)
        yield b"bye"

    async def Collect(self, requests: Any, context: Any) -> bytes:
        self._service.tell("Collect")
        return b" ".join([request async for request in requests])

    async def Chat(self, requests: Any, context: Any) -> Any:
        self._service.tell("Chat")
        async for request in requests:
            yield request

    async def Abort(self, request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, ON_PURPOSE)
        return b""

    async def Raise(self, request: bytes, context: Any) -> bytes:
        raise LookupError(ON_PURPOSE)

    async def AbortLater(self, request: bytes, context: Any) -> Any:
        yield b"first"
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, ON_PURPOSE)

    async def Leave(self, request: bytes, context: Any) -> bytes:
        self._service.server.drain("asked by a call")
        return request

    async def Flood(self, request: bytes, context: Any) -> Any:
        self._service.tell("Flood")
        while True:
            yield _MEBIBYTE

    async def Written(self, request: bytes, context: Any) -> None:
        """The other way to stream in grpc.aio: no generator, but `context.write`."""
        for number in range(int(request)):
            await context.write(b"%d" % number)
