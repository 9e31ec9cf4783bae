"""`kill -9` of one of three servers every 2 s, with callers at full speed: with a retry policy, and without.

The endpoints stay in their EndpointSlice, as if the cluster never noticed; the killed server is back a second later. With the
policy a call may run twice; without it, each call that was under way on the server is lost.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.bench._kube import Kube
from tests.bench._rows import FLAVOURS, Row
from tests.bench._slices import Slice

SECONDS, SECONDS_QUICK = 60, 8
EVERY, BACK = 2.0, 1.0  # seconds from one kill to the next, and to the killed one's return
SERVERS = 3
CALLERS = "--callers=8"


@dataclass
class Lost:
    """What the callers saw."""

    calls: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)


async def measure(quick: bool) -> AsyncIterator[Row]:
    """Both flavours, with and without."""
    kills = round((SECONDS_QUICK if quick else SECONDS) / EVERY)
    async with Kube() as kube:
        places = kube.addresses.take(SERVERS)
        kube.writer.write(Slice("kills", 0, tuple(places)))
        for flavour in FLAVOURS:
            for retry in (True, False):
                lost = await run(kube, places, flavour, kills, retry=retry)
                failures = f" (such as {lost.failures[0]})" if lost.failures else ""
                yield Row(
                    f"kill -9 of 1 in {SERVERS} servers every {EVERY:g} s, {kills} times,"
                    f" {'with retry' if retry else 'without'}, {flavour}",
                    f"{lost.failed:,} of {lost.calls:,} failed{failures}",
                    "0 failed" if retry else "",
                    lost.failed == 0 and lost.calls > 0 if retry else None,
                    {"lost": lost},
                )


async def run(kube: Kube, places: list[str], flavour: str, kills: int, *, retry: bool) -> Lost:
    """One run."""
    servers = [await kube.serve([place]) for place in places]
    client = await kube.client(f"drain {flavour}", "kills", CALLERS, *(["--retry"] if retry else []))
    await client.ask("call")
    for number in range(kills):
        which = number % SERVERS
        await servers[which].end()
        await asyncio.sleep(BACK)
        servers[which] = await kube.serve([places[which]])
        await asyncio.sleep(EVERY - BACK)
    tally = await client.ask("rest")
    for each in (client, *servers):
        await each.end()
    return Lost(tally["calls"], tally["failed"], tally["failures"])
