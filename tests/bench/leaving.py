"""How long a whole drain takes when the last balancer has learned at `t` and the longest call takes `d`: announcing must end soon
after `t`, and the end must come soon after the last call's. Beside it what everybody does instead: a preStop `sleep 15`.
"""

import asyncio
from collections.abc import AsyncIterator

from tests.bench._rows import FLAVOURS, Row, Spread
from tests.bench._stage import START, Calls, Stage, at
from tests.bench.observation import SERVERS, SETTLE, learned

LAGS, LAGS_QUICK = (0.0, 0.5, 2.0, 5.0), (0.5,)
TAKES, TAKES_QUICK = (0.0, 2.0), (0.5,)  # seconds of a call
DRAINS, DRAINS_QUICK = 4, 2
ANNOUNCE_MIN = 1.0
FIXED = 15.0  # the sleep that everybody has
SPARE = 0.25
PROCESSES = 4
CALLERS = ("--callers=8", "--interval=0.02")


async def measure(quick: bool) -> AsyncIterator[Row]:
    """Each lag and each length of a call, both flavours."""
    for flavour in FLAVOURS:
        for takes in TAKES_QUICK if quick else TAKES:
            for lag in LAGS_QUICK if quick else LAGS:
                drains = DRAINS_QUICK if quick else DRAINS
                calls, over, lasted = await run(flavour, lag, takes, drains)
                spread, whole = Spread.of(over), Spread.of(lasted)
                yield Row(
                    f"{drains} drains, balancer {lag:g} s late, calls of {takes:g} s, {flavour}",
                    f"{whole.median:.2f} s in all, max {whole.most:.2f} s (a preStop sleep: {FIXED + takes:g} s); "
                    f"{spread.median:+.2f} s of max(t + 1 s, announce_min) + d, max {spread.most:+.2f} s; {calls}",
                    f"<= +{SPARE:g} s; 0 failed",
                    spread.most <= SPARE and calls.failed == 0,
                    {"lag": lag, "takes": takes, "over": over, "lasted": lasted, "calls": calls},
                )


async def run(flavour: str, lag: float, takes: float, drains: int) -> tuple[Calls, list[float], list[float]]:
    """Drains of servers in turn: what the callers saw, seconds beyond the mark's sum, and seconds in all."""
    over, lasted = [], []
    async with Stage("drain", flavour, servers=SERVERS) as stage:
        backends = [f"--backend={place.address}" for place in stage.places]
        balancer = await stage.family.start("balancer", "drain._demo.balancer", f"--lag={lag:g}", *backends)
        for place in stage.places:
            await learned(balancer, place, listed=True, since=0.0)
        port = (await balancer.until("ready", START))["port"]
        work = () if takes == 0 else (f"--work={takes:g}",)
        await stage.call(*CALLERS, *work, target=f"127.0.0.1:{port}", processes=PROCESSES)
        await stage.met()
        for number in range(drains):
            await asyncio.sleep(SETTLE)
            place = stage.places[number % SERVERS]
            leaving, told, gone = await stage.leave(place)
            knew = await learned(balancer, place, listed=False, since=told) - told
            stopped = at(await leaving.until("phase", START, where=lambda event: event["phase"] == "stopped"))
            lasted.append(stopped - told)
            over.append(stopped - told - max(knew + 1.0, ANNOUNCE_MIN) - takes)
            await stage.start(place)
            await learned(balancer, place, listed=True, since=gone)
        return await stage.hang_up(), over, lasted
