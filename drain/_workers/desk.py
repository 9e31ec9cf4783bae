"""What may be asked of the parent of workers over its admin socket: the admin protocol's commands, passed on to all workers.

Each is a job (see `drain._admin.answering.Job`) that the parent's loop polls in every turn.
"""

import os
import time
from collections.abc import Iterator
from typing import Any, Protocol

from drain._admin import protocol
from drain._admin.protocol import Code, Command, ProtocolError, Request, Until
from drain._workers.process import Process
from drain.events import State

DONE_BOUND = 12.0  # seconds for a rotation, a pause or a resume: somewhat more than a worker takes at most
_LEFT = (State.CLOSING, State.FINISHING, State.STOPPED)


class Parent(Protocol):
    """Whom the jobs ask."""

    @property
    def over(self) -> bool: ...
    @property
    def leaving(self) -> bool: ...
    @property
    def replacing(self) -> bool: ...
    @property
    def round_failed(self) -> str: ...
    def processes(self) -> list[Process]: ...  # by number
    def about(self, now: float) -> dict[str, Any]: ...  # what its status line has besides
    def ask_all(self, command: str, answer: Any, **more: object) -> list[Process]: ...  # who could not be asked
    def leave(self, reason: str, *, announce: bool, hold: bool) -> None: ...
    def replace(self) -> None: ...


class Job:
    """One request that is being answered."""

    def __init__(self, request: Request, parent: Parent) -> None:
        self.wake: float | None = None
        self.over = False
        self._request, self._parent = request, parent

    def poll(self, now: float) -> Iterator[bytes]:
        """The lines that are due."""
        raise NotImplementedError

    def _end(self, errors: list[str], **more: Any) -> bytes:
        self.over = True
        if errors:
            return protocol.failed(Code.FAILED, "; ".join(errors), self._request.id, **more)
        return protocol.done(self._request.id, **more)


def begin(request: Request, parent: Parent) -> Job:
    """Carry a request out. Raises ProtocolError where it cannot be begun."""
    match request.command:
        case Command.STATUS | Command.WATCH:
            return _Watch(request, parent)
        case Command.DRAIN:
            return _Leave(request, parent)
    if parent.leaving:
        text = f"cannot {request.command.value}: the workers leave already."
        raise ProtocolError(Code.REFUSED, text, request.id)
    return _Replace(request, parent) if request.command is Command.REPLACE else _Ask(request, parent)


class _Watch(Job):
    """`status`, which is a watch of one line, and `watch`."""

    def __init__(self, request: Request, parent: Parent) -> None:
        super().__init__(request, parent)
        self._last: list[tuple[int, State]] | None = None

    def poll(self, now: float) -> Iterator[bytes]:
        states = [(each.serial, each.state) for each in self._parent.processes()]
        if states != self._last or self.wake is None or now >= self.wake:
            self._last, self.wake = states, now + self._request.interval
            yield protocol.status(os.getpid(), "parent", [], self._request.id, **self._parent.about(now))
        if self._request.command is Command.STATUS or self._parent.over:
            yield self._end([])


class _Ask(Job):
    """`rotate`, `pause`, `resume`: done when every worker says so."""

    def __init__(self, request: Request, parent: Parent) -> None:
        super().__init__(request, parent)
        self.wake = time.monotonic() + DONE_BOUND
        self._answers: list[dict[str, Any]] = []
        asked = [each for each in parent.processes() if each.listens]
        dumb = parent.ask_all(request.command.value, self._answers.append, reason=request.reason)
        self._errors = [f"{each} cannot be asked" for each in dumb]
        self._awaited = len(asked) - len(dumb)
        if not asked:
            raise ProtocolError(Code.REFUSED, "no worker listens now. Ask again later.", request.id)

    def poll(self, now: float) -> Iterator[bytes]:
        late = self.wake is not None and now >= self.wake
        if len(self._answers) < self._awaited and not late:
            return
        if missing := self._awaited - len(self._answers):
            self._errors.append(f"{missing} workers did not answer within {DONE_BOUND:g} s")
        errors = self._errors + [str(each.get("error")) for each in self._answers if not each.get("ok")]
        yield self._end(errors, connections=sum(int(each.get("connections", 0)) for each in self._answers))


class _Leave(Job):
    """`drain`: the phases as they are told, then the reports. `server` is the worker's number."""

    def __init__(self, request: Request, parent: Parent) -> None:
        super().__init__(request, parent)
        parent.leave(request.reason, announce=request.announce, hold=request.hold)
        self._leaving = parent.processes()
        self._told: dict[int, State] = {}
        self._reported: dict[int, int] = {}

    def poll(self, now: float) -> Iterator[bytes]:
        there = {each.serial for each in self._parent.processes()}
        for each in self._leaving:
            state = each.state
            if state.draining and self._told.get(each.serial) is not state:
                self._told[each.serial] = state
                yield protocol.phase(each.number, state.value, each.left(now), self._request.id, pid=each.pid)
            reports = list(each.reports.values())
            for report in reports[self._reported.get(each.serial, 0) :]:
                yield protocol.report(each.number, report.as_dict(), self._request.id)
            self._reported[each.serial] = len(reports)
        if all(each.serial not in there or self._has_left(each) for each in self._leaving):
            lost = [each for each in self._leaving if each.listens and not each.drained and each.serial not in there]
            yield self._end([f"{each} ended without a report" for each in lost])

    def _has_left(self, each: Process) -> bool:
        return each.drained or (self._request.until is Until.CLOSING and each.state in _LEFT)


class _Replace(Job):
    """`replace`: over when the round is."""

    def __init__(self, request: Request, parent: Parent) -> None:
        super().__init__(request, parent)
        parent.replace()

    def poll(self, now: float) -> Iterator[bytes]:
        if not self._parent.replacing:
            yield self._end([self._parent.round_failed] if self._parent.round_failed else [])
        elif self._parent.leaving:
            yield self._end(["the workers leave"])
