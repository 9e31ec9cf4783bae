"""The synchronous server: a `grpc.Server` that knows how to leave. (Not server.py: `drain.server` is the function.)

Policy lives in `_core`, life in `_driver`, parts in `_blueprint`: here is only what threads need. aio.py is the twin.
(Long, because every public method says what a caller must know.)
"""

import contextlib
import signal
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any, overload

import grpc
from grpc_health.v1 import health_pb2_grpc

from drain import _clock, events
from drain._blueprint import LISTEN_TIMEOUT, XDS_REFUSED, Blueprint
from drain._core.lifecycle import Input
from drain._facade import Facade
from drain._grpc.handlers import watch_sync
from drain._grpc.health import SyncHealth
from drain._grpc.lossless import Listener
from drain._grpc.streams import SyncGuard
from drain._hands import STEP_TIMEOUT, Means
from drain._signals import Mailbox, Signals
from drain.config import DrainPolicy, ServerKeepalive
from drain.errors import ConfigurationError
from drain.events import State
from drain.report import DrainReport

_HEALTH_WORKERS = 2
_SLICE = 0.1  # seconds


class Server(Facade, grpc.Server):
    """A `grpc.Server` that leaves without losing a call. Made by `drain.server(...)`; every method is thread safe.

    Everything of `grpc.Server` works as ever. `stop(grace)` keeps grpc's contract and becomes lossless.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        make: Callable[[list[tuple[str, Any]], bool], grpc.Server],
        guard: SyncGuard,
        *,
        admin: bool,
    ) -> None:
        super().__init__(blueprint, _Crew(self), admin=admin)
        self._make, self._guard = make, guard
        self._health: SyncHealth | None = None
        self._stopped, self._freed = threading.Event(), threading.Event()
        self._draining = blueprint.home.draining
        stopped, freed = self._stopped, self._freed  # the callbacks must not know the server: they would keep it alive
        self._driver.report().add_done_callback(lambda _: stopped.set())
        self._driver.hold.freed().add_done_callback(lambda _: freed.set())

    # What a grpc.Server does.

    def start(self) -> None:
        """As in grpc, but returns when the server really listens.

        Raises: ValueError if started before, as grpc does. CapabilityError if `goaway="require"` cannot be had. DrainError if
        it was drained before it was started.
        """
        self._begin()
        try:
            means = self._start()
        except BaseException as error:
            self._blueprint.release()
            self._driver.abandon(Input.START_FAILED, f"start failed: {error}")
            raise
        self._driver.started(means)
        self._opened()

    def _start(self) -> Means:
        blueprint, emit = self._blueprint, self._subscribers.tell
        with contextlib.ExitStack() as undo:  # whatever fails, nothing is left running
            listener = blueprint.settle(emit)
            if listener is not None:
                undo.callback(listener.detach)
            inner, gauge = blueprint.build(lambda options: self._make(options, listener is not None), listener)
            undo.callback(inner.stop, 0)
            inner.start()
            if listener is not None and not self._listens(listener):
                inner.stop(0)
                blueprint.not_listening(listener, emit)
                listener = None
                inner, gauge = blueprint.build(lambda options: self._make(options, False), None)
                undo.callback(inner.stop, 0)
                inner.start()
            # Late: a grpc server that is built and never started keeps its ports for ever.
            self._health_server = blueprint.build_health(self._make_health)
            if self._health_server is not None:
                self._health_server.start()
            blueprint.release()
            undo.pop_all()
        self._inner = inner
        if listener is not None:
            weakref.finalize(self, listener.detach)
        emit(events.GoawayChosen(self.goaway, self.goaway_reason))
        return Means(gauge, listener, blueprint.wheres)

    def _listens(self, listener: Listener) -> bool:
        deadline = time.monotonic() + LISTEN_TIMEOUT
        while not self._blueprint.listens():
            if time.monotonic() >= deadline or listener.refusals:
                return False
            time.sleep(0.002)
        return True

    def stop(self, grace: float | None) -> threading.Event:
        """As in grpc, without its losses: no announcing, GOAWAY, calls in flight finish within `grace` seconds.

        `grace` None: calls are cancelled at once, and stop blocks until that is done. Otherwise returns at once an event that is
        set when the server has stopped. Any number of times; the smallest grace counts. Before start it does nothing.
        """
        if not self._begun:
            never_ran = threading.Event()
            never_ran.set()
            return never_ran
        self._driver.hold.want(False)
        self._driver.request(Input.LEAVE, "stop()", deadline=_clock.now() + (grace or 0.0))
        if grace is None:
            _wait(self._stopped)
        return self._stopped

    def wait_for_termination(self, timeout: float | None = None) -> bool:
        """As in grpc: True if `timeout` seconds (None: no limit) passed first. Held after a preStop hook, as `run()` is."""
        return not _wait(self._freed, timeout)

    # What drain adds.

    def run(self) -> DrainReport:
        """Start unless started, serve until SIGTERM or SIGINT (or a drain begun elsewhere), drain, and return the report.

        SIGINT skips announcing. A second signal forces the end: calls are cancelled, the handlers of before are back, and the
        signal is raised again. After a drain that a preStop hook or `drain drain` began it waits for SIGTERM: a container
        whose process ends under a running hook counts as failed. Main thread only.
        """
        return run(self)

    def drain(self, reason: str = "drain()") -> "futures.Future[DrainReport]":
        """Leave: announcing, closing, finishing. Returns at once; every caller gets the same report.

        Before start it is over at once.
        """
        report = self._driver.report()
        self._leave(reason)
        return report

    def rotate(self) -> int:
        """GOAWAY on every connection, while serving: clients reconnect, and so spread anew. Returns how many were told.

        Raises CapabilityError in the classic way.
        """
        self._refuse(Input.ROTATE)
        return self._driver.request(Input.ROTATE, "rotate()").result(2 * STEP_TIMEOUT)

    def pause(self) -> None:
        """Drain without dying: NOT_SERVING and one rotation (lossless only), still accepting. Returns when done."""
        self._ask(Input.PAUSE, "pause()")

    def resume(self) -> None:
        """The end of a pause: the statuses of before are shown again. Returns when done."""
        self._ask(Input.RESUME, "resume()")

    def _ask(self, what: Input, reason: str) -> None:
        self._refuse(what)
        self._driver.request(what, reason).result(2 * STEP_TIMEOUT)

    @property
    def draining(self) -> threading.Event:
        """Set when a drain begins: long handlers look at it, and come to an end."""
        return self._draining

    @property
    def health(self) -> SyncHealth:
        """The health service: `server.health.set(name, status)`. Every name but `liveness` flips while the server leaves."""
        if self._health is None:
            raise ConfigurationError("this server was made with health=False")
        return self._health

    def _serve_health(self) -> None:
        self._health = SyncHealth()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self)
        self._blueprint.health_is_ours = True

    def _make_health(self) -> grpc.Server:
        pool = futures.ThreadPoolExecutor(_HEALTH_WORKERS, thread_name_prefix="drain-health-port")
        server = grpc.server(pool)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        return server


def _wait(event: threading.Event, timeout: float | None = None) -> bool:
    """`event.wait(timeout)`, in slices, as grpc has it too: Python runs the signal handlers of a program, which may well be what
    drains the server, on the main thread only, and that wakes for a signal only if it hits this very thread, asleep already.
    """
    deadline = float("inf") if timeout is None else time.monotonic() + timeout
    while not event.wait(max(0.0, min(_SLICE, deadline - time.monotonic()))):
        if time.monotonic() >= deadline:
            return False
    return True


class _Crew:
    """The user's side of a synchronous server (see `drain._hands.Crew`). Knows its server weakly: see `Driver`."""

    def __init__(self, server: Server) -> None:
        self._ref = weakref.ref(server)

    def hold(self) -> Server:
        if (server := self._ref()) is None:
            raise ReferenceError("the server was dropped")
        return server

    def flip_health(self, leaving: bool) -> None:
        if (health := self.hold()._health) is not None:
            health.flip(leaving)

    def tell_handlers(self) -> None:
        self.hold()._draining.set()

    def end_watches(self) -> None:
        if (health := self.hold()._health) is not None:
            health.end_watches()

    def end_streams(self, reason: str) -> None:
        self.hold()._guard.end(reason)

    def stop(self, grace: float, within: float) -> None:
        held = self.hold()
        stopped = [server.stop(grace) for server in (held._inner, held._health_server) if server is not None]
        deadline = time.monotonic() + grace + within
        if not all(event.wait(max(0.0, deadline - time.monotonic())) for event in stopped):
            raise TimeoutError(f"grpc's server had not stopped after {within:g} s")

    def emit(self, event: events.Event) -> None:
        if (server := self._ref()) is not None:
            server._subscribers.tell(event)


