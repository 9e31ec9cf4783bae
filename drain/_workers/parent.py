"""The parent of the workers: one thread, one loop. It starts them, listens to them, and sees them out.

It carries out what the fleet decides. Nothing in it blocks and nothing in it imports grpc, so that it may fork at any time.
"""

import logging
import os
import selectors
import signal
import time
from collections.abc import Callable
from typing import Any

from drain._workers.actions import Action, Ask, Kill, Start, Terminate
from drain._workers.catching import Signals, ended, inherits_orphans
from drain._workers.door import Door
from drain._workers.fleet import Fleet
from drain._workers.launch import Launcher
from drain._workers.process import Process
from drain._workers.report import WorkerReport, WorkersReport
from drain.errors import WorkerError

_log = logging.getLogger("drain")


class Parent:
    """Runs once. Not thread safe.

    Args:
        fleet: decides. launcher: starts. signals: taken. forget: closes what else a forked worker must not keep.
        admin: open an admin socket.

    Attributes:
        forced_by: the second signal, to be raised again; None: there was none.
        last: the report, when all is over.
    """

    def __init__(
        self, fleet: Fleet, launcher: Launcher, signals: Signals, forget: Callable[[], object], *, admin: bool
    ) -> None:
        self._fleet, self._launcher, self._signals, self._forget_more = fleet, launcher, signals, forget
        self._selector = selectors.PollSelector()  # no epoll: a forked child would share it
        self._selector.register(signals, selectors.EVENT_READ, self._heed_signals)
        self._processes: dict[int, Process] = {}
        self._everybody = inherits_orphans()
        self._orphans = 0
        self._asked = False
        self._paused = False
        self._reason, self._left_at = "", 0.0
        self._group: dict[int, Process] = {}
        self._ends: dict[int, WorkerReport] = {}
        self._failure = ""
        self.forced_by: signal.Signals | None = None
        self.last: WorkersReport | None = None
        self._door = Door(self, self._selector) if admin else None

    def run(self) -> WorkersReport:
        """To the end of all workers. Raises WorkerError if the first start failed; then its `report` says how the others left."""
        try:
            self._carry_out(self._fleet.begin(time.monotonic()))
            while not self._fleet.over:
                self._turn()
        except BaseException:
            self._kill_all()
            raise
        finally:
            if self._door is not None:
                self._door.close(time.monotonic())
            self._selector.close()
            for process in self._processes.values():
                process.close()
        self.last = self._report()
        if self._failure:
            raise WorkerError(self._failure, self.last)
        return self.last

    def _turn(self) -> None:
        wakes = [self._fleet.wake, self._door.wake if self._door is not None else None]
        until = min((wake for wake in wakes if wake is not None), default=None)
        for key, _ in self._selector.select(None if until is None else max(0.0, until - time.monotonic())):
            key.data(time.monotonic())
        self._carry_out(self._fleet.due(time.monotonic()))
        if self._door is not None:
            self._door.serve(time.monotonic())

    # What the desk asks.

    @property
    def over(self) -> bool:
        """All have left."""
        return self._fleet.over

    @property
    def leaving(self) -> bool:
        """Nothing is started any more."""
        return self._fleet.leaving

    @property
    def replacing(self) -> bool:
        """A round of replacements is under way."""
        return self._fleet.replacing

    @property
    def round_failed(self) -> str:
        """Why the last round was given up; empty: it was not."""
        return self._fleet.round_failed

    def processes(self) -> list[Process]:
        """Those that live, by number."""
        return sorted(self._processes.values(), key=lambda each: (each.number, each.serial))

    def about(self, now: float) -> dict[str, Any]:
        """What the status line has besides."""
        workers = [
            {
                "number": each.number,
                "pid": each.pid,
                "state": each.state.value,
                "time_left": each.left(now) if each.state.draining else None,
                "restarts": self._fleet.restarts_of(each.number),
            }
            for each in self.processes()
        ]
        return {
            "address": self._launcher.address,
            "workers": workers,
            "restarts": self._fleet.restarts,
            "replaced": self._fleet.replaced,
            "replacing": self.replacing,
            "leaving": self.leaving,
            "held": self._fleet.held,
        }

    def ask_all(self, command: str, answer: Any, **more: object) -> list[Process]:
        """Ask all that listen. Returns those that cannot be asked."""
        if command in ("pause", "resume"):
            self._paused = command == "pause"
        return [each for each in self.processes() if each.listens and not each.ask(command, answer, **more)]

    def leave(self, reason: str, *, announce: bool, hold: bool) -> None:
        """All drain, or join the drain that is under way."""
        now = time.monotonic()
        if not self._fleet.leaving:
            self._begin_to_leave(reason, now)
        self._carry_out(self._fleet.leave(now, reason, announce=announce, hold=hold))

    def replace(self) -> None:
        """Replace all, one by one."""
        self._carry_out(self._fleet.replace(time.monotonic()))

    # What happens.

    def _heed_signals(self, now: float) -> None:
        for number in self._signals.read():
            if number == signal.SIGCHLD:
                self._reap()
            elif number == signal.SIGHUP:
                _log.info("SIGHUP: the workers are replaced, one by one")
                self.replace()
            elif self._asked:
                self.forced_by = number
                self._carry_out(self._fleet.force(now))
            else:
                self._asked = True
                self.leave(number.name, announce=number != signal.SIGINT, hold=False)

    def _reap(self) -> None:
        serials = {each.pid: serial for serial, each in self._processes.items()}
        for pid, exit_code in ended(serials, self._everybody):
            if pid in serials:
                self._ended(self._processes[serials[pid]], exit_code)
            else:
                self._orphans += 1

    def _news(self, process: Process, now: float) -> None:
        if process.serial not in self._processes:  # its end was heard of in this very turn
            return
        served = process.listens
        if not process.hear(now):
            self._unregister(process.launched.news)
        if process.ending:
            self._fleet.ending(process.serial, now)
        if process.listens and not served:
            _log.info("%s serves", process)
            if self._paused:
                process.ask("pause", lambda told: None, reason="the others are paused")
            self._carry_out(self._fleet.serves(process.serial, process.longest, now, reserve=process.reserve))

    def _answers(self, process: Process) -> None:
        if process.serial in self._processes and not process.listen():
            self._unregister(process.launched.control)

    def _unregister(self, sock: Any) -> None:
        if sock in self._selector.get_map():
            self._selector.unregister(sock)

    def _ended(self, process: Process, exit_code: int) -> None:
        now = time.monotonic()
        self._news(process, now)  # what it told last
        member = self._fleet.members.get(process.serial)
        overdue = member is not None and member.overdue
        del self._processes[process.serial]
        process.hang_up()
        for sock in (process.launched.news, process.launched.control):
            self._unregister(sock)
        process.close()
        reports = tuple(report for _, report in sorted(process.reports.items()))
        self._ends[process.serial] = WorkerReport(
            process.number, process.pid, exit_code, process.listens, overdue, reports
        )
        how = process.how(exit_code, overdue)
        self._gone(process.serial, now, f"{process} {how}")
        again = self._fleet.restart_at(process.number)
        if again is not None:
            _log.warning("%s %s; another is started in %.1f s", process, how, again - now)
        elif process.drained or (self.leaving and not process.listens):
            _log.info("%s has left: %s", process, self._ends[process.serial])
        else:
            _log.warning("%s %s", process, how)

    def _gone(self, serial: int, now: float, how: str) -> None:
        before = self._fleet.failed
        actions = self._fleet.gone(serial, now)
        if self._fleet.failed is not before:
            self._failure = f"{how}, before it listened on {self._launcher.address}"
            self._begin_to_leave("a worker failed to start", now)
        self._carry_out(actions)

    # What is done.

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Start):
                self._start(action)
            elif (process := self._processes.get(action.serial)) is not None:
                self._tell(action, process)

    def _start(self, action: Start) -> None:
        forget: list[Callable[[], object]] = [self._signals.forget, self._forget_more]
        forget += [each.close for each in self._processes.values()]
        forget += self._door.forget() if self._door is not None else []
        try:
            launched = self._launcher.start(action.number, forget)
        except OSError as error:
            _log.warning("worker %d cannot be started: %s", action.number, error)
            self._gone(action.serial, time.monotonic(), f"worker {action.number} cannot be started ({error})")
            return
        process = Process(action.serial, action.number, launched)
        self._processes[action.serial] = process
        self._selector.register(launched.news, selectors.EVENT_READ, lambda now: self._news(process, now))
        self._selector.register(launched.control, selectors.EVENT_READ, lambda now: self._answers(process))

    def _tell(self, action: Ask | Terminate | Kill, process: Process) -> None:
        if isinstance(action, Kill):
            _log.warning("%s is killed: it has outstayed its time", process)
            os.kill(process.pid, signal.SIGKILL)
        elif isinstance(action, Terminate) or not self._ask(action, process):
            os.kill(process.pid, signal.SIGTERM)

    def _ask(self, action: Ask, process: Process) -> bool:
        def answered(told: dict[str, Any]) -> None:
            if not told.get("ok"):
                _log.warning("%s was asked to leave: %s", process, told.get("error"))

        more: dict[str, object] = {"announce": action.announce, "hold": action.hold}
        what = action.what
        if what == "replace" and process.state.draining:  # somebody drained it by hand, and it may be held
            what, more = "drain", {"announce": False, "hold": False}
        # "closing": how it goes on from there it tells by itself.
        return process.ask(what, answered, reason=action.reason[:200], until="closing", **more)

    def _kill_all(self) -> None:
        """Something in here broke. Nobody else would end them, and the kernel's SIGTERM comes only when we are gone."""
        for process in self._processes.values():
            os.kill(process.pid, signal.SIGTERM)

    # The end.

    def _begin_to_leave(self, reason: str, now: float) -> None:
        self._reason, self._left_at = reason, now
        self._group = dict(self._processes)

    def _report(self) -> WorkersReport:
        fleet = self._fleet
        found = [self._ends[serial] for serial in self._group if serial in self._ends]
        return WorkersReport(
            reason=self._reason,
            duration=time.monotonic() - self._left_at,
            workers=tuple(sorted(found, key=lambda each: each.number)),
            restarts=fleet.restarts,
            replaced=fleet.replaced,
            kills=fleet.kills,
            forced=self.forced_by is not None,
            orphans=self._orphans,
        )
