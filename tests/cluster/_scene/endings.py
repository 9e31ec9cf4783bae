"""How the pods of a namespace end: exit codes and reasons, as the API server tells them before a pod is gone."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.cluster._node.kubectl import Kubectl
from tests.integration._servers.waiting import until


@dataclass(frozen=True, slots=True)
class Ending:
    """A container that ended."""

    pod: str
    exit_code: int
    reason: str


class Endings:
    """Watches until it is closed; a watch that breaks is begun again."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self._ended: dict[tuple[str, str], Ending] = {}
        self._begun: set[str] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._watch, name="endings", daemon=True)
        self._thread.start()

    def of(self, app: str, *, since: int = 0) -> list[Ending]:
        """Those of an app's pods; `since`: but for the first ones, of which there were so many."""
        with self._lock:
            return [each for each in self._ended.values() if each.pod.startswith(f"{app}-")][since:]

    def close(self) -> None:
        """No more watching."""
        self._closed.set()
        if self._process is not None:
            self._process.kill()
        self._thread.join(10)

    def _watch(self) -> None:
        while not self._closed.is_set():
            self._process = subprocess.Popen(
                self._kubectl.command("get", "pods", "-o", "json", "--watch"),
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
            with self._process as process:
                assert process.stdout is not None
                for pod in objects(process.stdout):
                    self._seen(pod)
            self._closed.wait(0.2)

    def _seen(self, pod: dict[str, Any]) -> None:
        name = pod["metadata"]["name"]
        for status in pod.get("status", {}).get("containerStatuses", ()):
            for when in ("state", "lastState"):
                if ended := status.get(when, {}).get("terminated"):
                    with self._lock:
                        key = (name, str(ended.get("containerID")))
                        self._ended.setdefault(key, Ending(name, ended["exitCode"], ended.get("reason", "")))


def objects(stream: Any) -> Iterator[dict[str, Any]]:
    """Pretty-printed JSON objects, one after the other: each ends with a brace in the first column."""
    lines: list[str] = []
    for line in stream:
        lines.append(line)
        if line.startswith("}"):
            yield json.loads("".join(lines))
            lines.clear()


def gone(kubectl: Kubectl, names: set[str], within: float = 60.0) -> float:
    """Wait until none of these pods is there. Returns how long it took."""
    began = time.monotonic()

    def none_left() -> bool:
        answer = kubectl.attempt("get", "pods", "-o", "name")
        there = {each.removeprefix("pod/") for each in answer.stdout.split()}
        return answer.returncode == 0 and not names & there

    until(none_left, within, every=0.3)
    return time.monotonic() - began


def followed(kubectl: Kubectl, pod: str) -> "subprocess.Popen[str]":
    """Its log from its beginning to its end, on stdout."""
    return subprocess.Popen(kubectl.command("logs", "--follow", pod), stdout=subprocess.PIPE, text=True)
