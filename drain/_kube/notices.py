"""Kubernetes Events on our own pod: what `kubectl describe pod` and `drain report` show of a drain. For one drain, by one thread.

Needs `create` on events in its namespace; where that is not allowed, nobody is told, and nobody waits. The pod's uid, without
which `kubectl describe` does not find an Event, is in its token's claims (KEP-1205): no permission is needed to read it.
"""

import base64
import contextlib
import json
import os
import queue
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from drain._core.own_endpoint import Pod
from drain._kube.access import in_cluster, mounted
from drain._kube.own_endpoint import own_pod
from drain._kube.wire import Interrupt

if TYPE_CHECKING:  # urllib3 takes a while to import, and nobody may ever drain
    from drain._kube.api import Api

COMPONENT = "grpc-drain"
_MOST = 1024  # characters of an Event's message: the API server refuses more
_FORBIDDEN = 403


def notices() -> "Notices | None":
    """Begin. Does not block, raises nothing. None: there is no pod around us."""
    pod = own_pod()
    return Notices(pod) if pod is not None else None


class Notices:
    """Tells them one after the other. `tell` and `end` from any thread."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._letters: queue.SimpleQueue[tuple[str, str, str] | None] = queue.SimpleQueue()
        self._interrupt = Interrupt()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drain-notices", daemon=True)
        self._thread.start()

    def tell(self, kind: str, reason: str, message: str) -> None:
        """`kind`: "Normal" or "Warning"; `reason`: one word in CamelCase. Does not block."""
        self._letters.put((kind, reason, message))

    def end(self, within: float) -> None:
        """Wait until what was told is out, so many seconds at most; then no more is. Idempotent."""
        self._letters.put(None)
        self._over.wait(within)
        self._interrupt.set()

    # On its own thread.

    def _run(self) -> None:
        try:
            self._deliver()
        except Exception as error:  # no usable ServiceAccount, a broken installation, an answer that nobody foresaw
            _say(str(error) or type(error).__name__)
        finally:
            self._over.set()

    def _deliver(self) -> None:
        from drain._kube.api import Api  # noqa: PLC0415
        from drain._kube.failure import ApiError  # noqa: PLC0415

        api, uid = Api(in_cluster()), own_uid(self._pod)
        try:
            while (letter := self._letters.get()) is not None:
                try:
                    _post(api, self._pod, uid, letter, self._interrupt)
                except ApiError as error:
                    if error.status == _FORBIDDEN:  # so will the others be
                        _say(str(error))
                        return
                    _say(f"{letter[1]}: {error}")
        finally:
            api.close()


def _post(api: "Api", pod: Pod, uid: str, letter: tuple[str, str, str], interrupt: Interrupt) -> None:
    from drain._kube.api import About  # noqa: PLC0415

    kind, reason, message = letter
    now = datetime.now(UTC)
    body = {
        "apiVersion": "v1",
        "kind": "Event",
        # As client-go's recorder calls them.
        "metadata": {"name": f"{pod.name}.{time.time_ns():x}{os.getpid() & 0xFFFF:04x}", "namespace": pod.namespace},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": pod.namespace, "name": pod.name}
        | ({"uid": uid} if uid else {}),
        "type": kind,
        "reason": reason,
        "message": message if len(message) <= _MOST else message[: _MOST - 1] + "…",
        "firstTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lastTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "count": 1,
        "action": "Drain",
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": pod.name,
    }
    path = f"/api/v1/namespaces/{pod.namespace}/events"
    api.ask("POST", About("create", "events", pod.namespace), path, body, interrupt=interrupt)


def own_uid(pod: Pod) -> str:
    """This pod's, from what kubelet bound its token to; empty: not known, or it is another's."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        token = (mounted() / "token").read_text(encoding="ascii").strip()
        claims = token.split(".")[1]
        bound: Any = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["kubernetes.io"]["pod"]
        if bound["name"] == pod.name:
            return str(bound["uid"])
    return ""


def _say(why: str) -> None:
    import logging  # noqa: PLC0415

    logging.getLogger("drain").debug("drain.event_not_told why=%r", why)
