"""Large services: how many distinct endpoints each client holds, and how soon it has one change among 5,000.

The servers of the service count at how many addresses somebody is connected (round_robin connects to all that it is given). For a
change there are no calls: the channel is up to date when the new address is connected to, or the removed one left.
"""

import asyncio
import statistics
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field

from tests.bench._kube import CLIENTS, Kube, Peer
from tests.bench._rows import Row
from tests.bench._slices import Slice, sliced

SIZES = {"250": [100, 100, 50], "5000": [100] * 50}
LARGE = "5000"
SUBSET = 100
CHANGES, CHANGES_QUICK = 50, 3
CHANGED = "drain sync"  # whose changes are measured; the asyncio channel is the same below
EVERY = 0.02  # seconds between two looks
STEADY = 1.0  # seconds in which nothing more is connected: it is all that this client has
BOUND = 60.0
WINDOW = 1.0  # seconds in which the CPU for one change is spent
MOST = 0.050


async def measure(quick: bool) -> AsyncIterator[Row]:
    """Sizes, then changes: of a channel that has all 5,000, and of one with a subset."""
    times = CHANGES_QUICK if quick else CHANGES
    async with Kube() as kube:
        for size, sizes in SIZES.items():
            slices = sliced(f"size-{size}", kube.addresses.take(sum(sizes)), sizes)
            kube.write(slices)
            servers = await kube.serve([address for each in slices for address in each.addresses])
            for name in CLIENTS:
                client = await kube.client(name, f"size-{size}")
                connected, seconds = await steady(servers)
                known = (await client.ask("known"))["known"]
                yield size_row(name, sum(sizes), len(sizes), known, connected, seconds)
                if name == CHANGED and size == LARGE:
                    yield (await changes(kube, servers, client, slices, times)).row("all of them used")
                await client.end()
                await gone(servers)
            if size == LARGE and CHANGED in CLIENTS:
                client = await kube.client(CHANGED, f"size-{size}", f"--subset-size={SUBSET}")
                await steady(servers)
                yield (await changes(kube, servers, client, slices, times)).row(f"subset_size={SUBSET}")
                await client.end()
            await servers.end()


def size_row(name: str, endpoints: int, slices: int, known: int, connected: int, seconds: float) -> Row:
    """How much of the service it has."""
    ours = name != "kuberesolver"
    return Row(
        f"{endpoints:,} endpoints in {slices} slices, {name}",
        f"{known:,} known, connected to {connected:,} ({seconds:.1f} s after the first answer)",
        "all" if ours else "",
        known == connected == endpoints if ours else None,
    )


@dataclass
class Changed:
    """Seconds from the API server's answer to each change, and CPU seconds of the client."""

    added: list[float] = field(default_factory=list)
    removed: list[float] = field(default_factory=list)
    handed: list[float] = field(default_factory=list)  # until drain had handed it to grpc
    cpu: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)  # CPU seconds in a window without a change

    def row(self, which: str) -> Row:
        """To show."""
        both = self.added + self.removed
        added, removed, handed, cpu, idle = (
            statistics.median(each) * 1000 for each in (self.added, self.removed, self.handed, self.cpu, self.idle)
        )
        median = statistics.median(both)
        return Row(
            f"one change among 5,000 endpoints -> channel updated, {len(both)} times, {which}",
            f"median {median * 1000:.0f} ms, max {max(both) * 1000:.0f} ms (added {added:.0f}, removed {removed:.0f};"
            f" handed to grpc after {handed:.0f}); CPU for it {cpu - idle:.0f} ms",
            f"median <= {MOST * 1000:.0f} ms",
            median <= MOST,
            {"changed": self},
        )


async def changes(kube: Kube, servers: Peer, client: Peer, slices: list[Slice], times: int) -> Changed:
    """An endpoint that the client is connected to goes, and comes back: one after another."""
    found = Changed()
    chosen = sorted((await servers.ask("open"))["some"])
    for number in range(times):
        where = chosen[number % len(chosen)]
        address = where.rpartition(":")[0]
        (whole,) = (each for each in slices if address in each.addresses)
        less = Slice(whole.service, whole.number, tuple(each for each in whole.addresses if each != address))
        found.idle.append(await spent(client, asyncio.sleep(WINDOW)))
        for made, what, into in ((less, "closed", found.removed), (whole, "accepted", found.added)):
            await servers.ask("forget", where)
            since = kube.writer.write(made).answered
            found.cpu.append(await spent(client, noted(servers, where, what, since, into)))
            found.handed.append((await client.ask("told"))["at"] - since)
    return found


async def noted(servers: Peer, where: str, what: str, since: float, into: list[float]) -> None:
    """When that happened at this server. Takes a whole window, so that all CPU for it is spent."""
    async with asyncio.timeout(BOUND):
        await asyncio.sleep(WINDOW)
        while not (at := (await servers.ask("seen", where))["seen"][what]):
            await asyncio.sleep(EVERY)
    into.append(at - since)


async def spent(client: Peer, meanwhile: Awaitable[None]) -> float:
    """CPU seconds of the client."""
    before = (await client.ask("cpu"))["seconds"]
    await meanwhile
    return float((await client.ask("cpu"))["seconds"] - before)


async def steady(servers: Peer) -> tuple[int, float]:
    """At how many addresses somebody is connected, when that does not change any more, and how long that took."""
    began = changed = asyncio.get_running_loop().time()
    connected = 0
    while (now := asyncio.get_running_loop().time()) < began + BOUND and now < changed + STEADY:
        if (count := (await servers.ask("open"))["open"]) != connected:
            connected, changed = count, now
        await asyncio.sleep(EVERY)
    return connected, changed - began


async def gone(servers: Peer) -> None:
    """Until nobody is connected."""
    async with asyncio.timeout(BOUND):
        while (await servers.ask("open"))["open"]:
            await asyncio.sleep(EVERY)
