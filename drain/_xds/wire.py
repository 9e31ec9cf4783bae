"""How the control plane speaks gRPC: the synchronous server, on daemon threads, with each stream handed to the plane's loop.

Why not grpc.aio: all its event loops share one wake-up socket, so a second loop with a grpc.aio server on it, however idle, is
woken for every event of the user's own: measured, 20 - 40 % more CPU for each call of an asyncio server (tests/bench/cpu.py).
And why daemon threads: the usual thread pool is joined at interpreter exit, where a stream that is still open would hold it up.
Two threads for each stream, one that reads and one that writes, both asleep unless something changes.

Both directions push back: the reader stops while the loop is behind, and `write` returns when grpc has sent the message, so that
a client that floods, or does not read, costs no memory.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent import futures
from dataclasses import dataclass
from typing import Any

import grpc

Talk = Callable[["Wire"], Coroutine[Any, Any, None]]
_MOST_UNREAD = 16  # requests that are read ahead; grpc's client has one or two under way


class Daemons(futures.Executor):
    """Every call on a daemon thread of its own. Bounded by the server's `maximum_concurrent_rpcs`."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "futures.Future[Any]":
        """Run it now."""
        future: futures.Future[Any] = futures.Future()

        def work() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # as every executor does: the error is the result
                future.set_exception(error)

        try:
            threading.Thread(target=work, name="drain-xds-stream", daemon=True).start()
        except RuntimeError as error:  # no more threads: that costs this call, and not the server
            future.set_exception(error)
        return future


@dataclass(frozen=True, slots=True)
class _Outgoing:
    """A response, and whom to tell when it is sent; or the status that ends the stream."""

    response: Any = None
    sent: "asyncio.Future[None] | None" = None
    fault: tuple[grpc.StatusCode, str] | None = None


class Wire:
    """One stream as the plane's loop sees it: `requests()` to read, `write` and `abort` to answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = threading.Semaphore(_MOST_UNREAD)
        self._outbox: queue.SimpleQueue[_Outgoing | None] = queue.SimpleQueue()
        self._over = False

    # On the loop.

    async def requests(self, parse: Callable[[bytes], Any]) -> AsyncIterator[Any]:
        """The client's messages, parsed here, so that bytes that are no message are the stream's own affair."""
        while (message := await self._inbox.get()) is not None:
            self._room.release()
            yield parse(message)

    async def write(self, response: Any) -> None:
        """Send it. Returns when it is sent; cancelled when the client has gone."""
        sent = self._loop.create_future()
        self._outbox.put(_Outgoing(response, sent))
        await sent

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        """End the stream with this status."""
        self._outbox.put(_Outgoing(fault=(code, details)))

    # On grpc's threads.

    def handle(self, requests: Iterator[bytes], context: Any, talk: Talk) -> Iterator[Any]:
        """The handler of the stream: has the loop talk, and passes on what it says."""
        talking = talk(self)
        try:
            future = asyncio.run_coroutine_threadsafe(talking, self._loop)
        except RuntimeError:  # the loop is closed: the plane has just ended
            talking.close()
            return
        future.add_done_callback(lambda _: self._outbox.put(None))
        threading.Thread(target=self._read, args=(requests,), name="drain-xds-reader", daemon=True).start()
        try:
            while (outgoing := self._outbox.get()) is not None:
                if outgoing.fault is not None:
                    context.abort(*outgoing.fault)
                yield outgoing.response
                self._call(_done, outgoing.sent)
        finally:  # here too when grpc could not send, and drops this generator
            self._over = True
            self._room.release()
            future.cancel()

    def _read(self, requests: Iterator[bytes]) -> None:
        try:
            for message in requests:
                self._call(self._inbox.put_nowait, message)
                self._room.acquire()
                if self._over:
                    break
        except grpc.RpcError:  # the client has gone: how, does not matter
            pass
        finally:
            self._call(self._inbox.put_nowait, None)

    def _call(self, call: Callable[[Any], None], argument: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call, argument)
        except RuntimeError:  # the loop is closed: the plane has ended, and every stream with it
            self._outbox.put(None)


def _done(sent: "asyncio.Future[None]") -> None:
    if not sent.done():
        sent.set_result(None)
