"""A rehearsal with a workload that runs in a cluster: what will be done is told first, then done under load."""

import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from drain._demo.caller import Shape
from drain._demo.load import Load
from drain._demo.results import Run
from drain._doctor import selectors
from drain._doctor.fields import get, mapping, mappings, text, whole
from drain._kube.objects import KINDS, Kind, Objects
from drain._rehearse.calling import Making, Names
from drain._rehearse.errors import RehearsalError
from drain._rehearse.pods import Pod, Pods
from drain._rehearse.result import Life, Step

_LULL = 3.0  # seconds of calls before the first step and after the last: a call lost at an edge is not missed
_POLL = 0.1


class LiveError(RehearsalError):
    """It cannot be rehearsed with this workload. Its text says why."""


@dataclass(frozen=True, slots=True)
class Action:
    """Something to do: "restart", "scale" (to `count` pods, and back), "delete" (`count` pods, one after the other)."""

    what: str
    count: int = 1

    @classmethod
    def read(cls, written: str) -> "Action":
        """`restart`, `scale=5`, `delete=2`. Raises ValueError."""
        what, _, count = written.partition("=")
        if written in ("restart", "delete"):
            return cls(what)
        if what in ("scale", "delete") and count.isdecimal() and 0 < int(count) <= 1000:
            return cls(what, int(count))
        raise ValueError(f"{written!r}: write restart, scale=PODS, or delete=PODS")

    @property
    def words(self) -> str:
        """For people."""
        pods = f"{self.count} pod{'s' * (self.count != 1)}"
        return {"restart": "restarted", "scale": f"scaled to {pods}, and back"}.get(self.what, f"{pods} deleted")

    @property
    def needs(self) -> tuple[str, str]:
        """The verb, and what it is of: "" is the workload itself."""
        return {"restart": ("patch", ""), "scale": ("patch", "/scale")}.get(self.what, ("delete", "pods"))


@dataclass(frozen=True, slots=True)
class Workload:
    """The workload, as it is before."""

    kind: Kind
    namespace: str
    name: str
    raw: dict[str, Any]

    @property
    def labels(self) -> dict[str, str]:
        """By which its pods are found."""
        labels = mapping(self.raw, "spec", "selector", "matchLabels")
        return {key: text(labels, key) for key in labels}

    @property
    def replicas(self) -> int:
        """Pods that there are to be."""
        if self.kind.name == "DaemonSet":
            return whole(self.raw, "status", "desiredNumberScheduled") or 0
        found = whole(self.raw, "spec", "replicas")
        return 1 if found is None else found

    @property
    def called(self) -> str:
        """For people."""
        return f"{self.kind.name} {self.namespace}/{self.name}"


def look(cluster: Objects, kind: Kind, namespace: str, name: str, actions: Sequence[Action]) -> Workload:
    """The workload, and whether all that is to be done can be. Read only. Raises LiveError, ApiError."""
    if kind.name == "Pod":
        raise LiveError("a lone Pod has no successor to rehearse with: name the Deployment, StatefulSet or DaemonSet")
    found = Workload(kind, namespace, name, cluster.get(kind, namespace, name))
    if not found.labels:
        raise LiveError(f"{found.called} has no spec.selector.matchLabels, by which its pods would be found")
    if not found.replicas:
        raise LiveError(f"{found.called} has no pods")
    for each in actions:
        if each.what == "restart" and get(found.raw, "spec", "paused") is True:
            raise LiveError(f"{found.called} is paused: its rollout would not go on")
        if each.what == "restart" and text(found.raw, "spec", "updateStrategy", "type") == "OnDelete":
            raise LiveError(f"{found.called} has updateStrategy OnDelete: it does not replace its pods by itself")
        if each.what == "scale" and kind.name == "DaemonSet":
            raise LiveError("a DaemonSet has a pod a node: it cannot be scaled")
        verb, of = each.needs
        resource = of if of == "pods" else f"{kind.resource}{of}"
        if cluster.may(verb, resource, namespace, "" if of == "pods" else kind.group) is False:
            raise LiveError(f'this user may not {verb} {resource} in namespace "{namespace}", which {each.what} needs')
    return found


def address(cluster: Objects, workload: Workload) -> str:
    """Where the load goes, unless it is said: the only Service's own address. Raises LiveError where there is not just one."""
    labels = mapping(workload.raw, "spec", "template", "metadata", "labels")
    found = []
    for each in cluster.all_of(KINDS["Service"], workload.namespace):
        selector = mapping(each, "spec", "selector")
        if selectors.equals(selector, labels):
            ip = text(each, "spec", "clusterIP")
            found += [
                f"{ip}:{whole(port, 'port')}" for _, port in mappings(each, "spec", "ports") if ip not in ("", "None")
            ]
    if len(found) != 1:
        several = f"several addresses ({', '.join(found)})" if found else "no Service with an address of its own"
        raise LiveError(f"{workload.called} has {several}: say by --target where its calls go")
    return found[0]


