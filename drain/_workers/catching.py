"""The parent's signals, and the ends of its children.

Both come through one descriptor that a selector can wait for (`signal.set_wakeup_fd`): see `drain._signals` for why.
"""

import contextlib
import ctypes
import os
import signal
import socket
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, Self

from drain.errors import ConfigurationError

TAKEN = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_PR_GET_CHILD_SUBREAPER = 37


class Signals:
    """A context in which these signals end nothing. Raises ConfigurationError outside the main thread.

    Attributes:
        before: the handlers of before, which come back at the end, or at `restore()`.
    """

    def __init__(self) -> None:
        self.before: dict[int, Any] = {}
        self._reader: socket.socket | None = None
        self._writer: socket.socket | None = None
        self._wakeup = -1

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            raise ConfigurationError(
                "run_workers() takes signals, which Python allows in the main thread only. Call it there."
            )
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self.before = {number: signal.getsignal(number) for number in TAKEN}
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in TAKEN:
            if number != signal.SIGHUP or self.before[number] is not signal.SIG_IGN:  # nohup means what it says
                signal.signal(number, _noted)
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def restore(self) -> None:
        """Give the signals back. Idempotent."""
        if self._reader is None or self._writer is None:
            return
        for number, handler in self.before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        signal.set_wakeup_fd(self._wakeup)
        self.forget()
        self._reader = self._writer = None

    def forget(self) -> None:
        """In a forked child: close what is the parent's."""
        for end in (self._reader, self._writer):
            if end is not None:
                end.close()

    def fileno(self) -> int:
        """For a selector."""
        assert self._reader is not None
        return self._reader.fileno()

    def read(self) -> list[signal.Signals]:
        """Those that came, in order."""
        assert self._reader is not None
        with contextlib.suppress(BlockingIOError):
            return [signal.Signals(number) for number in self._reader.recv(4096) if number in TAKEN]
        return []


def _noted(number: int, frame: FrameType | None) -> None:
    """C's own handler has written it down."""


def inherits_orphans() -> bool:
    """Whether the kernel gives us processes whose parent has died: as PID 1, or as a subreaper (prctl(2))."""
    if os.getpid() == 1:
        return True
    found = ctypes.c_int(0)
    with contextlib.suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(found))
    return bool(found.value)


def ended(ours: Iterable[int], everybody: bool) -> Iterator[tuple[int, int]]:
    """Children that have ended since: pid and exit code (minus the signal that ended it).

    Only `ours`, because other children belong to whoever waits for them; unless `everybody` that the kernel gave us must be
    taken away by us.
    """
    while everybody:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)
    for each in list(ours):
        try:
            pid, status = os.waitpid(each, os.WNOHANG)
        except ChildProcessError:  # somebody else took it away: how it ended nobody knows
            yield each, -signal.SIGKILL
            continue
        if pid:
            yield pid, os.waitstatus_to_exitcode(status)
