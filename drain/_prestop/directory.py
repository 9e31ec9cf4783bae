"""Where the servers' admin sockets are: the run-time directory, looked at and never made.

The same rules as `drain._runtime_dir`, which makes it (a test compares them); that module's own imports would cost a fifth of
the hook's time.
"""

import os
import stat
from collections.abc import Mapping

from drain._prestop.exits import NOT_OURS, UNAVAILABLE, ExitError

_REMEDY = "Set DRAIN_RUNTIME_DIR to what the server has."


def directory(environ: Mapping[str, str] = os.environ) -> str:
    """The directory, if it is there and can be trusted.

    Raises ExitError: UNAVAILABLE where there is none, NOT_OURS where others may have put sockets into it.
    """
    candidates = _candidates(environ)
    for path in candidates:
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ExitError(NOT_OURS, f"run-time directory {path}: {error.strerror}. {_REMEDY}") from error
        if (why := _wrong(found)) is not None:
            raise ExitError(NOT_OURS, f"run-time directory {path}: {why}")
        return path
    raise ExitError(
        UNAVAILABLE,
        f"no drain server found: there is no run-time directory {candidates[0]}. "
        f"Does the server run, as this user ({os.geteuid()})? {_REMEDY}",
    )


def _candidates(environ: Mapping[str, str]) -> list[str]:
    ours = f"drain-{os.geteuid()}"
    if chosen := environ.get("DRAIN_RUNTIME_DIR"):
        return [os.path.join(chosen, ours) if _is_shared(chosen) else chosen]
    if session := environ.get("XDG_RUNTIME_DIR"):
        return [os.path.join(session, "drain")]
    # As tempfile.gettempdir() looks for a place to write to; importing it would cost 5 ms.
    places = [environ[name] for name in ("TMPDIR", "TEMP", "TMP") if environ.get(name)]
    places += ["/tmp", "/var/tmp", "/usr/tmp", os.curdir]  # noqa: S108
    return [os.path.join(place, ours) for place in places]


def _is_shared(path: str) -> bool:
    """Whether it is a directory that others may write to, as a volume of Kubernetes is: ours is in it."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and bool(found.st_mode & 0o022)


def _wrong(found: os.stat_result) -> str | None:
    if not stat.S_ISDIR(found.st_mode):
        return f"is a link or a file, not a directory. {_REMEDY}"
    if found.st_uid != os.geteuid():
        return (
            f"belongs to user {found.st_uid}, not to us ({os.geteuid()}). Run the hook as the user who runs the server, or set "
            "DRAIN_RUNTIME_DIR to a folder of this user's own, for both."
        )
    if found.st_mode & 0o077:
        return (
            f"mode {stat.S_IMODE(found.st_mode):04o} lets others in. "
            "chmod 700 it, or set DRAIN_RUNTIME_DIR to a folder of your own, for the server and the hook."
        )
    return None
