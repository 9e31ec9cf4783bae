"""Servers that serve while a block runs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent import futures
from typing import Any

import drain
import drain.aio
from drain._testing.bound import BOUND
from drain.config import DrainPolicy
from drain.report import DrainReport

FAST = DrainPolicy(
    announce_min=0,
    announce_timeout=3,
    rotation_interval=0.15,
    return_window=0.1,
    announce_delay=0.2,
    quiet_period=0.1,
    drain_timeout=10,
)
"""A drain as short as it can be without losing what it is about: some 0.3 s when nobody calls. Not for production."""


class Serving:
    """A server that serves. Made by `serving`.

    Attributes:
        server: the real one. address: "127.0.0.1:PORT", where it listens.
    """

    def __init__(self, server: Any, address: str) -> None:
        self.server, self.address = server, address

    def drain(self, reason: str = "test") -> DrainReport:
        """Leave now; the report, when it is over. With an asyncio server: await `server.drain()` instead."""
        report: DrainReport = self.server.drain(reason).result(BOUND)
        return report


class serving:  # noqa: N801 - it reads as a function
    """`with serving(add) as it:` a synchronous server; `async with` an asyncio one. It has left when the block ends.

    Args:
        add: called with the server before it starts: registers what it serves.
        policy: FAST unless said. threads: of a synchronous server's pool.
        arguments: further ones of `drain.server` or `drain.aio.server`.
    """

    def __init__(
        self,
        add: Callable[[Any], object] = lambda server: None,
        *,
        policy: DrainPolicy = FAST,
        threads: int = 8,
        **arguments: Any,
    ) -> None:
        self._add, self._policy, self._threads, self._arguments = add, policy, threads, arguments
        self._stack, self._aio_stack = contextlib.ExitStack(), contextlib.AsyncExitStack()

    def __enter__(self) -> Serving:
        return self._stack.enter_context(self._serve())

    def __exit__(self, *failure: Any) -> bool | None:
        return self._stack.__exit__(*failure)

    async def __aenter__(self) -> Serving:
        return await self._aio_stack.enter_async_context(self._serve_aio())

    async def __aexit__(self, *failure: Any) -> bool | None:
        return await self._aio_stack.__aexit__(*failure)

    @contextlib.contextmanager
    def _serve(self) -> Iterator[Serving]:
        pool = futures.ThreadPoolExecutor(self._threads)
        server = drain.server(pool, policy=self._policy, **self._arguments)
        try:
            self._add(server)
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            yield Serving(server, f"127.0.0.1:{port}")
        finally:
            server.drain("end of the test").result(BOUND)
            pool.shutdown(wait=False)

    @contextlib.asynccontextmanager
    async def _serve_aio(self) -> AsyncIterator[Serving]:
        server = drain.aio.server(policy=self._policy, **self._arguments)
        try:
            self._add(server)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            yield Serving(server, f"127.0.0.1:{port}")
        finally:
            async with asyncio.timeout(BOUND):
                await server.drain("end of the test")
