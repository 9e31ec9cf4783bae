"""Who is connected to an admin socket, and what each still has to hear. Lives in somebody's loop, and never waits for a client.

Its sockets are registered with the loop's selector; the data of each key is what to call, with the time, when it is ready.
"""

import logging
import selectors
import socket
from collections.abc import Callable

from drain._admin.answering import Guarded, Job
from drain._admin.connection import MOST_JOBS, Connection
from drain._admin.listening import AdminSocket, turn_away
from drain._admin.protocol import Code, Command, ProtocolError, Request, failed, parse

MOST_CONNECTIONS = 16
MOST_WATCHES = 12  # of them: a preStop hook must find a place, however many people are watching
_ACCEPTED_AT_ONCE = 32
_OUT_OF_FILES = 0.5  # seconds until the next attempt to accept, where no file descriptor was left


class Reception:
    """Not thread safe, but for `answering`.

    Args:
        selector: the loop's. begin: carries a request out, which came over that connection; raises ProtocolError where it
            cannot be begun. parted: called when a connection has ended.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        begin: Callable[[Request, Connection], Job],
        parted: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        self._selector, self._begin, self._parted = selector, begin, parted
        self._connections: list[Connection] = []
        self._listener: AdminSocket | None = None
        self._deaf_until: float | None = None  # while there is no descriptor to accept with

    @property
    def connected(self) -> bool:
        """Whether anybody is connected."""
        return bool(self._connections)

    @property
    def answering(self) -> bool:
        """Whether an answer is not yet complete, or not yet written. Any thread."""
        return any(each.answering for each in list(self._connections))

    @property
    def wake(self) -> float | None:
        """When `serve` wants to be called at the latest."""
        times = [self._deaf_until]
        for connection in self._connections:
            times.append(connection.until)
            if not connection.writing:
                times += [job.wake for job in connection.jobs]
        return min((time for time in times if time is not None), default=None)

    def listen(self, listener: AdminSocket) -> None:
        """Accept there from now on."""
        self._listener = listener
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def stop_listening(self) -> None:
        """Accept no more. The socket is not ours to close."""
        if self._listener is not None and self._deaf_until is None:
            self._selector.unregister(self._listener)
        self._listener = self._deaf_until = None

    def welcome(self, connection: Connection) -> None:
        """Serve a connection from now on."""
        self._connections.append(connection)
        self._attend(connection)

    def serve(self, now: float) -> None:
        """One turn for everybody."""
        if self._deaf_until is not None and now >= self._deaf_until and self._listener is not None:
            self._deaf_until = None
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        for connection in list(self._connections):
            self._serve(connection, now)
            if connection.gone:
                self._part(connection)
            else:
                self._attend(connection)

    def sockets(self) -> list[socket.socket]:
        """Those of all connections: a forked child closes its copies."""
        return [connection.sock for connection in self._connections]

    def close(self) -> None:
        """The end of all connections."""
        for connection in list(self._connections):
            self._part(connection)

    def _accept(self, now: float) -> None:
        assert self._listener is not None
        try:
            for _ in range(_ACCEPTED_AT_ONCE):
                if (sock := self._listener.accept()) is None:
                    return
                if sum(not connection.control for connection in self._connections) < MOST_CONNECTIONS:
                    self.welcome(Connection(sock, now))
                else:
                    turn_away(sock, f"{MOST_CONNECTIONS} clients are connected already. End one, or try again later.")
        except OSError:  # no descriptor left: the client stays in the queue, and would wake us at once again
            self._selector.unregister(self._listener)
            self._deaf_until = now + _OUT_OF_FILES

    def _take(self, connection: Connection, line: bytes) -> None:
        asked = None
        try:
            request = parse(line)
            asked = request.id
            self._admit(connection, request)
            job = self._begin(request, connection)
        except ProtocolError as error:
            connection.say(error.answer)
        except Exception as error:  # the edge: what one request breaks must not reach the others
            logging.getLogger("drain").exception("drain.admin_request_failed")
            connection.say(failed(Code.FAILED, f"{type(error).__name__}: {error}", asked))
        else:
            connection.jobs.append(Guarded(job, asked))

    def _admit(self, connection: Connection, request: Request) -> None:
        if len(connection.jobs) >= MOST_JOBS:
            text = f"{MOST_JOBS} requests of this connection are not answered yet. Wait for one."
            raise ProtocolError(Code.REFUSED, text, request.id)
        if request.command is Command.WATCH and not connection.control:
            if sum(each.watches for each in self._connections) >= MOST_WATCHES:
                text = f"{MOST_WATCHES} clients are watching already. End one, or ask for status."
                raise ProtocolError(Code.REFUSED, text, request.id)
            connection.watches = True

    def _heed(self, connection: Connection) -> None:
        for line in connection.receive() if not connection.deaf else ():
            self._take(connection, line)

    def _serve(self, connection: Connection, now: float) -> None:
        connection.flush(now)
        # Who does not read is not told more: so nothing piles up here.
        for job in list(connection.jobs) if not connection.writing else ():
            for line in job.poll(now):
                connection.say(line)
            if job.over:
                connection.jobs.remove(job)
        connection.flush(now)
        connection.settle(now)

    def _attend(self, connection: Connection) -> None:
        """Wake for what this connection is waited for, and for nothing else."""
        wanted = selectors.EVENT_READ * (not connection.deaf) | selectors.EVENT_WRITE * connection.writing
        key = self._selector.get_map().get(connection.sock)
        if key is None and wanted:
            self._selector.register(connection.sock, wanted, lambda _: self._heed(connection))
        elif key is not None and not wanted:
            self._selector.unregister(connection.sock)
        elif key is not None and key.events != wanted:
            self._selector.modify(connection.sock, wanted, key.data)

    def _part(self, connection: Connection) -> None:
        if connection.sock in self._selector.get_map():
            self._selector.unregister(connection.sock)
        self._connections.remove(connection)
        connection.sock.close()
        self._parted(connection)
