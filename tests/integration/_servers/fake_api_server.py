"""A fake Kubernetes API server: lists and watches EndpointSlices of one service, and misbehaves as it is told.

Not the real thing: it knows no users, no admission, no controllers. tests/kube runs against a real kube-apiserver.
"""

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    at: float
    verb: str  # "list" or "watch"
    path: str
    query: dict[str, str]
    token: str


@dataclass(frozen=True)
class Fault:
    """What to do instead of answering. `status` and `headers` answer with that; `raw` begins a watch, sends it, and ends as `then` says."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    then: str = "close"  # "close": in good order; "cut": the connection ends amid; "hang": nothing more for ever
    mute: bool = False  # not even headers


class FakeApiServer:
    """Serves from `start` to `stop`, any number of times, on one port. Thread safe."""

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self.tls = tls
        self.asked: list[Asked] = []
        self.fault: Callable[[Asked], Fault | None] = lambda asked: None
        self._slices: dict[str, dict[str, Any]] = {}
        self._history: list[tuple[int, dict[str, Any]]] = []
        self._version = 100
        self._oldest = 0
        self._changed = threading.Condition()
        self._life = 0
        self._watches_of = 0  # goes up when all watches are to be closed
        self._server: ThreadingHTTPServer | None = None
        self._connections: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._server is not None

    @property
    def open(self) -> int:
        """Connections."""
        return len(self._connections)

    @property
    def version(self) -> int:
        return self._version

    def start(self) -> "FakeApiServer":
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                fake._connections.add(self.connection)

            def finish(self) -> None:
                fake._connections.discard(self.connection)
                super().finish()

            def do_GET(self) -> None:
                fake._answer(self)

            def log_message(self, *arguments: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 64

            def get_request(self) -> Any:
                sock, address = super().get_request()
                if fake.tls is not None:  # shakes hands at its first read, on its own thread
                    sock = fake.tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                return sock, address

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # clients hang up, and servers are stopped, amid a word

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def stop(self) -> None:
        """Like kill -9: connections are refused, and open ones end."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        with self._changed:
            self._life += 1
            self._changed.notify_all()
        for each in list(self._connections):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(each, socket.SHUT_RDWR)  # TLS or not
        self._server = None

    def put(self, *slices: dict[str, Any]) -> float:
        """Create or change them. Returns when that was, on the monotonic clock."""
        return self._happen(
            [("MODIFIED" if each["metadata"]["name"] in self._slices else "ADDED", each) for each in slices]
        )

    def delete(self, *names: str) -> float:
        return self._happen([("DELETED", self._slices[name]) for name in names])

    def bookmark(self) -> None:
        with self._changed:
            self._version += 1
            raw = {"kind": "EndpointSlice", "metadata": {"resourceVersion": str(self._version)}}
            self._history.append((self._version, {"type": "BOOKMARK", "object": raw}))
            self._changed.notify_all()

    def send(self, event: dict[str, Any]) -> None:
        """Into all open watches, and those that are about to open."""
        with self._changed:
            self._version += 1
            self._history.append((self._version, event))
            self._changed.notify_all()

    def forget(self) -> None:
        """Versions until now are too old: 410."""
        with self._changed:
            self._version += 1
            self._oldest = self._version

    def close_watches(self) -> None:
        """In good order."""
        with self._changed:
            self._watches_of += 1
            self._changed.notify_all()

    def count(self, verb: str) -> int:
        return sum(each.verb == verb for each in list(self.asked))

    def _happen(self, changes: list[tuple[str, dict[str, Any]]]) -> float:
        with self._changed:
            for kind, given in changes:
                self._version += 1
                raw = given | {"metadata": given["metadata"] | {"resourceVersion": str(self._version)}}
                if kind == "DELETED":
                    del self._slices[raw["metadata"]["name"]]
                else:
                    self._slices[raw["metadata"]["name"]] = raw
                self._history.append((self._version, {"type": kind, "object": raw}))
            self._changed.notify_all()
            return time.monotonic()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        token = (handler.headers.get("Authorization") or "").removeprefix("Bearer ")
        asked = Asked(time.monotonic(), "watch" if query.get("watch") else "list", parts.path, query, token)
        generation = self._life, self._watches_of  # before anybody can see that it has been asked
        self.asked.append(asked)
        fault = self.fault(asked)
        if fault is not None and fault.mute:
            self._hang()
        elif fault is not None and fault.status:
            self._say(
                handler, fault.status, {"kind": "Status", "code": fault.status, "message": "told to"}, fault.headers
            )
        elif asked.verb == "list" and fault is None:
            with self._changed:
                items, version = list(self._slices.values()), self._version
            self._say(handler, 200, {"metadata": {"resourceVersion": str(version)}, "items": items})
        elif asked.verb == "list":
            assert fault is not None
            body = fault.raw or b""
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(body) + (fault.then != "close")))
            handler.end_headers()
            handler.wfile.write(body)
            handler.close_connection = True
            if fault.then == "hang":
                self._hang()
        else:
            self._watch(handler, int(query["resourceVersion"]), fault, generation)

    def _watch(
        self, handler: BaseHTTPRequestHandler, version: int, fault: Fault | None, generation: tuple[int, int]
    ) -> None:
        if version < self._oldest:
            self._say(handler, 410, {"kind": "Status", "code": 410, "message": "too old resource version"})
            return
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.flush()
        if fault is not None:
            if fault.raw:
                self._chunk(handler, fault.raw)
            if fault.then == "hang":
                self._hang()
            elif fault.then == "close":
                self._chunk(handler, b"")
            handler.close_connection = True
            return
        with self._changed:  # by place: what is sent by hand has no version of its own
            at = next((place for place, (each, _) in enumerate(self._history) if each > version), len(self._history))
        while True:
            with self._changed:
                while len(self._history) == at and (self._life, self._watches_of) == generation:
                    self._changed.wait()
                if self._life != generation[0]:
                    return
                events, at = [event for _, event in self._history[at:]], len(self._history)
            if events:
                for event in events:
                    self._chunk(handler, json.dumps(event).encode() + b"\n")
            else:
                self._chunk(handler, b"")
                handler.close_connection = True
                return

    def _hang(self) -> None:
        with self._changed:
            life = self._life
            self._changed.wait_for(lambda: self._life != life)

    def _say(
        self, handler: BaseHTTPRequestHandler, status: int, answer: object, headers: dict[str, str] | None = None
    ) -> None:
        body = json.dumps(answer).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    def _chunk(self, handler: BaseHTTPRequestHandler, data: bytes) -> None:
        handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        handler.wfile.flush()


def endpoint_slice(name: str, *addresses: str, port: int = 9200, port_name: str = "grpc") -> dict[str, Any]:
    """A slice of the service "geoipd" in "shop"."""
    return {
        "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": "geoipd"}},
        "addressType": "IPv4",
        "ports": [{"name": port_name, "port": port, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [each],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "targetRef": {"kind": "Pod", "namespace": "shop", "name": f"pod-{each}", "uid": f"uid-{each}"},
            }
            for each in addresses
        ],
    }
