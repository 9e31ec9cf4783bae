"""Who is told of a server's events: the log, and whoever subscribed."""

import logging
import threading
from collections.abc import Callable
from typing import TypeAlias

from drain._observe import structlog_sink, watched
from drain.events import Event

Callback: TypeAlias = Callable[[Event], object]


class Subscribers:
    """A list of callbacks. Thread safe. A callback that raises is logged and harms nobody."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callback] = []

    def add(self, callback: Callback) -> Callable[[], None]:
        """Subscribe; what is returned unsubscribes, any number of times."""
        with self._lock:
            self._callbacks.append(callback)

        def remove() -> None:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return remove

    def tell(self, event: Event) -> None:
        """Log the event, then call everybody: who listens to all of this process, then in the order of subscription."""
        watched.note(event)
        self._safely(structlog_sink.log, event)
        with self._lock:
            callbacks = [*watched.listeners(), *self._callbacks]
        for callback in callbacks:
            self._safely(callback, event)

    @staticmethod
    def _safely(callback: Callback, event: Event) -> None:
        try:
            callback(event)
        except Exception:  # the edge to the user's code
            logging.getLogger("drain").exception("drain.callback_failed event=%r", type(event).__name__)
