"""Callers that keep books: each half second one JSON line with all that was so far, and the last one when SIGTERM has ended them.

python -m programs.call drain sync kubernetes:///web:50051
python -m programs.call plain aio web:50051 --channels 4      # a client that knows nothing of drain, with grpc's own settings
python -m programs.call drain sync kubernetes:///greeter:grpc --greeter      # the server is the example
"""

import drain  # before grpc  # isort: skip
import argparse
import asyncio
import json
import math
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

import drain.aio

LOAD, GREETER = "/drain.load.Load/Call", "/examples.greeter.v1.Greeter/SayHello"
EVERY = 0.5  # seconds between lines
ROUND_ROBIN = ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}')
STEP = 1.05  # from one bucket of latencies to the next
TOLD = 20  # failures that are told one by one: the last ones
DEADLINE = 15.0


class Call:
    """One call, from its begin."""

    def __init__(self) -> None:
        self.began, self.ticks = time.time(), time.monotonic()
        self.pod = ""

    def answered(self, pod: bytes) -> None:
        """By this one."""
        self.pod = pod.decode()


class Books:
    """All that happened. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pods: Counter[str] = Counter()
        self._first: dict[str, float] = {}
        self._failed: Counter[str] = Counter()
        self._told: deque[dict[str, object]] = deque(maxlen=TOLD)
        self._slowest = 0.0
        self._latency: Counter[int] = Counter()  # bucket n: up to STEP ** n seconds
        self._in_flight: set[Call] = set()

    @contextmanager
    def call(self) -> Iterator[Call]:
        """Around each call: it has `answered`, or a failure goes through here and no further."""
        call = Call()
        with self._lock:
            self._in_flight.add(call)
        try:
            yield call
        except grpc.RpcError as error:
            self._end_failed(call, error)
        else:
            self._end_answered(call)

    def _end_answered(self, call: Call) -> None:
        took = time.monotonic() - call.ticks
        with self._lock:
            self._in_flight.remove(call)
            self._pods[call.pod] += 1
            self._first.setdefault(call.pod, time.time())
            self._slowest = max(self._slowest, took)
            self._latency[math.ceil(math.log(max(took, 1e-6), STEP))] += 1

    def _end_failed(self, call: Call, error: grpc.RpcError) -> None:
        code, details = error.code().name, error.details()[:300]
        told = {"at": time.time(), "took": round(time.monotonic() - call.ticks, 3), "code": code, "details": details}
        with self._lock:
            self._in_flight.remove(call)
            self._failed[code] += 1
            self._told.append(told)

    def line(self, **more: object) -> str:
        """As JSON. `first` and `oldest` (the calls' in flight) are times of day, in seconds."""
        with self._lock:
            calls, failed = self._pods.total(), self._failed.total()
            found = {
                "at": time.time(), "calls": calls + failed, "failed": failed, "codes": self._failed, "pods": self._pods,
                "first": self._first, "told": list(self._told), "slowest": self._slowest, "latency": self._latency,
                "oldest": min((each.began for each in self._in_flight), default=None), **more,
            }  # fmt: skip
            return json.dumps(found)


def options(asked: argparse.Namespace) -> list[tuple[str, Any]]:
    """Each channel has connections of its own; all else is as grpc has it."""
    if asked.kind == "drain":
        return []
    return [("grpc.use_local_subchannel_pool", 1), *([ROUND_ROBIN] if asked.round_robin else [])]


def stubs(asked: argparse.Namespace, channels: list[Any]) -> list[Any]:
    """One for each caller. They take nothing of interest, and answer with the pod's name."""
    if asked.greeter:
        from examples.greeter import greeter_pb2

        method: dict[str, Any] = {"method": GREETER, "request_serializer": lambda _: b""}
        method["response_deserializer"] = lambda reply: greeter_pb2.HelloReply.FromString(reply).pod.encode()
    else:
        method = {"method": LOAD}
    return [channels[number % asked.channels].unary_unary(**method) for number in range(asked.callers)]


def policy(asked: argparse.Namespace) -> drain.ClientPolicy:
    return drain.ClientPolicy(retry=drain.RetryPolicy() if asked.retry else None)


def call_sync(asked: argparse.Namespace, books: Books) -> None:
    end = threading.Event()
    # In all threads to come. A signal just before an Event's wait() would not be looked at until that is over.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def go_on(stub: Any) -> None:
        while not end.is_set():
            with books.call() as call:
                call.answered(stub(b"", timeout=DEADLINE))
            end.wait(asked.pause)

    if asked.kind == "drain":
        channels = [drain.insecure_channel(asked.target, policy=policy(asked)) for _ in range(asked.channels)]
    else:
        channels = [grpc.insecure_channel(asked.target, options=options(asked)) for _ in range(asked.channels)]
    threads = [threading.Thread(target=go_on, args=(stub,)) for stub in stubs(asked, channels)]
    for each in threads:
        each.start()
    while signal.sigtimedwait({signal.SIGTERM}, EVERY) is None:
        print(books.line(), flush=True)
    end.set()
    for each in threads:
        each.join(DEADLINE)
    for channel in channels:
        channel.close()


async def call_aio(asked: argparse.Namespace, books: Books) -> None:
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)

    async def go_on(stub: Any) -> None:
        while not end.is_set():
            with books.call() as call:
                call.answered(await stub(b"", timeout=DEADLINE))
            await asyncio.sleep(asked.pause)

    async def tell() -> None:
        while True:
            await asyncio.sleep(EVERY)
            print(books.line(), flush=True)

    if asked.kind == "drain":
        channels = [drain.aio.insecure_channel(asked.target, policy=policy(asked)) for _ in range(asked.channels)]
    else:
        channels = [grpc.aio.insecure_channel(asked.target, options=options(asked)) for _ in range(asked.channels)]
    telling = asyncio.create_task(tell())
    await asyncio.gather(*(go_on(stub) for stub in stubs(asked, channels)))
    telling.cancel()
    for channel in channels:
        await channel.close()


def main() -> None:
    """Call until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("drain", "plain"))
    parser.add_argument("flavour", choices=("sync", "aio"))
    parser.add_argument("target")
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.03, help="seconds between one caller's calls")
    parser.add_argument("--greeter", action="store_true", help="call examples.greeter's server")
    parser.add_argument(
        "--round-robin", action="store_true", help="for plain channels: over all addresses of a dns:/// target"
    )
    parser.add_argument("--retry", action="store_true", help="for drain's channels")
    asked = parser.parse_args()
    books = Books()
    if asked.flavour == "sync":
        call_sync(asked, books)
    else:
        asyncio.run(call_aio(asked, books))
    print(books.line(final=True), flush=True)


if __name__ == "__main__":
    main()
