"""How long a server takes to go: SIGTERM to the end of its process, interpreter exit included, with nothing to announce.

Idle: four clients are connected, no call is in flight. Busy: a call is in flight at SIGTERM; what counts is the time from the
end of that call, as its handler notes it, to the end of the process. Plain `stop(grace)` beside it, in turns.
"""

import asyncio
from collections.abc import AsyncIterator

from tests.bench._rows import FLAVOURS, Row, Spread
from tests.bench._stage import START, Stage, at

RUNS, RUNS_QUICK = 20, 3
IDLE = ("--callers=4", "--interval=3600")  # each calls once
BUSY = ("--callers=1", "--interval=3600", "--work=0.5")
INTO = 0.25  # seconds into the call
MOST = 0.1


async def measure(quick: bool) -> AsyncIterator[Row]:
    """Both flavours."""
    runs = RUNS_QUICK if quick else RUNS
    for flavour in FLAVOURS:
        idle: dict[str, list[float]] = {"drain": [], "plain": []}
        busy: dict[str, list[float]] = {"drain": [], "plain": []}
        for _ in range(runs):
            for library in ("drain", "plain"):
                idle[library].append(await from_sigterm(library, flavour))
                busy[library].append(await from_last_call(library, flavour))
        for what, took in (("SIGTERM to exit, idle", idle), ("end of the last call to exit", busy)):
            spread, beside = Spread.of(took["drain"]), Spread.of(took["plain"])
            figure = f"{spread.ms()} (plain stop(grace): {beside.ms()})"
            yield Row(f"{what}, {flavour}", figure, f"<= {MOST * 1000:.0f} ms", spread.most <= MOST, dict(took))


async def from_sigterm(library: str, flavour: str) -> float:
    """One idle server's leaving."""
    async with stage_of(library, flavour) as stage:
        (place,) = stage.places
        await stage.call(*IDLE)
        await stage.met(place)
        _, told, gone = await stage.leave(place)
        return gone - told


async def from_last_call(library: str, flavour: str) -> float:
    """One busy server's leaving."""
    async with stage_of(library, flavour) as stage:
        (place,) = stage.places
        await stage.call(*BUSY)
        await place.process.until("begun", START)
        await asyncio.sleep(INTO)
        leaving, _, gone = await stage.leave(place)
        return gone - at(await leaving.until("answered", START))


def stage_of(library: str, flavour: str) -> Stage:
    """A server with nobody to announce to."""
    return Stage(library, flavour, announce_timeout=0.0)
