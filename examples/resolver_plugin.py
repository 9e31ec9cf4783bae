"""A resolver of your own: any Python code can tell gRPC channels where a service lives.

The scheme `registry` asks a small HTTP registry which addresses there are: `registry://127.0.0.1:8500/geoipd`. Run it as
it stands:

    python examples/resolver_plugin.py

It starts two servers and such a registry, calls through a channel, then takes one server out of the registry.
"""

import drain  # before grpc  # isort: skip
import http.server
import json
import threading
import urllib.request
from collections import Counter
from concurrent import futures

import grpc

from drain.resolver import Endpoint, Listener, Target

METHOD = "/example.Who/Who"


class Registry:
    """Asks `http://AUTHORITY/ENDPOINT` for a JSON list of addresses, five times a second."""

    def __init__(self, target: Target) -> None:
        if not target.authority:
            raise target.error("name the registry: registry://HOST:PORT/SERVICE")
        self._url = f"http://{target.authority}/{target.endpoint}"
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, listener: Listener) -> None:
        """Begin to watch. Must not block, so a thread does it."""
        self._thread = threading.Thread(target=self._watch, args=(listener,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching, within a second."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(1)

    def _watch(self, listener: Listener) -> None:
        while not self._stopped.is_set():
            try:
                with urllib.request.urlopen(self._url, timeout=2) as response:
                    listed = [address.rsplit(":", 1) for address in json.load(response)]
                listener.endpoints([Endpoint(address=host, port=int(port)) for host, port in listed])
            except (OSError, ValueError) as error:
                listener.failed(f"registry {self._url}: {error}")  # the last endpoints stay in use
            self._stopped.wait(0.2)


def main() -> None:
    """The example, in one process."""
    drain.resolver.register("registry", Registry)
    servers = {name: serve(name) for name in ("a", "b")}
    addresses = [f"127.0.0.1:{port}" for _, port in servers.values()]
    registry = http.server.ThreadingHTTPServer(("127.0.0.1", 0), answering(addresses))
    threading.Thread(target=registry.serve_forever, daemon=True).start()

    with drain.insecure_channel(f"registry://127.0.0.1:{registry.server_port}/who") as channel:
        who = channel.unary_unary(METHOD)
        show("two servers", who)
        addresses.pop()
        with drain.resolver.watch(f"registry://127.0.0.1:{registry.server_port}/who") as watching:
            next(endpoints for endpoints in watching if len(endpoints) == 1)
        show("one server", who)

    registry.shutdown()
    for server, _ in servers.values():
        server.stop(0).wait()


def show(what: str, who: "grpc.UnaryUnaryMultiCallable[bytes, bytes]") -> None:
    """Twenty calls, and who answered."""
    answers = Counter(who(b"", timeout=5, wait_for_ready=True).decode() for _ in range(20))
    print(f"{what}: " + ", ".join(f"{name} answered {calls}" for name, calls in sorted(answers.items())), flush=True)


def serve(name: str) -> "tuple[grpc.Server, int]":
    """A server that answers with its name, and its port."""
    server = drain.server(futures.ThreadPoolExecutor(2))
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: name.encode())
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("example.Who", {"Who": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def answering(addresses: list[str]) -> type[http.server.BaseHTTPRequestHandler]:
    """The registry: a JSON list of the addresses there are at the moment."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(addresses).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


if __name__ == "__main__":
    main()
