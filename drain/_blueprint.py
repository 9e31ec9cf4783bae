"""What a server is made of, kept until it starts.

grpc's own server is built when `start()` is called and not before: until then nothing of grpc's core runs, so a process may fork
after it has built its server, the asyncio server meets the right event loop, and if the lossless way turns out not to
work here the same parts make a classic server. What users notice of it: nothing, ports are bound and numbered at once.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from drain import _worker, events
from drain._grpc.addresses import Reservation, reserve
from drain._grpc.ages import Ages
from drain._grpc.capability import capability
from drain._grpc.handlers import Guard, Watch, Watched
from drain._grpc.health import SERVICE_NAME
from drain._grpc.home import Home
from drain._grpc.inflight import Gauge, Identify, Ledger
from drain._grpc.listening import Where, can_see, listening, where
from drain._grpc.load_report import LoadReport
from drain._grpc.lossless import Listener
from drain._grpc.options import ServerOptions, server_options
from drain._xds.ads import ControlPlane
from drain.config import DrainPolicy, ServerKeepalive
from drain.errors import CapabilityError, ConfigurationError

LISTEN_TIMEOUT = 10.0  # seconds between start and the Listener's arrival; 10 - 30 ms in practice
XDS_REFUSED = (
    "xds=True: drain uses grpc's xDS machinery to send GOAWAY without loss, so the server cannot follow another control plane "
    "as well. Leave it out."
)


@dataclass(frozen=True, slots=True)
class Choice:
    """How the server will say goodbye, and why."""

    goaway: str
    reason: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Port:
    """An address that is ours already, and the credentials to serve it with."""

    reservation: Reservation
    credentials: grpc.ServerCredentials | None

    def give_to(self, server: Any) -> None:
        """Have grpc listen on it."""
        for address in self.reservation.addresses:
            if self.credentials is None:
                server.add_insecure_port(address)
            else:
                server.add_secure_port(address, self.credentials)


class Blueprint:
    """Parts of one server, and how they are put together. Not thread safe: used before and during start only."""

    def __init__(
        self,
        flavour: str,
        watch: Watch,
        guard: Guard,
        *,
        keepalive: ServerKeepalive | None,
        policy: DrainPolicy | None,
        options: Sequence[tuple[str, Any]] | None,
        health: bool,
        health_address: str | None,
        load_report: bool = False,
        connection_ages: bool = False,
    ) -> None:
        if health_address is not None and not health:
            raise ConfigurationError(
                f"health_address={health_address!r} with health=False: there is no health to serve there. Leave one out."
            )
        self.flavour = flavour
        self.policy = (policy if policy is not None else DrainPolicy()).overridden_by(os.environ)
        self.keepalive = keepalive.overridden_by(os.environ) if keepalive is not None else None
        self.ledger = Ledger()
        self.ports: list[Port] = []
        self.health_ports: list[Port] = []
        self.handlers: list[grpc.GenericRpcHandler] = []
        self.registered: list[tuple[str, dict[str, grpc.RpcMethodHandler]]] = []
        self.health_is_ours = False
        self._user_options = list(options) if options is not None else None
        report = LoadReport(flavour) if load_report else None
        self.home = Home(flavour, Ages(self._age_limit()) if connection_ages else None)
        ends = guard if self.policy.stream_grace is not None else None
        self._watched = Watched(self.ledger, watch, self.home, ends, report)
        self._choice: Choice | None = None
        self.options(lossless=True)  # whatever is wrong with them is said now
        if health_address is not None:
            self.add_health_port(health_address)

    # Collecting.

    def add_generic(self, handlers: Iterable[grpc.GenericRpcHandler]) -> list[grpc.GenericRpcHandler]:
        """Keep generic handlers; returns their counted twins."""
        handlers = tuple(handlers)
        for handler in handlers:
            if getattr(handler, "service", None) is None:  # grpc's own check and words, at the same moment
                raise AttributeError(
                    f'"{handler}" must conform to grpc.GenericRpcHandler type but does not have "service" method!'
                )
            self._refuse_second_health(getattr(handler, "service_name", lambda: None)())
        counted = self._watched.generic(handlers)
        self.handlers += counted
        return counted

    def add_registered(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler]
    ) -> dict[str, grpc.RpcMethodHandler]:
        """Keep what generated code registers; returns the counted twins."""
        self._refuse_second_health(service)
        counted = self._watched.registered(service, handlers)
        self.registered.append((service, counted))
        return counted

    def add_port(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        """Take the address now, so that a busy port is an error now and port 0 has its number now."""
        reservation = reserve(address, shared=self.options(lossless=True).shared)
        self.ports.append(Port(reservation, credentials))
        return reservation.port

    def add_health_port(self, address: str) -> None:
        """Take an address for health alone."""
        self.health_ports.append(Port(reserve(address, shared=_worker.current is not None), None))

    def build_health(self, make: Callable[[], Any]) -> Any:
        """The server for health alone, or None. It has no part in the drain: it answers until the end, and goes last."""
        if not self.health_ports:
            return None
        server = make()
        for port in self.health_ports:
            port.give_to(server)
            port.reservation.release()
        return server

    def _refuse_second_health(self, service: str | None) -> None:
        if service == SERVICE_NAME and self.health_is_ours:
            raise ConfigurationError(
                f"{SERVICE_NAME} is registered already, by drain: a second one would not turn to NOT_SERVING when the server "
                "leaves. Use server.health.set(name, status), or pass health=False and see to it yourself."
            )

    # Deciding.

    def options(self, *, lossless: bool) -> ServerOptions:
        """Grpc's channel arguments, and what the user's own do to ours."""
        return server_options(self.keepalive, self._user_options, lossless=lossless, shared=_worker.current is not None)

    def _age_limit(self) -> float | None:
        """After how many seconds grpc ends a connection, whoever said so; None: never."""
        return self.options(lossless=True).age_limit

    def choice(self) -> Choice:
        """How this server says goodbye. Decided once; an unknown grpcio costs a probe in a subprocess."""
        if self._choice is None:
            self._choice = self._choose()
        return self._choice

    def _choose(self) -> Choice:
        if self.policy.goaway == "classic":
            return Choice("classic", 'asked for: goaway="classic"')
        able = capability(self.flavour)
        return Choice("lossless" if able.lossless else "classic", able.reason, able.remedy)

    def _fall_back(self, reason: str, remedy: str, emit: Callable[[events.Event], None]) -> None:
        self._choice = Choice("classic", reason, remedy)
        if self.policy.goaway == "require":
            raise CapabilityError(
                f'goaway="require", but lossless GOAWAY is not to be had: {reason}. Remedy: {remedy}.'
            )
        emit(events.FallbackTaken("lossless GOAWAY", "classic drain", reason, remedy))

    # Building.

    def settle(self, emit: Callable[[events.Event], None]) -> Listener | None:
        """Choose for good, say so, and open the Listener where the choice is lossless."""
        choice = self.choice()
        listener: Listener | None = None
        if choice.goaway == "lossless":
            try:
                listener = Listener(ControlPlane.shared())
            except (OSError, ConfigurationError) as error:
                self._fall_back(
                    f"the control plane's socket cannot be had: {error}",
                    "set DRAIN_RUNTIME_DIR to a folder of your own",
                    emit,
                )
        elif self.policy.goaway != "classic":
            self._fall_back(choice.reason, choice.remedy, emit)
        for clash in self.options(lossless=listener is not None).clashes:
            emit(events.OptionOverridden(clash.name, clash.ours, clash.users, clash.applied))
        return listener

    def build(self, make: Callable[[list[tuple[str, Any]]], Any], listener: Listener | None) -> tuple[Any, Gauge]:
        """Put the parts together with `make(options)`; the result is grpc's own server, not yet started."""
        options = self.options(lossless=listener is not None)
        arguments = [*options.arguments, *(listener.options if listener is not None else ())]
        with Identify() as new:
            server = make(arguments)
        server.add_generic_rpc_handlers(tuple(self.handlers))
        for service, handlers in self.registered:
            server.add_registered_method_handlers(service, handlers)
        if ("grpc.so_reuseport", 0) in arguments:  # classic, and asked for: grpc could not bind beside our holder
            self.release()
        for port in self.ports:
            port.give_to(server)
        known = new.id if options.channelz else None
        if self.home.ages is not None:
            self.home.ages.start(known)
        return server, Gauge(self.ledger, known)

    @property
    def wheres(self) -> frozenset[Where]:
        """Addresses to listen on."""
        held = [port.reservation for port in self.ports]
        return frozenset(
            at for each in held for at in ([each.path] if each.path is not None else map(where, each.addresses))
        )

    def listens(self) -> bool:
        """Whether this process listens on every address by now."""
        return not can_see() or listening(self.wheres) == self.wheres

    def not_listening(self, listener: Listener, emit: Callable[[events.Event], None]) -> None:
        """The Listener did not come in time: fall back to the classic way, or fail where lossless is required."""
        reason = listener.refusal or f"grpc did not take its Listener within {LISTEN_TIMEOUT:g} s"
        self.fall_back_from(listener, reason, emit)

    def fall_back_from(self, listener: Listener, reason: str, emit: Callable[[events.Event], None]) -> None:
        """What should have worked here did not."""
        listener.detach()
        report = 'report it, with the version of grpcio; until then goaway="classic" asks for no more'
        self._fall_back(
            reason, "listen on TCP ports only" if any(isinstance(at, str) for at in self.wheres) else report, emit
        )

    def release(self) -> None:
        """Give the reserved addresses up: grpc holds them now, or nobody wants them any more."""
        for port in (*self.ports, *self.health_ports):
            port.reservation.release()
