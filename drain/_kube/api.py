"""Requests to the Kubernetes API server: EndpointSlices as raw JSON, and for commands (objects.py) whatever they ask for.

Decoding into the client's classes takes sixteen times as long (measured: 166 ms, 10 ms for 5,000 endpoints). urllib3
does the work (TLS, client certificates, proxies): in a pod by itself, elsewhere as the kubernetes package configures it. That
package's own watch does not: it reconnects without back-off, asks for no bookmarks and hangs on a dead connection.
"""

import json
import os
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import urllib3

from drain._core.watching import SILENCE, Input
from drain._kube import access, failure, pool
from drain._kube.access import Access, Loader
from drain._kube.door import Door
from drain._kube.failure import ApiError
from drain._kube.watch import Watch
from drain._kube.wire import Interrupt
from drain.errors import ConfigurationError

CONNECT_TIMEOUT = 5.0  # seconds, for each address of the server and for TLS
LIST_TIMEOUT = 60.0  # seconds: the API server itself gives up after 60
_MOST_BODY = 64 * 1024  # bytes of an error that are read

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class About:
    """A request in the words of its errors: the verb of RBAC, the resource ("deployments.apps"), the namespace."""

    verb: str
    resource: str
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    body: object
    kind: str
    resource: str


_GET = _Request("GET", None, "", failure.RESOURCE)


class Api:
    """One API server, as one user. Thread safe. Connections are made when they are needed."""

    _shared: "Api | None" = None
    _loader: Loader = staticmethod(access.automatic)
    _lock = threading.Lock()

    @classmethod
    def shared(cls) -> "Api":
        """This process's own, as configured. With a kubeconfig: imports kubernetes, may run a plugin, 0.3 s and more at first.

        Raises ConfigurationError if nothing says where the API server is.
        """
        with cls._lock:
            if cls._shared is None:
                cls._shared = cls(cls._loader())
            return cls._shared

    @classmethod
    def loaded(cls) -> bool:
        """Whether `shared` answers at once."""
        return cls._shared is not None

    @classmethod
    def use(cls, loader: Loader) -> None:
        """From now on `shared` comes from there. What runs already goes on with the one it has."""
        with cls._lock:
            cls._loader, cls._shared = staticmethod(loader), None

    def __init__(self, way: Access) -> None:
        parts = urlsplit(way.configuration.host)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(
                f"Kubernetes API server {_bare(way.configuration.host)!r}: must be https://HOST:PORT"
            )
        self._renewing = threading.Lock()
        self._way = way
        self._pool = pool.made(way.configuration)
        self.namespace = way.namespace
        self.server = _bare(way.configuration.host)
        proxy = urlsplit(self._pool.proxy.url) if getattr(self._pool, "proxy", None) else parts
        self.door = Door(proxy.hostname or parts.hostname, proxy.port or (443 if proxy.scheme == "https" else 80))

    @property
    def way(self) -> Access:
        """How it is reached, as of now."""
        return self._way

    def list(self, namespace: str, service: str | None, interrupt: Interrupt) -> Json:
        """All EndpointSlices of a service; of all services where it is None. Raises ApiError."""
        query = urlencode(_selector(service))
        answer, _ = self._read("list", namespace, f"{_slices_of(namespace)}?{query}", interrupt)
        if not isinstance(answer.get("items") or [], list):
            raise ApiError(Input.BROKEN, f"the API server at {self.server} answered a list with what is none")
        return answer

    def pod(self, namespace: str, name: str, interrupt: Interrupt) -> tuple[Json, str]:
        """A pod, and the time that the API server says it is (an HTTP date). Raises ApiError."""
        path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(name)}"
        return self._read("get", namespace, path, interrupt)

    def ask(
        self,
        method: str,
        about: About,
        path: str,
        body: object = None,
        kind: str = "application/json",
        interrupt: Interrupt | None = None,
    ) -> Json:
        """One request to its end: the answer's object. `body` becomes JSON, and is called `kind`. Raises ApiError."""
        request = _Request(method, body, kind, about.resource)
        return self._read(about.verb, about.namespace, path, interrupt or Interrupt(), request)[0]

    def _read(
        self, verb: str, namespace: str, path: str, interrupt: Interrupt, request: _Request | None = None
    ) -> tuple[Json, str]:
        deadline = time.monotonic() + LIST_TIMEOUT
        response = self._send(verb, namespace, path, interrupt, request or _GET, read_timeout=LIST_TIMEOUT / 2)
        try:
            pieces = []
            for piece in response.stream(_MOST_BODY):
                pieces.append(piece)
                if time.monotonic() > deadline:
                    raise ApiError(
                        Input.BROKEN, f"the API server at {self.server} took over {LIST_TIMEOUT:g} s for an answer"
                    )
            answer = json.loads(b"".join(pieces))
            if not isinstance(answer, dict):
                raise ValueError("not an object")
            response.release_conn()  # the watch goes over the same connection
            return answer, response.headers.get("Date") or ""
        except ValueError as error:
            raise ApiError(
                Input.BROKEN, f"the API server at {self.server} answered {verb} with what is no JSON: {error}"
            ) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise failure.from_exception(error, self.server) from error
        finally:
            interrupt.release()
            if response.connection is not None:  # not given back: its state is not known
                response.close()

    def watch(
        self,
        namespace: str,
        service: str | None,
        version: str,
        seconds: int,
        interrupt: Interrupt,
        *,
        silence: float = SILENCE,
    ) -> Watch:
        """What changes after `version`, for as many seconds. Returns when it is open. Raises ApiError."""
        path = f"{_slices_of(namespace)}?{urlencode(_selector(service))}"
        return self.watch_path(path, namespace, version, seconds, interrupt, silence=silence)

    def watch_path(
        self,
        path: str,
        namespace: str,
        version: str,
        seconds: int,
        interrupt: Interrupt,
        *,
        silence: float = SILENCE,
    ) -> Watch:
        """The same of what a path with its query lists."""
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        path = f"{path}{'' if path.endswith('?') else '&'}{urlencode(query)}"
        response = self._send("watch", namespace, path, interrupt, _GET, read_timeout=silence)
        return Watch(response, self.server, namespace, interrupt, silence)

    def close(self) -> None:
        """Close what is idle. What is in use is closed when it is given back."""
        pool.close(self._pool)

    def _send(
        self, verb: str, namespace: str, path: str, interrupt: Interrupt, request: _Request, *, read_timeout: float
    ) -> Any:
        proof = self._proof()
        content = {} if request.body is None else {"Content-Type": request.kind}
        try:
            with pool.asking(interrupt):
                response = self._pool.request(
                    request.method,
                    self._way.configuration.host.rstrip("/") + path,
                    body=None if request.body is None else json.dumps(request.body).encode(),
                    headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "grpc-drain"}
                    | content
                    | proof,
                    timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=read_timeout),
                    preload_content=False,
                    retries=False,
                    redirect=False,
                )
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            interrupt.release()
            raise failure.from_exception(error, self.server) from error
        if 200 <= response.status < 300:
            return response
        try:
            body = response.read(_MOST_BODY)
        except (urllib3.exceptions.HTTPError, OSError):
            body = b""
        finally:
            response.close()
            interrupt.release()
        refused = failure.from_answer(response, body, self.server, verb, namespace, request.resource)
        if response.status == 401 and self._renewed(proof):
            raise ApiError(Input.RENEWED, str(refused))
        raise refused

    def _proof(self) -> dict[str, str]:
        try:
            return self._way.headers()
        except Exception as error:  # the user's hook, or a plugin: anything
            raise ApiError(
                Input.BROKEN, f"no credentials for the API server at {self.server}: {_kind(error)}"
            ) from error

    def _renewed(self, refused: dict[str, str]) -> bool:
        """Whether there is something newer than what was refused."""
        with self._renewing:
            if self._way.reloaded is not None and self._proof() == refused:
                try:
                    way = self._way.reloaded()
                except ConfigurationError:
                    return False  # as it is being written
                if way.configuration.host == self._way.configuration.host:
                    self._way, self._pool = way, pool.made(way.configuration)
            return self._proof() != refused


