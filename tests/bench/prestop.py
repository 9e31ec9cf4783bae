"""The preStop hook, whole process, in front of a server that is drained already; an interpreter that does nothing, and `sleep 0`, beside it.

What a drain itself takes is the server's: `observation` and `exit` measure it.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.bench._rows import FLAVOURS, Row, Spread
from tests.bench._stage import Stage

RUNS, RUNS_QUICK = 50, 5
MOST_WALL, MOST_CPU = 0.080, 0.060
HOOK = "python -m drain.prestop"
COMMANDS = {
    HOOK: (sys.executable, "-m", "drain.prestop", "--quiet"),
    "python -c pass": (sys.executable, "-c", "pass"),
    "sleep 0": ("sleep", "0"),
}


@dataclass(slots=True)
class Taken:
    """Seconds of whole processes."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


async def measure(quick: bool) -> AsyncIterator[Row]:
    """In front of a server of each flavour, which makes no difference to the hook."""
    for flavour in FLAVOURS:
        # A directory of its own: the hook drains whatever it finds.
        with tempfile.TemporaryDirectory(prefix="drain-bench-") as directory:
            before = os.environ.get("DRAIN_RUNTIME_DIR")
            os.environ["DRAIN_RUNTIME_DIR"] = directory
            try:
                async with Stage("drain", flavour, announce_timeout=0.0):
                    taken = await asyncio.to_thread(_runs, RUNS_QUICK if quick else RUNS)
            finally:
                if before is None:
                    del os.environ["DRAIN_RUNTIME_DIR"]
                else:
                    os.environ["DRAIN_RUNTIME_DIR"] = before
        spreads = {name: (Spread.of(each.wall), Spread.of(each.cpu)) for name, each in taken.items()}
        beside = "; ".join(f"{name}: {wall.ms()}" for name, (wall, _) in spreads.items() if name != HOOK)
        wall, cpu = spreads[HOOK]
        what = f"preStop hook, server already drained, {flavour}"
        mark = f"median <= {MOST_WALL * 1000:.0f} ms"
        yield Row(what, f"{wall.ms()} ({beside})", mark, wall.median <= MOST_WALL, taken)
        idle = spreads["python -c pass"][1]
        mark = f"median <= {MOST_CPU * 1000:.0f} ms"
        yield Row(f"{what}, CPU", f"{cpu.ms()} (python -c pass: {idle.ms()})", mark, cpu.median <= MOST_CPU)


def _runs(times: int) -> dict[str, Taken]:
    """In turns; the first drains the server, and does not count."""
    taken = {name: Taken() for name in COMMANDS}
    for number in range(times + 1):
        for name, command in COMMANDS.items():
            began = time.perf_counter()
            process = subprocess.Popen(command)
            _, status, used = os.wait4(process.pid, 0)
            wall = time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise RuntimeError(f"{name} ended with {process.returncode}")
            if number:
                taken[name].wall.append(wall)
                taken[name].cpu.append(used.ru_utime + used.ru_stime)
    return taken
