"""A command in a container of a pod, and the lines it prints: `kubectl exec`, by the kubernetes package. For commands alone."""

from collections.abc import Iterator, Sequence
from typing import Any

from drain._kube.access import Access, configuration_of
from drain._kube.wire import Interrupt

_WAIT = 0.5  # seconds of one wait, after which `interrupt` is looked at
_HANDSHAKE = 10.0  # seconds
_MOST_SAID = 200  # characters of an error


class InsideError(Exception):
    """It could not be run, or has ended badly; the text says why."""


def lines(
    way: Access, namespace: str, pod: str, container: str | None, command: Sequence[str], interrupt: Interrupt
) -> Iterator[str]:
    """Each line as it comes, until the command or `interrupt` ends it. Needs create and get on pods/exec. Raises InsideError."""
    import kubernetes.client  # noqa: PLC0415 - see access.py
    from kubernetes.stream import stream  # noqa: PLC0415

    api = kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(configuration_of(way)))
    where = {} if container is None else {"container": container}
    try:
        talk = stream(
            api.connect_get_namespaced_pod_exec,
            pod,
            namespace,
            command=list(command),
            stdin=False,
            stdout=True,
            stderr=True,
            tty=False,
            _preload_content=False,
            _request_timeout=_HANDSHAKE,
            **where,
        )
    except Exception as error:  # of websockets, of HTTP, of TLS: the package lets them all through
        raise InsideError(_words(error)) from error
    try:
        yield from _read(talk, interrupt)
    finally:
        talk.close()


def _read(talk: Any, interrupt: Interrupt) -> Iterator[str]:
    said = ""
    while not interrupt:
        try:
            if line := talk.readline_stdout(timeout=_WAIT):
                yield line
                continue
            said = (said + talk.read_stderr(timeout=0))[-_MOST_SAID:]
            if not talk.is_open():
                break
        except Exception as error:  # the same
            raise InsideError(_words(error)) from error
    else:
        return
    code = talk.returncode
    if code:
        raise InsideError(" ".join(said.split()) or f"ended with exit code {code}")


def _words(error: Exception) -> str:
    """Its first line: what they are made of goes on for pages."""
    text = str(getattr(error, "reason", None) or error).strip() or type(error).__name__
    return text.splitlines()[0][:_MOST_SAID]
