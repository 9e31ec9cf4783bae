"""Whether a process that has drained waits for SIGTERM before it ends.

A preStop hook runs while the process serves, and Kubernetes sends SIGTERM when it has returned. A process that ends before
that, as PID 1 of its container, ends its own hook with it, and the hook counts as failed. So a drain that a hook began is held.
"""

import threading
from concurrent.futures import Future


class Hold:
    """One server's. Thread safe, and for signal handlers, too."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant: a signal handler may interrupt any line in here
        self._wanted = False
        self._draining = False
        self._stopped = False
        self._freed: list[Future[None]] = []

    @property
    def holds(self) -> bool:
        """Whether the server has stopped, and the process waits."""
        return self._wanted and self._stopped

    def want(self, wanted: bool) -> None:
        """A drain is asked for. Only who begins it may hold; who asks for one without a hold ends that of another."""
        with self._lock:
            self._wanted = wanted and (self._wanted or not self._draining)
        self._free()

    def draining(self) -> None:
        """A drain has begun."""
        self._draining = True

    def stopping(self) -> None:
        """It is over, and about to be told: from now on `holds` says whether the process waits."""
        self._stopped = True

    def stopped(self) -> None:
        """It has been told."""
        self._stopped = True
        self._free()

    def freed(self) -> "Future[None]":
        """A future that is done when the server has stopped and nothing holds the process any more."""
        future: Future[None] = Future()
        with self._lock:
            self._freed.append(future)
        self._free()
        return future

    def _free(self) -> None:
        with self._lock:
            free = self._stopped and not self._wanted
            freed, self._freed = (self._freed, []) if free else ([], self._freed)
        for future in freed:
            if future.set_running_or_notify_cancel():  # else who asked has given up
                future.set_result(None)
