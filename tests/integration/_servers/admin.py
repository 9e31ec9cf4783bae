"""Asking an admin socket, as plainly as can be: the tests' own client, which sends what it is told, right or wrong."""

import json
import socket
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from drain._core.lifecycle import Input
from drain.events import State
from drain.report import DrainReport
from drain.status import ServerStatus
from tests.integration._servers.waiting import BOUND


class Talk:
    """One connection. Close it, or use it as a context."""

    def __init__(self, path: Path | socket.socket) -> None:
        if isinstance(path, Path):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(str(path))
        else:
            self.sock = path
        self.sock.settimeout(BOUND)
        self._lines = self.sock.makefile("rb")

    def __enter__(self) -> "Talk":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def say(self, command: str, **fields: Any) -> "Talk":
        self.sock.sendall(json.dumps({"version": 1, "command": command, **fields}).encode() + b"\n")
        return self

    def line(self) -> dict[str, Any]:
        """The next line of the answer; fails when there is none."""
        line = self._lines.readline()
        assert line, "the connection ended"
        found = json.loads(line)
        assert isinstance(found, dict)
        return found

    def rest(self) -> list[dict[str, Any]]:
        """All lines until the other end hangs up."""
        return [json.loads(line) for line in self._lines]

    def close(self) -> None:
        self._lines.close()
        self.sock.close()


def ask(path: Path, command: str, **fields: Any) -> list[dict[str, Any]]:
    """All lines of one answer."""
    with Talk(path) as talk:
        return talk.say(command, **fields).rest()


def admin_socket(directory: Path, pid: int) -> Path:
    """Where the process with that pid listens."""
    return directory / f"admin-{pid}.sock"


class FakeServer:
    """Serves nobody."""

    state = State.SERVING


class FakeSubject:
    """As the admin socket sees it."""

    def __init__(self, server: FakeServer) -> None:
        self._ref = weakref.ref(server)

    @property
    def alive(self) -> bool:
        return self._ref() is not None

    @property
    def state(self) -> State:
        return State.SERVING if self.alive else State.STOPPED

    def when_gone(self, callback: Callable[[], None]) -> object:
        return weakref.ref(self._ref(), lambda _: callback())

    def status(self) -> ServerStatus:
        if not self.alive:
            raise ReferenceError("the server was dropped")
        return ServerStatus((), State.SERVING, 0.0)

    def request(self, what: Input, reason: str) -> "Future[int]":
        raise NotImplementedError

    def leave(self, reason: str, *, announce: bool = True, hold: bool = False) -> "Future[DrainReport]":
        raise NotImplementedError

    replace = leave
