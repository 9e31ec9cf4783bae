"""Channels as a user has them, synchronous or asyncio, behind one face for the scenarios."""

import asyncio
import gc
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import drain  # first: it sets what grpc reads when it is loaded

import grpc  # isort: skip

from tests.integration._servers.waiting import BOUND, until
from tests.kube._cluster.backends import WHO

PATIENCE = 10.0


class Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any], within: float = 60.0) -> Any:
        """Its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(within)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._loop.close()


class Load:
    """What became of the calls of a `Client.load()`."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.failed: list[str] = []
        self.stop = threading.Event()

    @property
    def calls(self) -> int:
        return self.answered.total() + len(self.failed)


class Client:
    """One channel. Calls block, whichever flavour it is."""

    def __init__(self, flavour: str, loop: Loop, target: str, **arguments: Any) -> None:
        self._flavour, self._loop = flavour, loop
        self.target = target
        self.channel: Any = (
            drain.insecure_channel(target, **arguments)
            if flavour == "sync"
            else loop.run(_made(lambda: drain.aio.insecure_channel(target, **arguments)))
        )

    def call(self, timeout: float = PATIENCE, *, wait: bool = False, takes: float = 0.0) -> str:
        """Who answered. Raises grpc.RpcError. `wait`: for ready."""
        request = str(takes).encode() if takes else b""
        if self._flavour == "sync":
            answer = self.channel.unary_unary(WHO)(request, timeout=timeout, wait_for_ready=wait)
        else:
            answer = self._loop.run(self._acall(request, timeout, wait), timeout + 10)
        return bytes(answer).decode()

    async def _acall(self, request: bytes, timeout: float, wait: bool) -> Any:
        return await self.channel.unary_unary(WHO)(request, timeout=timeout, wait_for_ready=wait)

    def refusal(self, timeout: float = PATIENCE) -> tuple[str, str, float]:
        """How a call fails: code, details, seconds it took. AssertionError if it does not."""
        began = time.monotonic()
        try:
            answer = self.call(timeout)
        except grpc.RpcError as error:
            failed: Any = error
            return failed.code().name, str(failed.details()), time.monotonic() - began
        raise AssertionError(f"{answer} answered")

    def fails(self) -> bool:
        """Whether a call fails UNAVAILABLE now. Any other failure is raised."""
        try:
            self.call()
        except grpc.RpcError as error:
            failed: Any = error
            if failed.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return True
        return False

    def everyone(self, calls: int = 30) -> set[str]:
        """Who answers, of so many calls in a row."""
        return {self.call() for _ in range(calls)}

    def until_everyone(self, wanted: set[str], within: float = BOUND) -> None:
        """Until calls in a row reach all of these and nobody else. Calls that fail meanwhile are failures of the test."""
        until(lambda: self.everyone(4 * len(wanted) + 4) == wanted, within)

    def until_answered(self, within: float = BOUND) -> str:
        """The first answer; failures before it are expected."""

        def answered() -> str | None:
            try:
                return self.call(2.0)
            except grpc.RpcError:
                return None

        return str(until(answered, within))

    @contextmanager
    def load(self, callers: int = 4, *, settled: int = 20) -> Iterator[Load]:
        """Calls without a pause, from so many callers; it begins when the first few were answered, and ends with the block."""
        load = Load()
        if self._flavour == "sync":
            threads = [threading.Thread(target=self._calling, args=(load,), daemon=True) for _ in range(callers)]
        else:
            threads = [threading.Thread(target=self._loop.run, args=(self._acalling(load, callers), 600), daemon=True)]
        for each in threads:
            each.start()
        try:
            until(lambda: load.calls >= settled)
            yield load
        finally:
            load.stop.set()
            for each in threads:
                each.join(PATIENCE + 10)
                assert not each.is_alive(), "a call never ended"

    def _calling(self, load: Load) -> None:
        method = self.channel.unary_unary(WHO)
        while not load.stop.wait(0.002):
            try:
                load.answered[bytes(method(b"", timeout=PATIENCE)).decode()] += 1
            except grpc.RpcError as error:
                load.failed.append(_said(error))

    async def _acalling(self, load: Load, callers: int) -> None:
        method = self.channel.unary_unary(WHO)

        async def one() -> None:
            while not load.stop.is_set():
                try:
                    load.answered[bytes(await method(b"", timeout=PATIENCE)).decode()] += 1
                except grpc.RpcError as error:
                    load.failed.append(_said(error))
                await asyncio.sleep(0.002)

        await asyncio.gather(*(one() for _ in range(callers)))

    def close(self) -> None:
        if self.channel is None:
            return
        channel, self.channel = self.channel, None
        if self._flavour == "sync":
            channel.close()
        else:
            self._loop.run(channel.close())

    def forget(self) -> None:
        """Let go of the channel without closing it."""
        self.channel = None
        gc.collect()


def _said(error: Any) -> str:
    return f"{error.code().name}: {error.details()}"


Connect = Callable[..., Client]


async def _made(make: Callable[[], Any]) -> Any:
    return make()
