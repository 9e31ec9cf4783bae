"""The asyncio server: a `grpc.aio.Server` that knows how to leave. The same names as in `drain`, to be awaited; and channels.

Policy lives in `_core`, life in `_driver`, parts in `_blueprint`: here is only what an event loop needs. _server.py is the twin.
(Long, because every public method says what a caller must know.)
"""

import asyncio
import contextlib
import signal
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from concurrent import futures
from typing import Any, overload

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc

from drain import _clock, events
from drain._aio_channels import insecure_channel, secure_channel
from drain._aio_draining import draining
from drain._blueprint import LISTEN_TIMEOUT, XDS_REFUSED, Blueprint
from drain._core.lifecycle import Input
from drain._draining import connection_age_left
from drain._facade import Facade
from drain._grpc.handlers import watch_async
from drain._grpc.health import AsyncHealth
from drain._grpc.lossless import Listener, fetcher_option
from drain._grpc.streams import AsyncGuard
from drain._hands import STEP_TIMEOUT, Means
from drain._signals import LoopSignals
from drain.config import DrainPolicy, ServerKeepalive
from drain.errors import ConfigurationError
from drain.events import State
from drain.report import DrainReport

__all__ = [
    "Server",
    "connection_age_left",
    "draining",
    "insecure_channel",
    "run",
    "secure_channel",
    "server",
]


