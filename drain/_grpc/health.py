"""Health that knows how to leave: grpc's own health servicers, which a drain can turn to NOT_SERVING and back.

Every name flips but `liveness`: a kubelet that asks for liveness must not kill a pod because it is leaving. Names are set as with
grpc's servicer, `server.health.set(name, status)`; while the server announces or is paused the status is kept and shown later.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

SERVICE_NAME: str = health.SERVICE_NAME
LIVENESS = "liveness"
SERVING: int = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: int = health_pb2.HealthCheckResponse.NOT_SERVING
_ENDED = "the server is draining: watch another one"


class _Statuses:
    """What the user set, and what is shown of it. Pure."""

    def __init__(self) -> None:
        self.wanted: dict[str, int] = {health.OVERALL_HEALTH: SERVING, LIVENESS: SERVING}
        self.leaving = False

    def shown(self, name: str) -> int:
        """What a caller is told of a name that was set."""
        return NOT_SERVING if self.leaving and name != LIVENESS else self.wanted[name]


class _Watch:
    """How grpc's servicer answers one Watch, until we end it. Called back when the call is over it would answer once more: a
    second status, for which grpc keeps the call, and with it the connection, for ever.
    """

    def __init__(self, send: Callable[[Any], None], context: grpc.ServicerContext) -> None:
        self._send, self._context = send, context
        self._ended = False

    def __call__(self, response: Any) -> None:
        if not self._ended:
            self._send(response)

    def end(self) -> None:
        """UNAVAILABLE."""
        self._ended = True
        self._context.set_code(grpc.StatusCode.UNAVAILABLE)
        self._context.set_details(_ENDED)
        self._send(None)


class SyncHealth(health.HealthServicer):
    """Health for grpc.server, on a thread of its own: it answers when every worker is busy. Thread safe."""

    def __init__(self) -> None:
        # grpc picks a handler's pool from this attribute of the function, which the servicer sets on Watch only.
        pool = futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="drain-health")
        super().__init__(experimental_non_blocking=True, experimental_thread_pool=pool)
        vars(type(self))["Check"].experimental_thread_pool = pool
        self._statuses = _Statuses()
        self._showing = threading.Lock()  # what is decided first is shown first
        self._watches: set[_Watch] = set()
        super().set(LIVENESS, SERVING)

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802  # the service's own name
        return super().Check(request, context)

    def Watch(self, request: Any, context: Any, send_response_callback: Any = None) -> Any:  # noqa: N802
        if send_response_callback is None:  # nobody but grpc calls this, and it passes one: see __init__
            return super().Watch(request, context)
        watch = _Watch(send_response_callback, context)
        self._watches.add(watch)
        if not context.add_callback(lambda: self._watches.discard(watch)):
            self._watches.discard(watch)
        return super().Watch(request, context, watch)

    def set(self, service: str, status: int) -> None:
        """Set a name's status, as grpc's servicer does. Shown at once, or when a drain or pause is over."""
        with self._showing:
            self._statuses.wanted[service] = status
            self._show(service)

    def flip(self, leaving: bool) -> None:
        """Show NOT_SERVING for every name but liveness, or what the user set again."""
        with self._showing:
            self._statuses.leaving = leaving
            for name in self._statuses.wanted:
                self._show(name)

    def _show(self, name: str) -> None:
        status = self._statuses.shown(name)
        if (
            self._server_status.get(name) != status
        ):  # a Watch is told of changes only; grpc's servicer would repeat itself
            super().set(name, status)

    def end_watches(self) -> int:
        """End every open Watch with UNAVAILABLE; returns how many."""
        ended = list(self._watches)
        for watch in ended:
            watch.end()
        return len(ended)


class AsyncHealth(health.aio.HealthServicer):
    """Health for grpc.aio.server. Use on the server's loop."""

    def __init__(self) -> None:
        super().__init__()
        self._statuses = _Statuses()
        self._watches: set[asyncio.Task[Any]] = set()
        self._server_status[LIVENESS] = SERVING  # `set` is a coroutine, and nobody can be watching yet

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802
        watch = asyncio.create_task(super().Watch(request, context))
        self._watches.add(watch)
        try:
            await asyncio.shield(watch)
        except asyncio.CancelledError:
            if watch not in self._watches:  # end_watches() took it out: it was us, not the client
                await context.abort(grpc.StatusCode.UNAVAILABLE, _ENDED)
            raise
        finally:
            self._watches.discard(watch)
            watch.cancel()

    async def set(self, service: str, status: int) -> None:
        """Set a name's status, as grpc's servicer does. Shown at once, or when a drain or pause is over."""
        self._statuses.wanted[service] = status
        await super().set(service, self._statuses.shown(service))

    async def flip(self, leaving: bool) -> None:
        """Show NOT_SERVING for every name but liveness, or what the user set again."""
        self._statuses.leaving = leaving
        for name in list(self._statuses.wanted):
            await super().set(name, self._statuses.shown(name))

    async def end_watches(self) -> int:
        """End every open Watch with UNAVAILABLE; returns how many."""
        ended, self._watches = self._watches, set()
        for watch in ended:
            watch.cancel()
        return len(ended)
