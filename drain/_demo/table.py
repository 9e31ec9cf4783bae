"""The table side by side and the verdict, as text: the terminal and the page show the same."""

from collections.abc import Sequence

from drain._demo.results import Demo, Run
from drain._demo.words import WORDS

Row = tuple[str, ...]
MATTERS = 0.1  # seconds that the measurement itself was delayed, from which on it is shown


def verdict(demo: Demo) -> str:
    """The result in one line."""
    parts = (f"{WORDS[run.mode].name}: {run.load.lost:,} of {run.load.total:,} calls failed" for run in demo.runs)
    return ". ".join(parts) + "."


def rows(runs: Sequence[Run]) -> list[Row]:
    """One row a measure: its name, then a value for each run."""
    statuses = sorted({status for run in runs for status in run.load.failed})
    delays = [max(run.held_up, run.load.held_up) for run in runs]
    return [
        ("Calls", *(f"{run.load.total:,}" for run in runs)),
        ("Failed", *(_share(run) for run in runs)),
        *((f"· {status}", *(f"{run.load.lost_by_status.get(status, 0):,}" for run in runs)) for status in statuses),
        ("Longest pause of one caller", *(seconds(run.load.longest_pause) for run in runs)),
        *([("· held up by a busy machine", *map(seconds, delays))] if max(delays) >= MATTERS else []),
        ("Restarts", *(f"{len(run.restarts)}" for run in runs)),
        ("Time per restart, successor in use", *(seconds(run.restarting) for run in runs)),
        ("· SIGTERM to process exit", *(seconds(run.leaving) for run in runs)),
        ("Unary call, p50", *(seconds(run.load.p50) for run in runs)),
        ("Unary call, p99", *(seconds(run.load.p99) for run in runs)),
    ]


def _share(run: Run) -> str:
    return f"{run.load.lost:,} ({run.load.lost / run.load.total:.2%})" if run.load.lost else "0"


def seconds(value: float) -> str:
    """Seconds for people: milliseconds below one second."""
    if value < 0.01:
        return f"{value * 1000:.1f} ms"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"
