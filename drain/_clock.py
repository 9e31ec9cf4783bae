"""The clock by which servers leave and endpoints age: the monotonic one. A test may set it forward (`drain.testing.Clock`).

What waits for something real, a thread's end or an answer, has its bound in `time.monotonic()` itself.
"""

import threading
import time
import weakref
from typing import Protocol


class Waiting(Protocol):
    """Whoever waits until a time, and must look again when that has been set forward."""

    def nudge(self) -> None:
        """Look again. Any thread."""


_lock = threading.Lock()
_waiting: "weakref.WeakSet[Waiting]" = weakref.WeakSet()
_ahead = 0.0


def now() -> float:
    """Seconds."""
    return time.monotonic() + _ahead


def follow(waiting: Waiting) -> None:
    """Be nudged, as long as it lives."""
    with _lock:
        _waiting.add(waiting)


def advance(seconds: float) -> None:
    """So much later it is now, for good."""
    global _ahead
    with _lock:
        _ahead += seconds
        followers = list(_waiting)
    for each in followers:
        each.nudge()
