"""What there is to be watched in this process: its servers, held weakly, and whoever wants to hear of all events.

A server enters itself when it is made. Costs a set entry; nothing is called but when an event is told, and events are rare.
"""

import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Protocol

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
