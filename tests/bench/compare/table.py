"""What came of all trials, in figures: a summary of each way, Markdown, JSON."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.bench.compare.trial import SHARE_BOUND, Trial
from tests.bench.compare.ways import WAYS, configuration

LOSSES = ("rolling update", "scale down", "deletion", "kill -9")
HEAD = ("way", *(f"failed: {each}" for each in LOSSES), "share after", "max/mean", "rolling update", "p50", "p99", "CPU per 1,000 calls")  # fmt: skip

Trials = Mapping[str, Sequence[Trial]]


@dataclass(frozen=True, slots=True)
class Summary:
    """Of the rounds of one way that went to their end. Failed calls are summed, times are medians; `share` None: not within its bound, once at least."""

    lost: Mapping[str, tuple[int, int]]
    share: float | None
    spread: float
    update: float
    p50: float
    p99: float
    cpu: float
    clients_cpu: float

    @classmethod
    def of(cls, rounds: Sequence[Trial]) -> "Summary | None":
        """None: none went to its end."""
        whole = [each for each in rounds if not each.broke]
        if not whole:
            return None
        lost = {}
        for what in LOSSES:
            failed, calls = (sum(numbers) for numbers in zip(*(each.lost[what] for each in whole), strict=True))
            lost[what] = (failed, calls)
        known = [each.share for each in whole if each.share is not None]
        share = statistics.median(known) if len(known) == len(whole) else None
        names = ("spread", "update", "p50", "p99", "cpu", "clients_cpu")
        return cls(lost, share, *(statistics.median(getattr(each, name) for each in whole) for name in names))


def lines(trials: Trials) -> list[tuple[str, ...]]:
    """One for each way."""
    return [(_title(name, rounds), *_cells(rounds)) for name, rounds in trials.items()]


def _title(name: str, rounds: Sequence[Trial]) -> str:
    broken = sum(bool(each.broke) for each in rounds)
    return f"{WAYS[name].title} ({broken} of {len(rounds)} rounds broke)" if broken else WAYS[name].title


def _cells(rounds: Sequence[Trial]) -> tuple[str, ...]:
    found = Summary.of(rounds)
    if found is None:
        return (f"broke: {rounds[0].broke}", *([""] * (len(HEAD) - 2)))
    share = f"{found.share:.1f} s" if found.share is not None else f"not within {SHARE_BOUND:.0f} s"
    return (
        *(f"{failed:,} of {calls:,}" for failed, calls in found.lost.values()), share, f"{found.spread:.2f}",
        f"{found.update:.1f} s", f"{found.p50 * 1000:.1f} ms", f"{found.p99 * 1000:.1f} ms", f"{found.cpu:.2f} s",
    )  # fmt: skip


def markdown(trials: Trials) -> str:
    """For README."""
    rows = [HEAD, tuple("---" for _ in HEAD), *lines(trials)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def raw(trials: Trials, about: Mapping[str, object]) -> dict[str, Any]:
    """All of it, for JSON."""
    return {
        "about": dict(about),
        "ways": {
            name: {
                "way": asdict(WAYS[name]),
                "configuration": configuration(WAYS[name]),
                "rounds": [asdict(each) for each in rounds],
            }
            for name, rounds in trials.items()
        },
    }


def read(found: Mapping[str, Any]) -> dict[str, list[Trial]]:
    """Trials, as `raw` wrote them."""
    return {name: [_trial(each) for each in way["rounds"]] for name, way in found["ways"].items()}


def _trial(found: Mapping[str, Any]) -> Trial:
    lost = {what: (failed, calls) for what, (failed, calls) in found["lost"].items()}
    return Trial(**{**found, "lost": lost})
