"""How long a server takes to go: SIGTERM to the end of its process, interpreter exit included, with nothing to announce.

Idle: four clients are connected, no call is in flight. Busy: a call is in flight at SIGTERM; what counts is the time from the
end of that call, as its handler notes it, to the end of the process. Plain `stop(grace)` beside it, in turns.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.bench._rows import FLAVOURS, Row, Spread
from tests.bench._stage import START, Stage, at

RUNS, RUNS_QUICK = 20, 3
IDLE = ("--callers=4", "--interval=3600")  # each calls once
BUSY = ("--callers=1", "--interval=3600", "--work=0.5")
SETTLE = 0.25  # seconds, half of that call
MOST = 0.1


@dataclass(slots=True)
class Ends:
    """Seconds from what counts to the end of the process, and to the state STOPPED where there is one."""

    gone: list[float] = field(default_factory=list)
    stopped: list[float] = field(default_factory=list)


async def measure(quick: bool) -> AsyncIterator[Row]:
    """Both flavours."""
    runs = RUNS_QUICK if quick else RUNS
    for flavour in FLAVOURS:
        idle, busy = {"drain": Ends(), "plain": Ends()}, {"drain": Ends(), "plain": Ends()}
        for _ in range(runs):
            for library, ends in idle.items():
                await one_end(ends, library, flavour, IDLE)
                await one_end(busy[library], library, flavour, BUSY)
        for what, both in (("SIGTERM to exit, idle", idle), ("end of the last call to exit", busy)):
            gone, stopped, beside = (
                Spread.of(values) for values in (both["drain"].gone, both["drain"].stopped, both["plain"].gone)
            )
            figure = f"{gone.ms()}, stopped after {stopped.median * 1000:.0f} ms (plain stop(grace): {beside.ms()})"
            yield Row(f"{what}, {flavour}", figure, f"<= {MOST * 1000:.0f} ms", gone.most <= MOST, both)


async def one_end(ends: Ends, library: str, flavour: str, callers: tuple[str, ...]) -> None:
    """A server comes and goes."""
    async with Stage(library, flavour, announce_timeout=0.0) as stage:
        (place,) = stage.places
        await stage.call(*callers)
        if callers is BUSY:
            await place.process.until("begun", START)
        else:
            await stage.met(place)
        await asyncio.sleep(SETTLE)
        leaving, since, gone = await stage.leave(place)
        if callers is BUSY:
            since = at(await leaving.until("answered", START))
        ends.gone.append(gone - since)
        ends.stopped += [at(event) - since for event in leaving.events if event.get("phase") == "stopped"]
