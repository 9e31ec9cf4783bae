"""Failed calls grouped to what a person would call one incident."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drain._demo.results import Run

APART = 0.6  # seconds without a failed call that part one incident from the next


@dataclass(frozen=True, slots=True)
class Incident:
    """Failed calls that belong together."""

    start: float
    end: float
    by_status: Mapping[str, int]

    @property
    def calls(self) -> int:
        """How many."""
        return sum(self.by_status.values())


def incidents(run: Run) -> list[Incident]:
    """The run's failed calls in groups: a restart begins a new one, and so does a while without failed calls."""
    bucket, failed = run.load.bucket, run.load.failed
    signals = [int(restart.signalled / bucket) for restart in run.restarts]
    groups: list[list[tuple[int, Counter[str]]]] = []
    for index, column in enumerate(zip(*failed.values(), strict=True)):
        if any(column):
            last = groups[-1][-1][0] if groups else index
            parted = (index - last) * bucket > APART or any(last < signal <= index for signal in signals)
            if parted or not groups:
                groups.append([])
            groups[-1].append((index, Counter(dict(zip(failed, column, strict=True)))))
    return [_joined(group, bucket) for group in groups]


def _joined(group: Sequence[tuple[int, Counter[str]]], bucket: float) -> Incident:
    by_status = sum((counts for _, counts in group), Counter[str]())
    return Incident(group[0][0] * bucket, (group[-1][0] + 1) * bucket, by_status)
