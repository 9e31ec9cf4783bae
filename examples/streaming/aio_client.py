"""The asyncio twin of client.py.

python -m examples.streaming.aio_client [TARGET] [--messages 100] [--pause 0.1]
"""

import drain  # before grpc  # isort: skip
import argparse
import asyncio
import os
import sys
from collections import deque
from collections.abc import AsyncIterator

import grpc.aio

from examples.greeter import greeter_pb2, greeter_pb2_grpc

MOST_FRUITLESS = 100  # streams in a row that bring no reply
BETWEEN = 0.1  # seconds, so that they do not follow each other in no time


async def spoken(names: list[str], pause: float) -> AsyncIterator[greeter_pb2.HelloRequest]:
    """Messages with these names, one after the other."""
    for number, name in enumerate(names):
        await asyncio.sleep(pause if number else 0)
        yield greeter_pb2.HelloRequest(name=name)


def ending(error: grpc.aio.AioRpcError) -> str:
    """Why a stream broke off, if it is worth going on elsewhere; otherwise the error is raised again."""
    if error.code() is not grpc.StatusCode.UNAVAILABLE:
        raise error
    reason = next((value for key, value in error.trailing_metadata() or () if key == "drain-reason"), None)
    return f"UNAVAILABLE, drain-reason: {reason}" if reason else f"UNAVAILABLE: {error.details()}"


async def chat(greeter: greeter_pb2_grpc.GreeterStub, names: list[str], pause: float) -> None:
    """Say all of them, on as many streams as it takes."""
    unanswered, fruitless = deque(names), 0
    while unanswered:
        before, pod, why = len(unanswered), "nobody", "the server ended the stream"
        try:
            async for reply in greeter.Chat(spoken(list(unanswered), pause)):
                assert reply.message == f"Hello, {unanswered.popleft()}!"
                if pod != reply.pod:
                    pod = reply.pod
                    print(f"{pod} answers", flush=True)
        except grpc.aio.AioRpcError as error:
            why = ending(error)
        answered = before - len(unanswered)
        print(f"{pod} answered {answered}, {len(unanswered)} to go" + (f": {why}" if unanswered else ""), flush=True)
        fruitless = 0 if answered else fruitless + 1
        if fruitless == MOST_FRUITLESS:
            sys.exit("nobody answers any more")
        await asyncio.sleep(BETWEEN if unanswered else 0)


async def main() -> None:
    """Chat, and count."""
    parser = argparse.ArgumentParser(prog="python -m examples.streaming.aio_client")
    parser.add_argument("target", nargs="?", default=os.environ.get("TARGET", "kubernetes:///greeter:50051"))
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds from one message to the next")
    arguments = parser.parse_args()
    names = [str(number) for number in range(arguments.messages)]
    async with drain.aio.insecure_channel(arguments.target) as channel:
        await chat(greeter_pb2_grpc.GreeterStub(channel), names, arguments.pause)
    print(f"all of {len(names)} messages were answered", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
