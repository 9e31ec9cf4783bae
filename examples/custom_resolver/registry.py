"""A resolver of your own: any Python code can tell gRPC channels where a service lives.

The scheme `registry` asks a small HTTP registry which addresses there are: `registry://127.0.0.1:8500/geoipd`. After

    drain.resolver.register("registry", Registry)

every channel of this process may have such a target.
"""

import drain  # before grpc  # isort: skip # noqa: F401
import json
import threading
import urllib.request

from drain.resolver import Endpoint, Listener, Target

INTERVAL = 0.2  # seconds between questions


class Registry:
    """Asks `http://AUTHORITY/ENDPOINT` for a JSON list such as ["10.0.0.1:50051", "[fd00::1]:50051"], again and again."""

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
                listener.endpoints([Endpoint(address=host.strip("[]"), port=int(port)) for host, port in listed])
            except Exception as error:  # whatever is wrong with one answer, the next one may be good
                listener.failed(f"registry {self._url}: {error}")  # the last endpoints stay in use
            self._stopped.wait(INTERVAL)