class Server(Facade, grpc.aio.Server):
    """A `grpc.aio.Server` that leaves without losing a call. Made by `drain.aio.server(...)`.

    Everything of `grpc.aio.Server` works as ever. `stop(grace)` keeps grpc's contract and becomes lossless. It may be made
    outside of a running loop, and belongs to the loop in which it is started. `drain` and `state` may be used from any thread.
    """

    def __init__(
        self, blueprint: Blueprint, make: Callable[[list[tuple[str, Any]]], Any], guard: AsyncGuard, *, admin: bool
    ) -> None:
        self._crew = _Crew(self)
        super().__init__(blueprint, self._crew, admin=admin)
        self._make, self._guard = make, guard
        self._loop: asyncio.AbstractEventLoop | None = None
        self._health: AsyncHealth | None = None
        self._draining = blueprint.home.aio_draining or asyncio.Event()
        self._ended = asyncio.Event()
        crew, ended = self._crew, self._ended  # the callback must not know the server: it would keep it alive
        self._driver.hold.freed().add_done_callback(lambda _: crew._call(ended.set))

    # What a grpc.aio.Server does.

    async def start(self) -> None:
        """As in grpc, but returns when the server really listens.

        Raises: ValueError if started before. CapabilityError if `goaway="require"` cannot be had. DrainError if it was drained
        before it was started.
        """
        self._begin()
        self._loop = asyncio.get_running_loop()
        try:
            means = await self._start()
        except BaseException as error:
            self._blueprint.release()
            self._driver.abandon(Input.START_FAILED, f"start failed: {error}")
            raise
        self._driver.started(means)
        self._opened()

    async def _start(self) -> Means:
        blueprint, emit = self._blueprint, self._crew.emit
        async with contextlib.AsyncExitStack() as undo:  # whatever fails, nothing is left running
            # A probe in a subprocess, or the control plane's start, must not hold up the user's loop.
            listener = await asyncio.to_thread(blueprint.settle, emit)
            option = None
            if listener is not None:
                undo.callback(listener.detach)
                holder, option = fetcher_option(listener.options)
                if option is None:
                    blueprint.fall_back_from(
                        listener, "this grpcio keeps its config fetcher where it cannot be found", emit
                    )
                    listener = None
            inner, gauge = blueprint.build(
                lambda options: self._make([*options, option] if option else options), listener
            )
            undo.push_async_callback(inner.stop, 0)
            holder = None  # noqa: F841  # kept alive until grpc.aio had taken the fetcher over
            await inner.start()
            if listener is not None and not await self._listens(listener):
                await inner.stop(0)
                blueprint.not_listening(listener, emit)
                listener = None
                inner, gauge = blueprint.build(self._make, None)
                undo.push_async_callback(inner.stop, 0)
                await inner.start()
            # Late: a grpc server that is built and never started keeps its ports for ever.
            self._health_server = blueprint.build_health(self._make_health)
            if self._health_server is not None:
                await self._health_server.start()
            blueprint.release()
            undo.pop_all()
        self._inner = inner
        if listener is not None:
            weakref.finalize(self, listener.detach)
        emit(events.GoawayChosen(self.goaway, self.goaway_reason))
        return Means(gauge, listener, blueprint.wheres)

    async def _listens(self, listener: Listener) -> bool:
        deadline = time.monotonic() + LISTEN_TIMEOUT
        while not self._blueprint.listens():
            if time.monotonic() >= deadline or listener.refusals:
                return False
            await asyncio.sleep(0.002)
        return True

    async def stop(self, grace: float | None) -> None:
        """As in grpc, without its losses: no announcing, GOAWAY, calls in flight finish within `grace` seconds.

        `grace` None: calls are cancelled at once. Returns when the server has stopped. Any number of times; the smallest grace
        counts. Before start it does nothing.
        """
        if self._begun:
            report = self._driver.report()
            self._driver.hold.want(False)
            self._driver.request(Input.LEAVE, "stop()", deadline=_clock.now() + (grace or 0.0))
            await asyncio.wrap_future(report)

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        """As in grpc: True if `timeout` seconds (None: no limit) passed first. Held after a preStop hook, as `run()` is."""
        try:
            async with asyncio.timeout(timeout):
                await self._ended.wait()
        except TimeoutError:
            return True
        return False

    # What drain adds.

    async def run(self) -> DrainReport:
        """Start unless started, serve until SIGTERM or SIGINT (or a drain begun elsewhere), drain, and return the report.

        SIGINT skips announcing. A second signal forces the end: calls are cancelled, the handlers of before are back, and the
        signal is raised again. After a drain that a preStop hook or `drain drain` began it waits for SIGTERM: a container
        whose process ends under a running hook counts as failed. Main thread only.
        """
        return await run(self)

    def drain(self, reason: str = "drain()") -> Awaitable[DrainReport]:
        """Leave: announcing, closing, finishing. Begins at once, also when not awaited; every caller gets the same report.

        May be called from any thread; what it returns is to be awaited on the event loop on which it was called, or else on
        the server's.
        """
        report = self._driver.report()
        self._leave(reason)
        loop = _running_loop() or self._loop
        return asyncio.wrap_future(report, loop=loop) if loop is not None else _Later(report)

    async def rotate(self) -> int:
        """GOAWAY on every connection, while serving: clients reconnect, and so spread anew. Returns how many were told.

        Raises CapabilityError in the classic way.
        """
        self._refuse(Input.ROTATE)
        return await asyncio.wait_for(
            asyncio.wrap_future(self._driver.request(Input.ROTATE, "rotate()")), 2 * STEP_TIMEOUT
        )

    async def pause(self) -> None:
        """Drain without dying: NOT_SERVING and one rotation (lossless only), still accepting. Returns when done."""
        await self._ask(Input.PAUSE, "pause()")

    async def resume(self) -> None:
        """The end of a pause: the statuses of before are shown again. Returns when done."""
        await self._ask(Input.RESUME, "resume()")

    async def _ask(self, what: Input, reason: str) -> None:
        self._refuse(what)
        await asyncio.wait_for(asyncio.wrap_future(self._driver.request(what, reason)), 2 * STEP_TIMEOUT)

    @property
    def draining(self) -> asyncio.Event:
        """Set when a drain begins: long handlers look at it, or await it, and come to an end."""
        return self._draining

    @property
    def health(self) -> AsyncHealth:
        """The health service: `await server.health.set(name, status)`. Every name but `liveness` flips on leaving."""
        if self._health is None:
            raise ConfigurationError("this server was made with health=False")
        return self._health

    def _serve_health(self) -> None:
        self._health = AsyncHealth()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self)
        self._blueprint.health_is_ours = True

    def _make_health(self) -> Any:
        server = grpc.aio.server()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        return server


