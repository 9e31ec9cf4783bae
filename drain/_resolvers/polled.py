"""A resolver that looks again and again, on a thread of its own."""

import logging
import threading
from collections.abc import Callable, Iterable

from drain._core.endpoints import Endpoint
from drain._resolvers.protocol import Listener
from drain.errors import ResolutionError

_STOP_TIMEOUT = 0.5


class Polled:
    """Calls `look` every `interval` seconds, from `start` to `stop`, and tells what it found.

    `look` returns the whole set, or None if nothing is new, and raises ResolutionError if there is no answer now. A look that
    hangs (DNS may) is left to its daemon thread: `stop` does not wait for it.
    """

    def __init__(
        self, look: Callable[[], Iterable[Endpoint] | None], interval: float, *, authority: str | None = None
    ) -> None:
        self.authority = authority
        self._look = look
        self._interval = interval
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, listener: Listener) -> None:
        """See `drain._resolvers.protocol.Resolver`."""
        self._thread = threading.Thread(target=self._run, args=(listener,), name="drain-resolver", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """See `drain._resolvers.protocol.Resolver`."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(_STOP_TIMEOUT)

    def _run(self, listener: Listener) -> None:
        while not self._stopped.is_set():
            try:
                found = self._look()
            except ResolutionError as error:
                listener.failed(str(error))
            except Exception as error:  # a fault of ours must not end the watch without a word
                logging.getLogger("drain").exception("drain.resolver_failed")
                listener.failed(f"{type(error).__name__}: {error}")
            else:
                if found is not None:
                    listener.endpoints(found)
            self._stopped.wait(self._interval)
