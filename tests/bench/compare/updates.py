"""Twenty rolling updates of three pods under 32 callers: `python -m tests.bench.compare.updates`. What fails, and for paired clients how soon a
new pod is called: after its Ready condition was seen (by a watch of the bench's own), until its first answer, and until it has its share.
"""

import argparse
import itertools
import json
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.bench._rows import Row, Spread, markdown
from tests.bench.compare import ways
from tests.bench.compare.trial import FLAVOURS, SHARE
from tests.bench.compare.ways import APP, WAYS
from tests.cluster._node import cluster, images
from tests.cluster._node.kubectl import Kubectl
from tests.cluster._scene.books import Books, parsed
from tests.cluster._scene.endings import objects
from tests.cluster._scene.scene import Scene

UPDATES, QUICK = 20, 2
FIRST, SHARED = 0.1, 1.0  # seconds


class Ready:
    """When each pod was first seen ready, in seconds of the day's clock."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.at: dict[str, float] = {}
        command = kubectl.command("get", "pods", "-l", f"app={APP}", "-o", "json", "--watch")
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        for pod in objects(self._process.stdout):
            conditions = {each["type"]: each["status"] for each in pod.get("status", {}).get("conditions", ())}
            if conditions.get("Ready") == "True":
                self.at.setdefault(pod["metadata"]["name"], time.time())

    def close(self) -> None:
        self._process.kill()
        self._thread.join(10)


@dataclass
class Outcome:
    """Of one way."""

    calls: int
    failed: int
    told: list[str]
    seconds: list[float]  # of each update
    first: list[float]  # from ready to the first answer
    share: list[float]  # from ready to the end of the first stretch with its share


def run(name: str, made: cluster.Cluster, updates: int) -> Outcome:
    """One way, in a namespace of its own."""
    way = WAYS[name]
    scene = Scene(made.kubectl.within(f"updates-{uuid.uuid4().hex[:6]}"), images.LOAD, (APP,), FLAVOURS)
    ready = Ready(scene.kubectl)
    try:
        scene.put(*ways.servers(way, scene.image), *ways.callers(way, way.target, scene.caller))
        old = set(scene.pods(APP))
        seconds = []
        with scene.watched() as seen:
            for _ in range(updates):
                began = time.monotonic()
                scene.restart(APP)
                seconds.append(time.monotonic() - began)
        lines = {each: _lines(scene.kubectl("logs", f"deployment/{each}")) for each in scene.callers}
        # A client that is pinned to others may never meet a pod.
        new = {pod: at for pod, at in ready.at.items() if pod not in old and way.client == "drain"}
        first = [min(books[-1].first[pod] for books in lines.values()) - at for pod, at in new.items()]
        share = [max(_shared(books, pod, at) for books in lines.values()) for pod, at in new.items()]
        told = [f"{each['code']}: {each['details']}" for books in seen.books.values() for each in books.told]
        failed = sum(each.failed for each in seen.books.values())
        return Outcome(seen.calls, failed, told[:5], seconds, first, share)
    finally:
        ready.close()
        scene.close()


def _lines(text: str) -> list[Books]:
    return [parsed(each) for each in text.splitlines() if each.startswith("{")]


def _shared(books: Sequence[Books], pod: str, ready: float) -> float:
    """To the end of the first stretch between two lines, begun after it was ready, in which it had its share."""
    for before, after in itertools.pairwise(books):
        if before.at < ready:
            continue
        calls = after.since(before).pods
        if calls and calls.get(pod, 0) >= SHARE * sum(calls.values()) / len(calls):
            return after.at - ready
    return float("inf")


def rows(name: str, found: Outcome, updates: int) -> Iterator[Row]:
    title = WAYS[name].title
    took = Spread.of(found.seconds)
    lost = f"{found.failed:,} of {found.calls:,} failed{f', such as {found.told[0][:90]}' if found.told else ''}"
    yield Row(
        f"{updates} rolling updates of 3 pods, 32 callers, {title}", f"{lost}; {took.median:.1f} s each (longest {took.most:.1f} s)",
        "0 failed", found.failed == 0,
    )  # fmt: skip
    if WAYS[name].client == "drain":
        for what, values, most in (("its first answer", found.first, FIRST), ("its share", found.share, SHARED)):
            spread = Spread.of(values)
            yield Row(
                f"new pod ready -> {what}, {title}", f"{spread.ms()}, of {len(values)} pods", f"<= {most * 1000:.0f} ms", spread.median <= most,
                {"values": values},
            )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.compare.updates")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rows", default="both,server")
    asked = parser.parse_args()
    updates = QUICK if asked.quick else UPDATES
    programs, archives = cluster.parts(print), images.ready(print)
    made = cluster.Cluster(programs).start(print)
    found: list[Row] = []
    try:
        for image in images.LOADED:
            made.load(image, archives[image])
        for name in asked.rows.split(","):
            for row in rows(name, run(name, made, updates), updates):
                print(f"  {row.what}: {row.figure}   [{row.verdict}: {row.mark}]", flush=True)
                found.append(row)
    finally:
        made.stop()
    print(markdown(found))
    print(json.dumps([row.details for row in found], default=str))


if __name__ == "__main__":
    main()
