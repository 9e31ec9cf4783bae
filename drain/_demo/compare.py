"""Both runs, one after the other: plain grpc, then drain."""

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from drain._demo.results import Demo, Settings
from drain._demo.run import Progress, Runner

MODES = ("baseline", "drain")


async def compare(settings: Settings, modes: tuple[str, ...], on_progress: Callable[[Progress], None]) -> Demo:
    """Run each mode in its turn. On an exception or cancellation no process is left."""
    runs = [await Runner(mode, settings, on_progress).run() for mode in modes]
    return Demo(settings, tuple(runs), about())


def about() -> dict[str, str]:
    """Where this was run."""
    return {
        "measured": time.strftime("%Y-%m-%d %H:%M"),
        "grpcio": _version("grpcio"),
        "grpc-drain": _version("grpc-drain"),
        "Python": platform.python_version(),
        "on": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # run from a source tree
        return "unreleased"