def configure(
    source: Any = None,
    *,
    context: str | None = None,
    namespace: str | None = None,
    service_account: str | os.PathLike[str] | None = None,
) -> None:
    """Say where the API server is; for targets that are used from now on. Thread safe.

    Args:
        source: a kubeconfig's path, or a `kubernetes.client.Configuration`. None: in the cluster, else by kubeconfig.
        context: of the kubeconfig; None: its current one.
        namespace: of targets that name none; None: the ServiceAccount's, the kubeconfig context's, or "default".
        service_account: a directory with token, ca.crt and namespace, for in-cluster access; None: kubelet's.
    """
    Api.use(access.chosen(source, context, namespace, service_account))


def _slices_of(namespace: str) -> str:
    return f"/apis/discovery.k8s.io/v1/namespaces/{quote(namespace)}/endpointslices"


def _selector(service: str | None) -> dict[str, str]:
    return {} if service is None else {"labelSelector": f"kubernetes.io/service-name={service}"}


def _bare(host: str) -> str:
    """Without a user's name and password."""
    parts = urlsplit(host)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], path=parts.path.rstrip("/")).geturl()


def _kind(error: BaseException) -> str:
    """What kind of error; its text might hold a secret."""
    return type(error).__name__


def _forget_in_child() -> None:
    """A forked child must not use its parent's connections, nor wait for a lock that nobody will release."""
    Api._shared, Api._lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_in_child)
