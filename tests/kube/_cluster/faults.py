"""What a client asks of the API server, and what can go wrong with the answer; for `proxy`."""

import json
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked. `verb` is RBAC's: list, watch, get, or the method in lower case."""

    verb: str
    path: str
    query: dict[str, str]
    token: str | None
    at: float

    @property
    def service(self) -> str | None:
        """Whose slices are asked for."""
        selector = self.query.get("labelSelector", "")
        return selector.partition("kubernetes.io/service-name=")[2].partition(",")[0] or None


@dataclass(frozen=True, slots=True)
class Answer:
    """In the server's place: a status as Kubernetes words it."""

    status: int
    reason: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cut:
    """The server's answer, of which only so many bytes arrive; then the connection ends. `clean`: the body ends in good order."""

    after: int
    clean: bool = False


@dataclass(frozen=True, slots=True)
class Gone:
    """A watch that begins well, and whose first event is the 410 of a resource version that is too old."""


@dataclass(frozen=True, slots=True)
class Silent:
    """The request is taken and nothing is ever answered."""


Fault = Answer | Cut | Gone | Silent


def request(method: str, target: str, headers: Any) -> Request:
    parts = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    verb = method.lower()
    if verb == "get" and parts.path.endswith("endpointslices"):
        verb = "watch" if query.get("watch", "").lower() in ("true", "1") else "list"
    token = (headers.get("authorization") or "").partition("Bearer ")[2] or None
    return Request(verb, parts.path, query, token, time.monotonic())


def head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join([*lines, "transfer-encoding: chunked", "", ""])).encode("latin-1")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def status(answer: Answer) -> bytes:
    text = json.dumps(
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": f"the proxy says {answer.status}",
            "reason": answer.reason,
            "code": answer.status,
        }
    ).encode()
    return head(answer.status, {"content-type": "application/json", **answer.headers}) + chunk(text) + chunk(b"")


GONE = (
    json.dumps(
        {
            "type": "ERROR",
            "object": {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Failure",
                "message": "too old resource version: 1 (2)",
                "reason": "Expired",
                "code": 410,
            },
        }
    ).encode()
    + b"\n"
)
