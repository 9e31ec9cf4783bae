"""Asks admin sockets: the protocol's client, for the preStop hook, the command line and whoever else has a socket's path.

Standard library only, and of that only what is cheap to import: the hook runs while a pod's last seconds go by. One poll loop
asks any number of sockets at once, and waits for none of them: a server that is stopped, hung, or has a full queue costs the
caller its own time limit and not a moment more. docs/admin-protocol.md describes the protocol.
"""

import contextlib
import enum
import errno
import json
import os
import select
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

VERSION = 1
MOST_LINE = (
    16 * 1024 * 1024
)  # bytes of an answer's line: a report names peers and methods, of which there may be thousands
_AGAIN = 0.02  # seconds between attempts to connect to a socket whose queue is full, which the kernel does not announce
_LOOK = 3600.0  # seconds; poll itself takes no more than 24 days
_CHUNK = 256 * 1024
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_PEERCRED = getattr(socket, "SO_PEERCRED", None)


class Outcome(enum.Enum):
    """How a call ended."""

    DONE = "done"  # carried out
    REFUSED = "refused"  # the server said no: `error` and `code` say why
    GONE = "gone"  # the server hung up before the end of its answer: its process has ended, or is about to
    LATE = "late"  # it was not over in time
    ABSENT = "absent"  # nobody listens there
    FOREIGN = "foreign"  # another user's: not asked
    ELSEWHERE = "elsewhere"  # of another container (pid namespace), which shares our directory: not asked
    GARBLED = "garbled"  # what came is not this protocol


