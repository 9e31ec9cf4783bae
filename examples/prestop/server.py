"""A server that knows nothing of drain, as grpc's own documentation has it: SIGTERM is `server.stop(grace)`.

python -m examples.prestop.server [--address 127.0.0.1:50051]
"""

import argparse
import os
import signal
import socket
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from examples.greeter import greeter_pb2, greeter_pb2_grpc

GRACE = 10.0
POD = os.environ.get("POD_NAME") or socket.gethostname()


class Greeter(greeter_pb2_grpc.GreeterServicer):
    """Says hello."""

    def SayHello(self, request: greeter_pb2.HelloRequest, context: grpc.ServicerContext) -> greeter_pb2.HelloReply:
        return greeter_pb2.HelloReply(message=f"Hello, {request.name}!", pod=POD)


def main() -> None:
    """Serve until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # in all threads to come: sigwait below takes it
    parser = argparse.ArgumentParser(prog="python -m examples.prestop.server")
    parser.add_argument("--address", default=os.environ.get("ADDRESS", "[::]:50051"))
    server = grpc.server(futures.ThreadPoolExecutor(32))
    greeter_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
    healthy = health.HealthServicer()
    healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    server.add_insecure_port(parser.parse_args().address)
    server.start()
    signal.sigwait({signal.SIGTERM})
    server.stop(GRACE).wait()


if __name__ == "__main__":
    main()