def server(
    thread_pool: futures.ThreadPoolExecutor,
    handlers: Sequence[grpc.GenericRpcHandler] | None = None,
    interceptors: Sequence[grpc.ServerInterceptor] | None = None,
    options: Sequence[tuple[str, Any]] | None = None,
    maximum_concurrent_rpcs: int | None = None,
    compression: grpc.Compression | None = None,
    xds: bool = False,
    *,
    keepalive: ServerKeepalive | None = ServerKeepalive(),  # noqa: B008  # frozen
    policy: DrainPolicy | None = None,
    health: bool = True,
    health_address: str | None = None,
    load_report: bool = False,
    connection_ages: bool = False,
    admin: bool = True,
) -> Server:
    """A server as `grpc.server` makes it, that can leave without losing a call.

    Args:
        thread_pool, handlers, interceptors, options, maximum_concurrent_rpcs, compression: as in `grpc.server`. The user's own
            `options` win over `keepalive`, and a clash is logged.
        xds: refused: drain needs grpc's xDS machinery for itself.
        keepalive: connection ages and pings; None sets no arguments.
        policy: how to leave; None is `DrainPolicy()`. Environment variables override both (docs/settings.md).
        health: serve grpc.health.v1.Health, and flip it when leaving. False: yours to do.
        health_address: a further address for health alone ("host:port"), which answers even where
            `maximum_concurrent_rpcs` turns calls away. None: no such address.
        load_report: tell clients with each call how busy the server is (ORCA, gRFC A51: the trailing metadatum
            `endpoint-load-metrics-bin`), for their `load_balancing="weighted_round_robin"`. False costs nothing.
        connection_ages: note when connections begin, for `drain.connection_age_left(context)`: a thread that looks once a second.
            False costs nothing.
        admin: open the admin socket, which the preStop hook and `drain status` speak to. False: they cannot see this server.

    Raises: ConfigurationError for what cannot work.
    """
    if xds:
        raise ConfigurationError(XDS_REFUSED)
    guard = SyncGuard()
    blueprint = Blueprint("sync", watch_sync, guard, keepalive=keepalive, policy=policy, options=options,
                          health=health, health_address=health_address, load_report=load_report,
                          connection_ages=connection_ages)  # fmt: skip

    def make(arguments: list[tuple[str, Any]], lossless: bool) -> grpc.Server:
        return grpc.server(thread_pool, None, interceptors, arguments, maximum_concurrent_rpcs, compression, lossless)

    made = Server(blueprint, make, guard, admin=admin)
    made._threads = getattr(thread_pool, "_max_workers", None)  # for `drain doctor`; a pool of one's own may not say
    if health:
        made._serve_health()
    made.add_generic_rpc_handlers(handlers or ())
    return made


