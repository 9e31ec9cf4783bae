"""A caller of the rehearsal: a plain channel, no retry, a call every so often, and who answered as far as the answer says so."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

import drain
from drain._demo.caller import OPTIONS, Caller, Shape
from drain._rehearse.method import Method

UNNAMED = "answered"
"""In place of a server's name, where the answers do not say who gave them."""


@dataclass(slots=True)
class Names:
    """Of the servers, as they come and go: name -> what the report calls it. Callers look for them in answers. Thread safe."""

    known: dict[str, str] = field(default_factory=dict)
    connections: dict[str, int] = field(default_factory=dict)
    _lock: Any = field(default_factory=threading.Lock)

    def add(self, name: str, short: str) -> None:
        """One more."""
        with self._lock:
            self.known = {**self.known, name: short}

    def within(self, *parts: bytes) -> str:
        """The server that these parts of an answer name."""
        for name, short in self.known.items():
            written = name.encode()
            if any(written in part for part in parts):
                return short
        return UNNAMED

    def connected(self, server: str) -> None:
        """One more connection was made to it."""
        with self._lock:
            self.connections[server] = self.connections.get(server, 0) + 1


@dataclass(frozen=True, slots=True)
class Making:
    """How callers are made: `Load(target, shape, making)`.

    Attributes:
        method: what is called. names: who may answer. options: further channel arguments, for keepalive.
        credentials: for TLS; None: plain text.
    """

    method: Method
    names: Names
    options: Sequence[tuple[str, Any]] = ()
    credentials: grpc.ChannelCredentials | None = None

    def __call__(self, number: int, shape: Shape) -> "Rehearser":
        """One caller."""
        return Rehearser(number, shape, making=self)


@dataclass(slots=True)
class Rehearser(Caller):
    """Calls one method of the user's."""

    making: Making = field(kw_only=True)
    _fresh: bool = False

    @property
    def streaming(self) -> bool:
        """All of them, or none."""
        return self.making.method.streams

    def _open(self, target: str) -> grpc.Channel:
        channel = opened(target, self.making.options, self.making.credentials)
        channel.subscribe(self._changed)
        return channel

    def _changed(self, state: grpc.ChannelConnectivity) -> None:
        self._fresh = self._fresh or state is grpc.ChannelConnectivity.READY

    def _method(self, channel: grpc.Channel) -> Callable[[], str]:
        path = self.making.method.path
        if self.streaming:
            return functools.partial(self._stream_of, channel.unary_stream(path))
        return functools.partial(self._answer_of, channel.unary_unary(path))

    def _answer_of(self, method: "grpc.UnaryUnaryMultiCallable[bytes, bytes]") -> str:
        about = self.making.method
        answer, call = method.with_call(about.request, timeout=about.timeout, metadata=about.metadata)
        self._answered()
        return self._named(call, answer)

    def _stream_of(self, method: "grpc.UnaryStreamMultiCallable[bytes, bytes]") -> str:
        about, last = self.making.method, b""
        call = method(about.request, metadata=about.metadata)
        with ended_after(call, about.lasts) as over:
            try:
                for message in call:
                    last = message
                    self._answered()
            except grpc.RpcError:
                if not over.is_set():
                    raise
                return self.making.names.within(last)
        return self._named(call, last)

    def _named(self, call: Any, answer: bytes) -> str:
        told = [*(call.initial_metadata() or ()), *(call.trailing_metadata() or ())]
        values = [value if isinstance(value, bytes) else str(value).encode() for _, value in told]
        server = self.making.names.within(answer, *values)
        if self._fresh:
            self._fresh = False
            self.making.names.connected(server)
        return server


def opened(
    target: str, options: Sequence[tuple[str, Any]] = (), credentials: grpc.ChannelCredentials | None = None
) -> grpc.Channel:
    """A channel with a connection of its own: plain grpc, or drain's where the target is one of its."""
    ours = "://" in target and not target.startswith(("dns:", "ipv4:", "ipv6:", "unix:"))
    secure, insecure = (
        (drain.secure_channel, drain.insecure_channel) if ours else (grpc.secure_channel, grpc.insecure_channel)
    )
    arguments = [*(OPTIONS[:1] if ours else OPTIONS), *options]  # the others are ClientPolicy's own defaults
    if credentials is None:
        return insecure(target, options=arguments)
    return secure(target, credentials, options=arguments)


@contextlib.contextmanager
def ended_after(call: Any, seconds: float) -> Iterator[threading.Event]:
    """Cancels a stream then; the event tells that it was we who did."""
    over = threading.Event()

    def end() -> None:
        over.set()
        call.cancel()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield over
    finally:
        timer.cancel()


def tried(channel: grpc.Channel, method: Method) -> str | None:
    """Why a single call does not go through; None: it does. So that no rehearsal begins with a load that fails anyway."""
    try:
        if method.streams:
            call = channel.unary_stream(method.path)(method.request, metadata=method.metadata)
            with ended_after(call, min(method.lasts, method.timeout)) as over:
                try:
                    next(iter(call), None)  # one message is enough
                except grpc.RpcError:
                    if not over.is_set():
                        raise
                call.cancel()
        else:
            channel.unary_unary(method.path)(method.request, timeout=method.timeout, metadata=method.metadata)
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"[:400]
    return None