class Rehearser:
    """Does it. `on_step` is told each step's words as it begins."""

    def __init__(
        self,
        cluster: Objects,
        workload: Workload,
        *,
        within: float,
        on_step: Callable[[str], None] = lambda words: None,
    ) -> None:
        self._cluster, self._workload, self._within, self._on_step = cluster, workload, within, on_step
        self.names = Names()
        self.pods = Pods(cluster, workload.namespace, workload.labels, self._new)

    def _new(self, pod: Pod) -> None:
        self.names.add(pod.name, pod.short)

    def run(
        self, target: str, making: Making, shape: Shape, actions: Sequence[Action]
    ) -> tuple[Run, tuple[Step, ...], tuple[Life, ...]]:
        """Load, the actions one after the other, and what came of it. A scale is undone however it ends."""
        load = Load(target, shape, making)
        self.pods.start()
        steps: list[Step] = []
        try:
            load.start()
            try:
                time.sleep(_LULL)
                for each in actions:
                    steps += self._do(each, load.started_at)
                    if steps[-1].unfinished:
                        break
                self._on_step("a last moment of load")
                time.sleep(_LULL)
            finally:
                result = load.stop()
        finally:
            self.pods.close()
        began, ended = load.started_at, load.started_at + result.duration
        spans = [span for pod in self.pods.all for span in pod.spans(began, ended)]
        run = Run(mode="rehearsal", load=result, restarts=(), spans=tuple(spans), listed=())
        return run, tuple(steps), tuple(map(_life, self.pods.all))

    def _do(self, action: Action, zero: float) -> list[Step]:
        wanted = self._workload.replicas
        if action.what == "restart":
            return [self._step("restarted", zero, self._restart, wanted)]
        if action.what == "delete":
            return [
                self._step(f"pod {n + 1} of {action.count} deleted", zero, self._delete, wanted)
                for n in range(action.count)
            ]
        there = f"scaled from {wanted} to {action.count}"
        back = f"scaled back to {wanted}"
        try:
            first = self._step(there, zero, lambda: self._scale(action.count), action.count)
        except BaseException:  # Ctrl-C, too
            self._scale(wanted)
            raise
        return [first, self._step(back, zero, lambda: self._scale(wanted), wanted)]

    def _step(self, words: str, zero: float, act: Callable[[], set[str]], wanted: int) -> Step:
        """Act, and wait until it is done: so many pods serve, no other is there, and none of those that `act` sent away."""
        self._on_step(words)
        began = time.monotonic()
        old = act()
        why = ""
        while why_not := self._not_yet(old, wanted):
            if time.monotonic() - began > self._within:
                why = f"not over after {self._within:g} s: {why_not}"
                break
            time.sleep(_POLL)
        return Step(words, began - zero, time.monotonic() - began, why)

    def _not_yet(self, old: set[str], wanted: int) -> str:
        serving = {each.name for each in self.pods.in_phase("serving")}
        if stay := old & {each.name for each in self.pods.in_phase("starting", "serving", "leaving", "killed")}:
            return f"{len(stay)} pod{'s' * (len(stay) != 1)} that {'are' if len(stay) != 1 else 'is'} to go still there"
        if len(serving) != wanted:
            return f"{len(serving)} of {wanted} pods ready"
        others = self.pods.in_phase("starting", "leaving", "killed")
        return f"{len(others)} more pods are there" if others else ""

    def _restart(self) -> set[str]:
        """As `kubectl rollout restart` does."""
        there = {each.name for each in self.pods.in_phase("starting", "serving")}
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        annotations = {"kubectl.kubernetes.io/restartedAt": now}
        self._patch({"spec": {"template": {"metadata": {"annotations": annotations}}}})
        return there

    def _scale(self, count: int) -> set[str]:
        self._patch({"spec": {"replicas": count}}, "scale")
        return set()

    def _delete(self) -> set[str]:
        """The oldest that serves."""
        (oldest, *_) = self.pods.in_phase("serving")
        self._cluster.delete(KINDS["Pod"], self._workload.namespace, oldest.name)
        return {oldest.name}

    def _patch(self, change: dict[str, Any], sub: str = "") -> None:
        self._cluster.patch(self._workload.kind, self._workload.namespace, self._workload.name, change, sub)


def _life(pod: Pod) -> Life:
    told = next((at for at, phase in pod.steps if phase in ("leaving", "killed")), None)
    gone = next((at for at, phase in pod.steps if phase == "gone"), None)
    left = gone - told if told is not None and gone is not None else None
    return Life(pod.name, pod.short, left, dict(pod.exit_codes), pod.killed, pod.restarts)
