"""A client whose stream outlives the server that it began on: no message is lost.

    python -m examples.streaming.client [TARGET] [--messages 100] [--pause 0.1]

It keeps each message until its reply is there. A stream that ends before is opened again, on another server, and begins with the
first message that has no reply yet. (So a server may see a message twice.) aio_client.py is the same for asyncio.
"""

import drain  # before grpc  # isort: skip
import argparse
import os
import sys
import time
from collections import deque
from collections.abc import Iterator

import grpc

from examples.greeter import greeter_pb2, greeter_pb2_grpc

MOST_FRUITLESS = 100  # streams in a row that bring no reply
BETWEEN = 0.1  # seconds, so that they do not follow each other in no time


def spoken(names: list[str], pause: float) -> Iterator[greeter_pb2.HelloRequest]:
    """Messages with these names, one after the other."""
    for number, name in enumerate(names):
        time.sleep(pause if number else 0)
        yield greeter_pb2.HelloRequest(name=name)


def ending(error: grpc.RpcError) -> str:
    """Why a stream broke off, if it is worth going on elsewhere; otherwise the error is raised again."""
    if error.code() is not grpc.StatusCode.UNAVAILABLE:
        raise error
    reason = next((value for key, value in error.trailing_metadata() or () if key == "drain-reason"), None)
    return f"UNAVAILABLE, drain-reason: {reason}" if reason else f"UNAVAILABLE: {error.details()}"


def chat(greeter: greeter_pb2_grpc.GreeterStub, names: list[str], pause: float) -> None:
    """Say all of them, on as many streams as it takes."""
    unanswered, fruitless = deque(names), 0
    while unanswered:
        before, pod, why = len(unanswered), "nobody", "the server ended the stream"
        try:
            for reply in greeter.Chat(spoken(list(unanswered), pause)):
                assert reply.message == f"Hello, {unanswered.popleft()}!"
                if pod != reply.pod:
                    pod = reply.pod
                    print(f"{pod} answers", flush=True)
        except grpc.RpcError as error:
            why = ending(error)
        answered = before - len(unanswered)
        print(f"{pod} answered {answered}, {len(unanswered)} to go" + (f": {why}" if unanswered else ""), flush=True)
        fruitless = 0 if answered else fruitless + 1
        if fruitless == MOST_FRUITLESS:
            sys.exit("nobody answers any more")
        time.sleep(BETWEEN if unanswered else 0)


def main() -> None:
    """Chat, and count."""
    parser = argparse.ArgumentParser(prog="python -m examples.streaming.client")
    parser.add_argument("target", nargs="?", default=os.environ.get("TARGET", "kubernetes:///greeter:50051"))
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds from one message to the next")
    arguments = parser.parse_args()
    names = [str(number) for number in range(arguments.messages)]
    with drain.insecure_channel(arguments.target) as channel:
        chat(greeter_pb2_grpc.GreeterStub(channel), names, arguments.pause)
    print(f"all of {len(names)} messages were answered", flush=True)


if __name__ == "__main__":
    main()
