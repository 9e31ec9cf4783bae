"""The parent's admin socket, served in the parent's own loop: it has no thread, so that it may fork."""

import logging
import selectors
from collections.abc import Callable

from drain._admin.connection import MOST_JOBS, Connection
from drain._admin.listening import AdminSocket, turn_away
from drain._admin.protocol import Code, Command, ProtocolError, failed, parse
from drain._workers.desk import Parent, begin
from drain.errors import ConfigurationError

MOST_CONNECTIONS = 16
MOST_WATCHES = 12  # of them: a preStop hook must find a place
_OUT_OF_FILES = 0.5  # seconds until the next attempt to accept, where no file descriptor was left
_log = logging.getLogger("drain")


class Door:
    """Where the parent is asked. A socket that cannot be had is a warning: the workers serve without it."""

    def __init__(self, parent: Parent, selector: selectors.BaseSelector) -> None:
        self._parent, self._selector = parent, selector
        self._connections: list[Connection] = []
        self._deaf_until: float | None = None
        self._socket: AdminSocket | None = None
        try:
            self._socket = AdminSocket()
        except (OSError, ConfigurationError) as error:
            _log.warning(
                "no admin socket, so preStop and drain status cannot reach the parent of the workers: %s", error
            )
        else:
            selector.register(self._socket, selectors.EVENT_READ, self.accept)

    @property
    def wake(self) -> float | None:
        """When `serve` wants to be called at the latest."""
        times = [self._deaf_until]
        for connection in self._connections:
            times += [connection.until, *(job.wake for job in connection.jobs)]
        return min((time for time in times if time is not None), default=None)

    def accept(self, now: float) -> None:
        """Somebody knocks."""
        assert self._socket is not None
        try:
            while (sock := self._socket.accept()) is not None:
                if len(self._connections) >= MOST_CONNECTIONS:
                    turn_away(sock, f"{MOST_CONNECTIONS} clients are connected already. End one, or try again later.")
                else:
                    self._welcome(Connection(sock, now))
        except OSError:  # no descriptor left: the client stays in the queue, and would wake us at once again
            self._selector.unregister(self._socket)
            self._deaf_until = now + _OUT_OF_FILES

    def _welcome(self, connection: Connection) -> None:
        self._connections.append(connection)
        self._selector.register(connection.sock, selectors.EVENT_READ, lambda now: self._heed(connection))

    def _heed(self, connection: Connection) -> None:
        for line in connection.receive() if not connection.deaf else ():
            self._take(connection, line)

    def _take(self, connection: Connection, line: bytes) -> None:
        try:
            request = parse(line)
            watches = sum(each.watches for each in self._connections)
            if len(connection.jobs) >= MOST_JOBS or (request.command is Command.WATCH and watches >= MOST_WATCHES):
                text = f"{MOST_WATCHES} clients are watching already. End one, or ask for status."
                raise ProtocolError(Code.REFUSED, text, request.id)
            connection.watches = request.command is Command.WATCH
            connection.jobs.append(begin(request, self._parent))
        except ProtocolError as error:
            connection.say(error.answer)
        except Exception as error:  # the edge: what one request breaks must not reach the workers
            _log.exception("a request to the admin socket failed")
            connection.say(failed(Code.FAILED, f"{type(error).__name__}: {error}"))

    def serve(self, now: float) -> None:
        """One turn for everybody."""
        if self._deaf_until is not None and now >= self._deaf_until and self._socket is not None:
            self._deaf_until = None
            self._selector.register(self._socket, selectors.EVENT_READ, self.accept)
        for connection in list(self._connections):
            self._serve(connection, now)
            if connection.gone:
                self._part(connection)

    def _serve(self, connection: Connection, now: float) -> None:
        connection.flush(now)
        for job in list(connection.jobs) if not connection.writing else ():
            for line in job.poll(now):
                connection.say(line)
            if job.over:
                connection.jobs.remove(job)
        connection.flush(now)
        connection.settle(now)
        if not connection.gone:
            self._attend(connection)

    def _attend(self, connection: Connection) -> None:
        wanted = selectors.EVENT_READ * (not connection.deaf) | selectors.EVENT_WRITE * connection.writing
        key = self._selector.get_map().get(connection.sock)
        if key is None and wanted:
            self._selector.register(connection.sock, wanted, lambda now: self._heed(connection))
        elif key is not None and not wanted:
            self._selector.unregister(connection.sock)
        elif key is not None and key.events != wanted:
            self._selector.modify(connection.sock, wanted, key.data)

    def _part(self, connection: Connection) -> None:
        if connection.sock in self._selector.get_map():
            self._selector.unregister(connection.sock)
        self._connections.remove(connection)
        connection.sock.close()

    def forget(self) -> list[Callable[[], object]]:
        """What closes all of it in a forked child."""
        closing: list[Callable[[], object]] = [connection.sock.close for connection in self._connections]
        return [*closing, self._socket.forget] if self._socket is not None else closing

    def close(self, now: float) -> None:
        """The end: whoever still listens is told so."""
        self.serve(now)
        for connection in list(self._connections):
            self._part(connection)
        if self._socket is not None:
            if self._deaf_until is None:
                self._selector.unregister(self._socket)
            self._socket.close()
