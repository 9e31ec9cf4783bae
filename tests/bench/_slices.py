"""EndpointSlices of the client's benches, and a connection to write them with."""

import http.client
import json
import ssl
import time
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PORT = 50_051
TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Written:
    """When a write was asked for and when the API server's answer came, on the machine's monotonic clock."""

    asked: float
    answered: float


@dataclass(frozen=True, slots=True)
class Slice:
    """One EndpointSlice with ready endpoints."""

    service: str
    number: int
    addresses: tuple[str, ...]

    def body(self, namespace: str) -> dict[str, Any]:
        """As the API server takes it."""
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{self.service}-{self.number}",
                "namespace": namespace,
                "labels": {"kubernetes.io/service-name": self.service},
            },
            "addressType": "IPv4",
            "ports": [{"name": "grpc", "port": PORT, "protocol": "TCP"}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in self.addresses],
        }


def sliced(service: str, addresses: Iterable[str], sizes: Iterable[int]) -> list[Slice]:
    """Slices of these sizes."""
    rest = iter(addresses)
    return [Slice(service, number, tuple(next(rest) for _ in range(size))) for number, size in enumerate(sizes)]


class Writer:
    """Writes slices through one open connection, and tells when the API server answered. One thread.

    Args:
        api: the API server's URL. authority: file with its CA. certificate, key: files of who may write.
    """

    def __init__(self, api: str, authority: Path, certificate: Path, key: Path, namespace: str) -> None:
        host = urllib.parse.urlsplit(api)
        assert host.hostname is not None
        context = ssl.create_default_context(cafile=str(authority))
        context.load_cert_chain(certificate, key)
        self._server = http.client.HTTPSConnection(host.hostname, host.port, timeout=TIMEOUT, context=context)
        self._namespace = namespace
        self._path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        self._there: set[str] = set()

    def write(self, made: Slice) -> Written:
        """Make it so."""
        body = made.body(self._namespace)
        name = body["metadata"]["name"]
        if name in self._there:
            return self._ask("PUT", f"{self._path}/{name}", body)
        self._there.add(name)
        return self._ask("POST", self._path, body)

    def delete(self, made: Slice) -> Written:
        """Take it away."""
        self._there.discard(name := f"{made.service}-{made.number}")
        return self._ask("DELETE", f"{self._path}/{name}")

    def close(self) -> None:
        """Hang up."""
        self._server.close()

    def _ask(self, verb: str, path: str, body: dict[str, Any] | None = None) -> Written:
        text = None if body is None else json.dumps(body)
        asked = time.monotonic()
        self._server.request(verb, path, text, {"Content-Type": "application/json"})
        answer = self._server.getresponse()
        answered = time.monotonic()
        said = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{verb} {path}: {answer.status} {said[:300]!r}")
        return Written(asked, answered)
