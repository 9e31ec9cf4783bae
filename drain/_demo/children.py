"""Processes of the demo: started in sessions of their own, read line by line, and never left behind.

A child dies with its stdin (`pipe.obey`), so even `kill -9` of this process leaves none; its own session keeps the
terminal's Ctrl-C from it, so that this process decides the order in which they go.
"""

import asyncio
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Self

Event = dict[str, object]
LINE = 64 * 1024 * 1024  # a result comes as one line
TAIL = 40  # lines of stderr kept: C-core is talkative ("not serving on ..."), the last lines say what was wrong


class ChildFailedError(Exception):
    """A process of the demo ended, or did not say what was waited for. The text holds the end of its stderr."""


class Child:
    """One running process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, on_event: Callable[[Event], None]) -> None:
        self.name = name
        self.events: list[Event] = []
        self._process, self._on_event = process, on_event
        self._stderr: deque[str] = deque(maxlen=TAIL)
        self._news = asyncio.Event()
        self._readers = asyncio.gather(self._read_events(), self._read_stderr())
        self._readers.add_done_callback(lambda _: self._news.set())

    @classmethod
    async def start(
        cls, name: str, module: str, *arguments: str, on_event: Callable[[Event], None] = lambda event: None
    ) -> Self:
        """Run `python -m module arguments`."""
        # -P and our own search path: a queue.py in the current folder must not end up in the child.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        return await cls.spawn(name, [sys.executable, "-P", "-m", module, *arguments], environment, on_event)

    @classmethod
    async def spawn(
        cls,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> Self:
        """Run a command, in a session of its own. Raises OSError if it cannot be run."""
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE,
            start_new_session=True,
        )
        return cls(name, process, on_event)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def until(self, event: str, within: float, *, where: Callable[[Event], bool] = lambda event: True) -> Event:
        """The first event of that name (past ones count too) for which `where` holds."""
        try:
            async with asyncio.timeout(within):
                return await self._find(event, where)
        except TimeoutError:
            raise self.failure(f"did not say {event!r} within {within:.0f} s") from None

    async def _find(self, event: str, where: Callable[[Event], bool]) -> Event:
        seen = 0
        while True:
            for candidate in self.events[seen:]:
                if candidate["event"] == event and where(candidate):
                    return candidate
            seen = len(self.events)
            if self._readers.done():
                raise self.failure(f"ended with exit code {await self._process.wait()} before it said {event!r}")
            self._news.clear()
            await self._news.wait()

    def order(self, line: str) -> None:
        """Give an order on its stdin."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    def terminate(self) -> None:
        """Send SIGTERM. One that has died by itself does not mind: its exit code will tell."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    async def ended(self, within: float) -> int:
        """Wait for its end and the last of its output; its exit code."""
        try:
            async with asyncio.timeout(within):
                await self._process.wait()
                await asyncio.shield(self._readers)
        except TimeoutError:
            raise self.failure(f"was still there {within:.0f} s later") from None
        return int(self._process.returncode or 0)

    @property
    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._process.returncode is not None

    def kill(self) -> None:
        """End it and whatever it has started, at once."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def gone(self) -> None:
        """Wait until nothing of it is left, after `kill()`."""
        await self._process.wait()
        self._readers.cancel()
        await asyncio.gather(self._readers, return_exceptions=True)

    def stderr_tail(self) -> str:
        """The last lines it wrote to stderr."""
        return "\n".join(self._stderr)

    def failure(self, what: str) -> ChildFailedError:
        """An error that says what it did, with the end of its stderr."""
        tail = self.stderr_tail()
        return ChildFailedError(
            f"{self.name} {what}" + (f"; the end of its stderr:\n{tail}" if tail else "; its stderr is empty")
        )

    async def _read_events(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._said(line)

    def _said(self, line: bytes) -> None:
        """A line on stdout: an event."""
        self.tell(json.loads(line))

    def tell(self, event: Event) -> None:
        """An event, whoever tells it."""
        self.events.append(event)
        self._on_event(event)
        self._news.set()

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self._stderr.append(line.decode(errors="replace").rstrip())


class Family:
    """All children of one run: at the end of `async with`, however it ends, none is left."""

    def __init__(self) -> None:
        self.children: list[Child] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for child in self.children:  # first all of them: the waiting may be cancelled
            child.kill()
        await asyncio.gather(*(child.gone() for child in self.children))

    async def start(
        self, name: str, module: str, *arguments: str, on_event: Callable[[Event], None] = lambda event: None
    ) -> Child:
        """Start one that dies with the family."""
        child = await Child.start(name, module, *arguments, on_event=on_event)
        self.children.append(child)
        return child
