"""A faulty proxy in front of the real API server: TLS on both sides, so that it sees requests and can answer in the server's place."""

import contextlib
import http.client
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.kube._cluster import faults
from tests.kube._cluster.faults import Answer, Cut, Fault, Gone, Request, Silent
from tests.kube._cluster.pki import Pki

IDLE = 60.0  # seconds a client's connection may be silent
_HOP = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive"})


@dataclass(slots=True)
class _Rule:
    fault: Fault
    wanted: Callable[[Request], bool]
    times: int | None


class Proxy:
    """Listens on 127.0.0.1. Faults hold for new requests; `close_watches` and `stall` are for those that are open."""

    def __init__(self, upstream: tuple[str, int], pki: Pki) -> None:
        self._upstream = upstream
        self._client = ssl.create_default_context(cafile=str(pki.authority))
        self._client.load_verify_locations(str(pki.authority))
        self._server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.load_cert_chain(pki.server_certificate, pki.server_key)
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._rules: list[_Rule] = []
        self._watches: dict[_Watch, None] = {}
        self._open: set[socket.socket] = set()
        self._delay = 0.0
        self._stalled = threading.Event()
        self._closed = False
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"

    # What came.

    def requests(self, verb: str | None = None, service: str | None = None, since: float = 0.0) -> list[Request]:
        """Those for EndpointSlices, in order. `since`: time.monotonic()."""
        with self._lock:
            return [
                each
                for each in self._requests
                if "endpointslices" in each.path
                and verb in (None, each.verb)
                and service in (None, each.service)
                and each.at >= since
            ]

    def watching(self, service: str | None = None) -> int:
        """Watches that are open now."""
        with self._lock:
            return sum(service in (None, each.request.service) for each in self._watches)

    # What goes wrong.

    @contextlib.contextmanager
    def fault(
        self,
        fault: Fault,
        verb: str | None = None,
        *,
        times: int | None = None,
        when: Callable[[Request], bool] = lambda request: True,
    ) -> Iterator[None]:
        """New requests of that verb are treated so (at most `times` of them), while this lasts."""
        rule = _Rule(fault, lambda request: verb in (None, request.verb) and when(request), times)
        with self._lock:
            self._rules.append(rule)
        try:
            yield
        finally:
            with self._lock:
                self._rules.remove(rule)

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Nobody listens, and what was open is reset."""
        self._listener.close()
        self.reset()
        try:
            yield
        finally:
            self._listener = self._listen(self.port)

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        """The watches that are open now stay so, and no byte comes any more. New requests are served."""
        with self._lock:
            watches = list(self._watches)
        for each in watches:
            each.stalled.set()
        yield

    def close_watches(self, *, clean: bool = True) -> int:
        """End all open watches: as a server that has had enough of them does, or in the middle. How many there were."""
        with self._lock:
            watches = list(self._watches)
        for each in watches:
            each.end(clean)
        return len(watches)

    def reset(self) -> None:
        """Cut every connection."""
        with self._lock:
            sockets = list(self._open)
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def delay(self, seconds: float) -> None:
        """Each answer comes so much later."""
        self._delay = seconds

    def close(self) -> None:
        self._closed = True
        self._listener.close()
        self.reset()

    # Serving: a thread for each connection, as a test has a few dozen of them.

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port), backlog=512)
        listener.settimeout(0.1)  # close() in another thread does not end an accept()
        threading.Thread(target=self._accept, args=(listener,), name="proxy-accept", daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while listener.fileno() >= 0:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), name="proxy-serve", daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        raw.settimeout(IDLE)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = raw
        with self._lock:
            self._open.add(raw)
        try:
            # do_handshake_on_connect would do it before we hold the socket that is to be closed.
            connection = self._server.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
            with self._lock:
                self._open.discard(raw)
                self._open.add(connection)
            connection.do_handshake()
            with connection.makefile("rb") as reader:
                while not self._closed and self._exchange(connection, reader):
                    pass
        except (OSError, ValueError, http.client.HTTPException):
            pass  # the client left, or we were told to cut it
        finally:
            with self._lock:
                self._open.discard(raw)
                self._open.discard(connection)
            connection.close()

    def _exchange(self, connection: socket.socket, reader: Any) -> bool:
        """One request and its answer. True if another may follow."""
        line = reader.readline(65536).decode("latin-1").split()
        if len(line) != 3:
            return False
        headers = http.client.parse_headers(reader)
        body = reader.read(int(headers.get("content-length", 0)))
        request = faults.request(line[0], line[1], headers)
        with self._lock:
            self._requests.append(request)
            rule = next((each for each in self._rules if each.times != 0 and each.wanted(request)), None)
            if rule is not None and rule.times is not None:
                rule.times -= 1
        if self._delay:
            time.sleep(self._delay)
        fault = rule.fault if rule is not None else None
        if isinstance(fault, Answer):
            connection.sendall(faults.status(fault))
            return True
        if isinstance(fault, Silent):
            connection.settimeout(IDLE)
            connection.recv(1)  # until the client gives up
            return False
        if isinstance(fault, Gone):
            connection.sendall(
                faults.head(200, {"content-type": "application/json"}) + faults.chunk(faults.GONE) + faults.chunk(b"")
            )
            return True
        upstream = http.client.HTTPSConnection(*self._upstream, timeout=IDLE, context=self._client)
        try:
            passed = {name: value for name, value in headers.items() if name.lower() not in _HOP}
            passed.pop("accept-encoding", None)
            passed.pop("Accept-Encoding", None)
            upstream.request(line[0], line[1], body or None, passed)
            answer = upstream.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
            connection.sendall(faults.head(answer.status, kept))
            if request.verb == "watch" and answer.status == 200 and fault is None:
                return self._watch(_Watch(request, connection, upstream), answer)
            return _pass(connection, answer, fault)
        finally:
            upstream.close()

    def _watch(self, watch: "_Watch", answer: http.client.HTTPResponse) -> bool:
        with self._lock:
            self._watches[watch] = None
        # A client that leaves is seen by nobody who only writes when the server does.
        threading.Thread(target=watch.mind, name="proxy-mind", daemon=True).start()
        try:
            while data := answer.read1(65536):
                if not watch.stalled.is_set():
                    watch.connection.sendall(faults.chunk(data))
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            if not watch.clean:
                return False
        finally:
            with self._lock:
                self._watches.pop(watch, None)
            watch.done = True
        if watch.stalled.is_set():
            watch.left.wait(IDLE)
            return False
        watch.connection.sendall(faults.chunk(b""))
        return True


class _Watch:
    """A watch that is open."""

    def __init__(self, request: Request, connection: socket.socket, upstream: http.client.HTTPSConnection) -> None:
        self.request = request
        self.connection = connection
        self.upstream = upstream
        self.stalled = threading.Event()
        self.left = threading.Event()
        self.clean = False
        self.done = False
        assert upstream.sock is not None
        self._socket: socket.socket = upstream.sock

    def end(self, clean: bool) -> None:
        self.clean = clean
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def mind(self) -> None:
        """End it when the client goes. An HTTP/1.1 client sends nothing while a watch runs."""
        while not self.done:
            try:
                gone = _hung_up(self.connection)
            except (OSError, ValueError):
                gone = True
            if gone:
                self.left.set()
                self.end(False)
                return


def _hung_up(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLRDHUP | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(50))


def _pass(connection: socket.socket, answer: http.client.HTTPResponse, cut: Fault | None) -> bool:
    left = cut.after if isinstance(cut, Cut) else None
    while left != 0 and (data := answer.read1(65536)):
        if left is not None:
            data = data[:left]
            left -= len(data)
        if data:
            connection.sendall(faults.chunk(data))
    if left == 0 and not (isinstance(cut, Cut) and cut.clean):
        return False
    connection.sendall(faults.chunk(b""))
    return True
