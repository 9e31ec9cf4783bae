"""Keeps the books of one drain, and makes the report of them."""

from collections import Counter

from drain._grpc.inflight import Flow, Ledger
from drain.events import State
from drain.report import DrainReport, RotationReport

_PHASES = {State.ANNOUNCING, State.CLOSING, State.FINISHING}


class Account:
    """What a drain did so far. Used by the driver's thread only."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._phases: dict[str, float] = {}
        self._phase: tuple[State, float] | None = None
        self._at_start: tuple[Flow, int] | None = None
        self._at_end: tuple[Flow, int] | None = None
        self._begun_at_closing: int | None = None
        self.reason = ""
        self.announcing_ended = "skipped"
        self.connections: list[int] = []
        self.returned: list[int] = []
        self.connections_returned: list[int] = []
        self.endpoint = ""
        self.budget: float | None = None
        self.cancelled = 0
        self.cancelled_by_method: dict[str, int] = {}
        self.peers_left: tuple[str, ...] = ()
        self.forced = False
        self.errors: list[str] = []

    def entered(self, state: State, now: float) -> None:
        """The server moved to another state: close the books of the phase that it left."""
        if self._phase is not None:
            phase, since = self._phase
            self._phases[phase.value] = self._phases.get(phase.value, 0.0) + now - since
        self._phase = (state, now) if state in _PHASES else None

    def open(self, flow: Flow) -> None:
        """The drain begins."""
        self._ledger.follow_endings()
        self._at_start = (flow, self._ledger.counts()[0])

    def closing(self, flow: Flow) -> None:
        """GOAWAY has gone out: whatever begins now began before its client had read it."""
        self._begun_at_closing = flow.begun

    def cancel(self, in_flight: int) -> None:
        """These calls are about to be cut."""
        self.cancelled += in_flight
        self.cancelled_by_method = dict(Counter(self.cancelled_by_method) + Counter(self._ledger.open_by_method))

    def close(self, flow: Flow) -> None:
        """The last reading before grpc's server is stopped."""
        if self._at_end is None:
            self._at_end = (flow, self._ledger.counts()[0])

    def report(self, goaway: str) -> DrainReport:
        """The report."""
        nothing = (Flow(0, 0, 0), 0)
        start, start_ledger = self._at_start or nothing
        end, end_ledger = self._at_end or self._at_start or nothing
        begun = end.begun - start.begun
        cut = set(self.cancelled_by_method)
        return DrainReport(
            reason=self.reason,
            goaway=goaway,
            phases=dict(self._phases),
            announcing_ended=self.announcing_ended,
            endpoint=self.endpoint,
            budget=self.budget,
            rotations=tuple(map(RotationReport, self.connections, self.returned, self.connections_returned)),
            in_flight_at_start=start.in_flight,
            finished=max(0, start.in_flight + begun - end.in_flight),
            finished_by_method={
                method: ended - self.cancelled_by_method.get(method, 0) if method in cut else ended
                for method, ended in self._ledger.ended_by_method.items()
                if ended > self.cancelled_by_method.get(method, 0)
            },
            cancelled=self.cancelled,
            cancelled_by_method=self.cancelled_by_method,
            refused=max(0, begun - (end_ledger - start_ledger)),
            calls_after_goaway=max(0, end.begun - self._begun_at_closing) if self._begun_at_closing is not None else 0,
            peers_left=self.peers_left,
            forced=self.forced,
            errors=tuple(self.errors),
        )
