"""The asyncio twin of server.py.

python -m examples.greeter.aio_server [--address 127.0.0.1:50051]
"""

import drain  # before grpc  # isort: skip
import argparse
import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator

import grpc.aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

from examples.greeter import greeter_pb2, greeter_pb2_grpc

SERVICE = greeter_pb2.DESCRIPTOR.services_by_name["Greeter"].full_name
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
POD = os.environ.get("DRAIN_POD_NAME") or socket.gethostname()


class Greeter(greeter_pb2_grpc.GreeterServicer):
    """What a greeter does; nothing in it knows of drain."""

    def __init__(self, work: float) -> None:
        self._work = work

    async def SayHello(
        self, request: greeter_pb2.HelloRequest, context: grpc.aio.ServicerContext
    ) -> greeter_pb2.HelloReply:
        await asyncio.sleep(self._work)
        return greeter_pb2.HelloReply(message=f"Hello, {request.name}!", pod=POD)

    async def Chat(
        self, requests: AsyncIterator[greeter_pb2.HelloRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[greeter_pb2.HelloReply]:
        async for request in requests:
            yield await self.SayHello(request, context)


async def main() -> None:
    """Serve until SIGTERM (or Ctrl-C), leave without failing a call, and tell what it cost."""
    parser = argparse.ArgumentParser(prog="python -m examples.greeter.aio_server")
    parser.add_argument("--address", default=os.environ.get("ADDRESS", "[::]:50051"))
    parser.add_argument("--work", type=float, default=os.environ.get("WORK", "0"), help="seconds that a reply takes")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")  # to stderr, line by line

    server = drain.aio.server()
    greeter_pb2_grpc.add_GreeterServicer_to_server(Greeter(arguments.work), server)
    reflection.enable_server_reflection((SERVICE, HEALTH, reflection.SERVICE_NAME), server)
    await server.health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)  # "" and "liveness" are there anyway
    server.add_insecure_port(arguments.address)
    print((await server.run()).text(), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
