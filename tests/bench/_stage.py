"""Starts and replaces the processes of one run; at the end of `async with` none is left, however it ends."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, cast

from drain._demo.children import Child, Event, Family
from drain._demo.ports import free_ports

START = 30.0  # seconds that a process may take to come up, on a busy machine
LEAVE = 60.0  # and to leave


@dataclass(slots=True)
class Place:
    """A server's place: its port, and the process that is there now. Each process has a name of its own."""

    letter: str
    port: int
    life: int = 0
    process: Child = field(init=False)

    @property
    def name(self) -> str:
        """Of the process that is there now."""
        return f"{self.letter}{self.life}"

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"


@dataclass(slots=True)
class Calls:
    """What callers saw, summed up."""

    ok: int = 0
    longest: float = 0.0
    statuses: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Calls that failed."""
        return sum(self.statuses.values())

    def add(self, result: Mapping[str, Any]) -> None:
        """More of it."""
        self.ok += result["ok"]
        self.longest = max(self.longest, result["longest"])
        self.statuses = dict(Counter(self.statuses) + Counter(result["statuses"]))
        self.failures += result["failures"]

    def __str__(self) -> str:
        """In a few words; the longest is that of calls which did not fail."""
        kinds = ", ".join(f"{count} {status}" for status, count in Counter(self.statuses).most_common())
        failed = f"{self.failed:,} of {self.ok + self.failed:,} failed" + (f" ({kinds})" if kinds else "")
        return f"{failed}, longest {self.longest:.1f} s"


class Stage:
    """Servers of one library and flavour, with callers.

    Args:
        library: "plain", "drain", or "metrics" (drain with them). flavour: "sync" or "aio". servers: how many. announce_timeout: None is the default.
    """

    def __init__(self, library: str, flavour: str, *, servers: int = 1, announce_timeout: float | None = None) -> None:
        self.family = Family()
        self.places = [Place("abcdefgh"[n], port) for n, port in enumerate(free_ports(servers))]
        self._arguments = [f"--library={library}", f"--flavour={flavour}"]
        if announce_timeout is not None:
            self._arguments.append(f"--announce-timeout={announce_timeout:g}")
        self._callers: list[Child] = []
        self._orders = 0

    async def __aenter__(self) -> Self:
        try:
            await asyncio.gather(*map(self.start, self.places))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.family.__aexit__()

    @property
    def target(self) -> str:
        """All places, as a name to call."""
        return "ipv4:" + ",".join(place.address for place in self.places)

    async def start(self, place: Place) -> None:
        """Start the next process in that place, and wait until it serves."""
        place.life += 1
        arguments = (*self._arguments, f"--name={place.name}", f"--port={place.port}")
        place.process = await self.family.start(place.name, "tests.bench._server", *arguments)
        await place.process.until("serving", START)

    async def call(self, *arguments: str, target: str | None = None, processes: int = 1) -> None:
        """Start the callers."""
        whole = (f"--target={target or self.target}", *arguments)
        for _ in range(processes):
            self._callers.append(await self.family.start("callers", "tests.bench._callers", *whole))

    async def met(self, *places: Place) -> None:
        """Wait until these processes have answered on every channel; without places, until any have."""
        names = [place.name for place in places] or [""]
        for callers, name in itertools.product(self._callers, names):
            await callers.until("met", START, where=lambda event: event["server"] == name)  # noqa: B023  # at once

    async def hang_up(self) -> Calls:
        """Let the callers end; what they saw."""
        calls = Calls()
        for callers in self._callers:
            callers.order("stop")
        for callers in self._callers:
            calls.add(await callers.until("result", START))
        return calls

    async def leave(self, place: Place) -> tuple[Child, float, float]:
        """SIGTERM, and wait for the process's end: the process, when it was told, and when it was gone."""
        leaving, told = place.process, time.monotonic()
        leaving.terminate()
        code = await leaving.ended(LEAVE)
        gone = time.monotonic()
        if code != 0:
            raise RuntimeError(f"{leaving.name} ended with exit code {code}:\n{leaving.stderr_tail()}")
        return leaving, told, gone

    async def rotate(self, place: Place, times: int, every: float) -> Event:
        """Have that server rotate; returns when it has."""
        self._orders += 1
        place.process.order(f"rotate {self._orders} {times} {every}")
        return await self._answer(place, "rotate", START + 2 * times * every)

    async def ask(self, place: Place, order: str) -> Event:
        """Ask that server for a figure ("cpu", "memory")."""
        self._orders += 1
        place.process.order(f"{order} {self._orders}")
        return await self._answer(place, order, START)

    async def _answer(self, place: Place, order: str, within: float) -> Event:
        return await place.process.until(order, within, where=lambda event: event["tag"] == self._orders)


def at(event: Event) -> float:
    """When it happened, on the machine's monotonic clock."""
    return cast(float, event["at"])
