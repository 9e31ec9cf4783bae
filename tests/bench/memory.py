"""Growth of a server's resident memory over 2,000 rotations with 8 callers, each time all of them reconnecting."""

from collections.abc import AsyncIterator

from tests.bench._rows import FLAVOURS, Row
from tests.bench._stage import Stage

EVERY = 0.05
WARM_UP, PORTIONS, PORTION = 200, 10, 200
PROCESSES = 2  # see _callers
CALLERS = ("--callers=4", "--interval=0.01")
MIB = 2**20
MOST = 5.0


async def measure(quick: bool) -> AsyncIterator[Row]:
    """Both flavours."""
    portion = 20 if quick else PORTION
    for flavour in FLAVOURS:
        async with Stage("drain", flavour) as stage:
            (place,) = stage.places
            await stage.call(*CALLERS, processes=PROCESSES)
            await stage.met(place)
            await stage.rotate(place, WARM_UP, EVERY)
            sizes = [await stage.ask(place, "memory")]
            for _ in range(PORTIONS):
                rotated = await stage.rotate(place, portion, EVERY)
                sizes.append(await stage.ask(place, "memory"))
            calls = await stage.hang_up()
        resident = [size["bytes"] / MIB for size in sizes]
        grown = resident[-1] - resident[0]
        yield Row(
            f"memory after {PORTIONS * portion:,} rotations of {rotated['connections']:.0f} connections, {flavour}",
            f"{grown:+.1f} MiB (of {resident[0]:.0f})",
            f"<= +{MOST:g} MiB",
            grown <= MOST,
            {"mib": resident, "calls": calls, "last rotations": rotated},
        )