@overload
def run(server: Server, /) -> DrainReport: ...
@overload
def run(first: Server, second: Server, /, *more: Server) -> tuple[DrainReport, ...]: ...
def run(*servers: Server) -> DrainReport | tuple[DrainReport, ...]:
    """Run servers together until SIGTERM or SIGINT, drain them together, and return their reports. See `Server.run`.

    Raises ConfigurationError outside the main thread, and what `start()` raises (then the others are stopped).
    """
    if not servers:
        raise ConfigurationError("run() needs at least one server")
    mailbox = Mailbox()
    with contextlib.closing(mailbox), Signals(mailbox) as signals:
        reports = [server._driver.report() for server in servers]
        ends = [server._driver.hold.freed() for server in servers]
        for end in ends:
            end.add_done_callback(lambda _: mailbox.put(None))
        try:
            _start_all(servers)
            asked = False
            while not all(end.done() for end in ends):
                number = mailbox.get()
                if number is not None and asked:
                    _force(servers, signals, number)
                elif number is not None:
                    asked = True
                    for server in servers:
                        server._leave(number.name, announce=number != signal.SIGINT)
        except BaseException as error:
            for server in servers:
                server._leave(f"{type(error).__name__} in run()", announce=False)
            for server in servers:
                server.stop(0).wait(2 * STEP_TIMEOUT)
            raise
    done = tuple(report.result() for report in reports)
    return done[0] if len(done) == 1 else done


def _start_all(servers: Sequence[Server]) -> None:
    for server in servers:
        if not server._begun and server.state is not State.STOPPED:
            server.start()


def _force(servers: Sequence[Server], signals: Signals, number: signal.Signals) -> None:
    """A second signal: cancel what is left, then let the signal do what it did before we took it."""
    ends = [server._driver.report() for server in servers]
    for server in servers:
        server._driver.request(Input.FORCE, f"second {number.name}")
    futures.wait(ends, timeout=2 * STEP_TIMEOUT)
    signals.restore()
    signal.raise_signal(number)
