"""One worker's process, as its parent knows it: what it told, and what it is asked. Nothing here blocks."""

import contextlib
import json
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from drain._admin.protocol import VERSION
from drain._workers.launch import Launched
from drain._workers.report import drain_report
from drain.events import State
from drain.report import DrainReport

_ORDER = list(State)
_MOST = 1024 * 1024  # bytes of one message, or of answers that are not yet a line: far more than any has
_log = logging.getLogger("drain")

Answer = Callable[[dict[str, Any]], object]


@dataclass(slots=True)
class Process:
    """For one thread.

    Attributes:
        serial, number: which member of the fleet, in which place.
        states: of its servers. longest: seconds that its drain may take; None: not told. reserve: those left to the pod then.
        ports: on which its servers listen.
        time_left: what it told with its last state, and when.
        reports: of its servers. words: its last ones, if it ended with an error.
        listens: on the shared port. ending: `serve` is over, and the process on its way out.
    """

    serial: int
    number: int
    launched: Launched
    states: dict[int, State] = field(default_factory=dict)
    longest: float | None = None
    reserve: float = 0.0
    ports: set[int] = field(default_factory=set)
    time_left: tuple[float | None, float] = (None, 0.0)
    reports: dict[int, DrainReport] = field(default_factory=dict)
    words: str = ""
    listens: bool = False
    ending: bool = False
    _ids: int = 0
    _waiting: dict[int, Answer] = field(default_factory=dict)
    _incoming: bytearray = field(default_factory=bytearray)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.launched.pid

    @property
    def state(self) -> State:
        """Of the server that is the farthest from its end."""
        if not self.listens:
            return State.STARTING
        return min(self.states.values(), key=_ORDER.index, default=State.STARTING)

    @property
    def drained(self) -> bool:
        """All its servers have reported."""
        return bool(self.states) and self.reports.keys() >= self.states.keys()

    def left(self, now: float) -> float | None:
        """Seconds until its drain is over at the latest; None: nobody knows."""
        told, at = self.time_left
        return None if told is None else max(0.0, told - (now - at))

    def __str__(self) -> str:
        return f"worker {self.number} (pid {self.pid})"

    def how(self, exit_code: int, overdue: bool) -> str:
        """How it ended, in a few words."""
        if overdue and not self.listens:
            others = f" (it listens on {', '.join(map(str, sorted(self.ports)))})" if self.ports else ""
            return f"did not listen in time{others}, and was killed"
        if overdue:
            return "outstayed its time, and was killed"
        if self.words:
            return f"ended: {self.words}"
        if exit_code < 0:
            return f"was ended by {signal.Signals(-exit_code).name}"
        return f"ended (exit code {exit_code})"

    # What it tells.

    def hear(self, now: float) -> bool:
        """Read all its news. False if nothing will come any more."""
        while True:
            try:
                packet = self.launched.news.recv(_MOST)
            except (BlockingIOError, InterruptedError):
                return True
            except OSError:
                return False
            if not packet:
                return False
            with contextlib.suppress(ValueError, KeyError, TypeError):  # cut off in its midst by the end of the process
                self._note(json.loads(packet), now)

    def _note(self, told: dict[str, Any], now: float) -> None:
        match told["kind"]:
            case "opened":
                self.states[told["server"]] = State.SERVING
                self.ports |= set(told["ports"])
                if told["longest"] is not None:
                    self.longest = max(self.longest or 0.0, told["longest"])
                self.reserve = max(self.reserve, told["reserve"])
                self.listens = self.listens or told["shares"]
            case "state":
                self.states[told["server"]] = State(told["state"])
                self.time_left = (told["time_left"], now)
            case "report":
                self.reports[told["server"]] = drain_report(told["report"])
            case "ending":
                self.ending = True
            case "words":
                self.words = " ".join(str(told["words"]).split())

    # What it is asked.

    def ask(self, command: str, answer: Answer, **more: object) -> bool:
        """Ask by the admin protocol; `answer` gets the last line. False if it cannot be asked: it is gone, or hangs."""
        self._ids += 1
        line = json.dumps({"version": VERSION, "id": self._ids, "command": command, **more}).encode() + b"\n"
        try:
            whole = self.launched.control.send(line) == len(line)
        except OSError:
            return False
        self._waiting[self._ids] = answer
        return whole

    def listen(self) -> bool:
        """Read its answers. False if none will come any more; whoever waits for one is told so."""
        try:
            data = self.launched.control.recv(64 * 1024)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            data = b""
        self._incoming += data
        *lines, self._incoming = self._incoming.split(b"\n")
        for line in lines:
            self._take(bytes(line))
        if data and len(self._incoming) <= _MOST:
            return True
        self.hang_up()
        return False

    def _take(self, line: bytes) -> None:
        try:
            told = json.loads(line)
            if told["kind"] == "end" and (answer := self._waiting.pop(told.get("id"), None)) is not None:
                answer(told)
        except (ValueError, KeyError, TypeError):
            _log.warning("%s answered what cannot be understood: %.200r", self, line)

    def hang_up(self) -> None:
        """Nobody answers any more."""
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            answer({"kind": "end", "ok": False, "error": f"{self} is gone", "code": "failed"})

    def close(self) -> None:
        """Its end, and in a forked child: these ends are the parent's."""
        self.launched.control.close()
        self.launched.news.close()
