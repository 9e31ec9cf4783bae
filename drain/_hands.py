"""Carries out what the table of a server's life asks for, on the driver's thread.

Nothing is waited for without a bound, and nothing that fails stops the drain: it is reported, and the next step is taken. What
needs the user's side (health, stop, events) goes through a `Crew`, the one thing in which the two flavours of a server differ.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from drain import _clock, _worker, events
from drain._account import Account
from drain._core.lifecycle import Effect
from drain._grpc.inflight import Gauge, Ledger
from drain._grpc.listening import Where, connected, stop_listening
from drain._grpc.lossless import Listener

STEP_TIMEOUT = 2.0  # seconds that any single step may take
PATIENCE = 0.5  # seconds that the last word to the cluster may take
UNWIND = 1.0  # seconds that cancelled handlers get for their `finally` blocks
CLASSIC_GRACE = 0.5  # seconds for calls that begin while grpc's own stop is under way
HANDSHAKES = 0.3  # seconds that a rotation waits for handshakes to end
MANY = 1000  # with more connections than this nobody counts them before a rotation
POLL = 0.005  # seconds between looks


class Crew(Protocol):
    """The user's side of a server: how a flavour does what the driver asks. Every method is bounded and may raise."""

    def flip_health(self, leaving: bool) -> None: ...
    def tell_handlers(self) -> None: ...
    def end_watches(self) -> None: ...
    def end_streams(self, reason: str) -> None: ...
    # Cancels what is still in flight after grace seconds, and waits for it so many seconds more.
    def stop(self, grace: float, within: float) -> None: ...
    def emit(self, event: events.Event) -> None: ...
    def hold(self) -> object: ...  # the server itself: as long as somebody has it, it is not dropped


@dataclass(frozen=True, slots=True)
class Means:
    """What a started server can be driven with. `listener` is None in the classic way."""

    gauge: Gauge
    listener: Listener | None
    wheres: frozenset[Where] = frozenset()


class Hands:
    """One server's. Used by the driver's thread, but `gauge`, `lossless` and `rotations`, which any may read."""

    def __init__(self, crew: Crew, ledger: Ledger, account: Account) -> None:
        self.crew, self._ledger, self._account = crew, ledger, account
        self.means: Means | None = None
        self.succeeded = False  # by another server on the same port: health is no longer ours to flip
        self.rotations = 0
        self._stopping, self._unwind, self.patience = STEP_TIMEOUT, UNWIND, PATIENCE
        self._told: Counter[str] = Counter()  # whom the last rotation told to go; peers of Unix sockets have one name
        self._unfinished = 0

    @property
    def lossless(self) -> bool:
        """Whether this server says goodbye by GOAWAY."""
        return self.means is not None and self.means.listener is not None

    @property
    def gauge(self) -> Gauge:
        """Reads its calls and connections."""
        return self.means.gauge if self.means is not None else Gauge(self._ledger, None)

    def spare(self, seconds: float) -> None:
        """So long after the drain's end the process is killed: most of it is for stopping, the rest for its own end."""
        self._stopping, self._unwind = min(STEP_TIMEOUT, seconds / 2), min(UNWIND, seconds / 4)
        self.patience = min(PATIENCE, seconds / 8)

    def perform(self, effect: Effect) -> None:
        """Do one thing. (What answers something, ROTATE and REPORT, the driver does.)"""
        crew, means = self.crew, self.means
        if effect is Effect.TELL_HANDLERS:
            if means is not None:
                self._account.open(self.gauge.flow())
            self.do("telling handlers", crew.tell_handlers)
        elif effect is Effect.ANSWER_SERVING:
            self.do("answering SERVING", lambda: crew.flip_health(False))
        elif effect is Effect.ANSWER_NOT_SERVING and not self.succeeded:
            self.do("answering NOT_SERVING", lambda: crew.flip_health(True))
        elif effect is Effect.STOP_LISTENING and means is not None:
            self.do("stopping to listen", lambda: stop_listening(means.wheres, hand_over=self.succeeded))
        elif effect is Effect.SEND_GOAWAY:
            self._send_goaway()
        elif effect is Effect.END_WATCHES:
            self.do("ending health Watches", crew.end_watches)
        elif effect is Effect.CANCEL_CALLS:
            self._cancel()
        elif effect is Effect.STOP_SERVER:
            self._stop()

    def rotate(self) -> int:
        """GOAWAY on every connection; how many were told."""
        if self.means is None or self.means.listener is None:
            return 0
        self._let_handshakes_end(self.means)
        self._told = Counter(self.gauge.peers())
        connections = self._told.total()
        pushed = self.means.listener.rotate()
        if not pushed.wait(STEP_TIMEOUT):
            self.failed("rotating", TimeoutError(self.means.listener.refusal or "the Listener was not taken in time"))
        self.rotations += 1
        self.crew.emit(events.Rotated(self.rotations, connections, _clock.now()))
        return connections

    def returned(self) -> int:
        """Connections opened since the last rotation."""
        return (Counter(self.gauge.peers()) - self._told).total()

    def _let_handshakes_end(self, means: Means) -> None:
        """A rotation closes connections that are in their handshake, and a client with no other address then fails its call.

        So wait for a moment without any, but for those that never end: what was left at the end of the last wait.
        """
        until = time.monotonic() + HANDSHAKES
        while True:
            connections = connected(means.wheres, shared=_worker.current is not None)
            if connections is None or connections > MANY:
                return
            unfinished = connections - len(means.gauge.peers(limit=MANY))
            if unfinished <= self._unfinished or time.monotonic() >= until:
                self._unfinished = max(0, unfinished)
                return
            time.sleep(POLL)

    def _send_goaway(self) -> None:
        self._account.closing(self.gauge.flow())
        listener = self.means.listener if self.means is not None else None
        if listener is not None and not listener.remove().wait(STEP_TIMEOUT):
            self.failed("sending GOAWAY", TimeoutError("the removal of the Listener was not taken in time"))

    def _cancel(self) -> None:
        in_flight = self.gauge.flow().in_flight
        if in_flight:
            self._account.cancel(in_flight)
            self.crew.emit(events.CallsCancelled(in_flight, self._account.cancelled_by_method, _clock.now()))

    def _stop(self) -> None:
        self._account.close(self.gauge.flow())
        if self.lossless and (peers := self.gauge.peers()):
            self._account.peers_left = peers
            self.crew.emit(events.PeersCut(peers, _clock.now()))
        # In the classic way a call may have begun since the last look: it gets a moment. After GOAWAY none can.
        grace = CLASSIC_GRACE if not self.lossless and not self._account.cancelled else 0.0
        self.do("stopping the server", lambda: self.crew.stop(grace, self._stopping))
        until = time.monotonic() + self._unwind
        while self._ledger.open_by_method and time.monotonic() < until:
            time.sleep(POLL)
        if stuck := self._ledger.open_by_method:
            self.failed("unwinding handlers", TimeoutError(f"still running: {stuck}"))
        if self.means is not None and self.means.listener is not None:
            self.means.listener.detach()

    def do(self, step: str, action: Callable[[], object]) -> None:
        """Take a step that may fail."""
        try:
            action()
        except Exception as error:  # the edge to the user's side: whatever it raises, the drain goes on
            self.failed(step, error)

    def failed(self, step: str, error: Exception) -> None:
        """It did."""
        text = f"{type(error).__name__}: {error}"
        self._account.errors.append(f"{step}: {text}")
        self.crew.emit(events.StepFailed(step, text, _clock.now()))
