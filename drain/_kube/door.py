"""Whether an API server is there."""

import random
import socket
import threading
import time

from drain._kube.wire import Interrupt

KNOCK_EVERY, FIRST_KNOCK, KNOCK_TIMEOUT = 0.5, 0.05, 1.0  # seconds


class Door:
    """Whether an API server that could not be reached can be reached again: knocks at its port, without a request.

    All who wait for one server share what a knock finds, so that it is knocked at twice a second however many they are.
    """

    def __init__(self, host: str, port: int) -> None:
        self._where = host, port
        self._lock = threading.Lock()
        self._knocked_at = float("-inf")
        self._open = False
        self._closed_at, self._why = float("-inf"), ""  # when it was last found so

    def wait(self, interrupt: Interrupt) -> bool:
        """Until it opens, or is interrupted. True if it was closed before: if not, waiting for it does not help."""
        was_closed = time.monotonic() - self._closed_at < 2 * KNOCK_EVERY
        while not interrupt.wait(KNOCK_EVERY * (0.8 + 0.4 * random.random())):  # noqa: S311 - not for secrets
            if self._knock():
                break
            was_closed = True
        return was_closed

    def rest(self, interrupt: Interrupt, seconds: float) -> str | None:
        """For so long, or until it is interrupted, or closed: then why.

        The first knock comes soon: a server that is restarted at once is away for some tenths of a second only.
        """
        due, pause = time.monotonic() + seconds, FIRST_KNOCK
        while (left := due - time.monotonic()) > 0:
            if interrupt.wait(min(left, pause)):
                return None
            if not self._knock():
                return self._why
            pause = KNOCK_EVERY
        return None

    def _knock(self) -> bool:
        with self._lock:  # for a second at most
            if time.monotonic() - self._knocked_at > KNOCK_EVERY / 2:
                try:
                    socket.create_connection(self._where, KNOCK_TIMEOUT).close()
                    self._open = True
                except OSError as error:
                    self._open, self._closed_at, self._why = False, time.monotonic(), error.strerror or str(error)
                self._knocked_at = time.monotonic()
            return self._open
