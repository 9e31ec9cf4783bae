"""What a drain cost: the report that `run()` returns and every caller of `drain()` gets."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class RotationReport:
    """One rotation while announcing: how many connections were told, and what came back after it.

    Attributes:
        connections: told to go. calls_returned: calls that began after it. connections_returned: opened after it (those of
            health probes among them).
    """

    connections: int
    calls_returned: int
    connections_returned: int = 0


@dataclass(frozen=True, slots=True)
class DrainReport:
    """What a drain did and what it cost. Durations in seconds; counts are calls, health and reflection apart.

    Attributes:
        reason: what began the drain: "SIGTERM", "SIGINT", or the text given to `drain()`.
        goaway: "lossless" or "classic".
        phases: seconds spent in "announcing", "closing" and "finishing".
        announcing_ended: what ended the wait: "nobody came back", "endpoint left" (it was waited for when nobody came back any
            more, and `settle` after it), "announce_timeout", "announce_delay", "skipped", "forced".
        endpoint: what the cluster said of this pod's own endpoint when announcing ended, or why nobody knows; empty: not in
            a pod.
        budget: seconds that the drain was given in all; None: no `terminationGracePeriodSeconds` was known.
        rotations: one entry for each GOAWAY round while announcing.
        in_flight_at_start: calls in flight when the drain began.
        finished: calls that ended by themselves between the beginning of the drain and its end.
        finished_by_method: the same, by method, as far as the method is known.
        cancelled: calls cut when `drain_timeout` was over (or by a second signal); 0 is the promise.
        cancelled_by_method: the same, by method.
        refused: calls or connections known to have been turned away while the server was leaving.
        calls_after_goaway: calls that still began after closing (sent before their client read the GOAWAY); all were served.
        peers_left: peers whose connection did not close by itself, and was cut when no call was in flight: they never answered
            the GOAWAY, or the handler of a call that they gave up is still running.
        forced: a second signal ended the drain early.
        errors: steps of the drain that failed, each as one line.
    """

    reason: str
    goaway: str
    phases: Mapping[str, float]
    announcing_ended: str
    endpoint: str = ""
    budget: float | None = None
    rotations: tuple[RotationReport, ...] = ()
    in_flight_at_start: int = 0
    finished: int = 0
    finished_by_method: Mapping[str, int] = field(default_factory=dict)
    cancelled: int = 0
    cancelled_by_method: Mapping[str, int] = field(default_factory=dict)
    refused: int = 0
    calls_after_goaway: int = 0
    peers_left: tuple[str, ...] = ()
    forced: bool = False
    errors: tuple[str, ...] = ()

    @property
    def duration(self) -> float:
        """Seconds from the beginning of the drain to its end."""
        return sum(self.phases.values())

    @property
    def clean(self) -> bool:
        """No call was cut. Peers that were left had no call in flight any more: they cost nothing."""
        return self.cancelled == 0

    def as_dict(self) -> dict[str, object]:
        """The report as plain JSON-able values."""
        return {**asdict(self), "duration": self.duration, "clean": self.clean}

    def text(self) -> str:
        """The report as a few lines for people."""
        phases = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in self.phases.items())
        calls = " ".join(str(r.calls_returned) for r in self.rotations) or "-"
        connections = " ".join(str(r.connections_returned) for r in self.rotations) or "-"
        lines = [
            str(self),
            f"  phases      {phases}",
            f"  announcing  {self.announcing_ended}; {len(self.rotations)} rotations; calls that came back: {calls}; "
            f"connections: {connections}",
            f"  in flight   {self.in_flight_at_start} at the start, {self.finished} finished, {self.cancelled} cancelled",
            f"  afterwards  {self.calls_after_goaway} calls begun after GOAWAY (served), {self.refused} refused",
        ]
        lines += [f"  endpoint    {self.endpoint}"] if self.endpoint else []
        lines += [f"  budget      {self.budget:.1f} s"] if self.budget is not None else []
        lines += [f"  cancelled   {method}: {calls}" for method, calls in self.cancelled_by_method.items()]
        lines += [f"  peer left   {peer}" for peer in self.peers_left]
        lines += [f"  error       {error}" for error in self.errors]
        return "\n".join(lines)

    def __str__(self) -> str:
        outcome = "drained" if self.clean else "drained with losses"
        return (
            f"{outcome} in {self.duration:.2f} s ({self.reason}, {self.goaway}): "
            f"{self.finished} calls finished, {self.cancelled} cancelled, {len(self.peers_left)} peers left"
        )
