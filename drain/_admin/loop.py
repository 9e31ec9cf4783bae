"""The thread of the admin socket: one selector for all clients, asleep unless somebody asks. It never waits for a client."""

import contextlib
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence

from drain._admin.answering import Administered, Job, Process, begin
from drain._admin.connection import Connection
from drain._admin.listening import AdminSocket
from drain._admin.protocol import Request
from drain._admin.reception import Reception


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
        self._selector = selectors.DefaultSelector()
        self._reception = Reception(self._selector, self._begin, self._parted)
        try:
            self._bell, self._button = socket.socketpair()
        except BaseException:
            self._selector.close()
            raise
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ, self._hear_bell)

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
        return self._reception.connected

    @property
    def answering(self) -> bool:
        """Whether an answer is not yet complete, or not yet written. Any thread."""
        return self._reception.answering

    def run(self, going_on: Callable[[], bool]) -> None:
        """Serve as long as `going_on()`, which is asked after every turn."""
        while going_on():
            for key, _ in self._selector.select(self._timeout()):
                key.data(time.monotonic())
            while self._posted:
                self._posted.popleft()()
            self._reception.serve(time.monotonic())

    def listen(self, listener: AdminSocket) -> None:
        """Accept there from now on."""
        self._reception.listen(listener)

    def stop_listening(self) -> None:
        """Accept no more. The socket is not ours to close."""
        self._reception.stop_listening()

    def welcome(self, connection: Connection) -> None:
        """Serve a connection from now on."""
        self._reception.welcome(connection)

    def close(self) -> None:
        """Give everything back. In a forked child too: it changes nothing in the epoll instance that the parent has."""
        for sock in self._reception.sockets():
            sock.close()
        self._selector.close()
        self._bell.close()
        self._button.close()

    def _timeout(self) -> float | None:
        wake = self._reception.wake
        return None if wake is None else max(0.0, wake - time.monotonic())

    def _hear_bell(self, now: float) -> None:
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(4096)

    def _begin(self, request: Request, connection: Connection) -> Job:
        return begin(request, self._servers, self._process(), self.wake, control=connection.control)

    def _parted(self, connection: Connection) -> None:
        if connection.control:
            self._orphaned()
