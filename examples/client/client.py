"""A client that follows a service's endpoints, and tells each second who answered.

    python -m examples.client.client [TARGET] [--rate 100] [--duration 10]

Until SIGTERM (or Ctrl-C), or as long as --duration says. aio_client.py is the same for asyncio. TARGET is $TARGET, or else
kubernetes:///greeter:50051, which needs the Role in examples/manifests/client.yaml.
"""

import drain  # before grpc  # isort: skip
import argparse
import os
import signal
import threading
import time
from concurrent import futures

import grpc

from examples.client.tally import Tally
from examples.greeter import greeter_pb2, greeter_pb2_grpc

CALLERS = 8
ENDS = {signal.SIGTERM, signal.SIGINT}


def call(channel: grpc.Channel, tally: Tally, interval: float, stop: threading.Event) -> None:
    """One caller: a call each `interval` seconds."""
    greeter = greeter_pb2_grpc.GreeterStub(channel)
    due = time.monotonic()
    while not stop.wait(max(0.0, due - time.monotonic())):
        due += interval
        try:
            tally.answered(greeter.SayHello(greeter_pb2.HelloRequest(name="you"), timeout=5).pod)
        except grpc.RpcError as error:
            tally.failed(error)


def main() -> None:
    """Call, and tell."""
    parser = argparse.ArgumentParser(prog="python -m examples.client.client")
    parser.add_argument("target", nargs="?", default=os.environ.get("TARGET", "kubernetes:///greeter:50051"))
    parser.add_argument("--rate", type=float, default=os.environ.get("RATE", "100"), help="calls per second")
    parser.add_argument("--duration", type=float, default=float("inf"), help="seconds; without it, until SIGTERM")
    arguments = parser.parse_args()

    signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)  # before there are threads: sigtimedwait below takes them
    tally, stop = Tally(), threading.Event()
    until = time.monotonic() + arguments.duration
    with drain.insecure_channel(arguments.target) as channel, futures.ThreadPoolExecutor(CALLERS) as callers:
        for _ in range(CALLERS):
            callers.submit(call, channel, tally, CALLERS / arguments.rate, stop)
        while time.monotonic() < until and signal.sigtimedwait(ENDS, 1.0) is None:
            tally.tell()
        stop.set()
    tally.end()  # leaving the block waited for the last calls


if __name__ == "__main__":
    main()
