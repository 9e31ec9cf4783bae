"""The service of the bench's servers: a unary method that works as long as it is told to, and a server stream."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc

from drain._demo import pipe

SERVICE = "drain.bench.Bench"
UNARY = f"/{SERVICE}/Unary"
STREAM = f"/{SERVICE}/Stream"
MESSAGES = 8  # in one stream
BETWEEN = 0.025  # seconds between two of them
SLOW = 0.1  # seconds of work from which on beginning and end of a call are told

Handlers = dict[str, grpc.RpcMethodHandler]


def handlers(name: str) -> Handlers:
    """For grpc.server. A unary request says how many seconds to work: nothing is none; the answer is the server's name."""
    answer = name.encode()

    def unary(request: bytes, context: Any) -> bytes:
        if request:
            _tell("begun", request)
            time.sleep(float(request))
            _tell("answered", request)
        return answer

    def stream(request: bytes, context: Any) -> Iterator[bytes]:
        for _ in range(int(request)):
            time.sleep(BETWEEN)
            yield answer

    return _methods(unary, stream)


def aio_handlers(name: str) -> Handlers:
    """The same for grpc.aio.server."""
    answer = name.encode()

    async def unary(request: bytes, context: Any) -> bytes:
        if request:
            _tell("begun", request)
            await asyncio.sleep(float(request))
            _tell("answered", request)
        return answer

    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for _ in range(int(request)):
            await asyncio.sleep(BETWEEN)
            yield answer

    return _methods(unary, stream)


def add_to_server(methods: Handlers, server: Any) -> None:
    """As generated code does it."""
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    server.add_registered_method_handlers(SERVICE, methods)


def _methods(unary: Callable[..., Any], stream: Callable[..., Any]) -> Handlers:
    return {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Stream": grpc.unary_stream_rpc_method_handler(stream),
    }


def _tell(what: str, work: bytes) -> None:
    if float(work) >= SLOW:
        pipe.emit(what, at=time.monotonic())
