"""What there is to be watched in this process: its servers, held weakly, and whoever wants to hear of all events.

A server enters itself when it is made. Costs a set entry; nothing is called but when an event is told, and events are rare. The
last of them are kept, for whoever comes to look afterwards.
"""

import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from drain import _clock, events
from drain.events import Event
from drain.status import ServerStatus


class HasStatus(Protocol):
    """A server."""

    def status(self) -> ServerStatus:
        """How it stands."""
        ...

    def connections(self) -> Mapping[int, str]:
        """Its open connections."""
        ...


Listener = Callable[[Event], None]

_lock = threading.Lock()
_servers: "weakref.WeakSet[HasStatus]" = weakref.WeakSet()
_listeners: tuple[Listener, ...] = ()
MOST_RECENT = 30
# Each of thousands of endpoints would leave no room for anything else; EndpointsChanged sums them up.
_PASSED_OVER = (events.EndpointAdded, events.EndpointRemoved, events.UpdateTaken)
_recent: "deque[tuple[float, Event]]" = deque(maxlen=MOST_RECENT)


def enter(server: HasStatus) -> None:
    """One more server."""
    with _lock:
        _servers.add(server)


def servers() -> list[HasStatus]:
    """Those that live."""
    with _lock:
        return list(_servers)


def listen(listener: Listener) -> Callable[[], None]:
    """Hear of every event of every server and target, from any thread. Returns what ends it. It must not raise or block."""
    global _listeners
    with _lock:
        _listeners = (*_listeners, listener)

    def leave() -> None:
        global _listeners
        with _lock:
            _listeners = tuple(each for each in _listeners if each is not listener)

    return leave


def listeners() -> tuple[Listener, ...]:
    """Those that listen."""
    return _listeners


def note(event: Event) -> None:
    """It has been told. Cheap, any thread."""
    if not isinstance(event, _PASSED_OVER):
        _recent.append((_clock.now(), event))


def recent() -> list[tuple[float, Event]]:
    """The last ones, the oldest first, each with when it was told, in seconds of `drain._clock`."""
    return list(_recent.copy())
