"""Live progress of the demo on stderr, a line a run. Quiet where no terminal is; rich minds NO_COLOR."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from drain._demo import run
from drain._demo.results import Settings
from drain._demo.words import WORDS

COLUMNS = (  # 80 characters are enough
    TextColumn("{task.description}"),
    BarColumn(bar_width=10),
    TextColumn("{task.completed}/{task.total}"),
    TextColumn("{task.fields[calls]:>6,} calls"),
    TextColumn("{task.fields[lost]}"),
    TextColumn("[dim]{task.fields[step]}"),
)


@contextmanager
def live(settings: Settings, modes: Sequence[str]) -> Iterator[Callable[[run.Progress], None]]:
    """Gives the function to call with each progress."""
    console = Console(stderr=True)
    with Progress(*COLUMNS, console=console, disable=not console.is_terminal) as bars:
        tasks = {mode: _task(bars, mode, settings.restarts) for mode in modes}

        def show(progress: run.Progress) -> None:
            bars.start_task(tasks[progress.mode])
            colour = "red" if progress.lost else "green"
            lost = f"[{colour}]{progress.lost:>3,} failed"
            bars.update(
                tasks[progress.mode], completed=progress.restarts, calls=progress.calls, lost=lost, step=progress.step
            )

        yield show


def _task(bars: Progress, mode: str, restarts: int) -> TaskID:
    width = max(len(words.name) for words in WORDS.values())
    return bars.add_task(f"{WORDS[mode].name:<{width}}", total=restarts, start=False, calls=0, lost="", step="waiting")
