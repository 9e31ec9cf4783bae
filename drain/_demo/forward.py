"""Bytes from one connection to another, unread, as a layer-4 balancer forwards: plain asyncio, with back-pressure."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast


class Half(asyncio.Protocol):
    """One of the two connections of a pair. What it reads, its `peer` writes."""

    def __init__(self, peer: "Half | None" = None) -> None:
        self.peer = peer
        self.ended = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if (other := self._other) is not None:
            other.write(data)

    def pause_writing(self) -> None:
        # The peer reads faster than we can write: let its kernel buffer fill up, as TCP wants it.
        if (other := self._other) is not None:
            other.pause_reading()

    def resume_writing(self) -> None:
        if (other := self._other) is not None:
            other.resume_reading()

    def eof_received(self) -> bool:
        """The end of one direction is forwarded as such; the other direction stays open (True) until it ends too."""
        self.ended = True
        if self.peer is None or self.peer.ended or (other := self._other) is None:
            return False
        other.write_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        if (other := self._other) is not None:
            other.abort() if error else other.close()

    @property
    def _other(self) -> asyncio.Transport | None:
        """The peer's connection, while it can be used."""
        other = self.peer.transport if self.peer is not None else None
        return None if other is None or other.is_closing() else other


class Backend(Half):
    """The backend's side. It knows its client from the start, because a server speaks first: SETTINGS come at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.peer is None or (client := self._other) is None:  # the client has left meanwhile
            transport.close()
            return
        self.peer.peer = self
        client.resume_reading()


class Client(Half):
    """The client's side: a backend is chosen and connected to at once; until that is done nothing is read."""

    def __init__(self, connect: Callable[["Client"], Awaitable[object]], open_: set["Client"]) -> None:
        super().__init__()
        self._connect, self._open = connect, open_
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._open.add(self)
        cast(asyncio.Transport, transport).pause_reading()
        self._connecting = asyncio.get_running_loop().create_task(self._reach(cast(asyncio.Transport, transport)))

    async def _reach(self, transport: asyncio.Transport) -> None:
        try:
            await self._connect(self)
        except OSError:
            transport.abort()  # nobody there: what a client sees of a dead backend

    def connection_lost(self, error: Exception | None) -> None:
        self._open.discard(self)
        super().connection_lost(error)

    def cut(self) -> None:
        """End both sides now: the balancer itself is going."""
        for half in (self, self.peer):
            if half is not None and half.transport is not None:
                half.transport.abort()
