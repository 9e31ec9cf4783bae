"""What `drain top` shows, as it comes in: from admin sockets here, or from inside pods; each source on a thread of its own."""

import json
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from drain._admin.client import Call, Outcome, talk
from drain._cli.asking import there
from drain._kube.failure import ApiError
from drain._kube.inside import InsideError
from drain._kube.objects import KINDS, Kind, Objects

AFRESH = 3.0  # seconds after which other processes, or pods, may have come
GONE = 5.0  # seconds for which one that has ended is still shown
_PYTHONS = ("python3", "python")


@dataclass(frozen=True, slots=True)
class Shown:
    """One process. `line`: its last status line, empty: none yet. `error`: why there is no newer one. `at`: when it came."""

    name: str
    line: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    at: float = 0.0
    gone: bool = False


class Board:
    """What is known of all of them. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: dict[str, Shown] = {}
        self.notes: tuple[str, ...] = ()  # about all of it: why the cluster does not answer
        self.expected: frozenset[str] = frozenset()  # names of which something is still to come
        self.news = threading.Event()

    def put(
        self, key: str, name: str, line: Mapping[str, Any] | None = None, error: str = "", gone: bool = False
    ) -> None:
        """Something was told, or cannot be."""
        with self._lock:
            before = self._shown.get(key, Shown(name))
            told, now = before.line if line is None else line, time.monotonic()
            self._shown[key] = Shown(name, told, error, now if line is not None or gone else before.at, gone)
            self.expected -= {name}
        self.news.set()

    def expect(self, names: Iterable[str]) -> None:
        """Something will be told of these, or `give_up`."""
        with self._lock:
            self.expected |= frozenset(names)

    def give_up(self, name: str) -> None:
        """Nothing will."""
        with self._lock:
            self.expected -= {name}

    def keep(self, keys: Iterable[str]) -> None:
        """The others have gone."""
        kept = set(keys)
        for key, each in self.shown():
            if key not in kept and not each.gone:
                self.put(key, each.name, gone=True)

    def shown(self) -> list[tuple[str, Shown]]:
        """By key; those that have long gone are left out."""
        with self._lock:
            now = time.monotonic()
            self._shown = {key: each for key, each in self._shown.items() if not each.gone or now - each.at < GONE}
            return sorted(self._shown.items())


def local(board: Board, given: Sequence[str], interval: float, stopped: threading.Event) -> None:
    """The processes of these sockets; none: of all in the run-time directory. Returns when `stopped` is set."""
    request = {"command": "watch", "interval": interval, "details": True}
    while not stopped.is_set():
        began = time.monotonic()
        calls = [Call(path, request, anywhere=True) for path in list(given) or there()]
        heard: set[str] = set()
        for call, line in talk(calls, began + AFRESH):
            heard.add(call.path)
            board.put(call.path, str(line.get("pid")), line)
            if stopped.is_set():
                return
        for call in calls:
            if call.outcome is Outcome.LATE and call.path not in heard:
                board.put(call.path, str(call.pid or call.path), error="does not answer")
            elif call.outcome is not Outcome.LATE and call.path not in heard and call.outcome is not Outcome.ABSENT:
                board.put(call.path, str(call.pid or call.path), error=call.error)
        board.keep(call.path for call in calls if call.outcome is Outcome.LATE or call.path not in heard)
        stopped.wait(max(0.0, interval - (time.monotonic() - began)))


class Pods:
    """The processes in the pods of these workloads, through `pods/exec`. `run` returns when `stopped` is set.

    Args:
        wanted: none: every pod of the namespace in which a server answers.
    """

    def __init__(
        self,
        board: Board,
        cluster: Objects,
        namespace: str,
        wanted: Sequence[tuple[Kind, str]],
        container: str | None,
        interval: float,
        stopped: threading.Event,
    ) -> None:
        self._board, self._cluster, self._namespace = board, cluster, namespace
        self._wanted, self._container, self._interval, self._stopped = wanted, container, interval, stopped
        self._interrupt = cluster.interrupt()
        self._followed: dict[str, threading.Thread] = {}

    def run(self) -> None:
        """Look for pods now and then, and follow each."""
        while not self._stopped.is_set():
            try:
                names = self._names()
                self._board.notes = ()
            except ApiError as error:
                self._board.notes = (str(error),)
                self._board.news.set()
            else:
                self._follow(names)
            self._stopped.wait(AFRESH)
        self._interrupt.set()

    def _follow(self, names: set[str]) -> None:
        for name in names:
            thread = self._followed.get(name)
            if thread is None:
                self._board.expect([name])
            if thread is None or not thread.is_alive():
                thread = threading.Thread(target=self._inside, args=(name,), name=f"drain-top-{name}", daemon=True)
                self._followed[name] = thread
                thread.start()
        self._board.keep(key for key, each in self._board.shown() if each.name in names)

    def _names(self) -> set[str]:
        found: set[str] = set()
        for kind, name in self._wanted:
            if kind.name == "Pod":
                found.add(name)
                continue
            selector = self._cluster.get(kind, self._namespace, name)["spec"]["selector"].get("matchLabels") or {}
            found |= self._running(selector)
        return found if self._wanted else self._running({})

    def _running(self, labels: Mapping[str, str]) -> set[str]:
        pods, _ = self._cluster.listed(KINDS["Pod"], self._namespace, labels)
        return {each["metadata"]["name"] for each in pods if (each.get("status") or {}).get("phase") == "Running"}

    def _inside(self, pod: str) -> None:
        """Until the exec ends: then the pod has gone, or the loop above tries again."""
        failure = ""
        for python in _PYTHONS:
            command = (python, "-m", "drain._admin.relay", f"{self._interval:g}")
            try:
                for written in self._cluster.inside(self._namespace, pod, self._container, command, self._interrupt):
                    self._take(pod, written)
                return
            except InsideError as error:
                failure = failure or str(error)
        self._board.give_up(pod)
        if self._wanted:  # of a whole namespace there are many pods without such a server
            self._board.put(pod, pod, error=failure)

    def _take(self, pod: str, written: str) -> None:
        try:
            line = json.loads(written)
            kind = line.get("kind")
        except (ValueError, AttributeError):
            return  # something else that prints there
        if kind == "status":
            self._board.put(f"{pod} {line.get('socket')}", pod, line)
        elif kind == "failed" and self._wanted:
            self._board.put(pod, pod, error=str(line.get("error")))
