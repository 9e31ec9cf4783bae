"""Server CPU per call (process time over 20,000 unary calls): drain over plain grpc, and plain over plain beside it.

Each of the 15 pairs has fresh processes, because processes of the same program differ by some percent for their whole life
(memory layout, hash seeds). The three servers of a round (plain, drain, plain) live side by side and get their calls in short
bursts in turns, because the machine's speed changes from second to second. Both of it together gave the least noise. The plain
servers serve health and have the same channel arguments (see `_server`).
"""

from collections.abc import AsyncIterator
from typing import cast

from tests.bench._rows import FLAVOURS, Row, Spread
from tests.bench._stage import START, Stage

PAIRS, PAIRS_QUICK = 15, 2
CALLS, CALLS_QUICK = 20_000, 4_000
BURST = 500
WARM_UP = 1_000
MOST = 1.03


async def measure(quick: bool) -> AsyncIterator[Row]:
    """Both flavours."""
    pairs, calls = (PAIRS_QUICK, CALLS_QUICK) if quick else (PAIRS, CALLS)
    for flavour in FLAVOURS:
        rounds = [await one_round(flavour, calls) for _ in range(pairs)]
        drains = Spread.of([drain / plain for plain, drain, _ in rounds])
        plains = Spread.of([beside / plain for plain, _, beside in rounds])
        micros = [Spread.of([cpu[index] / calls * 1e6 for cpu in rounds]).median for index in (0, 1)]
        figure = f"{drains.ratio()}: {micros[0]:.0f} -> {micros[1]:.0f} us; plain over plain {plains.ratio()}"
        mark = f"median <= {MOST:g}, or within plain's quartiles"
        passed = drains.median <= max(MOST, plains.upper)
        details = {"drain": drains, "plain": plains, "seconds (plain, drain, plain)": rounds}
        yield Row(f"server CPU per call, {pairs} pairs, {flavour}", figure, mark, passed, details)


async def one_round(flavour: str, calls: int, base: str = "plain", other: str = "drain") -> tuple[float, float, float]:
    """CPU seconds of three fresh servers for that many calls each: base, other, base."""
    async with Stage(base, flavour) as one, Stage(other, flavour) as two, Stage(base, flavour) as three:
        stages = (one, two, three)
        targets = [f"--target={stage.places[0].address}" for stage in stages]
        client = await one.family.start("client", "tests.bench._bursts", *targets)
        number = 0

        async def burst(which: int, size: int) -> float:
            nonlocal number
            number += 1
            before = await cpu(stages[which])
            client.order(f"{which} {size} {number}")
            await client.until("done", START, where=lambda event: event["tag"] == number)
            return await cpu(stages[which]) - before

        for which in range(3):
            await burst(which, WARM_UP)
        spent = [0.0, 0.0, 0.0]
        for turn in range(calls // BURST):
            for step in range(3):  # each of them first, second and third in turns
                which = (turn + step) % 3
                spent[which] += await burst(which, BURST)
    return spent[0], spent[1], spent[2]


async def cpu(stage: Stage) -> float:
    """Process time of that server so far."""
    return cast(float, (await stage.ask(stage.places[0], "cpu"))["seconds"])
