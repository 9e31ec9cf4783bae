"""Unaware callers: plain grpc channels, no retry policy, nothing of drain.

    python -m tests.bench._callers --target ipv4:127.0.0.1:50051,127.0.0.1:50052 --callers 16

Prints JSON lines: "met" when every channel has had an answer from a server of that name (no name: from any), and on the order
"stop" the "result".

Few pick_first channels in one process: on two processors 16 of them, at the same GOAWAY, can keep grpc's client threads
spinning for seconds (grpcio 1.85.1; from a plain server's `max_connection_age` too). No call fails, but all of them wait.
"""

import argparse
import threading
import time
from collections import Counter

import grpc

from drain._demo import pipe
from drain._demo.caller import OPTIONS, TruncatedError
from tests.bench._service import MESSAGES, STREAM, UNARY

ROUND_ROBIN = ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}')
TIMEOUT = 5.0  # some calls are never answered at all
AFTER_FAILURE = 0.01  # seconds: a caller that fails at once must not make thousands of one loss
KEPT = 50  # failures told one by one


class Meetings:
    """Which server has answered on which channel."""

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._lock = threading.Lock()
        self._met: dict[str, set[int]] = {}

    def note(self, server: str, channel: int) -> None:
        """That server answered on that channel."""
        if channel in self._met.get(server, ()):
            return
        for name in (server, ""):  # "" is any
            with self._lock:
                met = self._met.setdefault(name, set())
                news = channel not in met
                met.add(channel)
            if news and len(met) == self._channels:
                pipe.emit("met", server=name)


class Caller(threading.Thread):
    """One caller: call after call until `done`, one at a time."""

    def __init__(
        self, channel: grpc.Channel, number: int, asked: argparse.Namespace, meetings: Meetings, done: threading.Event
    ) -> None:
        super().__init__(daemon=True)
        self.ok = 0
        self.longest = 0.0
        self.failures: list[str] = []
        self._unary, self._stream = channel.unary_unary(UNARY), channel.unary_stream(STREAM)
        self._number, self._asked, self._meetings, self._done = number, asked, meetings, done
        self._work = b"" if asked.work == 0 else b"%g" % asked.work

    def run(self) -> None:
        due = time.monotonic() + self._number * min(self._asked.interval, 1.0) / self._asked.callers
        while not self._done.wait(max(0.0, due - time.monotonic())):
            began = time.monotonic()
            due = began + self._asked.interval
            try:
                server = self._call()
            except grpc.RpcError as error:
                self._failed(error.code().name, error.details() or "")
            except TruncatedError as error:
                self._failed("TRUNCATED", str(error))
            else:
                self.ok += 1
                self._meetings.note(server, min(self._number, self._asked.channels - 1))
            self.longest = max(self.longest, time.monotonic() - began)

    def _call(self) -> str:
        if self._number >= self._asked.streaming:
            return str(self._unary(self._work, timeout=TIMEOUT).decode())
        answers = list(self._stream(b"%d" % MESSAGES, timeout=TIMEOUT))
        if len(answers) != MESSAGES:
            raise TruncatedError(f"{len(answers)} of {MESSAGES} messages, then OK")
        return str(answers[-1].decode())

    def _failed(self, status: str, details: str) -> None:
        self.failures.append(f"{status}: {details}")
        self._done.wait(AFTER_FAILURE)


def main() -> None:
    """Call until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench._callers")
    parser.add_argument("--target", required=True)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--streaming", type=int, default=0, help="how many of them open server streams")
    parser.add_argument("--channels", type=int, help="the callers beyond share the last channel (default: none shared)")
    parser.add_argument("--round-robin", action="store_true", help="over all addresses (default: pick_first)")
    parser.add_argument("--interval", type=float, default=0.0, help="least seconds between two calls of one caller")
    parser.add_argument("--work", type=float, default=0.0, help="seconds that the server works on a unary call")
    asked = parser.parse_args()
    asked.channels = asked.channels or asked.callers
    told, done, meetings = threading.Event(), threading.Event(), Meetings(asked.channels)
    pipe.obey(lambda order: told.set() if order == "stop" else None)
    options = [*OPTIONS, ROUND_ROBIN] if asked.round_robin else OPTIONS
    channels = [grpc.insecure_channel(asked.target, options=options) for _ in range(asked.channels)]
    callers = [
        Caller(channels[min(number, asked.channels - 1)], number, asked, meetings, done)
        for number in range(asked.callers)
    ]
    for caller in callers:
        caller.start()
    told.wait()
    done.set()
    for caller in callers:
        caller.join()
    failures = [failure for caller in callers for failure in caller.failures]
    statuses = Counter(failure.partition(":")[0] for failure in failures)
    pipe.emit(
        "result",
        ok=sum(caller.ok for caller in callers),
        longest=max(caller.longest for caller in callers),
        statuses=statuses,
        failures=failures[:KEPT],
    )


if __name__ == "__main__":
    main()
