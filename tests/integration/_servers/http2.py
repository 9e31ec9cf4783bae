"""A peer that speaks just enough HTTP/2 (RFC 9113) to be connected, and answers only what it is told to."""

import socket
import struct
import threading

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, GOAWAY = 4, 6, 7
ACK = 1


def frame(kind: int, flags: int = 0, payload: bytes = b"") -> bytes:
    """One frame on stream 0."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + bytes(4) + payload


class Peer:
    """A connection that acknowledges SETTINGS and, unless it is `deaf`, PINGs. `frames`: (kind, flags) seen so far."""

    def __init__(self, port: int, *, deaf: bool) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._deaf = deaf
        self.frames: list[tuple[int, int]] = []
        self.closed = threading.Event()
        self._socket.sendall(PREFACE + frame(SETTINGS))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def seen(self, kind: int, *, ack: bool = False) -> int:
        """How many frames of that kind have come."""
        return sum(1 for seen, flags in list(self.frames) if seen == kind and bool(flags & ACK) == ack)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _read(self) -> None:
        try:
            while header := self._exactly(9):
                kind, flags = header[3], header[4]
                payload = self._exactly(int.from_bytes(header[:3]))
                self.frames.append((kind, flags))
                if kind == SETTINGS and not flags & ACK:
                    self._socket.sendall(frame(SETTINGS, ACK))
                elif kind == PING and not flags & ACK and not self._deaf:
                    self._socket.sendall(frame(PING, ACK, payload))
        except OSError:
            pass
        self.closed.set()

    def _exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            if not (more := self._socket.recv(length - len(data))):
                return b""
            data += more
        return data
