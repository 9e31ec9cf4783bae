"""Several processes on one port: the way out of Python's GIL, with an orderly end.

    python -m examples.workers.server [--workers 4] [--address 127.0.0.1:50051]

SIGTERM drains all of them, SIGHUP replaces them one by one. The kernel spreads connections (not calls) over the workers, so a
client with one connection meets one of them. It is the same for asyncio: then `serve` calls `asyncio.run`.
"""

import drain  # before grpc  # isort: skip
import argparse
import logging
import os
from concurrent import futures

import grpc

from examples.greeter import greeter_pb2, greeter_pb2_grpc


class Greeter(greeter_pb2_grpc.GreeterServicer):
    """Says which process it is."""

    def SayHello(self, request: greeter_pb2.HelloRequest, context: grpc.ServicerContext) -> greeter_pb2.HelloReply:
        return greeter_pb2.HelloReply(message=f"Hello, {request.name}!", pod=f"process {os.getpid()}")


def serve(address: str) -> None:
    """One worker: a server as ever, on the address that all of them share."""
    server = drain.server(futures.ThreadPoolExecutor(16))
    greeter_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
    server.add_insecure_port(address)
    server.run()


def main() -> None:
    """Serve until SIGTERM; the joint report goes to stderr."""
    parser = argparse.ArgumentParser(prog="python -m examples.workers.server")
    parser.add_argument("--workers", type=int, help="how many; without it, one for each processor")
    parser.add_argument("--address", default=os.environ.get("ADDRESS", "[::]:50051"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(message)s")
    drain.run_workers(serve, workers=arguments.workers, address=arguments.address)


if __name__ == "__main__":
    main()
