"""What each command does to the servers of a process, line by line: jobs, which whoever runs the loop polls.

A job never blocks. It is polled when its time (`wake`) has come, or when something that it waits for is done: then `nudge` was
called.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from drain._admin import protocol
from drain._admin.protocol import Code, Command, Request, Until
from drain._core.lifecycle import Input
from drain.errors import DrainError
from drain.events import State
from drain.report import DrainReport
from drain.status import ServerStatus

LOOK = 0.02  # seconds between looks at a server that somebody watches or waits for
SHARE = 0.1  # of one processor that looking may cost: with thousands of connections a look takes longer
DONE_BOUND = 10.0  # seconds for a rotation, a pause or a resume, whose steps take 2 s each at most
# Every connection of theirs has its GOAWAY already, or is gone: there is nothing to ask for.
_DEAF = (State.CLOSING, State.FINISHING, State.STOPPED)
_INPUT = {Command.ROTATE: Input.ROTATE, Command.PAUSE: Input.PAUSE, Command.RESUME: Input.RESUME}


class Administered(Protocol):
    """A server as the admin socket sees it: `drain._subject.Subject`."""

    @property
    def alive(self) -> bool: ...
    @property
    def state(self) -> State: ...  # at no cost: a whole status of a server with a thousand connections takes 0.1 s
    def when_gone(self, callback: Callable[[], None]) -> object: ...
    def status(self) -> ServerStatus: ...
    def request(self, what: Input, reason: str) -> "Future[int]": ...
    def leave(self, reason: str, *, announce: bool = True, hold: bool = False) -> "Future[DrainReport]": ...
    def replace(self, reason: str) -> "Future[DrainReport]": ...


@dataclass(frozen=True, slots=True)
class Process:
    """Whose servers they are. `more` is what its role has besides (a worker its number), `details` what is told if asked for."""

    pid: int
    role: str
    more: dict[str, Any]
    details: Callable[[], dict[str, Any]] = dict


class Job(Protocol):
    """One request that is being answered."""

    @property
    def wake(self) -> float | None: ...  # when to poll at the latest, in seconds of time.monotonic(); None: when nudged
    @property
    def over(self) -> bool: ...
    def poll(self, now: float) -> Iterator[bytes]: ...  # the lines that are due


def _name_of(number: int, server: Administered) -> str:
    """What errors call the server in that place."""
    status = _look(server)
    return f"server {number} ({', '.join(status.addresses) or 'no address'})" if status else f"server {number}"


def _look(server: Administered) -> ServerStatus | None:
    """None: it is gone."""
    try:
        return server.status()
    except ReferenceError:
        return None


class _Looking:
    """Looks at servers, at a bounded cost."""

    def __init__(self) -> None:
        self.wake: float | None = None
        self.over = False

    def _looked(self, began: float) -> None:
        now = time.monotonic()
        self.wake = now + max(LOOK, (now - began) / SHARE)


class Watch(_Looking):
    """`status`, which is a watch of one line, and `watch`."""

    def __init__(
        self,
        request: Request,
        servers: Callable[[], Sequence[Administered]],
        process: Process,
        *,
        control: bool,
    ) -> None:
        super().__init__()
        self._request, self._servers, self._process = request, servers, process
        self._awaited = control  # a worker's server is still to come
        self._last: list[State] | None = None
        self._due = 0.0

    def poll(self, now: float) -> Iterator[bytes]:
        if self.wake is not None and now < self.wake:
            return
        began, servers = time.monotonic(), self._servers()
        states = [server.state for server in servers]
        if states != self._last or now >= self._due:
            self._last, self._due = states, now + self._request.interval
            about = [status.as_dict() for server in servers if (status := _look(server)) is not None]
            more = self._process.more | (self._process.details() if self._request.details else {})
            yield protocol.status(self._process.pid, self._process.role, about, self._request.id, **more)
        self._awaited = self._awaited and not servers
        over = all(state is State.STOPPED for state in states) and not self._awaited
        if over or self._request.command is Command.STATUS:
            self.over = True
            yield protocol.done(self._request.id)
        self._looked(began)


class Ask:
    """`rotate`, `pause` and `resume`: done when every server says so."""

    def __init__(self, request: Request, servers: Sequence[Administered], nudge: Callable[[], None]) -> None:
        self._request = request
        self._asked: list[tuple[int, Administered, Future[int]]] = []
        self._errors: list[tuple[Code, str]] = []
        self.wake: float | None = time.monotonic() + DONE_BOUND
        self.over = False
        states = [server.state for server in servers]
        for number, server in enumerate(servers):
            if states[number] in _DEAF:
                # One that leaves is no reason for an error as long as another one serves.
                if all(state in _DEAF for state in states):
                    text = f"cannot {request.command.value} a server that is {states[number].value}"
                    self._errors.append((Code.REFUSED, f"{_name_of(number, server)}: {text}"))
                continue
            try:
                answer = server.request(_INPUT[request.command], request.reason)
            except (DrainError, ReferenceError) as error:
                self._errors.append((Code.REFUSED, f"{_name_of(number, server)}: {error}"))
            else:
                self._asked.append((number, server, answer))
                answer.add_done_callback(lambda _: nudge())

    def poll(self, now: float) -> Iterator[bytes]:
        late = self.wake is not None and now >= self.wake
        if not late and not all(answer.done() for _, _, answer in self._asked):
            return
        told = 0
        for number, server, answer in self._asked:
            if not answer.done():
                late_text = f"not done within {DONE_BOUND:g} s, it may still be"
                self._errors.append((Code.FAILED, f"{_name_of(number, server)}: {late_text}"))
            elif (text := _failure(answer)) is not None:
                self._errors.append((Code.FAILED, f"{_name_of(number, server)}: {text}"))
            else:
                told += answer.result()
        self.over = True
        yield _end(self._request, self._errors, connections=told)


def _failure(answer: "Future[Any]") -> str | None:
    """What went wrong with one that is done; None: nothing."""
    if answer.cancelled():
        return "cancelled"
    return str(error) or type(error).__name__ if (error := answer.exception()) is not None else None


@dataclass(slots=True)
class _Leaving:
    """One server of a drain. `number`: its place in the status line."""

    number: int
    server: Administered
    report: "Future[DrainReport]"
    state: State | None = None
    gone: bool = False
    reported: bool = False

    def has(self, until: Until) -> bool:
        """Whether it is as far as that."""
        if until is Until.CLOSING and self.state in (State.CLOSING, State.FINISHING, State.STOPPED):
            return True
        return self.reported or self.gone


class Leave(_Looking):
    """`drain` and `replace`: the phases as they are seen, then the report of each server."""

    def __init__(self, request: Request, servers: Sequence[Administered], nudge: Callable[[], None]) -> None:
        super().__init__()
        self._request = request
        self._errors: list[tuple[Code, str]] = []
        self._leaving: list[_Leaving] = []
        for number, server in enumerate(servers):
            try:
                report = (
                    server.replace(request.reason)
                    if request.command is Command.REPLACE
                    else server.leave(request.reason, announce=request.announce, hold=request.hold)
                )
            except (DrainError, ReferenceError) as error:
                self._errors.append((Code.REFUSED, f"{_name_of(number, server)}: {error}"))
            else:
                self._leaving.append(_Leaving(number, server, report))
                report.add_done_callback(lambda _: nudge())

    def poll(self, now: float) -> Iterator[bytes]:
        looking, began = self.wake is None or now >= self.wake, time.monotonic()
        for each in self._leaving:
            if looking or each.report.done():
                yield from self._phase(each)
            if each.report.done() and not each.reported:
                yield from self._report(each)
        if looking:
            self._looked(began)
        if all(each.has(self._request.until) for each in self._leaving):
            self.over = True
            yield _end(self._request, self._errors)

    def _phase(self, each: _Leaving) -> Iterator[bytes]:
        if each.reported or each.gone:
            return
        state = each.server.state
        if state is each.state or not state.draining:  # the drain may have yet to begin, in a moment
            return
        each.state, status = state, _look(each.server)
        if status is not None:
            each.state = status.state
            yield protocol.phase(each.number, status.state.value, status.time_left, self._request.id)
        elif not each.report.done():
            each.gone = True
            self._errors.append((Code.FAILED, f"server {each.number}: was dropped before it was drained"))

    def _report(self, each: _Leaving) -> Iterator[bytes]:
        each.reported = True
        if (text := _failure(each.report)) is not None:
            self._errors.append((Code.FAILED, f"{_name_of(each.number, each.server)}: {text}"))
        else:
            yield protocol.report(each.number, each.report.result().as_dict(), self._request.id)


def _end(request: Request, errors: list[tuple[Code, str]], **more: Any) -> bytes:
    if not errors:
        return protocol.done(request.id, **more)
    code = Code.FAILED if any(code is Code.FAILED for code, _ in errors) else Code.REFUSED
    return protocol.failed(code, "; ".join(text for _, text in errors), request.id, **more)
