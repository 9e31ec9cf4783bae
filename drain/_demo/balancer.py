"""A small layer-4 balancer that learns late, as kube-proxy does.

A new connection goes to one of the backends in its table, and stays there for good: connections are never cut. A
backend that stops SERVING, or dies, is dropped from the table `lag` seconds after that could first be observed; one
that is SERVING (again) is added at once. Where the table still lists a dead backend, a new connection to it is closed,
as with a refused connect.

    async with Balancer(["127.0.0.1:50051", "127.0.0.1:50052"], lag=1.0) as balancer: ... balancer.port ...
    python -m drain._demo.balancer --backend 127.0.0.1:50051 --lag 1      # JSON lines; a process of its own, for load
"""

import argparse
import asyncio
import random
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Protocol, Self, TypeAlias

from drain._demo import pipe
from drain._demo.forward import Backend, Client
from drain._demo.probe import HealthProbe

MATTERS = 0.1  # seconds of delay from which on it is told


class Probe(Protocol):
    """How a backend is observed: True serving, False not, None nothing new."""

    async def observe(self) -> bool | None: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Observed:
    """A backend's state as it could first be seen from outside. `at`: `time.monotonic()`."""

    backend: str
    serving: bool
    at: float


@dataclass(frozen=True, slots=True)
class Learned:
    """The table changed: from now on the backend gets new connections, or none. It could be seen at `observed_at`."""

    backend: str
    listed: bool
    observed_at: float
    at: float


@dataclass(frozen=True, slots=True)
class Delayed:
    """A busy machine held this balancer up by that many seconds: longer than before, and long enough to matter."""

    held_up: float
    at: float


Event: TypeAlias = Observed | Learned | Delayed


@dataclass(slots=True)
class _Known:
    address: str
    probe: Probe
    serving: bool | None = None
    listed: bool = False
    dropping: asyncio.TimerHandle | None = None
    connections: int = field(default=0)


class Balancer:
    """The balancer, on the running event loop, between `async with` and its end.

    Args:
        backends: "host:port" of each.
        lag: seconds between what can be observed and the table.
        port: to listen at; 0 picks one, `port` then says which.
        interval: seconds between two looks at a backend.
        choice: "round_robin" or "random", over the table.
        probe: makes a backend's observer; the default asks its gRPC health.
        on_event: called with each `Observed`, `Learned` and `Delayed`; they are kept in `events` as well.
    """

    def __init__(
        self,
        backends: Iterable[str],
        *,
        lag: float = 1.0,
        port: int = 0,
        interval: float = 0.05,
        choice: str = "round_robin",
        probe: Callable[[str], Probe] = HealthProbe,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.lag, self.port, self.interval, self.choice = lag, port, interval, choice
        self.events: list[Event] = []
        self._addresses, self._probe, self._on_event = tuple(backends), probe, on_event
        self._backends: dict[str, _Known] = {}
        self._open: set[Client] = set()
        self._turn = 0
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._backends = {address: _Known(address, self._probe(address)) for address in self._addresses}
        self._server = await loop.create_server(
            lambda: Client(self._connect, self._open), "127.0.0.1", self.port, backlog=512
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._tasks = [loop.create_task(self._watch(backend)) for backend in self._backends.values()]
        self._tasks.append(loop.create_task(self._measure_delay()))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for client in list(self._open):
            client.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for backend in self._backends.values():
            if backend.dropping is not None:
                backend.dropping.cancel()
            await backend.probe.close()

    @property
    def table(self) -> tuple[str, ...]:
        """The backends that get new connections."""
        return tuple(backend.address for backend in self._backends.values() if backend.listed)

    @property
    def open_connections(self) -> int:
        """Client connections open now."""
        return len(self._open)

    @property
    def connections(self) -> dict[str, int]:
        """Connections that each backend was given so far."""
        return {backend.address: backend.connections for backend in self._backends.values()}

    async def until(self, *backends: str) -> None:
        """Wait until the table holds exactly these backends (all of them, when none is named)."""
        wanted = set(backends or self._addresses)
        while set(self.table) != wanted:
            self._changed.clear()
            await self._changed.wait()

    async def _watch(self, backend: _Known) -> None:
        while True:
            serving = await backend.probe.observe()
            if serving is not None and serving is not backend.serving:
                self._observed(backend, serving)
            await asyncio.sleep(self.interval)

    async def _measure_delay(self) -> None:
        longest = MATTERS
        while True:
            due = time.monotonic() + self.interval
            await asyncio.sleep(self.interval)
            now = time.monotonic()
            if now - due > longest:
                longest = now - due
                self._tell(Delayed(longest, now))

    def _observed(self, backend: _Known, serving: bool) -> None:
        now = time.monotonic()
        backend.serving = serving
        self._tell(Observed(backend.address, serving, now))
        if backend.dropping is not None:  # SERVING again before the news was through
            backend.dropping.cancel()
            backend.dropping = None
        if serving:
            self._learned(backend, True, now)
        elif self.lag:
            backend.dropping = asyncio.get_running_loop().call_later(self.lag, self._learned, backend, False, now)
        else:
            self._learned(backend, False, now)

    def _learned(self, backend: _Known, listed: bool, observed_at: float) -> None:
        if backend.listed is not listed:
            backend.listed = listed
            self._changed.set()
            self._tell(Learned(backend.address, listed, observed_at, time.monotonic()))

    def _tell(self, event: Event) -> None:
        self.events.append(event)
        self._on_event(event)

    async def _connect(self, client: Client) -> None:
        table = [backend for backend in self._backends.values() if backend.listed]
        if not table:
            raise ConnectionRefusedError("no backend in the table")
        self._turn += 1
        turn = random.randrange(len(table)) if self.choice == "random" else self._turn % len(table)  # noqa: S311
        backend = table[turn]
        backend.connections += 1
        host, _, port = backend.address.rpartition(":")
        await asyncio.get_running_loop().create_connection(lambda: Backend(client), host, int(port))


async def _serve(arguments: argparse.Namespace) -> None:
    def tell(event: Event) -> None:
        pipe.emit(type(event).__name__.lower(), **asdict(event))

    balancer = Balancer(
        arguments.backend, lag=arguments.lag, port=arguments.port, choice=arguments.choice, on_event=tell
    )
    async with balancer:
        pipe.emit("ready", port=balancer.port)
        await asyncio.Event().wait()


def main() -> None:
    """Balance until the parent is gone."""
    parser = argparse.ArgumentParser(prog="python -m drain._demo.balancer")
    parser.add_argument("--backend", action="append", required=True, metavar="HOST:PORT")
    parser.add_argument("--lag", type=float, default=1.0, metavar="SECONDS")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--choice", choices=("round_robin", "random"), default="round_robin")
    arguments = parser.parse_args()
    pipe.obey()
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(arguments))


if __name__ == "__main__":
    main()
