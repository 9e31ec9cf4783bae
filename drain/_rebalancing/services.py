"""The services that have this pod, followed slice by slice: what a rebalancing server does whose policy names no target.

Which they are is asked once, with list requests that come ever more seldom until the pod is in some service; one that selects the
pod later is found at its next start only. Then there is one watch for each, shared with any channel to the same service.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from typing import TypeAlias

from drain import events
from drain._core.own_endpoint import OwnEndpoint, Pod
from drain._core.slices import Slices
from drain._core.target import KubernetesTarget
from drain._kube.own_endpoint import own_pod
from drain._kube.wire import Interrupt
from drain._resolvers.kubernetes import KubernetesResolver
from drain.errors import DrainError

Tell: TypeAlias = Callable[[events.Event], object]

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between two list requests: a namespace may be large
_STOP = 1.0
_OFF = "connections stay until max_connection_age"


class Services:
    """See `drain._rebalancing.sources.Sources`."""

    def __init__(self, changed: Callable[[], None], tell: Tell) -> None:
        self._changed, self._tell = changed, tell
        self._interrupt = Interrupt()
        self._lock = threading.Lock()
        self._services: dict[str, _Service] = {}
        self._finding: threading.Thread | None = None
        self._pod = own_pod(os.environ)
        if self._pod is None:
            reason = "RebalancePolicy.target is None, and there is no pod around us whose services could be followed"
            tell(
                events.FallbackTaken(
                    "rebalancing", _OFF, reason, 'name it: RebalancePolicy(target="kubernetes:///NAME:PORT")'
                )
            )
            return
        self._finding = threading.Thread(target=self._find, args=(self._pod,), name="drain-rebalance-find", daemon=True)
        self._finding.start()

    def known(self) -> Iterator[tuple[str, frozenset[Hashable]]]:
        """By the services' names."""
        with self._lock:
            services = list(self._services.items())
        for name, service in services:
            if service.ready is not None:
                yield name, frozenset(each for each in service.ready if not self._is_ours(each))

    def stop(self) -> None:
        """End."""
        self._interrupt.set()
        if self._finding is not None:
            self._finding.join(_STOP)
        with self._lock:
            services, self._services = list(self._services.values()), {}
        for each in services:
            each.stop()

    def _is_ours(self, endpoint: tuple[str, str]) -> bool:
        name, address = endpoint
        pod = self._pod
        if pod is None:
            return False
        return name in (f"pod/{pod.namespace}/{pod.name}", f"pod//{pod.name}") or (bool(pod.ip) and address == pod.ip)

    # On the thread that finds.

    def _find(self, pod: Pod) -> None:
        pause, failure = FIRST_PAUSE, ""
        while not self._interrupt:
            try:
                found = self._ask(pod)
            except Exception as error:  # of the API server, its configuration, or a shape that nobody foresaw
                known = isinstance(error, DrainError) or type(error).__name__ == "ApiError"
                said = str(error) if known else f"{type(error).__name__}: {error}"
                if said != failure and not self._interrupt:
                    failure = said
                    self._tell(
                        events.WatchFailed(f"services of pod {pod.namespace}/{pod.name}", said, 0, time.monotonic())
                    )
            else:
                if found:
                    self._follow(pod, found)
                    return
            # Only random, never in step: thousands of pods may start at once.
            self._interrupt.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(2 * pause, LONGEST_PAUSE)

    def _ask(self, pod: Pod) -> frozenset[str]:
        from drain._kube.api import Api  # noqa: PLC0415 - imports urllib3

        answer = Api.shared().list(pod.namespace, None, self._interrupt)
        return OwnEndpoint(pod).replaced(answer.get("items") or ()).services

    def _follow(self, pod: Pod, names: frozenset[str]) -> None:
        with self._lock:
            if self._interrupt:
                return
            for name in sorted(names):
                self._services[name] = service = _Service(pod.namespace, name, self._changed, self._tell)
                service.begin()


class _Service(KubernetesResolver):
    """A service's ready endpoints, whatever their ports."""

    def __init__(self, namespace: str, name: str, changed: Callable[[], None], tell: Tell) -> None:
        super().__init__(KubernetesTarget(namespace, name, None))
        self._called = f"kubernetes:///{name}.{namespace}"
        self._changed_, self._say = changed, tell
        self.ready: frozenset[tuple[str, str]] | None = None

    def begin(self) -> None:
        """Follow."""
        self.start(self)

    def _tell_slices(self, slices: Slices) -> None:
        if slices:  # a service that was deleted is no news
            self._told_failure = None
            self.ready = slices.ready()
            self._changed_()

    # Its own listener: what is wrong is said, and the last endpoints stay.

    def endpoints(self, endpoints: object) -> None: ...

    def failed(self, message: str) -> None:
        self._say(events.WatchFailed(self._called, message, len(self.ready or ()), time.monotonic()))
