"""Looks at this pod's own endpoint while it drains, and at how long the pod has left. Cheap to import: the rest comes later.

No standing watch: it begins with the drain. Needs list and watch on endpointslices in the pod's namespace; with `get pods` it
also reads `deletionGracePeriodSeconds`, which may be less than the manifest says (`kubectl delete --grace-period`, an eviction).
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from drain._core.own_endpoint import OwnEndpoint, Pod, Standing, View
from drain._kube.access import has_token, in_cluster, mounted
from drain._kube.wire import Interrupt

if TYPE_CHECKING:  # urllib3 takes a while to import, and nobody may ever drain
    from drain._kube.api import Api
    from drain._kube.reflector import Reflector

_CLOCK = 1.0  # seconds: the resolution of an HTTP date
_FOREVER = float("inf")


def own_pod(environ: Mapping[str, str] = os.environ) -> Pod | None:
    """The pod that we are in; None: there is none around us, or nothing to prove it with.

    `DRAIN_POD_NAME` or `POD_NAME` (from the downward API), else the host's name, which is the pod's unless it has `hostNetwork`
    or a `hostname`; `DRAIN_POD_NAMESPACE` or `POD_NAMESPACE`, else what kubelet mounted; `DRAIN_POD_IP` or `POD_IP`.
    """
    directory = mounted(environ)
    if not environ.get("KUBERNETES_SERVICE_HOST") or not has_token(directory):
        return None
    name, namespace = _said(environ, "NAME"), _said(environ, "NAMESPACE")
    if not namespace:
        try:
            namespace = (directory / "namespace").read_text().strip()
        except (OSError, ValueError):
            namespace = ""
    return Pod(namespace or "default", name or socket.gethostname(), bool(name), _said(environ, "IP"))


def look(changed: Callable[[], None]) -> "Look | None":
    """Begin to look at this pod's endpoint. Does not block, raises nothing. None: there is no pod around us.

    `changed` is called whenever the view differs, on a thread of its own; it must not block.
    """
    pod = own_pod()
    return Look(pod, changed) if pod is not None else None


class Look:
    """See `look`. Any thread."""

    def __init__(self, pod: Pod, changed: Callable[[], None]) -> None:
        self._pod, self._changed = pod, changed
        self._lock = threading.Lock()
        self._view = View()
        self._words = ""  # why the view was what it was, by the last answer
        self._interrupt = Interrupt()
        self._reflector: Reflector[OwnEndpoint] | None = None
        self._began = time.monotonic()
        self._stopped = threading.Event()
        self._terminating = threading.Event()  # or stopped
        self._thread = threading.Thread(target=self._run, name="drain-own-endpoint", daemon=True)
        self._thread.start()

    def view(self) -> View:
        """What is known by now."""
        return self._view

    def stop(self) -> None:
        """Look no more. Does not wait: daemon threads end what is asked, a connection being made at its time-out. Idempotent."""
        with self._lock:
            self._stopped.set()
            reflector = self._reflector
        self._terminating.set()
        self._interrupt.set()
        if reflector is not None:
            reflector.stop(wait=False)

    # On its own thread, and the reflector's.

    def _run(self) -> None:
        try:
            # Ours, whatever cluster the process's channels follow.
            from drain._kube.api import Api  # noqa: PLC0415
            from drain._kube.reflector import Reflector  # noqa: PLC0415

            api, namespace = Api(in_cluster()), self._pod.namespace
            reflector = Reflector(api, namespace, None, self._seen, self._failed, mirror=OwnEndpoint(self._pod))
            with self._lock:
                if self._stopped.is_set():
                    return
                self._reflector = reflector
            reflector.start()
        except Exception as error:  # no usable ServiceAccount, or a broken installation: nobody can be asked
            self._failed(str(error) or type(error).__name__)
            return
        self._read_grace(api)
        self._stopped.wait()
        reflector.stop()
        api.close()

    def _seen(self, mirror: OwnEndpoint) -> None:
        view = mirror.view
        if mirror.terminating:
            self._terminating.set()
        self._words = view.why
        self._tell(standing=view.standing, why=view.why)

    def _failed(self, message: str) -> None:
        known, reflector = self._view, self._reflector
        if known.standing is Standing.LEFT:
            return  # and is not coming back while we drain: there is no need to ask again
        if known.standing is Standing.LISTED and reflector is not None and not reflector.denied:
            # Who sends here follows the same API server, and has not learned otherwise either.
            self._tell(why=f"{self._words} when last seen; {message}")
        else:
            self._tell(standing=Standing.UNKNOWN, why=message)

    def _tell(self, **different: Any) -> None:
        with self._lock:  # two threads tell: neither may undo what the other has seen
            view = replace(self._view, **different)
            if self._stopped.is_set() or view == self._view:
                return
            self._view = view
        self._changed()

    def _read_grace(self, api: "Api") -> None:
        """At once, and again when the pod is seen terminating: a drain by hand may come before its deletion."""
        for first in (True, False):
            try:
                pod, date = api.pod(self._pod.namespace, self._pod.name, self._interrupt)
                # Who finds it deleted at first was most likely begun for that: no longer ago than the look, at the least.
                grace = left(pod, date, time.monotonic() - self._began if first else 0.0)
            except Exception:  # may not, or cannot just now, or no sense in it: what is configured counts
                grace = None
            if grace is not None:
                self._tell(grace=grace)
                return
            self._terminating.wait()
            if self._stopped.is_set():
                return


def left(pod: Mapping[str, Any], date: str, since: float = 0.0) -> float | None:
    """Seconds until the pod is killed; None: nobody is deleting it.

    The node's clock may be wrong, so the API server's counts, as the answer's Date tells it. Within its resolution what counts
    is `since`: for how many seconds, by our own clock, it has been deleted at least. A grace that is none is not known.
    Raises ValueError for a time that is none.
    """
    meta = pod.get("metadata")
    if not isinstance(meta, Mapping):
        return None
    grace, at = meta.get("deletionGracePeriodSeconds"), meta.get("deletionTimestamp")
    if not isinstance(grace, int | float) or not 0 <= grace < _FOREVER or not at:
        return None
    from email.utils import parsedate_to_datetime  # noqa: PLC0415

    remaining = float(grace)
    if date:
        remaining = (_aware(datetime.fromisoformat(str(at))) - _aware(parsedate_to_datetime(date))).total_seconds()
    if remaining >= grace - 2 * _CLOCK:
        # Both times are rounded down: two seconds apart, more than one has passed for certain.
        return max(0.0, min(grace - min(since, 2 * _CLOCK), remaining + _CLOCK))
    return max(0.0, remaining - _CLOCK)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)  # neither says another zone


def _said(environ: Mapping[str, str], what: str) -> str:
    return environ.get(f"DRAIN_POD_{what}") or environ.get(f"POD_{what}") or ""
