"""The service of the demo's servers, sync and asyncio: a unary method and a server stream that answer their name."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import grpc
import grpc.aio

SERVICE = "drain.demo.Echo"
WORK = 0.003  # seconds a unary call takes
BETWEEN = 0.025  # seconds between two messages of a stream


def handler(name: str) -> grpc.GenericRpcHandler:
    """For `grpc.server`. The request of a stream says how many messages it wants."""
    answer = name.encode()

    def unary(request: bytes, context: grpc.ServicerContext) -> bytes:
        time.sleep(WORK)
        return answer

    def stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for _ in range(int(request)):
            time.sleep(BETWEEN)
            yield answer

    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Stream": grpc.unary_stream_rpc_method_handler(stream),
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def aio_handler(name: str) -> grpc.GenericRpcHandler:
    """The same for `grpc.aio.server`."""
    answer = name.encode()

    async def unary(request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        await asyncio.sleep(WORK)
        return answer

    async def stream(request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> AsyncIterator[bytes]:
        for _ in range(int(request)):
            await asyncio.sleep(BETWEEN)
            yield answer

    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Stream": grpc.unary_stream_rpc_method_handler(stream),
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)
