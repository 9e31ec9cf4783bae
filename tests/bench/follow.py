"""How soon a client follows: endpoint added -> first call on it, removed -> last call on it, from the API server's answer.

Each client (drain, sync and aio; grpc-go with kuberesolver) has a service of its own with two endpoints that stay, and calls it
round_robin, 0.2 ms between two calls (the asyncio one without a rest: its timer is too coarse). A third endpoint comes and goes:
for each client in turns, while the others hear nothing and rest. The servers, the same for all, note when a call comes.
"""

import asyncio
import statistics
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.bench._kube import CLIENTS, Kube, Peer
from tests.bench._rows import Row
from tests.bench._slices import PORT, Slice, Written

CHANGES, CHANGES_QUICK = 100, 5
STAY, COME = 2, 4  # addresses of a service that stay, and that come and go in turns
PEER = "kuberesolver"
GAPS = {"drain sync": "0.0002", "drain aio": "0", PEER: "200us"}
WARM_UP = 0.05  # seconds of calling before a change
EVERY = 0.02  # seconds between two looks at what the servers noted
QUIET = 0.25  # seconds without a call, and it was the last one
BOUND = 10.0
MEDIAN, MOST = 0.010, 0.100


@dataclass
class Took:
    """Seconds from the API server's answer, and from the request that was answered."""

    answer: list[float] = field(default_factory=list)
    request: list[float] = field(default_factory=list)
    handed: list[float] = field(default_factory=list)  # from the answer, until drain had handed it to grpc

    def note(self, written: Written, at: float) -> None:
        """One more."""
        self.answer.append(at - written.answered)
        self.request.append(at - written.asked)


@dataclass
class Followed:
    """How one client followed."""

    client: str
    added: Took = field(default_factory=Took)
    removed: Took = field(default_factory=Took)
    calls: int = 0
    failures: list[str] = field(default_factory=list)


async def measure(quick: bool) -> AsyncIterator[Row]:
    """All clients, in turns."""
    found = {name: Followed(name) for name in CLIENTS}
    async with Kube() as kube:
        theirs = {name: kube.addresses.take(STAY + COME) for name in CLIENTS}
        servers = await kube.serve([address for each in theirs.values() for address in each])
        clients = {}
        for name, each in theirs.items():
            kube.writer.write(Slice(service(name), 0, tuple(each[:STAY])))
            clients[name] = await kube.client(name, service(name), f"--gap={GAPS[name]}")
        for number in range(CHANGES_QUICK if quick else CHANGES):
            order = list(CLIENTS)[number % 3 :] + list(CLIENTS)[: number % 3]
            for name in order:
                stay, comes = theirs[name][:STAY], theirs[name][STAY + number % COME]
                await one_change(found[name], kube, servers, clients[name], stay, comes)
    for what in ("added", "removed"):
        for name, followed in found.items():
            peer = getattr(found[PEER], what) if name != PEER else None
            yield row(what, followed, getattr(followed, what), peer)


async def one_change(followed: Followed, kube: Kube, servers: Peer, client: Peer, stay: list[str], comes: str) -> None:
    """An endpoint comes and goes, under calls."""
    where = f"{comes}:{PORT}"
    await servers.ask("forget", where)
    await client.ask("call")
    await asyncio.sleep(WARM_UP)
    written = kube.writer.write(Slice(service(followed.client), 0, (*stay, comes)))
    followed.added.note(written, await first(servers, where))
    if followed.client != PEER:
        followed.added.handed.append((await client.ask("told"))["at"] - written.answered)
    await asyncio.sleep(WARM_UP)
    written = kube.writer.write(Slice(service(followed.client), 0, tuple(stay)))
    followed.removed.note(written, await last(servers, where))
    if followed.client != PEER:
        followed.removed.handed.append((await client.ask("told"))["at"] - written.answered)
    tally = await client.ask("rest")
    followed.calls += tally["calls"]
    followed.failures += tally["failures"] or []


async def first(servers: Peer, where: str) -> float:
    """When that server was called first."""
    async with asyncio.timeout(BOUND):
        while True:
            seen = (await servers.ask("seen", where))["seen"]
            if seen["calls"]:
                return float(seen["first"])
            await asyncio.sleep(EVERY)


async def last(servers: Peer, where: str) -> float:
    """When that server was called last: nothing has come since for a while."""
    calls = -1
    async with asyncio.timeout(BOUND):
        while True:
            seen = (await servers.ask("seen", where))["seen"]
            if seen["calls"] == calls:
                return float(seen["last"])
            calls = seen["calls"]
            await asyncio.sleep(QUIET)


def service(client: str) -> str:
    """Its name."""
    return "follow-" + client.replace(" ", "-")


def row(what: str, followed: Followed, took: Took, peer: Took | None) -> Row:
    """One client, beside kuberesolver.

    What is seen before the answer is there counts as less than nothing. So the ratio is that of the times from the request.
    """
    median, most = statistics.median(took.answer), percentile(took.answer, 99)
    failed = len(followed.failures)
    call = {"added": "first", "removed": "last"}[what]
    figure = f"median {median * 1000:.1f} ms, p99 {most * 1000:.1f} ms"
    if peer is not None:
        more = median - statistics.median(peer.answer)
        ratio = statistics.median(took.request) / statistics.median(peer.request)
        figure += f" (handed to grpc after {statistics.median(took.handed) * 1000:.1f})"
        figure += f"; {more * 1000:+.1f} ms over kuberesolver (from the request: {ratio:.2f} of it)"
    if failed:
        figure += f"; {failed} calls failed ({followed.failures[0]})"
    return Row(
        f"endpoint {what} -> {call} call on it, {len(took.answer)} times, {followed.client}",
        figure,
        f"median <= {MEDIAN * 1000:.0f} ms, p99 <= {MOST * 1000:.0f} ms" if peer else "",
        median <= MEDIAN and most <= MOST and not failed if peer else None,
        {"seconds": took, "calls": followed.calls, "failures": followed.failures},
    )


def percentile(values: list[float], share: int) -> float:
    """The least value that so many per cent do not exceed."""
    return sorted(values)[max(0, -(-len(values) * share // 100) - 1)]
