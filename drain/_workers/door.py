"""The parent's admin socket, served in the parent's own loop: it has no thread, so that it may fork."""

import logging
import selectors
from collections.abc import Callable

from drain._admin.listening import AdminSocket
from drain._admin.reception import Reception
from drain._workers.desk import Parent, begin
from drain.errors import ConfigurationError


class Door:
    """Where the parent is asked. A socket that cannot be had is a warning: the workers serve without it."""

    def __init__(self, parent: Parent, selector: selectors.BaseSelector) -> None:
        self._reception = Reception(selector, lambda request, _: begin(request, parent))
        self._socket: AdminSocket | None = None
        try:
            self._socket = AdminSocket()
        except (OSError, ConfigurationError) as error:
            text = "no admin socket, so preStop and drain status cannot reach the parent of the workers: %s"
            logging.getLogger("drain").warning(text, error)
        else:
            self._reception.listen(self._socket)

    @property
    def wake(self) -> float | None:
        """When `serve` wants to be called at the latest."""
        return self._reception.wake

    def serve(self, now: float) -> None:
        """One turn for everybody."""
        self._reception.serve(now)

    def forget(self) -> list[Callable[[], object]]:
        """What closes all of it in a forked child."""
        closing: list[Callable[[], object]] = [sock.close for sock in self._reception.sockets()]
        return [*closing, self._socket.forget] if self._socket is not None else closing

    def close(self, now: float) -> None:
        """The end: whoever still listens is told so."""
        self._reception.serve(now)
        self._reception.close()
        if self._socket is not None:
            self._reception.stop_listening()
            self._socket.close()
