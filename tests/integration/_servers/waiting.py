"""Waiting for conditions, with a bound."""

import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
BOUND = 20.0  # seconds: far more than anything here takes; only a failing test waits so long
AT_ONCE = 8.0  # seconds: the same; a resource that is missing takes grpc 15


def until(condition: Callable[[], T], within: float = BOUND, *, every: float = 0.005) -> T:
    """What `condition` says as soon as it is true. Fails if it is not by then."""
    end = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {within:g} s: {condition}"
        time.sleep(every)
    return found


def listening_ports() -> set[int]:
    """TCP ports on which this process listens."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if not stat.S_ISSOCK(os.stat(int(name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as each:
                if each.family != socket.AF_UNIX and each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    found.add(each.getsockname()[1])
        except OSError:  # closed since it was listed
            continue
    return found


class Told:
    """What a service or server told, in order. Thread safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.all: list[object] = []

    def __call__(self, what: object) -> None:
        with self._changed:
            self.all.append(what)
            self._changed.notify_all()

    def until(self, wanted: Callable[[object], bool], *, times: int = 1, within: float = BOUND) -> object:
        """The n-th thing told for which `wanted` holds."""

        def found() -> list[object]:
            return [what for what in self.all if wanted(what)][times - 1 :]

        with self._changed:
            assert self._changed.wait_for(found, within), f"not told within {within:g} s, only {self.all}"
            return found()[0]

    def name(self, wanted: str, *, times: int = 1, within: float = BOUND) -> None:
        """Wait until that name was told so many times."""
        self.until(lambda what: what == wanted, times=times, within=within)
