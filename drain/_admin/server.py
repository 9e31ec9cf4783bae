"""The admin socket of this process: when there is one, and for whom it speaks.

It is there from the first server that listens until the last one is gone, stopped ones included: a preStop hook that comes late
must hear that all is done. One daemon thread serves it (loop.py), so a server that merely serves pays nothing. A forked child
begins anew.
"""

import atexit
import logging
import os
import socket
import threading
import time
from collections.abc import Callable

from drain import _worker, events
from drain._admin import details
from drain._admin.answering import Administered, Process
from drain._admin.connection import Connection
from drain._admin.listening import AdminSocket
from drain._admin.loop import Loop
from drain.errors import DrainError

__all__ = ["Admin", "Administered"]

ORPHANED = "the parent process is gone"
_LAST_WORDS = 0.5  # seconds of the process's end for answers that are not written yet
_REMEDY = "Set DRAIN_RUNTIME_DIR to a folder of this user's own, mode 0700; admin=False does without the socket."


class Admin:
    """One for each process; made by the first `register` or `control`. Thread safe."""

    _lock = threading.Lock()  # of the class: guards all that follows, but what the loop keeps for itself
    _shared: "Admin | None" = None
    _fallback_told = False
    _at_exit = False

    @classmethod
    def register(cls, subject: Administered, tell: Callable[[events.Event], None], *, listen: bool = True) -> None:
        """A server that listens now. Opens the socket with the first one; a socket that cannot be had is a FallbackTaken, once.

        Takes about a millisecond, and raises nothing for want of a socket or a thread. The server is held weakly. `listen` False:
        a worker's server that only its parent may ask.
        """
        fallback: events.FallbackTaken | None = None
        with cls._lock:
            try:
                cls._running()._add(subject, listen)
            except (OSError, DrainError, RuntimeError) as error:  # RuntimeError: no further thread can be had
                if not cls._fallback_told:
                    cls._fallback_told = True
                    fallback = events.FallbackTaken(
                        "the admin socket", "preStop and drain status cannot reach this process", str(error), _REMEDY
                    )
        if fallback is not None:  # outside the lock: it goes to the user's code
            tell(fallback)

    @classmethod
    def control(cls, connection: socket.socket) -> None:
        """Serve a worker's connection to its parent, which is ours from now on. Its end means that the parent is gone.

        Then every server leaves, those of later too. Raises OSError or RuntimeError where no descriptor or thread is to be had.
        """
        connection.setblocking(False)
        with cls._lock:
            admin = cls._running()
            admin._controls += 1
            loop = admin._loop
            loop.post(lambda: loop.welcome(Connection(connection, time.monotonic(), control=True)))

    @classmethod
    def _running(cls) -> "Admin":
        if cls._shared is None:
            admin = cls()
            try:
                admin._thread.start()
            except BaseException:
                admin._loop.close()
                raise
            cls._shared = admin
            if not cls._at_exit:
                cls._at_exit = True
                atexit.register(_finish_at_exit)
        return cls._shared

    def __init__(self) -> None:
        self._subjects: list[tuple[Administered, object]] = []
        self._socket: AdminSocket | None = None
        self._controls = 0
        self._orphaned = False
        self._loop = Loop(self._servers, _process, self._orphan)
        self._thread = threading.Thread(target=self._run, name="drain-admin", daemon=True)

    def _add(self, subject: Administered, listen: bool) -> None:
        loop = self._loop
        # The last reference to a server may go anywhere, amid any lock: its end only wakes the thread, which then looks.
        reference = subject.when_gone(loop.wake)
        self._subjects.append((subject, reference))  # first: a parent can ask even where no socket is to be had
        if self._orphaned:
            loop.post(lambda: _leave(subject))
        if listen and self._socket is None:
            self._socket = opened = AdminSocket()
            loop.post(lambda: loop.listen(opened))

    # The thread.

    def _run(self) -> None:
        try:
            self._loop.run(self._going_on)
        except Exception:  # the root of the thread: nothing of it may reach the servers
            logging.getLogger("drain").exception("drain.admin_failed")
        with type(self)._lock:
            if type(self)._shared is self:
                type(self)._shared = None
            if self._socket is not None:
                self._socket.close()
        self._loop.close()

    def _servers(self) -> list[Administered]:
        with type(self)._lock:
            return [subject for subject, _ in self._subjects if subject.alive]

    def _going_on(self) -> bool:
        """Whether there is a server to speak for, a parent to listen to, or a client who is still being answered."""
        with type(self)._lock:
            self._subjects = [each for each in self._subjects if each[0].alive]
            if self._loop.posted:
                return True
            if self._socket is not None and not self._subjects:
                self._loop.stop_listening()
                self._socket.close()
                self._socket = None
            if self._subjects or self._controls or self._loop.connected:
                return True
            type(self)._shared = None
            return False

    def _orphan(self) -> None:
        with type(self)._lock:
            self._orphaned = True
            self._controls -= 1
        for server in self._servers():
            _leave(server)


def _leave(server: Administered) -> None:
    try:
        server.leave(ORPHANED)
    except (DrainError, ReferenceError):  # it leaves already, or is gone
        logging.getLogger("drain").debug("drain.admin_orphan_gone")


def _process() -> Process:
    worker = _worker.current
    if worker is None:
        return Process(os.getpid(), "server", {}, details.details)
    return Process(os.getpid(), "worker", {"worker": worker.number}, details.details)


def _finish_at_exit() -> None:
    """A daemon thread does not see the end: let it tell whoever waits for a drain that is over, and take the file away.

    No lock: somebody may hold it for ever by now.
    """
    admin = Admin._shared
    if admin is None:
        return
    if admin._socket is not None:
        admin._socket.remove()
    admin._loop.wake()
    until = time.monotonic() + _LAST_WORDS
    while admin._loop.answering and time.monotonic() < until:
        time.sleep(0.002)


def _forget_in_child() -> None:
    """What we hold here are the parent's sockets: they go on there, and its file stays. Here is nobody who serves them."""
    admin, Admin._shared = Admin._shared, None
    Admin._lock = threading.Lock()  # who held it is not here
    Admin._fallback_told = False
    if admin is not None:
        if admin._socket is not None:
            admin._socket.forget()
        admin._loop.close()


os.register_at_fork(after_in_child=_forget_in_child)
