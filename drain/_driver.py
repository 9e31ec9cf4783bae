"""Drives one server through its life: asks the phases when, asks the table what, and has it done (`_hands`).

One thread for both flavours, started by the first request and never while a server merely serves. It is not the user's event
loop on purpose: a loop that is stuck must not keep its server in the cluster.

Longer than most modules, because it is the one place where the clock, the table and the world meet.
"""

import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field

from drain import _clock, events
from drain._account import Account
from drain._core.budget import Budget
from drain._core.lifecycle import Effect, Input, handle
from drain._core.phases import Announcing, Closing, Finishing, FixedAnnouncing, Over, Rotate, Step
from drain._farewell import Farewell
from drain._grpc.inflight import Ledger
from drain._hands import POLL, STEP_TIMEOUT, Crew, Hands, Means
from drain._hold import Hold
from drain._outlook import Looking, Outlook
from drain.config import DrainPolicy
from drain.events import State
from drain.report import DrainReport
from drain.status import ServerStatus

POLL_BUSY = 0.02  # seconds between looks while calls are in flight
_LEAVING = frozenset({Input.DRAIN, Input.LEAVE, Input.FORCE})
_RBAC = "a Role with list and watch on endpointslices in this namespace, or DRAIN_WATCH_ENDPOINT=false"


@dataclass(frozen=True, slots=True)
class _Request:
    what: Input
    reason: str
    deadline: float | None = None
    succeeded: bool = False
    done: "Future[int]" = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class _Nudge:
    """Something may have changed: look."""