class _Crew:
    """The user's side of an asyncio server (see `drain._hands.Crew`): everything is done on its loop, with a bound.

    Knows its server weakly: see `Driver`.
    """

    def __init__(self, server: Server) -> None:
        self._ref = weakref.ref(server)

    def hold(self) -> Server:
        if (server := self._ref()) is None:
            raise ReferenceError("the server was dropped")
        return server

    def flip_health(self, leaving: bool) -> None:
        if (health := self.hold()._health) is not None:
            self._on_loop(health.flip(leaving))

    def tell_handlers(self) -> None:
        held = self.hold()
        held._blueprint.home.draining.set()  # for handlers on the migration thread pool
        self._call(held._draining.set)

    def end_watches(self) -> None:
        if (health := self.hold()._health) is not None:
            self._on_loop(health.end_watches())

    def end_streams(self, reason: str) -> None:
        self._call(self.hold()._guard.end, reason)

    def stop(self, grace: float, within: float) -> None:
        held = self.hold()
        deadline = time.monotonic() + grace + within
        for server in (held._inner, held._health_server):
            if server is not None:
                self._on_loop(server.stop(grace), max(0.0, deadline - time.monotonic()))

    def emit(self, event: events.Event) -> None:
        if (server := self._ref()) is not None:
            self._call(server._subscribers.tell, event)

    def _call(self, action: Callable[..., object], *arguments: object) -> None:
        if (loop := self._loop()) is not None:
            with contextlib.suppress(RuntimeError):  # closed since we looked
                loop.call_soon_threadsafe(action, *arguments)
                return
        action(*arguments)

    def _on_loop(self, action: Coroutine[Any, Any, Any], timeout: float = STEP_TIMEOUT) -> None:
        loop = self._loop()
        if loop is None:
            action.close()
            return
        if _running_loop() is loop:  # started() runs on the loop itself: waiting for it there would be for ever
            self._kept = loop.create_task(action)
            return
        asyncio.run_coroutine_threadsafe(action, loop).result(timeout)

    def _loop(self) -> asyncio.AbstractEventLoop | None:
        server = self._ref()
        loop = server._loop if server is not None else None
        return loop if loop is not None and not loop.is_closed() else None


