"""The thread of the admin socket: one selector for all clients, asleep unless somebody asks. It never waits for a client."""

import contextlib
import logging
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence

from drain._admin.answering import Administered, Process, begin
from drain._admin.connection import MOST_JOBS, Connection
from drain._admin.listening import AdminSocket, turn_away
from drain._admin.protocol import Code, Command, ProtocolError, Request, failed, parse

MOST_CONNECTIONS = 16
MOST_WATCHES = 12  # of them: a preStop hook must find a place, however many people are watching
_ACCEPTED_AT_ONCE = 32
_OUT_OF_FILES = 0.5  # seconds until the next attempt to accept, where no file descriptor was left


class Loop:
    """`post` and `wake` are for any thread, `wake` for a finalizer too; `close` and `forget` for when nothing runs; the rest is
    the thread's own.

    Args:
        servers: those that are there now. process: who we are. orphaned: called when a parent has gone.

    Raises OSError where no file descriptor is left.
    """

    def __init__(
        self,
        servers: Callable[[], Sequence[Administered]],
        process: Callable[[], Process],
        orphaned: Callable[[], None],
    ) -> None:
        self._servers, self._process, self._orphaned = servers, process, orphaned
        self._posted: deque[Callable[[], None]] = deque()
        self._connections: dict[int, Connection] = {}
        self._listener: AdminSocket | None = None
        self._deaf_until: float | None = None  # while there is no descriptor to accept with
        self._selector = selectors.DefaultSelector()
        try:
            self._bell, self._button = socket.socketpair()
        except BaseException:
            self._selector.close()
            raise
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)

    def post(self, action: Callable[[], None]) -> None:
        """Have the thread do something."""
        self._posted.append(action)
        self.wake()

    def wake(self) -> None:
        """Have the thread look. Takes no lock and never raises."""
        with contextlib.suppress(OSError):  # full: it wakes anyhow; closed: it has ended
            self._button.send(b"\0")

    @property
    def posted(self) -> bool:
        """Whether the thread has something to do yet."""
        return bool(self._posted)

    @property
    def connected(self) -> bool:
        """Whether anybody is connected."""
        return bool(self._connections)

    @property
    def answering(self) -> bool:
        """Whether an answer is not yet complete, or not yet written. Any thread."""
        return any(each.answering for each in list(self._connections.values()))

    def run(self, going_on: Callable[[], bool]) -> None:
        """Serve as long as `going_on()`, which is asked after every turn."""
        while going_on():
            for key, _ in self._selector.select(self._timeout()):
                self._heed(key.fileobj)
            while self._posted:
                self._posted.popleft()()
            self._serve_all(time.monotonic())

    def listen(self, listener: AdminSocket) -> None:
        """Accept there from now on."""
        self._listener = listener
        self._selector.register(listener, selectors.EVENT_READ)

    def stop_listening(self) -> None:
        """Accept no more. The socket is not ours to close."""
        if self._listener is not None and self._deaf_until is None:
            self._selector.unregister(self._listener)
        self._listener = self._deaf_until = None

    def welcome(self, connection: Connection) -> None:
        """Serve a connection from now on."""
        self._connections[connection.sock.fileno()] = connection
        self._selector.register(connection.sock, selectors.EVENT_READ)

    def close(self) -> None:
        """Give everything back. In a forked child too: it changes nothing in the epoll instance that the parent has."""
        for connection in list(self._connections.values()):
            connection.sock.close()
        self._connections.clear()
        self._selector.close()
        self._bell.close()
        self._button.close()

    def _timeout(self) -> float | None:
        times = [self._deaf_until]
        for connection in self._connections.values():
            times.append(connection.until)
            if not connection.writing:
                times += [job.wake for job in connection.jobs]
        wakes = [wake for wake in times if wake is not None]
        return max(0.0, min(wakes) - time.monotonic()) if wakes else None

    def _heed(self, ready: object) -> None:
        if ready is self._bell:
            with contextlib.suppress(BlockingIOError):
                self._bell.recv(4096)
        elif ready is self._listener:
            self._accept(time.monotonic())
        elif isinstance(ready, socket.socket) and (connection := self._connections.get(ready.fileno())) is not None:
            for line in connection.receive() if not connection.deaf else ():
                self._take(connection, line)

    def _accept(self, now: float) -> None:
        assert self._listener is not None
        try:
            for _ in range(_ACCEPTED_AT_ONCE):
                if (sock := self._listener.accept()) is None:
                    return
                if sum(not connection.control for connection in self._connections.values()) < MOST_CONNECTIONS:
                    self.welcome(Connection(sock, now))
                else:
                    turn_away(sock, f"{MOST_CONNECTIONS} clients are connected already. End one, or try again later.")
        except (
            OSError
        ):  # no descriptor left: the client stays in the queue, and the selector would wake us at once again
            self._selector.unregister(self._listener)
            self._deaf_until = now + _OUT_OF_FILES

    def _take(self, connection: Connection, line: bytes) -> None:
        try:
            request = parse(line)
            self._admit(connection, request)
            job = begin(request, self._servers, self._process(), self.wake, control=connection.control)
        except ProtocolError as error:
            connection.say(error.answer)
        except Exception as error:  # the edge: what one request breaks must not reach the others
            logging.getLogger("drain").exception("drain.admin_request_failed")
            connection.say(failed(Code.FAILED, f"{type(error).__name__}: {error}", request.id))
        else:
            connection.jobs.append(job)

    def _admit(self, connection: Connection, request: Request) -> None:
        if len(connection.jobs) >= MOST_JOBS:
            text = f"{MOST_JOBS} requests of this connection are not answered yet. Wait for one."
            raise ProtocolError(Code.REFUSED, text, request.id)
        if request.command is Command.WATCH and not connection.control:
            if sum(each.watches for each in self._connections.values()) >= MOST_WATCHES:
                text = f"{MOST_WATCHES} clients are watching already. End one, or ask for status."
                raise ProtocolError(Code.REFUSED, text, request.id)
            connection.watches = True

    def _serve_all(self, now: float) -> None:
        if self._deaf_until is not None and now >= self._deaf_until and self._listener is not None:
            self._deaf_until = None
            self._selector.register(self._listener, selectors.EVENT_READ)
        for connection in list(self._connections.values()):
            self._serve(connection, now)
            if connection.gone:
                self._part(connection)
            else:
                self._attend(connection)

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
            self._selector.register(connection.sock, wanted)
        elif key is not None and not wanted:
            self._selector.unregister(connection.sock)
        elif key is not None and key.events != wanted:
            self._selector.modify(connection.sock, wanted)

    def _part(self, connection: Connection) -> None:
        if connection.sock in self._selector.get_map():
            self._selector.unregister(connection.sock)
        del self._connections[connection.sock.fileno()]
        connection.sock.close()
        if connection.control:
            self._orphaned()
