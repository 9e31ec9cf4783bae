"""The asyncio twin of client.py.

python -m examples.client.aio_client [TARGET] [--rate 100] [--duration 10]
"""

import drain  # before grpc  # isort: skip
import argparse
import asyncio
import contextlib
import os
import signal

import grpc.aio

from examples.client.tally import Tally
from examples.greeter import greeter_pb2, greeter_pb2_grpc


async def call(greeter: greeter_pb2_grpc.GreeterStub, tally: Tally) -> None:
    """One call."""
    try:
        tally.answered((await greeter.SayHello(greeter_pb2.HelloRequest(name="you"), timeout=5)).pod)
    except grpc.aio.AioRpcError as error:
        tally.failed(error)


async def tell(tally: Tally) -> None:
    """Each second, until cancelled."""
    while True:
        await asyncio.sleep(1)
        tally.tell()


async def main() -> None:
    """Call, and tell."""
    parser = argparse.ArgumentParser(prog="python -m examples.client.aio_client")
    parser.add_argument("target", nargs="?", default=os.environ.get("TARGET", "kubernetes:///greeter:50051"))
    parser.add_argument("--rate", type=float, default=os.environ.get("RATE", "100"), help="calls per second")
    parser.add_argument("--duration", type=float, default=float("inf"), help="seconds; without it, until SIGTERM")
    arguments = parser.parse_args()

    tally, stop, loop = Tally(), asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    due = loop.time()
    until = due + arguments.duration
    async with drain.aio.insecure_channel(arguments.target) as channel, asyncio.TaskGroup() as calls:
        greeter = greeter_pb2_grpc.GreeterStub(channel)
        telling = calls.create_task(tell(tally))
        while loop.time() < until and not stop.is_set():
            calls.create_task(call(greeter, tally))
            due += 1 / arguments.rate
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), max(0.0, due - loop.time()))
        telling.cancel()
    tally.end()  # leaving the block waited for the last calls


if __name__ == "__main__":
    asyncio.run(main())
