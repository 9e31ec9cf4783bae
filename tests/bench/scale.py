"""A service that grows from 3 to 6 servers, under connections that know nothing of it, behind a random layer-4 balancer.

Such a balancer deals out connections, not calls: those that are open stay on the three. Measured: the time from the moment at which the
last of the new endpoints is known until no server has more than 1.4 times the connections that each should have.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from drain._demo.children import Child, Family
from drain._demo.ports import free_ports
from tests.bench._rows import FLAVOURS, Row
from tests.bench._stage import START, Calls, at

BEFORE, AFTER = 3, 6
CONNECTIONS = 240
PROCESSES = 8  # see _callers
INTERVAL = 1.0  # seconds between two calls of a connection
EVEN = 1.4
MOST = 15.0
WITHOUT, WITHOUT_QUICK = 30.0, 5.0  # seconds for which the servers without rebalancing are watched
LIMIT = 60.0
NEWCOMER = 11.0  # seconds: who came within the last `spread` takes growth for its own arrival
LOOK = 0.05


@dataclass(frozen=True, slots=True)
class Growth:
    """What came of it. `seconds` None: it was not even within the time. `ratio`: the busiest server over the mean, at the end."""

    seconds: float | None
    ratio: float
    connections: tuple[int, ...]
    calls: Calls
    rotated: tuple[float, ...]
    """When servers rebalanced, in the order of the servers' beginnings."""

    def __str__(self) -> str:
        spread = " ".join(map(str, self.connections))
        when = "never" if self.seconds is None else f"after {self.seconds:.1f} s"
        rotated = ", ".join(f"{each:.1f}" for each in self.rotated) or "none"
        return f"{when}; {self.ratio:.2f} at the end ({spread}); rotations at {rotated} s; {self.calls}"


async def measure(quick: bool) -> AsyncIterator[Row]:
    """Both flavours with rebalancing, and one without."""
    what = f"{BEFORE} -> {AFTER} servers, {CONNECTIONS} connections: max/mean <= {EVEN:g}"
    within = WITHOUT_QUICK if quick else WITHOUT
    growth = await run("sync", CONNECTIONS, None, within)
    yield Row(f"{what}, without rebalancing, watched for {within:g} s", str(growth), details={"growth": growth})
    for flavour in FLAVOURS:
        settings = ("--spread=2", "--still=0.5") if quick else ()
        growth = await run(flavour, CONNECTIONS, settings, LIMIT)
        passed = growth.seconds is not None and growth.seconds <= MOST
        yield Row(f"{what}, {flavour}", str(growth), f"<= {MOST:g} s", passed, {"growth": growth})
    growth = await run(
        "sync", CONNECTIONS, ("--spread=0",), LIMIT
    )  # who rotates last keeps least: together is more even
    yield Row(f"{what}, all at once (spread=0)", str(growth), details={"growth": growth})


async def run(flavour: str, connections: int, settings: tuple[str, ...] | None, within: float) -> Growth:
    """One growth. `settings` None: without rebalancing."""
    ports = free_ports(AFTER)
    servers: list[Child] = []
    with tempfile.TemporaryDirectory(prefix="drain-bench-") as directory:
        endpoints = Path(directory) / "endpoints.yaml"
        arguments = [] if settings is None else [f"--target=file://{endpoints}", *settings]
        async with Family() as family:

            async def grow(to: int) -> None:
                """More servers; each is an endpoint as soon as it serves."""
                for number in range(len(servers), to):
                    where = (f"--name={number}", f"--port={ports[number]}", f"--flavour={flavour}")
                    servers.append(await family.start(f"server {number}", "tests.bench._scaled", *where, *arguments))
                    say(endpoints, ports[:BEFORE] if number < BEFORE else ports[: number + 1])
                for number in range(to):
                    await servers[number].until("serving", START)
                    await listed(balancer, ports[number])

            say(endpoints, ports[:BEFORE])
            backends = [f"--backend=127.0.0.1:{port}" for port in ports]
            balancer = await family.start("balancer", "drain._demo.balancer", "--lag=0", "--choice=random", *backends)
            port = (await balancer.until("ready", START))["port"]
            await grow(BEFORE)
            callers = await call(family, f"127.0.0.1:{port}", connections)
            if settings is not None:
                await asyncio.sleep(NEWCOMER)
            await grow(AFTER)
            began = time.monotonic()
            seconds = await even(servers, connections, within, began)
            if settings is not None and seconds is not None:
                await asyncio.sleep(max(0.0, began + MOST - time.monotonic()))  # the rest of them rotate as well
            calls = Calls()
            for each in callers:
                each.order("stop")
            numbers = counts(servers)
            for each in callers:
                calls.add(await each.until("result", START))
            rotated = [at(e) - began for each in servers for e in each.events if e["event"] == "Rebalanced"]
    return Growth(seconds, busiest(numbers), numbers, calls, tuple(rotated))


def say(endpoints: Path, ports: list[int]) -> None:
    """What the cluster says of the service."""
    new = endpoints.with_suffix(".new")
    new.write_text(f"endpoints: {[f'127.0.0.1:{port}' for port in ports]}")
    new.replace(endpoints)


async def listed(balancer: Child, port: int) -> None:
    """Until the balancer deals to that server."""
    await balancer.until("learned", START, where=lambda event: event["backend"] == f"127.0.0.1:{port}")


async def call(family: Family, target: str, connections: int) -> list[Child]:
    """Callers, each with a connection of its own that has had an answer."""
    each = ("--target", target, f"--callers={connections // PROCESSES}", f"--interval={INTERVAL:g}")
    callers = [await family.start("callers", "tests.bench._callers", *each) for _ in range(PROCESSES)]
    for process in callers:
        await process.until("met", START, where=lambda event: event["server"] == "")
    return callers


async def even(servers: list[Child], connections: int, within: float, began: float) -> float | None:
    """Seconds until all connections are there, spread evenly."""
    while time.monotonic() < began + within:
        numbers = counts(servers)
        if sum(numbers) >= connections // PROCESSES * PROCESSES and busiest(numbers) <= EVEN:
            return time.monotonic() - began
        await asyncio.sleep(LOOK)
    return None


def counts(servers: list[Child]) -> tuple[int, ...]:
    """Connections of each server now, without the balancer's own."""
    return tuple(
        next((int(str(e["number"])) - 1 for e in reversed(each.events) if e["event"] == "connections"), 0)
        for each in servers
    )


def busiest(numbers: tuple[int, ...]) -> float:
    """The most over the mean."""
    return max(numbers) * len(numbers) / max(1, sum(numbers))
