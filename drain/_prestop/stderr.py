"""Lines for people, on stderr: kubelet logs them when the hook fails."""

import contextlib
import os
import select
import sys
import time

_FD = 2
_PROMPT = "drain-prestop: "
_MOST = 2048  # bytes: a pipe that poll calls writable takes 4096 at once (PIPE_BUF)


class Stderr:
    """Says lines with the seconds since `began`. Never blocks and never fails: nobody may be reading, and a drain matters more.

    Args:
        quiet: say nothing but errors. began: seconds of time.monotonic().
    """

    def __init__(self, *, quiet: bool, began: float) -> None:
        self._quiet, self._began = quiet, began
        self._writable = select.poll()
        if sys.stderr is not None:  # else the process began without one, and its number may be a socket's by now
            self._writable.register(_FD, select.POLLOUT)

    def say(self, text: str) -> None:
        """How it goes."""
        if not self._quiet:
            self.error(text)

    def error(self, text: str) -> None:
        """What went wrong."""
        line = f"{_PROMPT}{time.monotonic() - self._began:.1f} s: {' '.join(text.split())}".encode(errors="replace")
        with contextlib.suppress(OSError):
            if any(events & select.POLLOUT for _, events in self._writable.poll(0)):
                os.write(_FD, line[:_MOST] + b"\n")
