"""A client of the client's benches: `drain.insecure_channel`, its asyncio twin, or plain grpcio with round_robin.

    python -m tests.bench._follower --library drain --flavour sync --target kubernetes:///a.ns:50051 --kubeconfig FILE

Prints JSON lines: "ready" after the first answer. Orders, "WHAT TAG ...", as the Go peer takes them: "call" (go on calling),
"rest" (stop that; tells the tally), "burst TAG CALLS", "cpu" (of this process so far), "known" (distinct endpoints that are held),
"told" (when drain had handed the last change to grpc).
"""

import argparse
import asyncio
import os
import resource
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc

import drain
from drain._demo import pipe
from tests.bench._callers import ROUND_ROBIN
from tests.bench._service import UNARY

FIRST = 60.0  # seconds for the first answer: among 5,000 endpoints some time goes by
TIMEOUT = 10.0
AFTER_FAILURE = 0.01  # seconds: a caller that fails at once must not make thousands of one loss
KEPT = 10  # failures told in full


@dataclass
class Tally:
    """What the callers saw since they were told to call."""

    calls: int = 0
    failures: list[str] = field(default_factory=list)

    def failed(self, error: grpc.RpcError) -> None:
        """Note one more."""
        self.failures.append(f"{error.code().name}: {error.details()}")

    def told(self) -> dict[str, Any]:
        """For the parent."""
        return {"calls": self.calls, "failed": len(self.failures), "failures": self.failures[:KEPT]}


class Caller(Protocol):
    """One flavour of a client. All methods come from the thread of the orders."""

    def first(self) -> None:
        """Call once, and wait for the answer."""

    def call(self) -> None:
        """Go on calling."""

    def rest(self) -> Tally:
        """Stop it."""

    def burst(self, calls: int) -> None:
        """So many calls, one after the other."""


class Sync:
    """Threads on one channel."""

    def __init__(self, channel: grpc.Channel, callers: int, gap: float) -> None:
        self._unary = channel.unary_unary(UNARY)
        self._callers, self._gap = callers, gap
        self._done, self._running = threading.Event(), [threading.Thread()][:0]
        self._tallies: list[Tally] = []

    def first(self) -> None:
        self._unary(b"", timeout=FIRST, wait_for_ready=True)

    def call(self) -> None:
        self._done.clear()
        self._tallies = [Tally() for _ in range(self._callers)]
        self._running = [threading.Thread(target=self._loop, args=(tally,), daemon=True) for tally in self._tallies]
        for thread in self._running:
            thread.start()

    def _loop(self, tally: Tally) -> None:
        while not self._done.is_set():
            tally.calls += 1
            try:
                self._unary(b"", timeout=TIMEOUT)
            except grpc.RpcError as error:
                tally.failed(error)
                time.sleep(AFTER_FAILURE)
            if self._gap:
                time.sleep(self._gap)

    def rest(self) -> Tally:
        self._done.set()
        for thread in self._running:
            thread.join()
        return together(self._tallies)

    def burst(self, calls: int) -> None:
        for _ in range(calls):
            self._unary(b"", timeout=TIMEOUT)


