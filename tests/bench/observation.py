"""Leaving by observation behind a small layer-4 balancer that learns late: 32 unaware callers, three servers restarted in turn.

The balancer drops a NOT_SERVING server from its table `lag` seconds after that could be seen. The server knows nothing of it: it
asks, by rotations, until nobody comes back. Measured: failed calls, and the time between the balancer's learning and the end of
announcing (both note the machine's monotonic clock).
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from drain._demo.children import Child
from tests.bench._rows import FLAVOURS, Row, Spread
from tests.bench._stage import START, Calls, Place, Stage, at

LAGS, LAGS_QUICK = (0.0, 0.5, 2.0, 5.0), (0.0, 0.5)
RESTARTS = {"sync": 20, "aio": 10}
RESTARTS_QUICK = 3
SERVERS = 3
PROCESSES = 4  # see _callers
CALLERS = ("--callers=8", "--interval=0.02")  # 1,600 calls a second in all: the balancer must not be what is measured
SETTLE = 0.5
MOST = 1.0


@dataclass(slots=True)
class Leavings:
    """How servers left, seconds each: from the balancer's learning, and from SIGTERM, to the end of announcing."""

    after: list[float] = field(default_factory=list)
    lasted: list[float] = field(default_factory=list)
    why: list[str] = field(default_factory=list)


async def measure(quick: bool) -> AsyncIterator[Row]:
    """Each lag, both flavours."""
    for flavour in FLAVOURS:
        for lag in LAGS_QUICK if quick else LAGS:
            restarts = RESTARTS_QUICK if quick else RESTARTS[flavour]
            calls, leavings = await run(flavour, lag, restarts)
            after, lasted = Spread.of(leavings.after), Spread.of(leavings.lasted)
            yield Row(
                f"{restarts} restarts behind a balancer {lag:g} s late, {flavour}",
                f"{calls}; announcing ended {after.median:.2f} s after it had learned, max {after.most:.2f} s"
                f" ({lasted.median:.2f} s in all)",
                f"0 failed; <= {MOST:g} s",
                calls.failed == 0 and after.most <= MOST,
                {"lag": lag, "calls": calls, "leavings": leavings},
            )


async def run(flavour: str, lag: float, restarts: int) -> tuple[Calls, Leavings]:
    """One run."""
    leavings = Leavings()
    async with Stage("drain", flavour, servers=SERVERS) as stage:
        backends = [f"--backend={place.address}" for place in stage.places]
        balancer = await stage.family.start("balancer", "drain._demo.balancer", f"--lag={lag:g}", *backends)
        for place in stage.places:
            await learned(balancer, place, listed=True, since=0.0)
        port = (await balancer.until("ready", START))["port"]
        await stage.call(*CALLERS, target=f"127.0.0.1:{port}", processes=PROCESSES)
        await stage.met()
        for number in range(restarts):
            await asyncio.sleep(SETTLE)
            place = stage.places[number % SERVERS]
            leaving, told, gone = await stage.leave(place)
            knew = await learned(balancer, place, listed=False, since=told)
            ended = await leaving.until("AnnouncingEnded", START)
            leavings.after.append(at(ended) - knew)
            leavings.lasted.append(at(ended) - told)
            leavings.why.append(str(ended["why"]))
            await stage.start(place)
            await learned(balancer, place, listed=True, since=gone)
        return await stage.hang_up(), leavings


async def learned(balancer: Child, place: Place, *, listed: bool, since: float) -> float:
    """When the balancer's table changed for that place."""
    return at(
        await balancer.until(
            "learned",
            START,
            where=lambda event: event["backend"] == place.address and event["listed"] is listed and at(event) >= since,
        )
    )
