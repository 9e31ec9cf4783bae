"""One caller of the demo: a channel, no retry policy, a call every few milliseconds, and what it saw."""

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc

import drain
from drain._demo.results import Failure

UNARY = "/drain.demo.Echo/Unary"
STREAM = "/drain.demo.Echo/Stream"
MESSAGES = 8  # in one stream, 25 ms apart: it is open for 0.2 s
OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own for each caller
    # After a lost connection grpc waits 1 s by default; with that a plain restart would look worse than it need be.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # This is also how long one connection attempt may take: 100 ms would fail calls on a busy machine, drain or no drain.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 3_000),
]


def channel_to(target: str) -> grpc.Channel:
    """Plain grpc, which knows nothing of drain, or for one of drain's own targets a channel of drain's."""
    if "://" in target:
        return drain.insecure_channel(target, options=OPTIONS[:1])  # the other two are ClientPolicy's own defaults
    return grpc.insecure_channel(target, options=OPTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The load's form.

    Attributes:
        callers: how many callers.
        streaming: how many of them open server streams; the others make unary calls.
        interval: the least seconds between the beginnings of two calls of one caller, whether they fail or not.
        timeout: seconds after which a call that was never answered fails (DEADLINE_EXCEEDED).
        bucket: width in seconds of the buckets that calls are counted in.
    """

    callers: int = 16
    streaming: int = 4
    interval: float = 0.01
    timeout: float = 10.0
    bucket: float = 0.1


class TruncatedError(Exception):
    """A stream that ended OK with messages missing: lost all the same."""


@dataclass(slots=True)
class Caller:
    """Only its own thread writes; `ok` and `failures` may be looked at meanwhile."""

    number: int
    shape: Shape
    ended: Counter[tuple[str, int]] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    longest_pause: float = 0.0
    longest_pause_ended: float = 0.0
    ok: int = 0
    _started_at: float = 0.0
    _answered_at: float | None = None

    @property
    def streaming(self) -> bool:
        """The first of the callers stream."""
        return self.number < self.shape.streaming

    def run(self, target: str, started_at: float, done: threading.Event) -> None:
        """Call until `done`. A call that has begun is always waited for."""
        self._started_at = started_at
        due = started_at + self.number * self.shape.interval / self.shape.callers
        with self._open(target) as channel:
            call = self._method(channel)
            while not done.wait(max(0.0, due - time.monotonic())):
                began = time.monotonic()
                due = began + self.shape.interval
                try:
                    server = call()
                except grpc.RpcError as error:
                    self._failed(error.code().name, error.details() or "")
                except TruncatedError as error:  # no status of grpc's, so that it is told apart
                    self._failed("TRUNCATED", str(error))
                else:
                    self._succeeded(server, began)

    def _open(self, target: str) -> grpc.Channel:
        return channel_to(target)

    def _method(self, channel: grpc.Channel) -> Callable[[], str]:
        """What makes one call, and tells who answered."""
        if self.streaming:
            return functools.partial(self._stream, channel.unary_stream(STREAM))
        return functools.partial(self._unary, channel.unary_unary(UNARY))

    def _unary(self, method: "grpc.UnaryUnaryMultiCallable[bytes, bytes]") -> str:
        server: bytes = method(b"", timeout=self.shape.timeout)
        self._answered()
        return server.decode()

    def _stream(self, method: "grpc.UnaryStreamMultiCallable[bytes, bytes]") -> str:
        answers = []
        for answer in method(b"%d" % MESSAGES, timeout=self.shape.timeout):
            answers.append(answer)
            self._answered()
        if len(answers) != MESSAGES:
            raise TruncatedError(f"{len(answers)} of {MESSAGES} messages, then OK")
        return str(answers[-1].decode())

    def _answered(self) -> None:
        now = time.monotonic()
        if self._answered_at is not None and now - self._answered_at > self.longest_pause:
            self.longest_pause, self.longest_pause_ended = now - self._answered_at, now - self._started_at
        self._answered_at = now

    def _succeeded(self, server: str, began: float) -> None:
        ended = time.monotonic()
        self.ok += 1
        self.took.append(ended - began)
        self.ended[server, int((ended - self._started_at) / self.shape.bucket)] += 1

    def _failed(self, status: str, details: str) -> None:
        kind = "streaming" if self.streaming else "unary"
        self.failures.append(Failure(time.monotonic() - self._started_at, self.number, kind, status, details))
