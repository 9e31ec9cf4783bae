"""Every event, for a test to look at."""

import threading
import time
from collections.abc import Callable
from typing import Self, TypeVar

from drain import events
from drain._observe import watched
from drain._testing.bound import BOUND

E = TypeVar("E", bound=events.Event)


class Recorder:
    """Every event of every server and target of this process, from its making until `close()`. Thread safe; a context manager."""

    def __init__(self) -> None:
        self._events: list[events.Event] = []
        self._news = threading.Condition()
        self.close: Callable[[], None] = watched.listen(self._heard)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _heard(self, event: events.Event) -> None:
        with self._news:
            self._events.append(event)
            self._news.notify_all()

    @property
    def all(self) -> list[events.Event]:
        """So far, the oldest first."""
        with self._news:
            return list(self._events)

    def of(self, kind: type[E]) -> list[E]:
        """Those of a kind: `recorder.of(drain.events.Rotated)`."""
        return [event for event in self.all if isinstance(event, kind)]

    def wait_for(self, kind: type[E], where: Callable[[E], bool] = lambda event: True, *, within: float = BOUND) -> E:
        """The first of that kind for which `where` holds, past ones included. Raises AssertionError after `within` seconds."""
        deadline = time.monotonic() + within
        with self._news:
            while True:
                found = next((each for each in self._events if isinstance(each, kind) and where(each)), None)
                if found is not None:
                    return found
                left = deadline - time.monotonic()
                if left <= 0 or not self._news.wait(left):
                    seen = ", ".join(dict.fromkeys(type(each).__name__ for each in self._events)) or "nothing"
                    raise AssertionError(f"no {kind.__name__} within {within:g} s; there was: {seen}")
