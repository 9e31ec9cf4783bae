"""The EndpointSlices of this pod's namespace, from the API server: one list, then what changes. Standard library only.

`drain._kube` rests on urllib3, which takes longer to import than a hook should. Everything here is bounded: each connection and
read by a time, each answer by a size. Nothing secret is ever in a text.
"""

import http.client
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from typing import Any

CONNECT_TIMEOUT = 3.0  # seconds, for TCP and TLS each
LIST_TIMEOUT = 10.0  # seconds without a byte of it
WATCH = 10  # seconds that the server keeps a watch open: one that says nothing for longer is dead
_SLACK = 2.0
_MOST_LIST = 64 * 1024 * 1024  # bytes: the hook has its share of the container's memory limit
_MOST_EVENT = 16 * 1024 * 1024  # etcd takes 1.5 MiB
_MOST_TOKEN = 64 * 1024
_MOST_SAID = 200  # characters of the server's own words

Json = dict[str, Any]


class CannotLookError(Exception):
    """No answer, or a refusal; one line for people."""


class GoneError(CannotLookError):
    """The resourceVersion is too old: list again."""


class SliceApi:
    """The API server, as this pod's ServiceAccount. For one thread.

    Args:
        namespace: whose slices. environ: KUBERNETES_SERVICE_HOST and _PORT, which kubelet sets. folder: what kubelet mounts.

    Raises CannotLookError where there is no API server to be known.
    """

    def __init__(self, namespace: str, environ: Mapping[str, str], folder: str) -> None:
        self._host = environ.get("KUBERNETES_SERVICE_HOST", "")
        if not self._host:
            raise CannotLookError("KUBERNETES_SERVICE_HOST is not set: this is no pod")
        try:
            self._port = int(environ.get("KUBERNETES_SERVICE_PORT") or 443)
        except ValueError:
            raise CannotLookError("KUBERNETES_SERVICE_PORT is no number") from None
        self._namespace, self._folder = namespace, folder
        self._path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        self._connection: http.client.HTTPSConnection | None = None

    def list(self) -> tuple[list[Json], str]:
        """All slices, and the resourceVersion to watch from. Raises CannotLookError."""
        with _Told():
            response = self._get("list", self._path, LIST_TIMEOUT)
            body = response.read(_MOST_LIST + 1)
            if len(body) > _MOST_LIST:
                raise CannotLookError(f"the list is longer than {_MOST_LIST >> 20} MiB")
            answer = json.loads(body)
            items, version = answer.get("items") or [], (answer.get("metadata") or {}).get("resourceVersion")
            if not isinstance(items, list):
                raise ValueError("not a list")
            return items, str(version or "")

    def watch(self, version: str) -> Iterator[tuple[str, Json]]:
        """What changes after that version: (type, object), until the server closes it in good order, which it does after WATCH.

        Raises GoneError, CannotLookError.
        """
        query = f"watch=1&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={WATCH}"
        with _Told():
            response = self._get("watch", f"{self._path}?{query}", WATCH + _SLACK)
            while line := response.readline(_MOST_EVENT + 1):
                if len(line) > _MOST_EVENT:
                    raise CannotLookError(f"an event is longer than {_MOST_EVENT >> 20} MiB")
                if not line.endswith(b"\n"):
                    return  # cut amid: the next list has it
                event = json.loads(line)
                kind, raw = str(event["type"]), event["object"]
                if kind == "ERROR":
                    raise _refused(int(raw.get("code") or 500), str(raw.get("message") or ""), "watch", self._namespace)
                yield kind, raw

    def close(self) -> None:
        """Hang up. The next request connects anew. Idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _get(self, verb: str, path: str, timeout: float) -> http.client.HTTPResponse:
        if self._connection is None:
            with open(
                os.path.join(self._folder, "ca.crt"), encoding="ascii"
            ) as file:  # ssl's own error would not name it
                context = ssl.create_default_context(cadata=file.read())
            self._connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=CONNECT_TIMEOUT, context=context
            )
            self._connection.connect()
        assert self._connection.sock is not None
        self._connection.sock.settimeout(timeout)
        headers = {"Accept": "application/json", "User-Agent": "grpc-drain", "Authorization": f"Bearer {self._token()}"}
        self._connection.request("GET", path, headers=headers)
        response = self._connection.getresponse()
        if response.status == 200:
            return response
        body = response.read(_MOST_TOKEN)
        try:
            said = str(json.loads(body).get("message") or "")
        except (ValueError, AttributeError):
            said = ""
        raise _refused(response.status, said, verb, self._namespace)

    def _token(self) -> str:
        """Read for each request: kubelet replaces it."""
        path = os.path.join(self._folder, "token")
        with open(path, "rb") as file:
            token = file.read(_MOST_TOKEN).strip()
        if not token.isascii() or not token or any(each <= 32 or each == 127 for each in token):
            raise CannotLookError(f"{path} holds no token")  # and must not be quoted by who refuses to send it
        return token.decode()


class _Told:
    """Others' errors as ours, in one line."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None or isinstance(error, CannotLookError | GeneratorExit) or not isinstance(error, Exception):
            return
        if isinstance(error, TimeoutError):
            text = "the API server does not answer in time"
        elif isinstance(error, ssl.SSLError):
            text = f"no TLS with the API server: {getattr(error, 'verify_message', '') or error.reason or 'it hung up'}"
        elif isinstance(error, OSError) and error.filename is not None:
            text = f"{error.filename}: {error.strerror}. Is automountServiceAccountToken off?"
        elif isinstance(error, OSError):
            text = f"the API server cannot be reached: {error.strerror or type(error).__name__}"
        elif isinstance(error, http.client.HTTPException):
            text = f"the connection to the API server broke: {type(error).__name__}"
        else:
            text = f"the API server's answer cannot be understood: {type(error).__name__}"
        raise CannotLookError(text) from error


def _refused(status: int, said: str, verb: str, namespace: str) -> CannotLookError:
    if status == 410:
        return GoneError("the resourceVersion is too old (410 Gone)")
    if status == 403:
        return CannotLookError(
            f'may not {verb} endpointslices in namespace "{namespace}" (403 Forbidden): bind a Role with the verbs list and '
            "watch on discovery.k8s.io/endpointslices to this ServiceAccount"
        )
    if status == 401:
        return CannotLookError("the API server did not accept the token (401 Unauthorized)")
    aside = f": {' '.join(said.split())[:_MOST_SAID]}" if said else ""
    return CannotLookError(f"the API server answered {verb} with status {status}{aside}")
