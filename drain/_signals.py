"""Taking SIGTERM and SIGINT for the time of `run()`, and giving them back.

A signal that arrives just before a thread blocks in a lock or a queue does not wake it: Python has noted it, and waits for the
thread to come back (measured: one SIGTERM in ten was lost that way on a busy machine, while `run()` waited in a queue). Only a
file descriptor has no such gap: C's own handler writes to it (`signal.set_wakeup_fd`), and reading it returns at once.
"""

import asyncio
import collections
import contextlib
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from drain import _worker
from drain.errors import ConfigurationError

TAKEN = (signal.SIGTERM, signal.SIGINT)


def _taken() -> tuple[signal.Signals, ...]:
    """A worker leaves SIGINT to its parent: Ctrl-C reaches both, and must count once."""
    return TAKEN if _worker.current is None else (signal.SIGTERM,)


class Mailbox:
    """Signals, and None for "look again", for a thread that waits. `put` may be called from any thread and any signal handler."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._letters: collections.deque[signal.Signals | None] = collections.deque()

    def put(self, letter: signal.Signals | None) -> None:
        """Never blocks."""
        self._letters.append(letter)
        with contextlib.suppress(OSError):  # full: there is enough to wake anybody; closed: nobody waits any more
            self._writer.send(b"\0")

    def get(self) -> signal.Signals | None:
        """Block until there is a letter."""
        while not self._letters:
            self._reader.recv(4096)
        return self._letters.popleft()

    def fileno(self) -> int:
        """What C's signal handler writes to."""
        return self._writer.fileno()

    def close(self) -> None:
        """The end."""
        self._reader.close()
        self._writer.close()


class _Taken:
    """A context in which signals do not end the process. The handlers of before come back at its end, or at `restore()`."""

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            raise ConfigurationError(
                "run() takes SIGTERM and SIGINT, which Python allows in the main thread only. Call run() there; "
                "in another thread call start(), and drain() when it is time."
            )
        self._before = {number: signal.getsignal(number) for number in _taken()}
        self._take()
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def restore(self) -> None:
        """Give the signals back. Idempotent."""
        if self._before:
            self._give_back()
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before = {}

    def _take(self) -> None:
        raise NotImplementedError

    def _give_back(self) -> None:
        raise NotImplementedError


class Signals(_Taken):
    """For a thread: signals go to a mailbox. Raises ConfigurationError outside the main thread."""

    def __init__(self, mailbox: Mailbox) -> None:
        super().__init__()
        self._mailbox = mailbox
        self._wakeup = -1

    def _take(self) -> None:
        self._wakeup = signal.set_wakeup_fd(self._mailbox.fileno(), warn_on_full_buffer=False)
        for number in self._before:
            signal.signal(number, self._handle)

    def _give_back(self) -> None:
        signal.set_wakeup_fd(self._wakeup)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._mailbox.put(signal.Signals(number))


class LoopSignals(_Taken):
    """For an event loop, which has a wake-up descriptor of its own. Raises ConfigurationError outside the main thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, put: Callable[[signal.Signals], object]) -> None:
        super().__init__()
        self._loop, self._put = loop, put

    def _take(self) -> None:
        for number in self._before:
            self._loop.add_signal_handler(number, self._put, number)

    def _give_back(self) -> None:
        for number in self._before:
            self._loop.remove_signal_handler(number)