class Driver:
    """One server's life. `state` may be read from any thread; requests may come from any thread, or from a signal handler.

    It keeps its server alive during a drain only: a server that is dropped while it serves is gone at once, as grpc's own is.
    """

    def __init__(
        self,
        policy: DrainPolicy,
        crew: Crew,
        ledger: Ledger,
        looking: Looking = lambda _: None,
        farewell: Farewell | None = None,
    ) -> None:
        self._policy, self._crew, self._ledger = policy, crew, ledger
        self._outlook, self._hold, self._farewell = Outlook(looking), Hold(), farewell
        self._budget: Budget | None = None
        # Reentrant: a signal handler may put.
        self._inbox: queue.SimpleQueue[_Request | _Nudge | None] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._account = Account(ledger)
        self._hands = Hands(crew, ledger, self._account)
        self._announcing: Announcing | FixedAnnouncing | None = None
        self._closing: Closing | None = None
        self._finishing: Finishing | None = None
        self._deadline: float | None = None
        self._end_streams_at: float | None = None
        self._finals: list[Future[DrainReport]] = []
        self._report: DrainReport | None = None
        self._server: object = None  # kept alive while it leaves
        self._since = _clock.now()
        self.state = State.STARTING

    # What the servers call.

    def started(self, means: Means) -> None:
        """The server listens. Requests that came meanwhile are taken up now."""
        # No lock is held when events go out; and before `_means` is set nobody else drives.
        self._apply(Input.STARTED, "started")
        with self._lock:
            self._hands.means = means
            if not self._inbox.empty():
                self._wake()

    def abandon(self, what: Input, reason: str) -> None:
        """The server never started, or failed to: there is nothing to drain. Called once."""
        self._account.reason = reason
        self._apply(what, reason)

    def request(
        self, what: Input, reason: str, *, deadline: float | None = None, succeeded: bool = False
    ) -> "Future[int]":
        """Ask for something. The future tells when it was done (for a rotation: how many connections were told).

        `succeeded`: another server listens on the same port already, so health is not turned.
        """
        request = _Request(what, reason, deadline, succeeded)
        request.done.set_running_or_notify_cancel()  # who gives up waiting for it (asyncio.wait_for) does not cancel it
        with self._lock:
            if self.state is State.STOPPED:
                request.done.set_result(0)
            else:
                self._inbox.put(request)
                if self._hands.means is not None:
                    self._wake()
        return request.done

    def nudge(self) -> None:
        """Something may have changed: look. Any thread."""
        self._inbox.put(_Nudge())

    def dismiss(self) -> None:
        """The server was dropped: there is nothing left to drive."""
        self._inbox.put(None)

    def report(self) -> "Future[DrainReport]":
        """A future of the report for each caller: one who cancels his harms nobody."""
        future: Future[DrainReport] = Future()
        with self._lock:
            if self._report is not None:
                future.set_result(self._report)
            else:
                self._finals.append(future)
        return future

    @property
    def hold(self) -> Hold:
        """Whether the process waits for SIGTERM when it has drained."""
        return self._hold

    def status(
        self, *, addresses: tuple[str, ...], goaway: str, goaway_reason: str, threads: int | None
    ) -> ServerStatus:
        """One look. Any thread."""
        now, state = _clock.now(), self.state
        running = state not in (State.STARTING, State.STOPPED)
        over = self._over()
        return ServerStatus(
            addresses=addresses,
            state=state,
            since=now - self._since,
            reason=self._account.reason,
            time_left=max(0.0, over - now) if over is not None and state.draining and running else None,
            longest=self._policy.announce_timeout + self._policy.finishing_time,
            in_flight=self._hands.gauge.flow().in_flight if running else 0,
            in_flight_by_method=self._ledger.open_by_method,
            threads=threads,
            peers=self._hands.gauge.peers() if running else (),
            goaway=goaway,
            goaway_reason=goaway_reason,
            rotations=self._hands.rotations,
            endpoint=self._outlook.words,
            held=self._hold.holds,
            report=self._report,
        )

    def connections(self) -> dict[int, str]:
        """Those that are open. Any thread."""
        running = self.state not in (State.STARTING, State.STOPPED)
        return self._hands.gauge.connections() if running else {}

    def _over(self) -> float | None:
        """When the drain that is under way is over at the latest."""
        if self._deadline is not None:
            return self._deadline
        return self._budget.deadline(self._budget.announce_until) if self._budget is not None else None

    # The thread.

    def _wake(self) -> None:
        if self._thread is None:
            _clock.follow(self)
            self._thread = threading.Thread(target=self._work, name="drain-driver", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        wake: float | None = None
        while self.state is not State.STOPPED:
            try:
                letter = self._inbox.get(timeout=None if wake is None else max(0.0, wake - _clock.now()))
                if letter is None:  # dismissed
                    return
            except queue.Empty:
                letter = _Nudge()
            request = letter if isinstance(letter, _Request) else None
            try:
                if request is not None:
                    self._take(request)
                self._observe()
                wake = self._step()
            except Exception as error:  # the root of the thread: a bug here must not keep the server from ending
                self._hands.failed("driving", error)
                self._finish_anyhow()
                if request is not None and not request.done.done():
                    request.done.set_result(0)

    def _take(self, request: _Request) -> None:
        if request.deadline is not None:  # grpc's contract of stop(): the most restrictive grace counts
            if self._deadline is None and self.state.draining:  # a drain is under way, whose own time is yet to begin
                self._deadline = self._closing_deadline(_clock.now())
            self._deadline = min(request.deadline, self._deadline if self._deadline is not None else request.deadline)
            if self._finishing is not None:
                self._finishing.deadline = min(self._finishing.deadline, self._deadline)
        if request.what is Input.FORCE:
            self._account.forced = True
        if request.what in _LEAVING:
            self._part(request)
        told = self._apply(request.what, request.reason)
        if not request.done.done():
            request.done.set_result(told)

    def _part(self, request: _Request) -> None:
        """A drain is asked for."""
        if not self.state.draining:
            self._hands.succeeded = request.succeeded
            if request.deadline is None and not request.succeeded:
                if self._policy.watch_endpoint:
                    self._hands.do("looking at the pod's own endpoint", self._look_around)
                self._hands.do("telling the cluster", lambda: self._say_farewell(request.reason))
        elif self._hands.succeeded and not request.succeeded:  # one worker was being replaced, and now all leave
            self._hands.succeeded = False
            self._hands.perform(Effect.ANSWER_NOT_SERVING)
            self._hands.do("telling the cluster", lambda: self._say_farewell(request.reason))

    def _look_around(self) -> None:
        self._outlook.begin(self.nudge)

    def _say_farewell(self, reason: str) -> None:
        if self._farewell is not None:
            longest = self._policy.announce_timeout + self._policy.finishing_time
            self._farewell.begin(reason, self._hands.gauge.flow().in_flight, longest)

    def _observe(self) -> None:
        """What does the cluster say of this pod?"""
        before = self._outlook.view
        if (view := self._outlook.news()) is None:
            return
        now = _clock.now()
        if (view.standing, view.why) != (before.standing, before.why):
            self._crew.emit(events.EndpointSeen(view.standing.value, view.why, now))
        budget, left = self._budget, view.grace
        if left is not None and left != before.grace and budget is not None and budget.told(now, left):
            self._hurry(budget, now)
            self._crew.emit(events.BudgetShortened(left, now))

    def _hurry(self, budget: Budget, now: float) -> None:
        self._allow(budget)
        if self._announcing is not None:
            self._announcing.end_by(budget.announce_until)
        if self._deadline is not None:
            self._deadline = min(self._deadline, budget.deadline(now))
            if self._finishing is not None:
                self._finishing.deadline = min(self._finishing.deadline, self._deadline)

    def _step(self) -> float | None:
        """Let the phase decide until it wants to wait; returns until when."""
        while True:
            now = _clock.now()
            if self.state is State.ANNOUNCING and self._announcing is not None:
                flow = self._hands.gauge.settled_flow()
                step = self._announcing.step(
                    _clock.now(),
                    flow.begun,
                    flow.reached,
                    ended=flow.ended,
                    busy=max(0, flow.in_flight - self._ledger.open_streams),
                    listed=self._outlook.listed,
                )
                wake = self._announce(step)
            elif self.state is State.CLOSING:
                wake = self._close(now)
            elif self.state is State.FINISHING and self._finishing is not None:
                wake = self._finish(now, self._finishing)
            else:
                return None
            if wake is not None:
                return wake

    def _announce(self, step: Step) -> float | None:
        assert self._announcing is not None
        if isinstance(step, Rotate):
            self._tell_returned()
            connections = self._hands.rotate()
            self._account.connections.append(connections)
            self._announcing.rotated(_clock.now())
        elif isinstance(step, Over):
            self._tell_returned()
            self._end_announcing(step.why)
            self._apply(Input.ANNOUNCED, step.why)
        else:
            return step.until
        return None

    def _tell_returned(self) -> None:
        assert self._announcing is not None
        if self._announcing.rotations:
            calls = self._announcing.returned[-1]
            connections = self._hands.returned()
            self._account.connections_returned.append(connections)
            self._crew.emit(events.CallersReturned(self._announcing.rotations, calls, _clock.now(), connections))

    def _end_announcing(self, why: str) -> None:
        assert self._announcing is not None
        self._account.announcing_ended = why
        self._account.returned = list(self._announcing.returned)
        missing = len(self._account.returned) - len(self._account.connections_returned)
        self._account.connections_returned += [0] * missing  # cut short: nobody counted after the last rotation
        self._account.endpoint = self._outlook.words
        if self._outlook.blind:
            instead = "observation alone" if self._hands.lossless else "announce_delay"
            reason = self._outlook.words or "no answer in time"
            self._crew.emit(events.FallbackTaken("the pod's own endpoint", instead, reason, _RBAC))
        self._crew.emit(events.AnnouncingEnded(why, self._announcing.rotations, _clock.now()))

    def _close(self, now: float) -> float | None:
        if self._closing is None:
            self._apply(Input.CLOSED, "GOAWAY sent")
        elif self._deadline is not None and now >= self._deadline:
            self._apply(Input.CLOSED, "drain_timeout")
        elif isinstance(step := self._closing.step(now, self._hands.gauge.flow().begun), Over):
            self._apply(Input.CLOSED, step.why)
        else:
            return now + POLL_BUSY
        return None

    def _finish(self, now: float, finishing: Finishing) -> float | None:
        if self._end_streams_at is not None and now >= self._end_streams_at:
            self._end_streams_at = None
            self._hands.do("ending streams", lambda: self._crew.end_streams(self._account.reason))
        flow = self._hands.gauge.flow()
        step = finishing.step(now, flow.in_flight, int(self._hands.gauge.any_peer()) if self._hands.lossless else 0)
        if not isinstance(step, Over):
            return now + (POLL_BUSY if flow.in_flight else POLL)
        self._apply(Input.TIME_UP if step.cut else Input.FINISHED, step.why)
        return None

    # Carrying out.

    def _apply(self, what: Input, reason: str) -> int:
        previous, (state, effects) = self.state, handle(self.state, what)
        if what in _LEAVING and not previous.draining:
            self._account.reason = reason
            self._budget = self._new_budget()
        if previous is State.ANNOUNCING and state is not previous and what is not Input.ANNOUNCED:
            self._end_announcing("forced" if what is Input.FORCE else "skipped")
        now = _clock.now()
        if state is not previous and state is not State.STOPPED:
            self._enter(previous, state, reason, now)
        told = 0
        for effect in effects:
            if effect is Effect.ROTATE:
                told = self._hands.rotate()
            elif effect is Effect.REPORT:
                self._conclude(previous, reason, now)
            else:
                self._hands.perform(effect)
        if state is not previous:
            self._begin(state)
        if Effect.STOP_SERVER in effects:
            self._apply(Input.HALTED, "stopped")
        return told

    def _new_budget(self) -> Budget:
        policy, began = self._policy, _clock.now()
        budget = Budget(
            began,
            announcing=policy.announce_timeout,
            finishing=policy.finishing_time,
            reserve=policy.reserve,
            grace=policy.termination_grace_period,
        )
        self._allow(budget)
        return budget

    def _allow(self, budget: Budget) -> None:
        self._account.budget = budget.total
        if budget.spare is not None:  # what comes after the last call's end must be over before the kill, too
            self._hands.spare(budget.spare)

    def _closing_deadline(self, now: float) -> float:
        return self._budget.deadline(now) if self._budget is not None else now + self._policy.finishing_time

    def _enter(self, previous: State, state: State, reason: str, now: float) -> None:
        self.state, self._since = state, now
        if state.draining:
            self._hold.draining()
            self._server = self._crew.hold()
        self._account.entered(state, now)
        self._crew.emit(events.StateChanged(previous, state, reason, now))

    def _begin(self, state: State) -> None:
        """Set the clockwork of the phase just entered."""
        now, policy = _clock.now(), self._policy
        if state is State.ANNOUNCING and self._hands.lossless:
            self._announcing = Announcing(
                now,
                at_least=policy.announce_min,
                at_most=policy.announce_timeout,
                interval=policy.rotation_interval,
                window=policy.return_window,
                settle=policy.settle,
            )
        elif state is State.ANNOUNCING:
            self._announcing = FixedAnnouncing(
                now,
                delay=policy.classic_announcement,
                settle=policy.settle,
                at_least=min(policy.announce_min, policy.classic_announcement),
                at_most=policy.announce_timeout,
            )
        elif state is State.CLOSING:
            if self._deadline is None:
                self._deadline = self._closing_deadline(now)
            self._end_streams_at = None if policy.stream_grace is None else now + policy.stream_grace
            if not self._hands.lossless:
                latest = min(now + policy.finishing_time / 2, self._deadline)
                self._closing = Closing(now, quiet=policy.quiet_period, latest=latest)
        elif state is State.FINISHING:
            # Without GOAWAY nobody was asked to close a connection, so nobody is waited for.
            linger = {} if self._hands.lossless else {"linger": 0.0}
            self._finishing = Finishing(self._deadline if self._deadline is not None else now, **linger)

    def _conclude(self, previous: State, reason: str, now: float) -> None:
        self._account.entered(State.STOPPED, now)
        self._hands.do("ending the look at the pod's own endpoint", self._outlook.end)
        report = self._settled_report()
        self._hold.stopping()  # first: who hears of the end may ask at once whether the process is held
        with self._lock:
            self.state, self._since = State.STOPPED, now
            self._report = report
            finals, self._finals = self._finals, []
            while not self._inbox.empty():
                if isinstance(left := self._inbox.get(), _Request):
                    left.done.set_result(0)
        self._crew.emit(events.StateChanged(previous, State.STOPPED, reason, now))
        self._crew.emit(events.Drained(report))
        if (farewell := self._farewell) is not None:
            self._hands.do("telling the cluster", lambda: farewell.close(report, self._hands.patience))
        for future in finals:
            if future.set_running_or_notify_cancel():
                future.set_result(report)
        self._hold.stopped()
        if self._hold.holds:
            self._crew.emit(events.Held(self._account.reason, now))
        self._server = None

    def _settled_report(self) -> DrainReport:
        goaway = "lossless" if self._hands.lossless else "classic"
        try:
            return self._account.report(goaway)
        except Exception as error:  # whoever waits for the end gets it, even where the books do not balance
            self._hands.failed("reporting", error)
            errors = tuple(self._account.errors)
            return DrainReport(self._account.reason, goaway, {}, self._account.announcing_ended, errors=errors)

    def _finish_anyhow(self) -> None:
        """Something in here broke: stop the server the plain way, so that whoever waits for the end gets it."""
        self._hands.do("stopping the server", lambda: self._crew.stop(0.0, STEP_TIMEOUT))
        self._conclude(self.state, "a step failed", _clock.now())
