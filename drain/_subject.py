"""What may be asked of a server from outside: by the admin socket, a parent of workers, a rebalancer."""

import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from drain._core.lifecycle import Input
from drain.events import State
from drain.report import DrainReport
from drain.status import ServerStatus

if TYPE_CHECKING:
    from drain._facade import Facade


class Subject:
    """A server as the admin socket sees it. Knows it weakly: whoever can ask must not keep it alive. Nothing here blocks.

    Thread safe. Every method raises ReferenceError when the server is gone; `alive` and `state` do not.
    """

    def __init__(self, server: "Facade") -> None:
        self._ref = weakref.ref(server)

    def when_gone(self, callback: Callable[[], None]) -> object:
        """Call back when the server is gone, amid whatever dropped it: the callback must take no lock. Keep what is returned."""
        return weakref.ref(self._server, lambda _: callback())

    @property
    def state(self) -> State:
        """Where it stands, at no cost; STOPPED when it is gone."""
        server = self._ref()
        return server.state if server is not None else State.STOPPED

    @property
    def alive(self) -> bool:
        """Whether there is still a server to ask."""
        return self._ref() is not None

    def status(self) -> ServerStatus:
        """See `Facade.status`."""
        return self._server.status()

    def request(self, what: Input, reason: str) -> "Future[int]":
        """ROTATE, PAUSE or RESUME; the future tells how many connections were told. Raises DrainError where it cannot be."""
        server = self._server
        server._refuse(what)
        return server._driver.request(what, reason)

    def leave(self, reason: str, *, announce: bool = True, hold: bool = False) -> "Future[DrainReport]":
        """Drain, or join the drain that is under way.

        `hold`: when drained, `run()` waits for SIGTERM before it returns; only for who begins the drain. Without `hold` a server
        that is held is let go.
        """
        server = self._server
        report = server._driver.report()
        server._leave(reason, announce=announce, hold=hold)
        return report

    def replace(self, reason: str) -> "Future[DrainReport]":
        """Leave for a successor that listens on the same port already: no announcing, and health stays as it is."""
        server = self._server
        report = server._driver.report()
        server._driver.request(Input.LEAVE, reason, succeeded=True)
        return report

    @property
    def _server(self) -> "Facade":
        if (server := self._ref()) is None:
            raise ReferenceError("the server was dropped")
        return server