class Aio:
    """Tasks on one channel, on an event loop that is the main thread's."""

    def __init__(self, opened: Callable[[], grpc.aio.Channel], callers: int, gap: float) -> None:
        self._loop = asyncio.new_event_loop()
        self._callers, self._gap = callers, gap
        self._calling = False
        self._tasks: list[asyncio.Task[Tally]] = []
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._unary = self._run(self._open(opened))

    async def _open(self, opened: Callable[[], grpc.aio.Channel]) -> Any:
        self._channel = opened()
        return self._channel.unary_unary(UNARY)

    def _run(self, awaitable: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(awaitable, self._loop).result()

    def first(self) -> None:
        async def once() -> None:
            await self._unary(b"", timeout=FIRST, wait_for_ready=True)

        self._run(once())

    def call(self) -> None:
        async def begin() -> None:
            self._calling = True
            self._tasks = [asyncio.create_task(self._go_on()) for _ in range(self._callers)]

        self._run(begin())

    async def _go_on(self) -> Tally:
        tally = Tally()
        while self._calling:
            tally.calls += 1
            try:
                await self._unary(b"", timeout=TIMEOUT)
            except grpc.RpcError as error:
                tally.failed(error)
                await asyncio.sleep(AFTER_FAILURE)
            if self._gap:
                await asyncio.sleep(self._gap)
        return tally

    def rest(self) -> Tally:
        async def end() -> list[Tally]:
            self._calling = False
            return await asyncio.gather(*self._tasks)

        return together(self._run(end()))

    def burst(self, calls: int) -> None:
        async def go() -> None:
            for _ in range(calls):
                await self._unary(b"", timeout=TIMEOUT)

        self._run(go())


def together(tallies: list[Tally]) -> Tally:
    """Their sum."""
    return Tally(sum(each.calls for each in tallies), [failure for each in tallies for failure in each.failures])


def known() -> int:
    """Distinct endpoints that drain holds, of all targets."""
    from drain import resolver

    found = {
        each.where for target in resolver.snapshot() for each in (target.endpoints or drain.EndpointSet()).endpoints
    }
    return len(found)


def spent() -> float:
    """CPU seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def opened(asked: argparse.Namespace) -> Caller:
    """The channel, and who calls on it."""
    if asked.library == "plain":
        if asked.flavour == "aio":
            return Aio(lambda: grpc.aio.insecure_channel(asked.target, [ROUND_ROBIN]), asked.callers, asked.gap)
        return Sync(grpc.insecure_channel(asked.target, [ROUND_ROBIN]), asked.callers, asked.gap)
    retry = drain.RetryPolicy(max_attempts=5, codes=("UNAVAILABLE",)) if asked.retry else None
    policy = drain.ClientPolicy(retry=retry, subset_size=asked.subset_size)
    if asked.flavour == "aio":
        return Aio(lambda: drain.aio.insecure_channel(asked.target, policy=policy), asked.callers, asked.gap)
    return Sync(drain.insecure_channel(asked.target, policy=policy), asked.callers, asked.gap)


def main() -> None:
    """Obey until the parent is gone."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench._follower")
    parser.add_argument("--library", choices=("drain", "plain"), default="drain")
    parser.add_argument("--flavour", choices=("sync", "aio"), default="sync")
    parser.add_argument("--target", required=True)
    parser.add_argument("--also", action="append", default=[], metavar="TARGET", help="followed, and called once")
    parser.add_argument("--kubeconfig", help="of the API server; None: what the environment says")
    parser.add_argument("--callers", type=int, default=1)
    parser.add_argument("--gap", type=float, default=0.0, help="seconds that a caller rests between two calls")
    parser.add_argument("--subset-size", type=int)
    parser.add_argument("--preload", action="store_true", help="import all that is needed before the channel is made")
    parser.add_argument("--retry", action="store_true", help="with a RetryPolicy: UNAVAILABLE, five attempts")
    asked = parser.parse_args()
    if asked.kubeconfig:
        os.environ["KUBECONFIG"] = asked.kubeconfig
    if asked.preload:
        import kubernetes.client
        import kubernetes.config  # noqa: F401
    if asked.library == "drain":  # loaded late: their import is not what is measured
        _ = drain.aio.insecure_channel if asked.flavour == "aio" else drain.insecure_channel
    began = time.monotonic()
    caller = opened(asked)
    caller.first()
    took = time.monotonic() - began
    others = [opened(argparse.Namespace(**{**vars(asked), "target": target})) for target in asked.also]
    for other in others:
        other.first()
    pipe.emit("ready", took=took)

    changed = [0.0]
    if asked.library == "drain":
        drain.resolver.subscribe(lambda event: changed.__setitem__(0, time.monotonic()))  # channels hear of it before

    def take(order: str) -> None:
        what, tag, *words = order.split()
        values: dict[str, Any] = {}
        if what == "call":
            caller.call()
        elif what == "rest":
            values = caller.rest().told()
        elif what == "burst":
            caller.burst(int(words[0]))
        elif what == "cpu":
            values = {"seconds": spent()}
        elif what == "known":
            values = {"known": known()}
        elif what == "told":
            values = {"at": changed[0]}
        pipe.emit(what, tag=tag, **values)

    pipe.obey(take)
    threading.Event().wait()


if __name__ == "__main__":
    main()
