"""A rehearsal with a command of the user's on this machine: several processes of it behind a small layer-4 balancer that learns
late, each restarted by SIGTERM under load. No cluster is needed.
"""

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from drain import _runtime_dir
from drain._admin.client import Call, talk
from drain._demo.caller import Shape
from drain._demo.children import Child, ChildFailedError, Event
from drain._demo.load import Load
from drain._demo.probe import HealthProbe
from drain._demo.results import Run, Settings
from drain._demo.run import START, Place, Progress, Runner
from drain._rehearse.calling import Making, Names
from drain._rehearse.errors import RehearsalError
from drain._rehearse.method import Method
from drain._rehearse.result import Life, Step

_LOOK = 0.03  # seconds between two looks at a server that leaves
_KILLED = -9


class CommandError(RehearsalError):
    """The command cannot be run. Its text says why."""


@dataclass(frozen=True, slots=True)
class Template:
    """A command with `{port}`, and `{name}` where it can say who it is."""

    written: str

    def checked(self) -> "Template":
        """Raises CommandError."""
        try:
            words = self.words(1, "x")
        except (ValueError, KeyError, IndexError) as error:
            raise CommandError(
                f"--command {self.written!r}: {error or type(error).__name__}; only {{port}} and {{name}} are filled in"
            ) from None
        if "{port}" not in self.written:
            raise CommandError(f"--command {self.written!r}: write {{port}} where the server is told its port")
        if not words or shutil.which(words[0]) is None:
            raise CommandError(f"--command: there is no program {words[0] if words else ''!r}")
        return self

    def words(self, port: int, name: str) -> list[str]:
        """Without a shell: SIGTERM must reach the server."""
        return [word.format(port=port, name=name) for word in shlex.split(self.written)]


class Command(Child):
    """One process of it. What it prints is kept for the case that it fails; its phases are asked for at its admin socket."""

    grace = 30.0  # seconds
    _asking: "asyncio.Task[None] | None" = None

    def _said(self, line: bytes) -> None:
        self._stderr.append(line.decode(errors="replace").rstrip())

    def terminate(self) -> None:
        """Send SIGTERM, and look how it leaves."""
        self.tell({"event": "phase", "phase": "leaving", "at": time.monotonic()})
        super().terminate()
        self._asking = asyncio.get_running_loop().create_task(self._ask())

    async def ended(self, within: float) -> int:
        """Its exit code. When its grace is over it is killed; when it has ended, so is all that it has started: as in a pod."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.grace):
                    await self._process.wait()
            self.kill()
            await self._process.wait()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            return await super().ended(within)
        finally:
            if self._asking is not None:
                self._asking.cancel()
            self.tell({"event": "phase", "phase": "stopped", "at": time.monotonic()})

    async def _ask(self) -> None:
        """A server made with drain tells its phases; another one has no socket."""
        path, last = str(_runtime_dir.where() / f"admin-{self.pid}.sock"), ""
        while not self.has_ended:
            if (state := await asyncio.to_thread(_state, path)) and state != last:
                self.tell({"event": "phase", "phase": state, "at": time.monotonic()})
                last = state
            await asyncio.sleep(_LOOK)


def _state(path: str) -> str:
    """Empty: nobody answers there."""
    for _, line in talk([Call(path, {"command": "status"}, anywhere=True)], time.monotonic() + 1.0):
        servers = line.get("servers")
        if isinstance(servers, list) and servers and isinstance(servers[0], dict):
            return str(servers[0].get("state") or "")
    return ""


class _Here:
    """The load in this process, as `Runner` knows it in one of its own."""

    def __init__(self, load: Load) -> None:
        self._load = load

    async def until(self, event: str, within: float) -> Event:
        if event == "started":
            return {"event": event, "at": self._load.started_at}
        return {"event": event, **asdict(await asyncio.to_thread(self._load.stop))}

    def order(self, line: str) -> None:
        """It is stopped when its result is asked for."""


class Local(Runner):
    """`await run()` does it. However it ends, no process is left. `method`: what is called at an address that serves."""

    def __init__(
        self,
        template: Template,
        *,
        processes: int,
        rounds: int,
        lag: float,
        grace: float,
        method: Callable[[str], Method],
        shape: Shape,
        options: Sequence[tuple[str, Any]],
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        super().__init__("rehearsal", Settings(servers=processes, rounds=rounds, lag=lag, settle=1.0), on_progress)
        self._template, self._method, self._shape, self._options, self._grace = template, method, shape, options, grace
        self.names = Names()
        for place in self._places:
            self.names.add(place.name, place.name)

    async def _start(self, place: Place) -> float:
        started = time.monotonic()
        words = self._template.words(place.port, place.name)
        environment: Mapping[str, str] = {**os.environ, "DRAIN_POD_NAME": place.name}
        try:
            child = await Command.spawn(place.name, words, environment)
        except OSError as error:
            raise ChildFailedError(f"{shlex.join(words)}: {error.strerror}") from None
        child.grace = self._grace
        self._family.children.append(child)
        place.lives.append((started, child))
        probe = HealthProbe(place.address)
        try:
            while await probe.observe() is not True:
                if time.monotonic() - started > START:
                    raise child.failure(f"did not serve on port {place.port} within {START:g} s")
                if child.has_ended:
                    raise child.failure(f"ended before it served on port {place.port}")
                await asyncio.sleep(_LOOK)
        finally:
            await probe.close()
        at = time.monotonic()
        child.tell({"event": "serving", "at": at})
        return at

    async def _start_load(self, target: str) -> Any:
        method = await asyncio.to_thread(self._method, target)
        load = Load(target, self._shape, Making(method, self.names, self._options))
        load.start()
        return _Here(load)


def steps_and_lives(run: Run) -> tuple[tuple[Step, ...], tuple[Life, ...]]:
    """What was done, and to whom, in the words of a rehearsal."""
    steps = tuple(Step(f"{each.server} restarted", each.signalled, each.whole) for each in run.restarts)
    lives = []
    for each in run.restarts:
        killed = each.exit_code == _KILLED
        code = 128 - each.exit_code if each.exit_code < 0 else each.exit_code
        lives.append(Life(f"{each.server}, round {each.round}", each.server, each.leaving, {"process": code}, killed))
    return steps, tuple(lives)