class _Later:
    """A report for whoever awaits it, on whichever loop that will be."""

    def __init__(self, report: "futures.Future[DrainReport]") -> None:
        self._report = report

    def __await__(self) -> Generator[Any, None, DrainReport]:
        return asyncio.wrap_future(self._report).__await__()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def server(
    migration_thread_pool: futures.Executor | None = None,
    handlers: Sequence[grpc.GenericRpcHandler] | None = None,
    interceptors: Sequence[Any] | None = None,
    options: Sequence[tuple[str, Any]] | None = None,
    maximum_concurrent_rpcs: int | None = None,
    compression: grpc.Compression | None = None,
    *,
    xds: bool = False,
    keepalive: ServerKeepalive | None = ServerKeepalive(),  # noqa: B008  # frozen
    policy: DrainPolicy | None = None,
    health: bool = True,
    health_address: str | None = None,
    load_report: bool = False,
    connection_ages: bool = False,
    admin: bool = True,
) -> Server:
    """A server as `grpc.aio.server` makes it, that can leave without losing a call.

    Args:
        migration_thread_pool, handlers, interceptors, options, maximum_concurrent_rpcs, compression: as in `grpc.aio.server`.
            The user's own `options` win over `keepalive`, and a clash is logged.
        xds: refused: drain needs grpc's xDS machinery for itself.
        keepalive: connection ages and pings; None sets no arguments.
        policy: how to leave; None is `DrainPolicy()`. Environment variables override both (docs/settings.md).
        health: serve grpc.health.v1.Health, and flip it when leaving. False: yours to do.
        health_address: a further address for health alone ("host:port"), which answers even where
            `maximum_concurrent_rpcs` turns calls away. None: no such address.
        load_report: tell clients with each call how busy the server is (ORCA, gRFC A51: the trailing metadatum
            `endpoint-load-metrics-bin`), for their `load_balancing="weighted_round_robin"`. False costs nothing.
        connection_ages: note when connections begin, for `drain.aio.connection_age_left(context)`: a thread that looks once a
            second. False costs nothing.
        admin: open the admin socket, which the preStop hook and `drain status` speak to. False: they cannot see this server.

    Raises: ConfigurationError for what cannot work.
    """
    if xds:
        raise ConfigurationError(XDS_REFUSED)
    guard = AsyncGuard()
    blueprint = Blueprint("aio", watch_async, guard, keepalive=keepalive, policy=policy, options=options,
                          health=health, health_address=health_address, load_report=load_report,
                          connection_ages=connection_ages)  # fmt: skip

    def make(arguments: list[tuple[str, Any]]) -> Any:
        return grpc.aio.server(
            migration_thread_pool, None, interceptors, arguments, maximum_concurrent_rpcs, compression
        )

    made = Server(blueprint, make, guard, admin=admin)
    if health:
        made._serve_health()
    made.add_generic_rpc_handlers(handlers or ())
    return made


@overload
async def run(server: Server, /) -> DrainReport: ...
@overload
async def run(first: Server, second: Server, /, *more: Server) -> tuple[DrainReport, ...]: ...
async def run(*servers: Server) -> DrainReport | tuple[DrainReport, ...]:
    """Run servers together until SIGTERM or SIGINT, drain them together, and return their reports. See `Server.run`.

    Raises ConfigurationError outside the main thread, and what `start()` raises (then the others are stopped). If the task is
    cancelled the servers are stopped at once.
    """
    if not servers:
        raise ConfigurationError("run() needs at least one server")
    loop = asyncio.get_running_loop()
    mailbox: asyncio.Queue[signal.Signals | None] = asyncio.Queue()
    with LoopSignals(loop, mailbox.put_nowait) as signals:
        reports = [server._driver.report() for server in servers]
        ends = asyncio.gather(*(asyncio.wrap_future(server._driver.hold.freed()) for server in servers))
        ends.add_done_callback(lambda _: mailbox.put_nowait(None))
        try:
            await _start_all(servers)
            asked = False
            while not ends.done():
                number = await mailbox.get()
                if number is not None and asked:
                    await _force(servers, signals, number)
                elif number is not None:
                    asked = True
                    for server in servers:
                        server._leave(number.name, announce=number != signal.SIGINT)
        except BaseException as error:
            ends.cancel()
            for server in servers:
                server._leave(f"{type(error).__name__} in run()", announce=False)
            await asyncio.gather(*(server.stop(0) for server in servers))
            raise
    done = tuple(report.result() for report in reports)
    return done[0] if len(done) == 1 else done


async def _start_all(servers: Sequence[Server]) -> None:
    for server in servers:
        if not server._begun and server.state is not State.STOPPED:
            await server.start()


async def _force(servers: Sequence[Server], signals: LoopSignals, number: signal.Signals) -> None:
    """A second signal: cancel what is left, then let the signal do what it did before we took it."""
    ends = [asyncio.wrap_future(server._driver.report()) for server in servers]
    for server in servers:
        server._driver.request(Input.FORCE, f"second {number.name}")
    await asyncio.wait(ends, timeout=2 * STEP_TIMEOUT)
    signals.restore()
    signal.raise_signal(number)
    await asyncio.sleep(0)  # asyncio.run() takes SIGINT by cancelling its task, which happens here