class Call:
    """One request to one socket; carried out by `talk`. For one thread.

    Args:
        path: of the socket.
        request: its fields, without the version: {"command": "status"}.
        anywhere: ask a server of another pid namespace, too. Without it a directory that two containers of a pod share does not
            make the hook of one drain the other.

    Attributes:
        pid: the server's process, as the kernel says; 0: of another pid namespace; None: not connected yet.
        outcome: how it ended; None: it has not.
        error: one line about what went wrong; empty: nothing. code: of REFUSED, the protocol's word for it.
        end: the last line of the answer, as far as there was one. answered: whether the server has said anything yet.
    """

    def __init__(self, path: str, request: Mapping[str, object], *, anywhere: bool = False) -> None:
        self.path = path
        self.pid: int | None = None
        self.outcome: Outcome | None = None
        self.error = self.code = ""
        self.end: dict[str, Any] = {}
        self.answered = False
        self._anywhere = anywhere
        self._outgoing = json.dumps({"version": VERSION, **request}).encode() + b"\n"
        self._incoming = bytearray()
        self._searched = 0  # bytes of it that hold no newline
        self._sock: socket.socket | None = None
        self._connected = False

    def connect(self) -> bool:
        """Try to. False: its queue is full, try again. Sets `outcome` where there is nobody to talk to. Never blocks."""
        try:
            if self._sock is None:
                self._sock = socket.socket(socket.AF_UNIX)
                self._sock.setblocking(False)
            self._sock.connect(self.path)
            self.pid, uid = _peer(self._sock)
        except BlockingIOError:
            return False
        except OSError as error:
            self._failed(error)
            return True
        self._connected = True
        if uid != os.geteuid():
            self.over(Outcome.FOREIGN, f"belongs to user {uid}, not to us ({os.geteuid()}). Ask as that user.")
        elif self.pid == 0 and not self._anywhere:
            self.over(
                Outcome.ELSEWHERE,
                "is of another container, which shares this directory. --socket asks it all the same.",
            )
        return True

    @property
    def connected(self) -> bool:
        """Whether there is a connection that may be polled."""
        return self._connected and self.outcome is None

    @property
    def wants(self) -> int:
        """What to poll for."""
        return select.POLLIN | (select.POLLOUT if self._outgoing else 0)

    def fileno(self) -> int:
        """For a poll."""
        assert self._sock is not None
        return self._sock.fileno()

    def proceed(self) -> list[dict[str, Any]]:
        """Write and read what can be now; returns the lines that came, the last one ("end") not among them. Never blocks."""
        assert self._sock is not None
        try:
            if self._outgoing:
                self._outgoing = self._outgoing[self._sock.send(self._outgoing) :]
        except BlockingIOError:
            pass
        except OSError:
            self._outgoing = b""  # it hung up; what it said before that is still to be read
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.over(Outcome.GONE, "hung up before its answer was complete")
            return []
        self._incoming += data
        return self._lines()

    def over(self, outcome: Outcome, error: str = "", code: str = "") -> None:
        """It has ended so."""
        self.outcome, self.error, self.code = outcome, error, code
        self.close()

    def close(self) -> None:
        """Hang up. Idempotent."""
        if self._sock is not None:
            self._sock.close()

    def _failed(self, error: OSError) -> None:
        if error.errno in (errno.ECONNREFUSED, errno.ENOENT, errno.ENOTDIR):
            self.over(
                Outcome.ABSENT, "nobody listens there any more" if error.errno == errno.ECONNREFUSED else "is not there"
            )
        elif error.errno in (errno.EACCES, errno.EPERM):
            self.over(
                Outcome.FOREIGN, f"does not let us in (user {os.geteuid()}). Ask as the user who runs the server."
            )
        else:  # a path that is too long, no descriptor left
            self.over(Outcome.ABSENT, error.strerror or str(error))

    def _lines(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while self.outcome is None:
            end = self._incoming.find(b"\n", self._searched)
            if end < 0:
                self._searched = len(self._incoming)
                if self._searched > MOST_LINE:
                    self.over(Outcome.GARBLED, f"sent a line of more than {MOST_LINE} bytes")
                break
            line, self._incoming, self._searched = bytes(self._incoming[:end]), self._incoming[end + 1 :], 0
            self._one(line, found)
        return found

    def _one(self, line: bytes, found: list[dict[str, Any]]) -> None:
        try:
            said = json.loads(line)
            if not isinstance(said, dict) or not isinstance(said.get("kind"), str):
                raise ValueError("no kind")
        except (ValueError, RecursionError):
            self.over(Outcome.GARBLED, f"sent what is not this protocol: {line[:60]!a}")
            return
        self.answered = True
        if said["kind"] != "end":
            found.append(said)
            return
        self.end = said
        if said.get("ok") is True:
            self.over(Outcome.DONE)
        else:
            why = " ".join(str(said.get("error") or "no reason given").split())
            self.over(Outcome.REFUSED, why, str(said.get("code") or "failed"))


def talk(calls: Sequence[Call], until: float | None = None) -> Iterator[tuple[Call, dict[str, Any]]]:
    """Carry out all calls at once: each line of an answer as it comes, with whose it is, until every call is over.

    Args:
        calls: each has its `outcome` when this is exhausted.
        until: seconds of time.monotonic(); what is not over by then ends as LATE. None: no limit, for a watch.

    Closing the generator hangs up. For one thread.
    """
    waiting = list(calls)  # for a connection
    looking = select.poll()
    polled: dict[int, Call] = {}
    try:
        while True:
            waiting = _connect(waiting, looking, polled)
            left = _LOOK if until is None else until - time.monotonic()
            if left <= 0 or not (waiting or polled):
                break
            for number, _ in looking.poll(1000 * min(left, _AGAIN if waiting else _LOOK) + 1):
                call = polled[number]
                for line in call.proceed():
                    yield call, line
                if call.connected:
                    looking.modify(number, call.wants)
                else:
                    looking.unregister(number)
                    del polled[number]
        for each in calls:
            if each.outcome is None:
                each.over(Outcome.LATE, "was not done in time" if each.answered else "has not answered in time")
    finally:
        for each in calls:
            each.close()


def _connect(waiting: list[Call], looking: select.poll, polled: dict[int, Call]) -> list[Call]:
    """Those that could not be connected yet; the others are polled from now on."""
    still = []
    for each in waiting:
        if not each.connect():
            still.append(each)
        elif each.connected:
            polled[each.fileno()] = each
            looking.register(each.fileno(), each.wants)
    return still


def sockets(directory: str) -> list[str]:
    """The admin sockets in a run-time directory, by process id; empty: none, or no directory."""
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        found = [name for name in os.listdir(directory) if name.startswith("admin-") and name.endswith(".sock")]
    return [os.path.join(directory, name) for name in sorted(found, key=lambda name: (len(name), name))]


def _peer(sock: socket.socket) -> tuple[int, int]:
    """Process and user at the other end, as the kernel says."""
    if _PEERCRED is None:
        raise OSError("this system does not tell who is at the other end of a socket (SO_PEERCRED)")
    pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, _PEERCRED, _CREDENTIALS.size))
    return int(pid), int(uid)
