"""All callers together, inside a test (`Load`) or in a process of their own.

load = Load("127.0.0.1:50051", Shape(callers=16)); load.start(); ...; result = load.stop()
python -m drain._demo.load --target 127.0.0.1:50051      # prints ticks; on "stop" at stdin: the result
"""

import argparse
import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

from drain._demo import pipe
from drain._demo.caller import Caller, Shape
from drain._demo.results import LoadResult

FAILURES_KEPT = 5_000  # one by one; beyond it they are only counted
TICK = 0.25
SAMPLE = 0.05


class Load:
    """Callers on threads of this process, each with a channel and a connection of its own."""

    def __init__(
        self, target: str, shape: Shape | None = None, caller: Callable[[int, Shape], Caller] = Caller
    ) -> None:
        self.shape = shape = shape or Shape()
        self.started_at = 0.0
        self.callers = tuple(caller(number, shape) for number in range(shape.callers))
        self._target = target
        self._done = threading.Event()
        self._threads: list[threading.Thread] = []
        self._held_up = 0.0

    def start(self) -> None:
        """Begin to call."""
        self.started_at = time.monotonic()
        arguments = (self._target, self.started_at, self._done)
        self._threads = [threading.Thread(target=caller.run, args=arguments, daemon=True) for caller in self.callers]
        self._threads.append(threading.Thread(target=self._measure_delay, daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> LoadResult:
        """Let every caller end its call, and return what they saw."""
        duration = time.monotonic() - self.started_at
        self._done.set()
        for thread in self._threads:
            thread.join()
        return self._result(duration, time.monotonic() - self.started_at)

    @property
    def ok(self) -> int:
        """Successful calls so far."""
        return sum(caller.ok for caller in self.callers)

    @property
    def lost(self) -> int:
        """Failed calls so far."""
        return sum(len(caller.failures) for caller in self.callers)

    def _measure_delay(self) -> None:
        """How late a thread here wakes up and hears itself over loopback: such pauses say nothing about the servers.

        On a machine with far more to do than processors the kernel delivers even loopback packets seconds late
        (measured: load average 27 on 2 processors, every connection of the machine still for 5 s).
        """
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as us:
            here, _ = listener.accept()
            with here:
                due = time.monotonic() + SAMPLE
                while not self._done.wait(max(0.0, due - time.monotonic())):
                    us.send(b".")
                    here.recv(1)
                    now = time.monotonic()
                    self._held_up = max(self._held_up, now - due)
                    due = now + SAMPLE

    def _result(self, duration: float, ended_after: float) -> LoadResult:
        width = self.shape.bucket
        failures = sorted(
            itertools.chain.from_iterable(c.failures for c in self.callers), key=lambda failure: failure.at
        )
        ended = sum((caller.ended for caller in self.callers), Counter[tuple[str, int]]())
        failed = Counter((failure.status, int(failure.at / width)) for failure in failures)
        unary = sorted(itertools.chain.from_iterable(c.took for c in self.callers if not c.streaming))
        streams = sorted(itertools.chain.from_iterable(c.took for c in self.callers if c.streaming))
        buckets = int(ended_after / width) + 1
        slowest = max(self.callers, key=lambda caller: caller.longest_pause)
        return LoadResult(
            started_at=self.started_at,
            duration=duration,
            bucket=width,
            calls=_by_bucket(ended, buckets),
            failed=_by_bucket(failed, buckets),
            failures=tuple(failures[:FAILURES_KEPT]),
            p50=_percentile(unary, 0.50),
            p99=_percentile(unary, 0.99),
            p90=_percentile(unary, 0.90),
            slowest=max(unary, default=0.0),
            stream_p50=_percentile(streams, 0.50),
            stream_p99=_percentile(streams, 0.99),
            longest_pause=slowest.longest_pause,
            longest_pause_ended=slowest.longest_pause_ended,
            held_up=self._held_up,
        )


def _by_bucket(counts: Counter[tuple[str, int]], buckets: int) -> dict[str, tuple[int, ...]]:
    names: Iterable[str] = sorted({name for name, _ in counts})
    return {name: tuple(counts[name, bucket] for bucket in range(buckets)) for name in names}


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def main() -> None:
    """Call until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m drain._demo.load")
    parser.add_argument("--target", required=True)
    parser.add_argument("--callers", type=int, default=Shape().callers)
    parser.add_argument("--streaming", type=int, default=Shape().streaming)
    arguments = parser.parse_args()
    told = threading.Event()
    pipe.obey(lambda order: told.set() if order == "stop" else None)
    load = Load(arguments.target, Shape(callers=arguments.callers, streaming=arguments.streaming))
    load.start()
    pipe.emit("started", at=load.started_at)
    while not told.wait(TICK):
        pipe.emit("tick", ok=load.ok, lost=load.lost)
    pipe.emit("result", **asdict(load.stop()))


if __name__ == "__main__":
    main()
