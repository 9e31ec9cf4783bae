"""Reading a watch: what has come is handed on at once, and waiting can be ended from another thread.

urllib3 reads as many bytes as it was asked for, or a chunk, and waits for them; it cannot say whether more has come already. So
for the body of a watch we read its socket ourselves. That touches private parts of http.client (`fp.raw._sock`); where they are
missing, urllib3 reads, and floods of events are told one by one.
"""

import contextlib
import os
import re
import socket
import ssl
import threading
from typing import Any

_MOST_READ = 256 * 1024
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}")
_LONGEST_HEAD = 64 * 1024  # of a chunk; it is a number


class Interrupt:
    """Ends what a thread waits for. Thread safe.

    It holds a duplicate of the socket in use: shutting that down ends a read, a TLS handshake or a wait for an answer, whoever
    owns the connection.
    """

    def __init__(self) -> None:
        self._set = threading.Event()
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def __bool__(self) -> bool:
        return self._set.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep. True at once when interrupted."""
        return self._set.wait(seconds)

    def set(self) -> None:
        """Interrupt, for good."""
        self._set.set()
        with self._lock:
            self._shut()

    def hold(self, used: socket.socket) -> None:
        """This socket is waited for from now on, until another is, or `release`."""
        with self._lock:
            self._close()
            self._socket = socket.socket(fileno=os.dup(used.fileno()))
            if self._set.is_set():
                self._shut()

    def release(self) -> None:
        """No socket is waited for. Without this the connection would stay open when its owner closes it."""
        with self._lock:
            self._close()

    def _shut(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # not connected any more
                self._socket.shutdown(socket.SHUT_RDWR)

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Chunks:
    """Takes the chunks off a body (RFC 9112, section 7.1). ValueError for what is none."""

    def __init__(self) -> None:
        self.ended = False
        self._rest = b""
        self._left = 0  # bytes of this chunk that are still to come

    def feed(self, data: bytes) -> bytes:
        """The body's bytes in `data`."""
        data, at, body = self._rest + data, 0, []
        while not self.ended:
            if self._left:
                piece = data[at : at + self._left]
                body.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
            end = data.find(b"\n", at)
            if end < 0:
                break
            head = data[at:end].partition(b";")[0].strip()
            at = end + 1
            if head:  # else the line's end behind a chunk
                if not _SIZE.fullmatch(head):
                    raise ValueError(f"{head[:20]!r} is not the size of a chunk")
                self._left = int(head, 16)
                self.ended = not self._left
        self._rest = data[at:]
        if len(self._rest) > _LONGEST_HEAD:
            raise ValueError("not a chunk")
        return b"".join(body)


class Body:
    """The body of a urllib3 response, as it comes. Belongs to one thread."""

    def __init__(self, response: Any) -> None:
        self._response = response
        chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
        length = response.headers.get("Content-Length")
        self._chunks = Chunks() if chunked else None
        self._left = int(length) if length is not None and not chunked else None
        try:
            self._file = response._fp.fp
            self._socket: socket.socket | None = self._file.raw._sock
            self._early = self._buffered(self._socket)
        except AttributeError:
            self._socket = None

    def read(self, seconds: float) -> bytes | None:
        """What there is; waits for it if need be. b"": the end, in good order. None: nothing came within `seconds`.

        Raises OSError or ValueError if it ends too soon, or is no body.
        """
        if self._socket is None:
            body: bytes | None = self._response.read1() if seconds else None
            return body
        while not self._over():
            early, self._early = self._early, b""
            data = early or self._receive(self._socket, seconds)
            if data is None:
                return None
            if not data:
                if self._chunks is not None or self._left:
                    raise ConnectionResetError("it was closed amid an answer")
                return b""
            body = self._chunks.feed(data) if self._chunks is not None else data
            if self._left is not None:
                self._left -= len(body)
            if body:
                return body
        return b""

    def _over(self) -> bool:
        return self._left == 0 or (self._chunks is not None and self._chunks.ended)

    def _buffered(self, sock: socket.socket) -> bytes:
        """What was read together with the headers."""
        sock.settimeout(0)
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
            waiting: bytes = self._file.peek()
            return bytes(self._file.read1(len(waiting))) if waiting else b""
        return b""

    def _receive(self, sock: socket.socket, seconds: float) -> bytes | None:
        sock.settimeout(seconds)
        try:
            return sock.recv(_MOST_READ)
        except (BlockingIOError, TimeoutError, ssl.SSLWantReadError):
            return None
