"""What the synchronous and the asyncio server have in common: registering before start, and what may be asked at any time.

grpc's two servers register handlers and ports in the same way, without awaiting. What differs (starting, stopping, waiting) is in
_server.py and aio.py.
"""

import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import grpc

from drain import _worker, events
from drain._admin.server import Admin
from drain._blueprint import Blueprint
from drain._core.lifecycle import REFUSED, Input
from drain._driver import Driver
from drain._farewell import Farewell, Told
from drain._grpc.listening import written
from drain._hands import Crew
from drain._observe import watched
from drain._outlook import Look
from drain._subject import Subject
from drain._subscribers import Callback, Subscribers
from drain.errors import CapabilityError, ConfigurationError, DrainError
from drain.events import State
from drain.status import ServerStatus


class Facade:
    """The part of a server that needs neither thread nor event loop. Thread safe."""

    def __init__(self, blueprint: Blueprint, crew: Crew, *, admin: bool) -> None:
        if blueprint.policy.rebalance is not None:
            from drain._rebalancing import rebalancer  # noqa: PLC0415 - who does not rebalance loads nothing of it

            rebalancer.check(blueprint.policy.rebalance)
        self._blueprint = blueprint
        self._admin = admin
        self._subscribers, self._tell = Subscribers(), crew.emit
        told = _notices if blueprint.policy.kubernetes_events else lambda: None
        farewell = Farewell(told, lambda: _where(blueprint), blueprint.policy.termination_log)
        self._driver = Driver(blueprint.policy, crew, blueprint.ledger, _look, farewell)
        weakref.finalize(self, self._driver.dismiss).atexit = False
        if (ages := blueprint.home.ages) is not None:
            weakref.finalize(self, ages.stop).atexit = False
            self._driver.report().add_done_callback(lambda _: ages.stop())
        self._lock = threading.RLock()  # reentrant: a signal handler may call drain() while the main thread is in here
        self._begun = False
        self._abandoned = False  # drained before it was started
        self._inner: Any = None
        self._health_server: Any = None
        self._threads: int | None = None  # of the user's pool
        watched.enter(self)

    # What a grpc server does.

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """As in grpc."""
        counted = self._blueprint.add_generic(generic_rpc_handlers)
        if self._inner is not None:
            self._inner.add_generic_rpc_handlers(counted)

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler]
    ) -> None:
        """As in grpc: called by generated code, before start."""
        counted = self._blueprint.add_registered(service_name, method_handlers)
        if self._inner is not None:
            self._inner.add_registered_method_handlers(service_name, counted)  # grpc warns: too late

    def add_insecure_port(self, address: str) -> int:
        """As in grpc; returns the number, for port 0 too. A busy port is a `BindError` (a RuntimeError, as in grpc)."""
        return self._add_port(address, None)

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        """As in grpc; returns the number, for port 0 too. A busy port is a `BindError` (a RuntimeError, as in grpc)."""
        return self._add_port(address, server_credentials)

    def _add_port(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        if self._begun:
            raise ConfigurationError(f"{address}: a port can be added before start() only, as in grpc.")
        return self._blueprint.add_port(address, credentials)

    # What drain adds.

    @property
    def state(self) -> State:
        """Where the server stands."""
        return self._driver.state

    @property
    def goaway(self) -> str:
        """ "lossless" or "classic"."""
        return self._blueprint.choice().goaway

    @property
    def goaway_reason(self) -> str:
        """Why, and where it is classic, what would cure it."""
        choice = self._blueprint.choice()
        return f"{choice.reason} (remedy: {choice.remedy})" if choice.remedy else choice.reason

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Call `callback(event)` for every event of drain.events, in order. It must not block.

        Called on a thread of drain's; by an asyncio server on its loop, once that is known. Returns a function that unsubscribes.
        """
        return self._subscribers.add(callback)

    def _begin(self) -> None:
        """Start may go on, once."""
        with self._lock:
            if self._begun:
                raise ValueError("Cannot start already-started server!")  # grpc's own words
            self._begun = True  # first: a signal handler that drains may come between any two lines
            if self._abandoned:
                raise DrainError("the server was drained before it was started: build a new one")

    def status(self) -> ServerStatus:
        """One look at the server, at the cost of a few channelz questions."""
        return self._driver.status(
            addresses=_addresses(self._blueprint),
            goaway=self.goaway,
            goaway_reason=self.goaway_reason,
            threads=self._threads,
        )

    def connections(self) -> Mapping[int, str]:
        """Open connections: channelz's number of each, and the peer. All of them, where `status().peers` has 1000 at most."""
        return self._driver.connections()

    def _leave(self, reason: str, *, announce: bool = True, hold: bool = False) -> None:
        what = Input.DRAIN if announce and self._blueprint.policy.announce_timeout > 0 else Input.LEAVE
        self._driver.hold.want(hold)
        with self._lock:
            never_ran = not self._begun and not self._abandoned
            self._abandoned = self._abandoned or never_ran
        if never_ran:  # outside the lock: events go out
            self._blueprint.release()
            self._driver.abandon(what, reason)
        else:
            self._driver.request(what, reason)

    def _opened(self) -> None:
        """The server listens: whoever may ask can ask now."""
        worker = _worker.current
        if self._admin or worker is not None:  # a worker's parent asks by the same means
            try:
                Admin.register(Subject(self), self._tell, listen=self._admin)
            except Exception as error:  # whatever it is: a server must run that would run without it
                self._tell(events.FallbackTaken("the admin socket", "none", str(error), "report it"))
        if worker is not None:
            self._tell_parent(worker)
        if (rebalance := self._blueprint.policy.rebalance) is not None:
            from drain._rebalancing import rebalancer  # noqa: PLC0415 - see above

            stop = rebalancer.start(
                rebalance, Subject(self), self._subscribers.add, self._tell, self.goaway, self.goaway_reason
            )
            weakref.finalize(self, stop).atexit = False

    def _tell_parent(self, worker: _worker.Worker) -> None:
        """Let the parent ask, and tell it what becomes of this server."""
        subject, ports = Subject(self), frozenset(port.reservation.port for port in self._blueprint.ports)
        if worker.first():
            try:
                Admin.control(worker.control)
            except (OSError, RuntimeError):  # no descriptor, no thread: then the parent speaks by signals
                worker.control.close()
        longest, reserve = subject.status().longest, self._blueprint.policy.reserve
        self._subscribers.add(worker.opened(ports, longest, reserve, lambda: subject.status().time_left))

    def _refuse(self, what: Input) -> None:
        """Raise for what cannot be done now."""
        if (self.state, what) in REFUSED:
            raise DrainError(f"cannot {what.value} a server that is {self.state.value}")
        if what is Input.ROTATE and self.goaway != "lossless":
            raise CapabilityError(f"rotate() needs lossless GOAWAY: {self.goaway_reason}")


def _addresses(blueprint: Blueprint) -> tuple[str, ...]:
    return tuple(map(written, sorted(blueprint.wheres, key=str)))


def _where(blueprint: Blueprint) -> str:
    return ", ".join(_addresses(blueprint)) or "a server"


def _notices() -> Told | None:
    from drain._kube.notices import notices  # noqa: PLC0415 - the same

    return notices()


def _look(changed: Callable[[], None]) -> Look | None:
    from drain._kube.own_endpoint import look  # noqa: PLC0415 - nothing of Kubernetes is loaded before a drain needs it

    return look(changed)
