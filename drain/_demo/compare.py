"""The runs, one after the other: plain grpc, then drain on the servers, then, if asked for, drain on both sides."""

from collections.abc import Callable

from drain._demo.about import about
from drain._demo.results import Demo, Settings
from drain._demo.run import Progress, Runner

MODES = ("baseline", "drain", "paired")


async def compare(settings: Settings, modes: tuple[str, ...], on_progress: Callable[[Progress], None]) -> Demo:
    """Run each mode in its turn. On an exception or cancellation no process is left."""
    runs = [await Runner(mode, settings, on_progress).run() for mode in modes]
    return Demo(settings, tuple(runs), about())
