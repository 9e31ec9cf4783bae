"""What it cost when several workers left together."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from drain.report import DrainReport, RotationReport


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """One worker of the group at its end.

    Attributes:
        number, pid: which one.
        exit_code: of its process; minus the signal's number where one ended it.
        served: it had listened.
        killed: it outstayed its time, and was killed.
        reports: of its servers, those that told the parent.
    """

    number: int
    pid: int
    exit_code: int
    served: bool = True
    killed: bool = False
    reports: tuple[DrainReport, ...] = ()

    @property
    def clean(self) -> bool:
        """No call was cut, as far as anybody can know: one that ended without a report may have cut all that it had."""
        return not self.served or (bool(self.reports) and not self.killed and all(each.clean for each in self.reports))

    def __str__(self) -> str:
        if not self.served:
            return "had not served yet"
        told = "; ".join(map(str, self.reports)) or f"ended without a report (exit code {self.exit_code})"
        return f"{told}; killed, its time was up" if self.killed else told


@dataclass(frozen=True, slots=True)
class WorkersReport:
    """What `drain.run_workers` returns: the end of all workers, and what happened before.

    Attributes:
        reason: what began the drain: "SIGTERM", "SIGINT", or the text that the admin socket was given.
        duration: seconds from there to the last worker's end.
        workers: those that were there when it began, by number.
        restarts: how often a worker was started again because it had ended by itself.
        replaced: workers replaced one by one.
        kills: workers killed because they outstayed their time, over the whole life.
        forced: a second signal ended the drain early.
        orphans: processes of others that were reaped (as PID 1).
    """

    reason: str
    duration: float
    workers: tuple[WorkerReport, ...] = ()
    restarts: int = 0
    replaced: int = 0
    kills: int = 0
    forced: bool = False
    orphans: int = 0

    @property
    def clean(self) -> bool:
        """No call was cut in any worker when they left. `restarts` and earlier `kills` may have cost some: see the log."""
        return all(worker.clean for worker in self.workers)

    @property
    def finished(self) -> int:
        """Calls that finished during the drain."""
        return sum(report.finished for worker in self.workers for report in worker.reports)

    @property
    def cancelled(self) -> int:
        """Calls known to have been cut."""
        return sum(report.cancelled for worker in self.workers for report in worker.reports)

    def as_dict(self) -> dict[str, object]:
        """The report as plain JSON-able values."""
        workers = [
            {
                **{each.name: getattr(worker, each.name) for each in fields(worker)},
                "reports": [report.as_dict() for report in worker.reports],
                "clean": worker.clean,
            }
            for worker in self.workers
        ]
        mine = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            **mine,
            "workers": workers,
            "clean": self.clean,
            "finished": self.finished,
            "cancelled": self.cancelled,
        }

    def text(self) -> str:
        """The report as a few lines for people."""
        lines = [str(self)]
        lines += [f"  worker {worker.number:<3} (pid {worker.pid}) {worker}" for worker in self.workers]
        lines.append(f"  before      {self.restarts} restarts, {self.replaced} replaced, {self.kills} killed")
        if self.orphans:
            lines.append(f"  orphans     {self.orphans} reaped")
        return "\n".join(lines)

    def __str__(self) -> str:
        outcome = "drained" if self.clean else "drained with losses"
        forced = ", forced" if self.forced else ""
        return (
            f"{len(self.workers)} workers {outcome} in {self.duration:.2f} s ({self.reason}{forced}): "
            f"{self.finished} calls finished, {self.cancelled} cancelled"
        )


def drain_report(told: Mapping[str, object]) -> DrainReport:
    """What `DrainReport.as_dict` made, as a report again. Fields that it does not know are left out."""
    known = {each.name for each in fields(DrainReport)}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items() if name in known}
    of_rotations = {each.name for each in fields(RotationReport)}
    rotations: object = values.get("rotations", ())
    assert isinstance(rotations, tuple)
    values["rotations"] = tuple(
        RotationReport(**{name: value for name, value in each.items() if name in of_rotations}) for each in rotations
    )
    return DrainReport(**values)  # type: ignore[arg-type]  # our own words, from a worker
