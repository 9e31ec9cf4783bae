"""A client that calls one of several servers a number of times, when it is told to: for `cpu`.

python -m tests.bench._bursts --target 127.0.0.1:50051 --target ...     # orders: "WHICH CALLS TAG"; prints "done"
"""

import argparse
import threading
from concurrent import futures

import grpc

from drain._demo import pipe
from tests.bench._service import UNARY

CONCURRENCY = 4  # calls in flight, on one connection


def main() -> None:
    """Serve orders until the parent is gone."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench._bursts")
    parser.add_argument("--target", action="append", required=True)
    channels = [grpc.insecure_channel(target) for target in parser.parse_args().target]
    methods = [channel.unary_unary(UNARY) for channel in channels]
    pool = futures.ThreadPoolExecutor(CONCURRENCY)

    def call(which: int, calls: int) -> None:
        for _ in range(calls):
            methods[which](b"", timeout=10)

    def take(order: str) -> None:
        which, calls, tag = map(int, order.split())
        for done in [pool.submit(call, which, calls // CONCURRENCY) for _ in range(CONCURRENCY)]:
            done.result()
        pipe.emit("done", tag=tag)

    pipe.obey(take)
    threading.Event().wait()


if __name__ == "__main__":
    main()
