"""A server in this process, sync or asyncio, asked in the same words from the thread of a test.

An asyncio server gets an event loop on a thread of its own; every question is put to it there and its answer waited for, as the
synchronous server's own methods do.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent import futures
from typing import Any

import grpc

import drain
from drain import events
from drain._testing.servers import FAST
from drain.config import DrainPolicy
from drain.events import State
from drain.report import DrainReport
from tests.integration._servers.service import Service
from tests.integration._servers.waiting import BOUND, Told

WORKERS = 8


class Hosted:
    """One server and everything that belongs to it. `server` is the real one."""

    def __init__(
        self,
        flavour: str,
        *,
        addresses: Sequence[str] = ("127.0.0.1:0",),
        policy: DrainPolicy = FAST,
        workers: int = WORKERS,
        credentials: grpc.ServerCredentials | None = None,
        handlers: Sequence[grpc.GenericRpcHandler] | None = None,
        pooled: bool = True,
        **arguments: Any,
    ) -> None:
        self.flavour, self.told, self.events = flavour, Told(), Told()
        self.service = Service(self.told)
        self.pool = futures.ThreadPoolExecutor(workers)
        self._loop = _Loop() if flavour == "aio" else None
        handlers = self.service.generic(flavour) if handlers is None else handlers
        make = drain.server if flavour == "sync" else drain.aio.server
        pools = (self.pool,) if pooled else ()
        self.server: Any = self.ask(lambda: make(*pools, handlers=handlers, policy=policy, **arguments))
        self.service.server = self.server
        self.server.subscribe(self.events)
        self.ports = [
            self.server.add_secure_port(address, credentials) if credentials else self.server.add_insecure_port(address)
            for address in addresses
        ]

    @property
    def port(self) -> int:
        """The first port."""
        return self.ports[0]

    def ask(self, question: Callable[[], Any], within: float = BOUND) -> Any:
        """Call something where the server lives, and wait for the answer, or for what an awaitable answer leads to."""
        return question() if self._loop is None else self._loop.ask(question, within)

    def start(self, goaway: str = "lossless") -> "Hosted":
        """Start, and make sure that it will leave the way that the test is about."""
        self.ask(self.server.start)
        assert self.server.goaway == goaway, self.server.goaway_reason
        return self

    def drain(self, reason: str = "test") -> "futures.Future[DrainReport]":
        """Begin to drain; a future of the report."""
        if self._loop is None:
            return self.server.drain(reason)  # type: ignore[no-any-return]
        return self._loop.begin(lambda: self.server.drain(reason))

    def stop(self, grace: float | None) -> "futures.Future[Any]":
        """Begin to stop; a future that is done when it has stopped. (The synchronous stop(None) blocks until then.)"""
        if self._loop is not None:
            return self._loop.begin(lambda: self.server.stop(grace))
        return _when_set(self.server.stop(grace))

    def set_health(self, name: str, status: int) -> None:
        """`server.health.set`."""
        self.ask(lambda: self.server.health.set(name, status))

    def phase(self, state: State, within: float = BOUND) -> None:
        """Wait until the server is, or was, in that state."""
        self.events.until(lambda e: isinstance(e, events.StateChanged) and e.state is state, within=within)

    def happened(self, kind: type) -> list[Any]:
        """Events of that kind so far."""
        return [event for event in self.events.all if isinstance(event, kind)]

    @property
    def open_by_method(self) -> dict[str, int]:
        """Calls that the ledger still holds open."""
        return self.server._blueprint.ledger.open_by_method  # type: ignore[no-any-return]

    def close(self) -> None:
        """End everything at once."""
        self.service.release.set()
        self.stop(0).result(BOUND)
        if self.server.state is not State.STOPPED:
            self.drain("end of the test").result(BOUND)
        self.service.server = self.server = None
        self.close_rest()

    def close_rest(self) -> None:
        """End the loop and the pool: what is left when the server is gone."""
        if self._loop is not None:
            self._loop.close()
        self.pool.shutdown(wait=False, cancel_futures=True)


def _when_set(event: threading.Event) -> "futures.Future[Any]":
    done: futures.Future[Any] = futures.Future()

    def wait() -> None:
        done.set_result(None if event.wait(BOUND) else "still running")

    threading.Thread(target=wait, daemon=True).start()
    return done


class _Loop:
    """An event loop on a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-loop", daemon=True)
        self._thread.start()

    def begin(self, question: Callable[[], Any]) -> "futures.Future[Any]":
        async def asked() -> Any:
            answer = question()
            return await answer if isinstance(answer, Awaitable) else answer

        coroutine: Coroutine[Any, Any, Any] = asked()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def ask(self, question: Callable[[], Any], within: float) -> Any:
        return self.begin(question).result(within)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._settle(), self._loop).result(BOUND)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(BOUND)
        self._loop.close()

    @staticmethod
    async def _settle() -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.wait([*left, asyncio.ensure_future(asyncio.sleep(0))], timeout=BOUND)
        await asyncio.get_running_loop().shutdown_default_executor()
