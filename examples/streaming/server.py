"""A server whose streams would never end, and yet it can leave.

    python -m examples.streaming.server [--address 127.0.0.1:50051]

A handler that is told of the drain ends its stream where it suits it. Those that say nothing (this one waits for its client) are
ended after `stream_grace`: UNAVAILABLE, and a trailer `drain-reason`. aio_server.py is the same for asyncio.
"""

import drain  # before grpc  # isort: skip
import argparse
import logging
import os
from collections.abc import Iterator
from concurrent import futures

import grpc

from examples.greeter import greeter_pb2, greeter_pb2_grpc
from examples.greeter.server import POD


class Chatting(greeter_pb2_grpc.GreeterServicer):
    """Answers, until its client has had enough or the server leaves."""

    def Chat(
        self, requests: Iterator[greeter_pb2.HelloRequest], context: grpc.ServicerContext
    ) -> Iterator[greeter_pb2.HelloReply]:
        draining = drain.draining(context)
        for request in requests:
            yield greeter_pb2.HelloReply(message=f"Hello, {request.name}!", pod=POD)
            if draining.is_set():
                return  # between two messages: nothing is half done


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m examples.streaming.server")
    parser.add_argument("--address", default=os.environ.get("ADDRESS", "[::]:50051"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    # Each open stream of a synchronous server has a thread of its own.
    server = drain.server(futures.ThreadPoolExecutor(64), policy=drain.DrainPolicy(stream_grace=1))
    greeter_pb2_grpc.add_GreeterServicer_to_server(Chatting(), server)
    server.add_insecure_port(arguments.address)
    print(server.run(), flush=True)


if __name__ == "__main__":
    main()
