"""A parent with its workers, from the thread of a test."""

import json
import os
import signal as signals
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from drain._demo.children import Child, Event
from tests.integration._servers.process import _ask
from tests.integration._servers.waiting import BOUND, until

MODULE = "tests.integration._workers.program"


class Group:
    """`program.py` with these settings, running in a session of its own. Kill it at the end."""

    def __init__(self, **settings: Any) -> None:
        self._child: Child = _ask(Child.start("workers", MODULE, json.dumps(settings)))
        self.workers = settings.get("workers", 2)

    @property
    def pid(self) -> int:
        """The parent's."""
        return self._child.pid

    def said(self, event: str, **values: object) -> list[Event]:
        """Every such event so far."""
        return [each for each in list(self._child.events) if each["event"] == event and each.items() >= values.items()]

    def until(self, event: str, within: float = BOUND, *, times: int = 1, **values: object) -> Event:
        """The n-th such event."""

        def found() -> list[Event]:
            assert (
                self._child._process.returncode is None
                or len(self.said(event, **values)) >= times
                or (not self._child._readers.done())
            ), self.stderr
            return self.said(event, **values)[times - 1 :]

        try:
            return until(found, within)[0]
        except AssertionError as error:
            raise AssertionError(f"{error}: {event} {values}; {self._child.events[-20:]}; {self.stderr}") from None

    def ready(self, times: int | None = None) -> "Group":
        """Wait until so many workers have served (None: all)."""
        self.until("phase", phase="serving", times=times or self.workers)
        until(lambda: len(self.serving) >= self.workers)
        until(lambda: [w["state"] for w in self.ask("status")[0]["workers"]] == ["serving"] * self.workers)
        return self

    @property
    def serving(self) -> dict[int, int]:
        """Pid by number, of the last ones that began to serve and live."""
        return {e["number"]: e["pid"] for e in self.said("phase", phase="serving") if lives(e["pid"])}  # type: ignore[misc, arg-type]

    @property
    def port(self) -> int:
        """The shared one."""
        return int(str(self.until("started")["address"]).rpartition(":")[2])

    @property
    def stderr(self) -> str:
        """The last lines."""
        return self._child.stderr_tail()

    def signal(self, number: signals.Signals, pid: int | None = None) -> None:
        """To the parent, or to that process."""
        os.kill(pid or self.pid, number)

    def signal_all(self, number: signals.Signals) -> None:
        """To parent and workers, as a terminal does."""
        os.killpg(self.pid, number)

    def exit_code(self, within: float = BOUND) -> int:
        """Wait for the parent's end, and of all that have its stdout."""
        code = _ask(self._child.ended(within))
        if code not in (0, -signals.SIGTERM) and not self.said("failed"):
            print(self.stderr)
        return code  # type: ignore[no-any-return]

    def parent_gone(self) -> None:
        """Wait for the parent's end alone."""
        _ask(self._child._process.wait())

    @property
    def report(self) -> dict[str, Any]:
        """What run_workers returned."""
        return self.until("returned")["report"]  # type: ignore[return-value]

    def ask(self, command: str, pid: int | None = None, **more: object) -> list[dict[str, Any]]:
        """Ask the admin socket, to the end of the answer."""
        return list(self.asking(command, pid, **more))

    def asking(self, command: str, pid: int | None = None, **more: object) -> Iterator[dict[str, Any]]:
        """The lines, one by one."""
        path = Path(os.environ["DRAIN_RUNTIME_DIR"]) / f"admin-{pid or self.pid}.sock"
        until(path.exists)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(BOUND)
            sock.connect(str(path))
            sock.sendall(json.dumps({"version": 1, "command": command, **more}).encode() + b"\n")
            with sock.makefile("rb") as answer:
                for line in answer:
                    yield json.loads(line)

    def kill(self) -> None:
        """End all of it at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signals.SIGCONT)
            os.killpg(self.pid, signals.SIGKILL)
        self._child.kill()
        _ask(self._child.gone())


def lives(pid: int) -> bool:
    """Whether there is such a process, and not merely its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False


def children(pid: int) -> list[int]:
    """Of that process."""
    with suppress(OSError):
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
