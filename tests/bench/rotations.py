"""Rotation of all connections of one server every 0.2 s under 16 callers at full speed, each on a channel of its own."""

from collections.abc import AsyncIterator

from tests.bench._rows import FLAVOURS, Row
from tests.bench._stage import Stage

EVERY = 0.2
SECONDS, SECONDS_QUICK = 60, 4
PROCESSES = 4  # see _callers
CALLERS = ("--callers=4", "--streaming=1", "--work=0.003")


async def measure(quick: bool) -> AsyncIterator[Row]:
    """Both flavours."""
    times = round((SECONDS_QUICK if quick else SECONDS) / EVERY)
    for flavour in FLAVOURS:
        async with Stage("drain", flavour) as stage:
            (place,) = stage.places
            await stage.call(*CALLERS, processes=PROCESSES)
            await stage.met(place)
            rotated = await stage.rotate(place, times, EVERY)
            calls = await stage.hang_up()
        what = f"rotation of {rotated['connections']:.0f} connections every {EVERY:g} s for {rotated['seconds']:.0f} s"
        yield Row(f"{what}, {flavour}", str(calls), "0 failed", calls.failed == 0, {**rotated, "calls": calls})
