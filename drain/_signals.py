"""Taking SIGTERM and SIGINT for the time of `run()`, and giving them back."""

import queue
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from drain.errors import ConfigurationError

TAKEN = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """A context in which signals are handed to `put` instead of ending the process. The old handlers come back at the end.

    `put` is called in a signal handler, so it must be reentrant: `queue.SimpleQueue.put`, or an event loop's
    `call_soon_threadsafe`. Raises ConfigurationError outside the main thread, where Python knows no signals.
    """

    def __init__(self, put: Callable[[signal.Signals], object]) -> None:
        self._put = put
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is not threading.main_thread():
            raise ConfigurationError(
                "run() takes SIGTERM and SIGINT, which Python allows in the main thread only. Call run() there; "
                "in another thread call start(), and drain() when it is time."
            )
        for number in TAKEN:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()

    def restore(self) -> None:
        """Give the signals back. Idempotent."""
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._put(signal.Signals(number))


Mailbox = queue.SimpleQueue["signal.Signals | None"]
