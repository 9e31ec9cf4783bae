"""The load that was asked for: the method, how often, by how many, and with what keepalive."""

import contextlib
from dataclasses import dataclass
from typing import Any

import grpc

from drain._demo.caller import Shape
from drain._doctor.pair import Side
from drain._rehearse import calling, method
from drain._rehearse.method import Method, MethodError

CONNECTED = 5.0
"""Seconds for a first connection: a Service, or a pod of it, that was made just now is not on every node yet."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The load, with a workload or with a command.

    Attributes:
        path, data, raw, metadata, stream, timeout, lasts: the method, as it was given.
        shape: of the load. rate: calls a second, of all callers. options: channel arguments of `--client`.
        side: the client's keepalive, if a file says it.
        credentials: for TLS; None: plain text. authority: what the certificate is for, if it is not the target.
    """

    path: str
    data: str | None
    raw: bytes | None
    metadata: tuple[tuple[str, str], ...]
    stream: bool
    timeout: float
    lasts: float
    shape: Shape
    rate: float
    side: Side | None
    credentials: grpc.ChannelCredentials | None
    authority: str | None

    @property
    def options(self) -> list[tuple[str, Any]]:
        """Channel arguments."""
        keepalive = self.side.keepalive.arguments() if self.side is not None else ()
        return [*self._name, *keepalive]

    @property
    def _name(self) -> list[tuple[str, Any]]:
        return [] if self.authority is None else [("grpc.default_authority", self.authority)]

    def method(self, target: str) -> Method:
        """What is called there, asked of its reflection unless bytes are given. Raises MethodError: it does not answer."""
        # Without keepalive: whether that goes well is for the rehearsal to show.
        with calling.opened(target, self._name, self.credentials) as channel:
            with contextlib.suppress(grpc.FutureTimeoutError):  # then the call will say why
                grpc.channel_ready_future(channel).result(CONNECTED)
            if self.raw is not None:
                request, streams = self.raw, self.stream
            else:
                request, streams = method.by_reflection(channel, self.path, self.data)
            found = Method(self.path, request, streams, self.metadata, self.timeout, self.lasts)
            if (why := calling.tried(channel, found)) is not None:
                raise MethodError(f"a first call of {self.path[1:]} to {target} failed: {why}")
            return found

    @property
    def words(self) -> str:
        """The load, for people."""
        return f"{self.shape.callers} callers make up to {self.rate:g} calls a second of {self.path[1:]}"
