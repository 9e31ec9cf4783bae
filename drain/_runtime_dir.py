"""The run-time directory: where this user's processes keep their sockets, and nobody else may look.

`DRAIN_RUNTIME_DIR`, else `$XDG_RUNTIME_DIR/drain`, else `<tmp>/drain-<uid>`; mode 0700, a real directory, owned by us, or an
error. One that is named and that others may write to is a place for such a directory, as /tmp is: ours is `drain-<uid>` in it.
Every volume of Kubernetes is mounted like that (an `emptyDir` is root's, mode 0777), whoever the container's user is.
Names are short, because a Unix socket's path has room for 107 characters.
"""

import errno
import os
import socket
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from drain.errors import ConfigurationError

MOST_PATH = 107
# Seconds. A socket that refuses may be about to listen: it is bound a moment before. One with our own name is in our way, so it
# is given up for dead earlier; the others have time.
_NEWBORN = 1.0
_STALE = 60.0
_ATTEMPTS = 100
_REMEDY = "Set DRAIN_RUNTIME_DIR to a folder of your own."


def runtime_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """The directory, made if need be. Raises ConfigurationError if it cannot be trusted."""
    path = where(environ)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise ConfigurationError(f"run-time directory {path}: {error.strerror}. {_REMEDY}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigurationError(f"run-time directory {path}: is a link or a file, not a directory. {_REMEDY}")
    if found.st_uid != os.geteuid():
        raise ConfigurationError(
            f"run-time directory {path}: belongs to user {found.st_uid}, not to us ({os.geteuid()}). {_REMEDY}"
        )
    if found.st_mode & 0o077:
        raise ConfigurationError(
            f"run-time directory {path}: mode {stat.S_IMODE(found.st_mode):04o} lets others in. "
            "chmod 700 it, or set DRAIN_RUNTIME_DIR to a folder of your own."
        )
    return path


def where(environ: Mapping[str, str] = os.environ) -> Path:
    """Its path, whether it is there or not. Raises ConfigurationError where there is no place for it."""
    ours = f"drain-{os.geteuid()}"
    if chosen := environ.get("DRAIN_RUNTIME_DIR"):
        path = Path(chosen).absolute()  # it must mean the same after a chdir
        return path / ours if _is_shared(path) else path
    if session := environ.get("XDG_RUNTIME_DIR"):
        return Path(session).absolute() / "drain"
    try:
        return Path(tempfile.gettempdir()) / ours
    except OSError as error:  # a container's root file system is often read-only
        raise ConfigurationError(
            f"run-time directory: {error.strerror}. Mount an emptyDir at /tmp, or name a folder in DRAIN_RUNTIME_DIR."
        ) from error


def _is_shared(path: Path) -> bool:
    """Whether it is a directory that others may write to."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and bool(found.st_mode & 0o022)


def new_socket_path(kind: str, directory: Path) -> Path:
    """A free name "<kind>-<pid>.sock" in the directory.

    What a process of our pid left behind is removed, but only where it is a socket that nobody listens on: two containers
    that share the directory may both be pid 1. Anything else of that name is left alone, and another name is taken. The name
    may be gone by the time it is bound, which fails then: see `held_socket_path`.
    """
    _sweep(kind, directory)
    for attempt in range(_ATTEMPTS):
        suffix = f"-{attempt}" if attempt else ""
        path = directory / f"{kind}-{os.getpid()}{suffix}.sock"
        if len(os.fsencode(path)) > MOST_PATH:
            raise ConfigurationError(
                f"socket {path}: longer than {MOST_PATH} characters. Set DRAIN_RUNTIME_DIR to a shorter path."
            )
        if not os.path.lexists(path) or _removed(path, age=_NEWBORN):
            return path
    raise ConfigurationError(
        f"run-time directory {directory}: full of {kind} sockets. Clear it, or set DRAIN_RUNTIME_DIR."
    )


@contextmanager
def held_socket_path(kind: str, directory: Path) -> Iterator[Path]:
    """A name as above that is ours until the block ends: a socket of our own listens there.

    For whoever replaces a socket that he finds, as grpc does when it binds: without it two processes that chose one name at the
    same time would share it, and the second would take the first one's clients.
    """
    with socket.socket(socket.AF_UNIX) as holder:
        for _ in range(_ATTEMPTS):
            path = new_socket_path(kind, directory)
            try:
                holder.bind(os.fspath(path))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:  # another process was quicker
                    continue
                raise ConfigurationError(f"socket {path}: {error.strerror}. {_REMEDY}") from error
            break
        else:
            raise ConfigurationError(f"run-time directory {directory}: no {kind} socket to be had. {_REMEDY}")
        holder.listen()
        yield path


def _sweep(kind: str, directory: Path) -> None:
    """Remove what killed processes left behind."""
    for path in directory.glob(f"{kind}-*.sock"):
        _removed(path, age=_STALE)


def _removed(path: Path, *, age: float) -> bool:
    """Whether a socket that nobody listens on, and that is at least so old, has been removed."""
    try:
        old = time.time() - path.lstat().st_mtime >= age
        if not old or not _is_dead_socket(path):
            return False
        path.unlink(missing_ok=True)
    except OSError:  # another process swept it first
        return False
    return True


def _is_dead_socket(path: Path) -> bool:
    if not stat.S_ISSOCK(path.lstat().st_mode):
        return False
    with socket.socket(socket.AF_UNIX) as caller:
        caller.setblocking(False)  # a living one whose queue is full is no reason to wait
        try:
            caller.connect(os.fspath(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False
