"""What a rehearsal showed, as frozen values. Times are seconds, counted from the first call."""

import enum
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from drain._demo.results import Run
from drain._doctor.finding import Finding

_WHILE = 2.0  # seconds


class Verdict(enum.Enum):
    """KEPT: no call was lost, and nothing was killed. LOST: calls failed. KILLED: none failed, but a server was killed amid its
    leaving. UNFINISHED: what was to be done was not done in time, so nothing is known.
    """

    KEPT = "kept"
    LOST = "lost"
    KILLED = "killed"
    UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Step:
    """Something that was done: `what`, when it began, how long it took; `unfinished`: why it was not over in time."""

    what: str
    began: float
    took: float
    unfinished: str = ""


@dataclass(frozen=True, slots=True)
class Life:
    """One pod, or process. `name` in full, `short` as in the chart.

    Attributes:
        left: seconds from when it was told to leave to its end; None: it was not told, or is still there.
        exit_codes: of its containers, as far as they have ended and it was seen. killed: by SIGKILL. restarts: of containers.
    """

    name: str
    short: str
    left: float | None
    exit_codes: Mapping[str, int] = field(default_factory=dict)
    killed: bool = False
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The whole result.

    Attributes:
        subject: what was rehearsed with: "Deployment shop/orders", or a command.
        done: what was done to it, in words.
        load: the load, in a sentence.
        run: calls and phases. named: whether answers said who gave them.
        steps, lives: what was done, and to whom. connections: made to each server.
        advice: what `drain doctor` says of it. notes: what could not be looked at.
        about: where and when.
    """

    subject: str
    done: str
    load: str
    run: Run
    steps: tuple[Step, ...]
    lives: tuple[Life, ...]
    named: bool
    connections: Mapping[str, int]
    advice: tuple[Finding, ...]
    notes: tuple[str, ...]
    about: Mapping[str, str]

    @property
    def verdict(self) -> Verdict:
        """The sum of it."""
        if any(each.unfinished for each in self.steps) or not self.run.load.total:
            return Verdict.UNFINISHED
        if self.run.load.lost:
            return Verdict.LOST
        return Verdict.KILLED if any(each.killed for each in self.lives) else Verdict.KEPT

    @property
    def headline(self) -> str:
        """For people who read one line."""
        load = self.run.load
        return f"{load.lost:,} of {load.total:,} calls failed: {self.subject}, {self.done}"

    @property
    def evidence(self) -> tuple[str, ...]:
        """What speaks for a cause, by itself: a sentence each."""
        said = [f"{each.what}: {each.unfinished}." for each in self.steps if each.unfinished]
        if not self.run.load.total:
            said.append("No call was made: the rate is too low for so short a time.")
        if killed := [each.short for each in self.lives if each.killed]:
            said.append(
                f"{', '.join(killed)}: killed by SIGKILL (exit code 137), because the grace period was over. Calls in flight "
                "were cut."
            )
        if odd := {
            each.short: code for each in self.lives for code in each.exit_codes.values() if code not in (0, 137)
        }:
            listed = ", ".join(f"{name} with exit code {code}" for name, code in odd.items())
            said.append(f"Ended otherwise than in good order: {listed}.")
        if idle := self._idle:
            said.append(
                f"{', '.join(idle)}: got no call. Clients stay on the connections that they have; a new pod gets some when the "
                "server rotates them (RebalancePolicy, max_connection_age), or from clients that follow the endpoints."
            )
        if cancelled := self.run.load.lost_by_status.get("CANCELLED"):
            said.append(
                f"{cancelled:,} calls ended CANCELLED: grpc's stop(grace) marks a server as shut down before it tells its "
                "clients, and calls that arrive in between end so."
            )
        details = " ".join({failure.details for failure in self.run.load.failures}).lower().replace("_", " ")
        for text, meaning in _TEXTS.items():
            if text in details:
                said.append(meaning)
        if crashed := [each.short for each in self.lives if each.restarts]:
            said.append(f"{', '.join(crashed)}: a container was restarted.")
        return tuple(said)

    @property
    def _idle(self) -> list[str]:
        """Servers that served for a while, and got no call."""
        if not self.named:
            return []
        served: dict[str, float] = {}
        for each in self.run.spans:
            if each.phase == "serving":
                served[each.server] = served.get(each.server, 0.0) + each.end - each.start
        return [name for name, time in served.items() if time > _WHILE and name not in self.run.load.calls]

    def as_dict(self) -> dict[str, object]:
        """Plain JSON-able values, with what a script wants first."""
        load = self.run.load
        return {
            "verdict": self.verdict.value,
            "subject": self.subject,
            "done": self.done,
            "calls": load.total,
            "failed": load.lost,
            "failed_by_status": load.lost_by_status,
            "calls_by_server": {name: sum(counts) for name, counts in load.calls.items()},
            "latency": latency(self.run),
            "longest_pause": load.longest_pause,
            "connections": dict(self.connections),
            "steps": [asdict(each) for each in self.steps],
            "servers": [asdict(each) for each in self.lives],
            "spans": [asdict(each) for each in self.run.spans],
            "evidence": list(self.evidence),
            "advice": [each.as_dict() for each in self.advice],
            "failures": [asdict(each) for each in load.failures[:1000]],
            "bucket": load.bucket,
            "series": {"calls": dict(load.calls), "failed": dict(load.failed)},
            "notes": list(self.notes),
            "load": self.load,
            "about": dict(self.about),
        }


# Texts of grpc's in what failed calls were told, in lower case and without underscores.
_TEXTS = {
    "too many pings": "The server closed connections with GOAWAY too_many_pings: it was pinged more often than it permits.",
    "connection refused": "Connections were refused: a pod was among the endpoints, still or already, while its server did not "
    "listen.",
    "max connection age": "Connections were closed by max_connection_age_grace, with calls in flight.",
}


def latency(run: Run) -> dict[str, float]:
    """Of calls that were answered; of streams, from their beginning to their end."""
    load = run.load
    if load.stream_p50:
        return {"p50": load.stream_p50, "p99": load.stream_p99}
    return {"p50": load.p50, "p90": load.p90, "p99": load.p99, "slowest": load.slowest}
