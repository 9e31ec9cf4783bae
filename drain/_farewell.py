"""What a server leaves behind for whoever asks later: Events on its pod, and one line in the container's termination message.

Of a drain that is the pod's: not of a worker that is replaced, nor of `stop()`. For the driver's thread; nothing here blocks but
`close`, which waits for the last Event, with a bound.
"""

import contextlib
import os
import stat
from collections.abc import Callable
from typing import Protocol, TypeAlias

from drain import _worker
from drain.report import DrainReport

BEGUN, DRAINED, CUT = "Draining", "Drained", "CallsCut"
"""Reasons of the Events: the drain begins; it is over, and no call was cut; it is over, and some were."""

_MOST_METHODS = 5  # in an Event about calls that were cut


class Told(Protocol):
    """Whoever tells the cluster (`drain._kube.notices`). Any thread."""

    def tell(self, kind: str, reason: str, message: str) -> None: ...
    def end(self, within: float) -> None: ...


Telling: TypeAlias = Callable[[], Told | None]
"""Begins to tell; None: there is no pod around us."""


class Farewell:
    """One server's. Made when it is built, and idle until it leaves.

    Args:
        telling: see `Telling`. named: what the server is called, in each line. log: the file for the termination message; None:
            nothing is written.
    """

    def __init__(self, telling: Telling, named: Callable[[], str], log: str | None) -> None:
        self._telling, self._named, self._log = telling, named, log
        self._told: Told | None = None
        self._begun = False

    def begin(self, reason: str, in_flight: int, longest: float) -> None:
        """The server leaves."""
        if self._begun:
            return
        self._begun = True
        self._told = self._telling()
        if self._told is not None:
            message = f"{self._who()} leaves ({reason}): {in_flight} calls in flight, {longest:.3g} s at most"
            self._told.tell("Normal", BEGUN, message)

    def close(self, report: DrainReport, within: float) -> None:
        """It has left. Waits `within` seconds at most until the cluster knows."""
        if not self._begun:
            return
        line = f"{self._who()} {report}"
        if self._log is not None:
            leave_message(self._log, line)
        if self._told is not None:
            cut = list(report.cancelled_by_method.items())
            methods = ", ".join(f"{calls} {method}" for method, calls in cut[:_MOST_METHODS])
            if report.clean:
                self._told.tell("Normal", DRAINED, line)
            else:
                self._told.tell("Warning", CUT, f"{line}; cancelled: {methods}" if methods else line)
            self._told.end(within)

    def _who(self) -> str:
        worker = _worker.current
        return self._named() if worker is None else f"worker {worker.number}, {self._named()}"


def leave_message(path: str, line: str) -> None:
    """Add a line to the container's termination message, if kubelet has made the file; never makes one."""
    if not os.environ.get("KUBERNETES_SERVICE_HOST"):
        return
    with contextlib.suppress(OSError, ValueError):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if stat.S_ISREG(os.fstat(file).st_mode):
                os.write(file, line.encode() + b"\n")
        finally:
            os.close(file)
