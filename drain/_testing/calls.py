"""Callers whose calls must not be lost."""

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from drain._testing.bound import BOUND


class assert_no_lost_calls:  # noqa: N801 - it reads as a function
    """Callers call without pause while the block runs; an AssertionError if then one failed, or a caller never got through.

        with assert_no_lost_calls(lambda: stub.SayHello(request)) as calls: ...
        async with assert_no_lost_calls(lambda: stub.SayHello(request)) as calls: ...

    Args:
        call: makes one call, and raises if it fails. For `async with`: returns an awaitable.
        callers: how many at once. pause: seconds from a caller's one call to its next.
    """

    def __init__(self, call: Callable[[], Any], *, callers: int = 4, pause: float = 0.005) -> None:
        self._call, self._callers, self._pause = call, callers, pause
        self._done = threading.Event()
        self._running: list[Any] = []
        self.counts = [0] * callers
        self.failures: list[Exception] = []

    @property
    def count(self) -> int:
        """Calls that went well so far."""
        return sum(self.counts)

    def __enter__(self) -> Self:
        self._running = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(self._callers)]
        for thread in self._running:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        deadline = time.monotonic() + BOUND
        for thread in self._running:
            thread.join(max(0.0, deadline - time.monotonic()))
        stuck = sum(thread.is_alive() for thread in self._running)
        if error is None:
            self._judge(stuck)

    async def __aenter__(self) -> Self:
        self._running = [asyncio.ensure_future(self._run_aio(n)) for n in range(self._callers)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        _, stuck = await asyncio.wait(self._running, timeout=BOUND)
        for task in stuck:
            task.cancel()
        if error is None:
            self._judge(len(stuck))

    def _run(self, number: int) -> None:
        while not self._done.is_set():
            try:
                self._call()
                self.counts[number] += 1
            except Exception as error:  # the user's code: whatever it raises is a lost call
                self.failures.append(error)
            self._done.wait(self._pause)

    async def _run_aio(self, number: int) -> None:
        while not self._done.is_set():
            try:
                answer = self._call()
                if not inspect.isawaitable(answer):
                    raise TypeError("assert_no_lost_calls: with `async with` the call must return an awaitable")
                await answer
                self.counts[number] += 1
            except Exception as error:  # as above
                self.failures.append(error)
            await asyncio.sleep(self._pause)

    def _judge(self, stuck: int) -> None:
        lost = len(self.failures)
        if lost:
            kinds = "; ".join(dict.fromkeys(_told(each) for each in self.failures[:20]))
            raise AssertionError(f"{lost} of {lost + self.count} calls were lost: {kinds}") from self.failures[0]
        if stuck:
            raise AssertionError(f"{stuck} callers still wait for an answer after {BOUND:g} s; give calls a timeout")
        if not all(self.counts):
            idle = self.counts.count(0)
            what = "the block was over too soon to mean anything"
            raise AssertionError(f"{idle} of {self._callers} callers made no call: {what}")


def _told(error: Exception) -> str:
    code, details = getattr(error, "code", None), getattr(error, "details", None)
    if callable(code) and callable(details):
        return f"{getattr(code(), 'name', code())}: {details()}"
    return f"{type(error).__name__}: {error}"
