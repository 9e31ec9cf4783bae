"""A workload's pods while something is done to it: when each was made, ready, told to leave, and how its containers ended."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from drain._demo.results import Span
from drain._doctor.fields import get, mapping, mappings, text, whole
from drain._kube.failure import ApiError
from drain._kube.objects import KINDS, Objects

KILLED = 137  # 128 + SIGKILL
_PAUSE = 0.5  # seconds before a watch that broke is begun again


@dataclass(slots=True)
class Pod:
    """One pod. Times are `time.monotonic()`; of what was so when the watch began, that moment.

    Attributes:
        name: in full. short: what the report calls it.
        steps: (when, "starting" | "serving" | "leaving" | "killed" | "gone"), in order.
        exit_codes: of its containers, as far as they have ended.
        restarts: of its containers.
    """

    name: str
    short: str
    steps: list[tuple[float, str]] = field(default_factory=list)
    exit_codes: dict[str, int] = field(default_factory=dict)
    restarts: int = 0

    @property
    def phase(self) -> str:
        """The last step."""
        return self.steps[-1][1] if self.steps else ""

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended one of its containers: the grace period was over."""
        return KILLED in self.exit_codes.values()

    def spans(self, began: float, ended: float) -> Iterator[Span]:
        """Its life between these times, counted from the first."""
        for (start, phase), (end, _) in zip(self.steps, [*self.steps[1:], (ended, "gone")], strict=True):
            if phase != "gone" and min(end, ended) > max(start, began):
                yield Span(self.short, phase, max(start, began) - began, min(end, ended) - began)


class Pods:
    """Watches the pods with these labels, on a thread of its own, from `start` to `close`. A watch that breaks is begun again."""

    def __init__(
        self, cluster: Objects, namespace: str, labels: dict[str, str], on_new: Callable[[Pod], None] = lambda pod: None
    ) -> None:
        self._cluster, self._namespace, self._labels, self._on_new = cluster, namespace, labels, on_new
        self._pods: dict[str, Pod] = {}  # by uid
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._interrupt = cluster.interrupt()
        self._thread: threading.Thread | None = None
        self.trouble = ""

    def start(self) -> None:
        """Look once, and go on. Raises ApiError if it cannot."""
        version = self._list()
        self._thread = threading.Thread(target=self._run, args=(version,), name="drain-rehearse-pods", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """No more watching."""
        self._done.set()
        self._interrupt.set()
        if self._thread is not None:
            self._thread.join(10)

    @property
    def all(self) -> list[Pod]:
        """All that were seen, the oldest first."""
        with self._lock:
            return list(self._pods.values())

    def in_phase(self, *phases: str) -> list[Pod]:
        """Those that are in one of these."""
        return [each for each in self.all if each.phase in phases]

    def _list(self) -> str:
        found, version = self._cluster.listed(KINDS["Pod"], self._namespace, self._labels)
        there = {text(each, "metadata", "uid") for each in found}
        for each in sorted(found, key=lambda each: text(each, "metadata", "creationTimestamp")):
            self._seen(each)
        for uid in set(self._pods) - there:
            self._gone(uid)
        return version

    def _run(self, version: str) -> None:
        while not self._done.is_set():
            try:
                for event in self._cluster.watch(KINDS["Pod"], self._namespace, self._labels, version, self._interrupt):
                    raw = event["object"]
                    if event["type"] == "DELETED":
                        self._seen(raw)
                        self._gone(text(raw, "metadata", "uid"))
                    elif event["type"] != "BOOKMARK":
                        self._seen(raw)
            except ApiError as error:
                self.trouble = str(error)
            if self._done.wait(_PAUSE):
                return
            try:
                version = self._list()
                self.trouble = ""
            except ApiError as error:
                self.trouble = str(error)

    def _seen(self, raw: dict[str, Any]) -> None:
        uid, name = text(raw, "metadata", "uid"), text(raw, "metadata", "name")
        with self._lock:
            new = uid not in self._pods
            pod = self._pods.setdefault(uid, Pod(name, name.rsplit("-", 1)[-1]))
            for _, status in mappings(raw, "status", "containerStatuses"):
                for state in (mapping(status, "state", "terminated"), mapping(status, "lastState", "terminated")):
                    if (code := whole(state, "exitCode")) is not None:
                        pod.exit_codes[text(status, "name")] = code
                pod.restarts = max(pod.restarts, whole(status, "restartCount") or 0)
            phase = phase_of(raw)
            if phase == "leaving" and pod.killed:
                phase = "killed"
            if pod.phase not in (phase, "gone") and not (pod.phase == "killed" and phase == "leaving"):
                pod.steps.append((time.monotonic(), phase))
        if new:
            self._on_new(pod)

    def _gone(self, uid: str) -> None:
        with self._lock:
            pod = self._pods.get(uid)
            if pod is not None and pod.phase != "gone":
                pod.steps.append((time.monotonic(), "gone"))


def phase_of(raw: dict[str, Any]) -> str:
    """Of a pod as the API has it."""
    if get(raw, "metadata", "deletionTimestamp"):
        return "leaving"
    ready = any(
        text(each, "type") == "Ready" and text(each, "status") == "True"
        for _, each in mappings(raw, "status", "conditions")
    )
    return "serving" if ready else "starting"
