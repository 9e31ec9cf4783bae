"""One server process of the scenarios.

    python -m tests.integration._servers.served '{"flavour": "aio", "policy": {"announce_timeout": 0}, ...}'

Prints JSON lines (`drain._demo.pipe`): "built" with its ports, "phase" for each state, drain's other events by their names,
"begun" for calls that take their time, and "returned" with what `run()` returned and whether the signal handlers are back. Takes
orders from stdin: "drain REASON", "stop GRACE", "rotate", "pause", "resume", "go" (where `hold_start` is set), "release" (hung calls),
"threads".
"""

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from dataclasses import asdict, dataclass, field
from typing import Any

import drain
from drain import _blueprint
from drain._demo import pipe
from drain.events import Drained, Event, StateChanged
from tests.integration._servers.hosted import FAST
from tests.integration._servers.service import Service

TAKEN = (signal.SIGTERM, signal.SIGINT)


@dataclass
class Settings:
    """What a scenario wants of its server."""

    flavour: str
    policy: dict[str, Any] = field(default_factory=dict)
    addresses: list[str] = field(default_factory=lambda: ["127.0.0.1:0"])
    options: list[tuple[str, Any]] = field(default_factory=list)
    name: str = "server"
    workers: int = 16
    servers: int = 1  # how many, run together
    hold_start: bool = False  # the start of a server waits in its midst for "go"
    fork: str = (
        ""  # after building: "child" serves, the parent only waits; or "both", the parent on a server of its own
    )
    outlive: float | None = None  # aio: run() is cancelled after so many seconds
    handler: bool = False  # SIGTERM has a handler of the program's own, which says so and returns

    @property
    def drain_policy(self) -> drain.DrainPolicy:
        """Fast, but for what is set."""
        return drain.DrainPolicy(**{**asdict(FAST), **self.policy})


class Program:
    """The servers, and the orders that they take."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.services: list[Service] = []
        self.servers: list[Any] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self.go = threading.Event()

    def build(self, *, pool: futures.ThreadPoolExecutor) -> None:
        """Make servers, bind them, and say where."""
        made, ports = [], []
        for _ in range(self.settings.servers):
            service = Service(lambda method: pipe.emit("begun", method=method))
            handlers = service.generic(self.settings.flavour, self.settings.name)
            make = drain.server if self.settings.flavour == "sync" else drain.aio.server
            options = [tuple(option) for option in self.settings.options]
            service.server = server = make(pool, handlers, options=options, policy=self.settings.drain_policy)
            ports += [server.add_insecure_port(address) for address in self.settings.addresses]
            server.subscribe(tell)
            self.services.append(service)
            made.append(server)
        self.servers = made
        pipe.emit("built", ports=ports, goaway=made[0].goaway, reason=made[0].goaway_reason, pid=os.getpid())

    def obey(self, line: str) -> None:
        """One order."""
        word, _, rest = line.partition(" ")
        server = self.servers[0]
        match word:
            case "go":
                self.go.set()
            case "release":
                for service in self.services:
                    service.release.set()
            case "threads":
                pipe.emit("threads", names=sorted(thread.name for thread in threading.enumerate()))
            case "drain":
                self._do(lambda: server.drain(rest))
            case "stop":
                self._do(lambda: server.stop(float(rest)))
            case _:
                self._do(getattr(server, word))

    def _do(self, action: Callable[[], Any]) -> None:
        if self.loop is None:
            action()
            return

        async def act() -> None:
            answer = action()
            if answer is not None:
                await answer

        asyncio.run_coroutine_threadsafe(act(), self.loop)

    def hold_start(self) -> None:
        """Make every start wait in its midst."""
        settle = _blueprint.Blueprint.settle

        def held(blueprint: _blueprint.Blueprint, emit: Any) -> Any:
            pipe.emit("starting")
            self.go.wait(30)
            return settle(blueprint, emit)

        _blueprint.Blueprint.settle = held  # type: ignore[method-assign]

    def run(self) -> None:
        """Run the servers to their end, and say what came of it."""
        before = [signal.getsignal(number) for number in TAKEN]
        reports = drain.run(*self.servers) if self.settings.flavour == "sync" else asyncio.run(self._run_aio())
        after = [signal.getsignal(number) for number in TAKEN]
        several = reports if isinstance(reports, tuple) else (reports,)
        pipe.emit("returned", reports=[report.as_dict() for report in several], restored=before == after)

    async def _run_aio(self) -> Any:
        self.loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.settings.outlive):
                return await drain.aio.run(*self.servers)
        except TimeoutError:
            pipe.emit("cancelled", states=[server.state.value for server in self.servers])
            return tuple([await server.drain() for server in self.servers])


def tell(event: Event) -> None:
    """Print an event of drain's."""
    match event:
        case StateChanged():
            pipe.emit("phase", phase=event.state.value, reason=event.reason)
        case Drained():
            pipe.emit("drained")
        case _:
            pipe.emit(type(event).__name__, **asdict(event))


def main() -> None:
    """Serve until told otherwise."""
    settings = Settings(**json.loads(sys.argv[1]))
    program = Program(settings)
    if settings.handler:
        signal.signal(signal.SIGTERM, lambda number, frame: pipe.emit("own handler"))
    if settings.hold_start:
        program.hold_start()
    program.build(pool=futures.ThreadPoolExecutor(settings.workers))
    if settings.fork:
        child = os.fork()
        pipe.emit("forked", role="parent" if child else "child", pid=os.getpid())
        if child and settings.fork == "child":
            os.waitpid(child, 0)
            return
        if child:
            program.build(pool=futures.ThreadPoolExecutor(settings.workers))
        else:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(60)  # whatever happens to its parent
    pipe.obey(program.obey)
    program.run()


if __name__ == "__main__":
    main()
