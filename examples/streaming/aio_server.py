"""The asyncio twin of server.py.

python -m examples.streaming.aio_server [--address 127.0.0.1:50051]
"""

import drain  # before grpc  # isort: skip
import argparse
import asyncio
import logging
import os
from collections.abc import AsyncIterator

import grpc.aio

from examples.greeter import greeter_pb2, greeter_pb2_grpc
from examples.greeter.aio_server import POD


class Chatting(greeter_pb2_grpc.GreeterServicer):
    """Answers, until its client has had enough or the server leaves."""

    async def Chat(
        self, requests: AsyncIterator[greeter_pb2.HelloRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[greeter_pb2.HelloReply]:
        draining = drain.aio.draining(context)
        async for request in requests:
            yield greeter_pb2.HelloReply(message=f"Hello, {request.name}!", pod=POD)
            if draining.is_set():
                return  # between two messages: nothing is half done


async def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m examples.streaming.aio_server")
    parser.add_argument("--address", default=os.environ.get("ADDRESS", "[::]:50051"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    server = drain.aio.server(policy=drain.DrainPolicy(stream_grace=1))
    greeter_pb2_grpc.add_GreeterServicer_to_server(Chatting(), server)
    server.add_insecure_port(arguments.address)
    print(await server.run(), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
