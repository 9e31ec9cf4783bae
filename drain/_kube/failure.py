"""What a request to the Kubernetes API can come to, other than an answer: the one place where foreign errors are translated."""

import json
from collections.abc import Mapping
from typing import Any

import urllib3

from drain._core.watching import Input

RESOURCE = "endpointslices.discovery.k8s.io"
_MOST_SAID = 300  # characters of the server's own words


class ApiError(Exception):
    """A request failed, or a watch ended. Its text is for people and holds nothing secret.

    Args:
        what: as the watch's state machine takes it.
        message: what, which value, what to do.
        retry_after: seconds, if the server asked for a pause.
        status: of HTTP; 0: there was no answer, or it is not told.
    """

    def __init__(self, what: Input, message: str, retry_after: float = 0.0, *, status: int = 0) -> None:
        super().__init__(message)
        self.what = what
        self.retry_after = retry_after
        self.status = status


def from_status(
    code: int,
    server: str,
    verb: str,
    namespace: str,
    *,
    said: str = "",
    retry_after: float = 0.0,
    resource: str = RESOURCE,
) -> ApiError:
    """What an HTTP status means, or the code of an ERROR event, which is the same number in another place."""
    said = " ".join(said.split())[:_MOST_SAID]
    aside = f": {said}" if said else ""
    # A version from before a restore of etcd is too large, and would be for a long time: 504, in the API's own words.
    if code == 410 or (code == 504 and "Too large resource version" in said):
        return ApiError(Input.GONE, f"the API server at {server} no longer knows this resourceVersion (410 Gone)")
    if code == 401:
        message = (
            f"the API server did not accept the token (401 Unauthorized) at {server}: it is expired, or of another cluster; "
            "it is read again for each attempt"
        )
    elif code == 403:
        role = (
            "bind a Role with the verbs list and watch on discovery.k8s.io/endpointslices to this ServiceAccount"
            if resource == RESOURCE
            else f"bind a Role with the verb {verb} on it to this user"
        )
        where = f' in namespace "{namespace}"' if namespace else ""
        message = f"may not {verb} {resource}{where} (403 Forbidden): {role}"
    elif code == 404 and resource != RESOURCE:
        message = f"{said or 'there is none'} (404 Not Found), says the API server at {server}"
    elif code == 404:
        message = (
            f"the API server at {server} has no discovery.k8s.io/v1 (404 Not Found): is this a Kubernetes API server?"
        )
    elif code == 429:
        message = f"the API server at {server} has too much to do and asks to wait (429 Too Many Requests){aside}"
    else:
        message = f"the API server at {server} answered {verb} {resource} with status {code}{aside}"
    return ApiError(Input.REFUSED, message, retry_after, status=code)


def from_event(status: Mapping[str, Any], server: str, namespace: str) -> ApiError:
    """What an ERROR event in a watch says."""
    code, details = status.get("code"), status.get("details")
    pause = details.get("retryAfterSeconds") if isinstance(details, dict) else 0
    return from_status(
        code if isinstance(code, int) else 500,
        server,
        "watch",
        namespace,
        said=str(status.get("message") or ""),
        retry_after=_seconds(pause),
    )


def from_answer(
    response: Any, body: bytes, server: str, verb: str, namespace: str, resource: str = RESOURCE
) -> ApiError:
    """What an answer other than 200 says."""
    try:
        said = str(json.loads(body).get("message") or "")
    except (ValueError, AttributeError):
        said = body.decode(errors="replace") if body.isascii() else ""
    pause = _seconds(response.headers.get("Retry-After"))
    return from_status(response.status, server, verb, namespace, said=said, retry_after=pause, resource=resource)


def from_exception(error: BaseException, server: str) -> ApiError:
    """What urllib3, TLS and sockets raise. Their own texts are long, and name objects by address."""
    if isinstance(error, urllib3.exceptions.ProxyError) and error.original_error is not None:
        error = error.original_error
    away = (
        urllib3.exceptions.NewConnectionError,
        urllib3.exceptions.ConnectTimeoutError,
        urllib3.exceptions.NameResolutionError,
    )
    if isinstance(error, away):
        return ApiError(Input.UNREACHABLE, f"cannot reach the API server at {server}: {_reason(error)}")
    if isinstance(error, urllib3.exceptions.SSLError):
        return ApiError(Input.BROKEN, f"no TLS with the API server at {server}: {_reason(error)}")
    return ApiError(Input.BROKEN, f"the connection to the API server at {server} broke: {_reason(error)}")


def _reason(error: BaseException) -> str:
    """The root: "Connection refused"."""
    seen: set[int] = set()
    root: BaseException = error
    while id(root) not in seen:
        seen.add(id(root))
        inner = root.__cause__ or next((each for each in root.args if isinstance(each, BaseException)), None)
        root = inner or root
    if isinstance(root, TimeoutError | urllib3.exceptions.TimeoutError):
        return "timed out"
    if isinstance(root, OSError) and root.strerror:
        return root.strerror
    return str(root) or type(root).__name__


def _seconds(text: object) -> float:
    """Of a Retry-After. The other form, a date, the API server does not send."""
    try:
        return max(0.0, float(str(text or 0)))
    except ValueError:
        return 0.0
