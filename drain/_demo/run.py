"""A run: starts servers, balancer and load, restarts every server in turn by SIGTERM, and collects what happened.

A paired run has no balancer: its callers know every server's address, and follow them through drain's own channels.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, cast

from drain._demo.children import Child, Event, Family
from drain._demo.ports import free_ports
from drain._demo.results import Failure, LoadResult, Restart, Run, Settings
from drain._demo.timeline import Step, listed_spans, server_spans, steps_of

START = 30.0  # seconds that a process may take to come up, on a busy machine
LEAVE = 60.0  # and to leave; drain's own budget is 30


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands."""

    mode: str
    step: str = "starting"
    restarts: int = 0
    calls: int = 0
    lost: int = 0


@dataclass(slots=True)
class Place:
    """One server's place: a name, a port, and one process after another in it, each with the time it was started."""

    name: str
    port: int
    lives: list[tuple[float, Child]] = field(default_factory=list)

    @property
    def address(self) -> str:
        """What the balancer knows it by."""
        return f"127.0.0.1:{self.port}"

    @property
    def process(self) -> Child:
        """The one that is there now."""
        return self.lives[-1][1]

    def steps(self) -> Iterator[Step]:
        """Its phases so far."""
        return chain.from_iterable(steps_of(child.events, started) for started, child in self.lives)


class Runner:
    """One mode's run. `on_progress` is called several times a second."""

    def __init__(
        self, mode: str, settings: Settings, on_progress: Callable[[Progress], None] = lambda progress: None
    ) -> None:
        self._mode, self._settings, self._on_progress = mode, settings, on_progress
        self._progress = Progress(mode)
        self._family = Family()
        self._places = [Place(f"server-{n}", port) for n, port in enumerate(free_ports(settings.servers), 1)]

    async def run(self) -> Run:
        """Do it. However it ends (an exception, cancellation), no process is left."""
        async with self._family:
            await asyncio.gather(*map(self._start, self._places))
            balancer = None if self._mode == "paired" else await self._start_balancer()
            load = await self._start_load(await self._target(balancer))
            began = cast(float, (await load.until("started", START))["at"])
            restarts = [restart async for restart in self._restart_all(balancer, began)]
            self._show(step="collecting")
            load.order("stop")
            result = load_result(await load.until("result", START))
        ended = began + result.duration
        observed = balancer.events if balancer is not None else []
        return Run(
            mode=self._mode,
            load=result,
            restarts=tuple(restarts),
            spans=tuple(span for p in self._places for span in server_spans(p.name, p.steps(), began, ended)),
            held_up=max((cast(float, event["held_up"]) for event in observed if "held_up" in event), default=0.0),
            listed=tuple(s for p in self._places for s in listed_spans(p.name, p.address, observed, began, ended)),
        )

    async def _start(self, place: Place) -> float:
        """Start the next process in that place; the time at which it serves."""
        arguments = [
            f"--mode={self._mode}",
            f"--name={place.name}",
            f"--port={place.port}",
            *(["--aio"] * self._settings.aio),
        ]
        started = time.monotonic()
        child = await self._family.start(place.name, "drain._demo.server", *arguments)
        place.lives.append((started, child))
        return cast(float, (await child.until("serving", START))["at"])

    async def _start_balancer(self) -> Child:
        """Start it, and wait until it knows every server, so that the callers spread over all of them."""
        backends = [f"--backend={place.address}" for place in self._places]
        balancer = await self._family.start(
            "balancer", "drain._demo.balancer", f"--lag={self._settings.lag}", *backends
        )
        for place in self._places:
            await seen_serving(balancer, place, since=0.0)
        return balancer

    async def _target(self, balancer: Child | None) -> str:
        if balancer is None:
            return "static:///" + ",".join(place.address for place in self._places)
        return f"127.0.0.1:{(await balancer.until('ready', START))['port']}"

    async def _start_load(self, target: str) -> Child:
        shape = (f"--callers={self._settings.callers}", f"--streaming={self._settings.streaming}")
        return await self._family.start("load", "drain._demo.load", f"--target={target}", *shape, on_event=self._ticked)

    async def _restart_all(self, balancer: Child | None, began: float) -> AsyncIterator[Restart]:
        await asyncio.sleep(self._settings.settle)
        for number in range(1, self._settings.rounds + 1):
            for place in self._places:
                self._show(step=f"round {number}, {place.name}")
                restart = await self._restart(place, number, balancer, began)
                yield restart
                self._show(restarts=self._progress.restarts + 1)
                due = began + restart.signalled + self._settings.every
                await asyncio.sleep(max(self._settings.settle, due - time.monotonic()))

    async def _restart(self, place: Place, number: int, balancer: Child | None, began: float) -> Restart:
        """SIGTERM, wait for the end, start a successor on the same port, wait until the balancer, if any, uses it."""
        leaving, signalled = place.process, time.monotonic()
        leaving.terminate()
        exit_code = await leaving.ended(LEAVE)
        exited = time.monotonic()
        serving = await self._start(place)
        listed = serving if balancer is None else await seen_serving(balancer, place, since=exited)
        reports = [event["report"] for event in leaving.events if event["event"] == "report"]
        return Restart(
            server=place.name,
            round=number,
            signalled=signalled - began,
            exited=exited - began,
            serving=serving - began,
            listed=listed - began,
            exit_code=exit_code,
            report=cast(Mapping[str, object], reports[-1]) if reports else None,
            stderr=leaving.stderr_tail() if exit_code else "",
        )

    def _ticked(self, event: Event) -> None:
        if event["event"] == "tick":
            self._show(calls=event["ok"], lost=event["lost"])

    def _show(self, **changes: Any) -> None:
        self._progress = replace(self._progress, **changes)
        self._on_progress(self._progress)


async def seen_serving(balancer: Child, place: Place, since: float) -> float:
    """When the balancer saw that place SERVING, after `since`; from then on it is in its table."""

    def seen(event: Event) -> bool:
        return event["backend"] == place.address and bool(event["serving"]) and cast(float, event["at"]) >= since

    return cast(float, (await balancer.until("observed", START, where=seen))["at"])


def load_result(event: Mapping[str, Any]) -> LoadResult:
    """The result as the load's process printed it."""
    values = {name: value for name, value in event.items() if name != "event"}
    series = {name: {key: tuple(counts) for key, counts in values[name].items()} for name in ("calls", "failed")}
    failures = tuple(Failure(**failure) for failure in values["failures"])
    return LoadResult(**{**values, **series, "failures": failures})
