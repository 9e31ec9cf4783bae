"""Iterating what a target's endpoints are, one set after another, without a channel."""

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Self

from drain._core.endpoints import EndpointSet
from drain._core.snapshot import TargetSnapshot
from drain._resolvers.watches import Watch
from drain.errors import ResolutionError


class Watching:
    """One watch of one target. Iterate it with `for`, or with `async for` on an event loop: each EndpointSet that is new.

    Sets that come faster than they are taken are joined: the newest counts. As long as there has been no set, a failure raises
    ResolutionError, and one may iterate on; after the first set, failures are passed over (`snapshot` has them).

    Close it, or use it with `with`: the target is followed until then, or until it is garbage. Thread safe; one iteration at a
    time.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._condition = threading.Condition()
        self._closed = False
        self._seen = 0
        self._had: EndpointSet | None = None
        self._wake: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._leave = watch.use(_weakly(self))

    @property
    def snapshot(self) -> TargetSnapshot:
        """What is known at this moment, failures included."""
        return self._watch.snapshot()

    def next(self, timeout: float | None = None) -> EndpointSet:
        """The next set that is new, waited for `timeout` seconds at most (None: no limit).

        Raises ResolutionError for a failure while there has been no set, TimeoutError, and StopIteration after `close`.
        """
        with self._condition:
            found: EndpointSet | None = None

            def ready() -> bool:
                nonlocal found
                found = self._take()
                return found is not None or self._closed

            if not self._condition.wait_for(ready, timeout):
                raise TimeoutError(f"target {self._watch.target}: no news within {timeout:g} s")
            if found is None:
                raise StopIteration
            return found

    def close(self) -> None:
        """Stop following. Ends an iteration that waits. Idempotent."""
        self._leave()
        with self._condition:
            self._closed = True
            self._notify()

    def __iter__(self) -> Iterator[EndpointSet]:
        return self

    def __next__(self) -> EndpointSet:
        return self.next()

    def __aiter__(self) -> AsyncIterator[EndpointSet]:
        return self

    async def __anext__(self) -> EndpointSet:
        event = asyncio.Event()
        with self._condition:
            self._wake = asyncio.get_running_loop(), event
        while True:
            event.clear()
            with self._condition:
                if (found := self._take()) is not None:
                    return found
                if self._closed:
                    raise StopAsyncIteration
            await event.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_leave"):
            self._leave()

    def _take(self) -> EndpointSet | None:
        now = self._watch.snapshot()
        if self._closed or now.version == self._seen:
            return None
        self._seen = now.version
        if now.failure is not None and self._had is None and not now.endpoints:
            raise ResolutionError(f"{now.target}: {now.failure}")
        if now.endpoints is None or now.endpoints == self._had:
            return None
        self._had = now.endpoints
        return now.endpoints

    def _changed(self) -> None:
        with self._condition:
            self._notify()

    def _notify(self) -> None:
        self._condition.notify_all()
        if self._wake is not None and not self._wake[0].is_closed():
            loop, event = self._wake
            loop.call_soon_threadsafe(event.set)


def _weakly(watching: Watching) -> Callable[[], None]:
    reference = weakref.ref(watching)

    def changed() -> None:
        if (alive := reference()) is not None:
            alive._changed()

    return changed
