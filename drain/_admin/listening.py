"""The listening socket of the admin protocol: `admin-<pid>.sock` in the run-time directory, for this user alone.

Two doors, one behind the other: the directory (0700) and the socket (0600) keep others out; if somebody loosens them, the peer's
user, as the kernel tells it (SO_PEERCRED), is compared with ours.
"""

import errno
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path

from drain._admin.protocol import Code, failed
from drain._runtime_dir import new_socket_path, runtime_dir
from drain.errors import ConfigurationError

KIND = "admin"
_BACKLOG = 32
_ATTEMPTS = 100
_PEERCRED = getattr(socket, "SO_PEERCRED", None)
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


def peer_uid(connection: socket.socket) -> int:
    """Whose process is at the other end, as the kernel says. Raises OSError."""
    if _PEERCRED is None:
        raise OSError("this system does not tell who is at the other end of a socket (SO_PEERCRED)")
    _, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, _PEERCRED, _CREDENTIALS.size))
    return int(uid)


class AdminSocket:
    """The socket, listening. For one thread at a time.

    Raises ConfigurationError where the run-time directory is not ours or is full, OSError where no socket is to be had.
    """

    def __init__(self) -> None:
        if _PEERCRED is None:
            raise OSError("this system does not tell who is at the other end of a socket (SO_PEERCRED)")
        self._listener, self.path = _bound(runtime_dir())
        try:
            os.chmod(self.path, 0o600)  # before anybody can connect
            self._identity = _identity(self.path)
            self._listener.listen(_BACKLOG)
            self._listener.setblocking(False)
        except BaseException:
            self._listener.close()
            self.path.unlink(missing_ok=True)
            raise

    def fileno(self) -> int:
        """For a selector."""
        return self._listener.fileno()

    def accept(self) -> socket.socket | None:
        """The next connection of this user's, non-blocking; others are told so and dropped. None: nobody is waiting.

        Raises OSError where no file descriptor is left: then wait a moment, because the connection stays there.
        """
        while True:
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return None
            connection.setblocking(False)
            try:
                uid = peer_uid(connection)
            except OSError:
                connection.close()
                continue
            if uid == os.geteuid():
                return connection
            turn_away(connection, f"user {uid} may not ask here: only user {os.geteuid()}, who runs the server, may.")

    def remove(self) -> None:
        """Take the file away, if it is still ours: another process may have got the name. Never raises."""
        with suppress(OSError):
            if _identity(self.path) == self._identity:
                self.path.unlink()

    def close(self) -> None:
        """The end: no file, no socket."""
        self.remove()
        self._listener.close()

    def forget(self) -> None:
        """In a forked child: the socket is the parent's, and stays open there."""
        self._listener.close()


def turn_away(connection: socket.socket, why: str) -> None:
    """Say why, and hang up. The line fits into the buffer of a new connection."""
    with suppress(OSError):
        connection.send(failed(Code.REFUSED, why))
    connection.close()


def _bound(directory: Path) -> tuple[socket.socket, Path]:
    for _ in range(_ATTEMPTS):
        path = new_socket_path(KIND, directory)
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(os.fspath(path))
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:  # else another process with our pid was quicker
                raise ConfigurationError(f"socket {path}: {error.strerror}") from error
        else:
            return listener, path
    raise ConfigurationError(f"run-time directory {directory}: no {KIND} socket to be had")


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino
