"""What the API server is asked for: by clients that only wait, and while it ends every watch at once.

One process with five services follows through a proxy that counts requests, once they are all listed and watched; kuberesolver, with
one service, through another one meanwhile. Ending a watch at once is HTTP 200, and the end of the body.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator

from drain._core.watching import FIRST_BACKOFF, LONGEST_BACKOFF
from tests.bench._kube import Kube
from tests.bench._rows import Row
from tests.bench._slices import Slice
from tests.kube._cluster import proxy
from tests.kube._cluster.proxy import Cut, Proxy, Request

IDLE, IDLE_QUICK = 300.0, 10.0
ENDING, ENDING_QUICK = 120.0, 10.0
SERVICES = 5
PEER = "kuberesolver"
SETTLE = 3.0  # seconds: the first lists and watches are made
ONCE_IN = 240.0  # seconds for which one request of a service is enough
AT_ONCE = 0.005  # seconds that a watch lives at most
SHORTEST = 0.75  # jitter makes a back-off so much shorter at most


async def measure(quick: bool) -> AsyncIterator[Row]:
    """Idle, then ending; drain and kuberesolver at the same time, each through a proxy of its own."""
    idle, ending = (IDLE_QUICK, ENDING_QUICK) if quick else (IDLE, ENDING)
    proxy.IDLE = 4 * IDLE  # its own patience must not end a watch
    async with Kube() as kube:
        services = [f"requests-{number}" for number in range(SERVICES)]
        (backend,) = kube.addresses.take(1)
        for service in services:
            kube.writer.write(Slice(service, 0, (backend,)))
        await kube.serve([backend])
        both = (
            one_client(kube, "drain sync", services, idle, ending),
            one_client(kube, PEER, services[:1], idle, ending),
        )
        for rows in await asyncio.gather(*both):
            for row in rows:
                yield row


async def one_client(kube: Kube, name: str, services: list[str], idle: float, ending: float) -> list[Row]:
    """Both measures of one client."""
    between = Proxy(kube.cluster.address, kube.cluster.pki)
    try:
        also = [f"--also={kube.target(service)}" for service in services[1:]]
        await kube.client(name, services[0], *also, server=between.url)
        await asyncio.sleep(SETTLE)
        rows = [await one_idle(between, name, services, idle)]
        return [*rows, await one_ending(between, name, services, ending)]
    finally:
        between.close()


async def one_idle(between: Proxy, name: str, services: list[str], seconds: float) -> Row:
    """Nothing happens."""
    since = time.monotonic()
    await asyncio.sleep(seconds)
    asked = [between.requests(service=service, since=since) for service in services]
    most, allowed = max(map(len, asked)), max(1, int(seconds / ONCE_IN))
    watching, ours = between.watching(), name != PEER
    figure = f"{sum(map(len, asked))}, of one service {most} at most"
    return Row(
        f"API requests in {seconds:.0f} s idle, {len(services)} services, {name}",
        f"{figure}; {watching} watches open" if ours else figure,
        f"<= {allowed} per service" if ours else "",
        most <= allowed and watching == len(services) if ours else None,
        {"requests": [[(each.verb, round(each.at - since, 3)) for each in one] for one in asked]},
    )


async def one_ending(between: Proxy, name: str, services: list[str], seconds: float) -> Row:
    """Each watch ends at once. kuberesolver asks for them by their old path, which the proxy does not know for a watch."""
    ours = name != PEER
    since = time.monotonic()
    if ours:
        while time.monotonic() < since + seconds:
            between.close_watches()
            await asyncio.sleep(AT_ONCE)
    else:
        with between.fault(Cut(after=0, clean=True)):
            between.reset()
            await asyncio.sleep(seconds)
    asked = [between.requests(service=service, since=since) for service in services]
    counts = [len(each) for each in asked]
    allowed = steps(seconds)
    early = sum(len(list(too_early(each))) for each in asked)
    return Row(
        f"API requests in {seconds:.0f} s while every watch is ended at once, {len(services)} services, {name}",
        f"of one service {max(counts)} at most, {min(counts)} at least"
        + f"; {early} sooner than their back-off" * ours,
        f"<= {allowed} per service: 1 per back-off step" if ours else "",
        min(counts) > 0 and max(counts) <= allowed and not early if ours else None,
        {"gaps": [[round(after.at - each.at, 3) for each, after in itertools.pairwise(one)] for one in asked]},
    )


def backoffs() -> Iterator[float]:
    """The shortest that each step may be."""
    step = FIRST_BACKOFF
    while True:
        yield SHORTEST * step
        step = min(LONGEST_BACKOFF, 2 * step)


def steps(seconds: float) -> int:
    """How many requests there may be in that time: one when the watch ends, and one after each back-off."""
    allowed, at = 1, 0.0
    for step in backoffs():
        at += step
        if at > seconds:
            return allowed
        allowed += 1
    raise AssertionError("there is no last one")


def too_early(asked: list[Request]) -> Iterator[Request]:
    """Those that did not wait for their step. The first comes at once: a watch that had lived ended in good order."""
    for before, each, step in zip(asked, asked[1:], backoffs(), strict=False):
        if each.at - before.at < step:
            yield each
