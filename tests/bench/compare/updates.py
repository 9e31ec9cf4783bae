"""Twenty rolling updates of three pods under 32 callers: `python -m tests.bench.compare.updates`. What fails, and for paired clients how soon a
new pod is called: after its Ready condition was seen (by a watch of the bench's own), until its first answer, and until it has its share.
"""

import argparse
import itertools
import json
import math
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.bench._rows import Row, Spread, markdown
from tests.bench.compare import ways
from tests.bench.compare.readiness import Readiness
from tests.bench.compare.trial import SHARE
from tests.bench.compare.ways import APP, FLAVOURS, WAYS
from tests.cluster._node import cluster, images
from tests.cluster._scene.books import Books, parsed
from tests.cluster._scene.scene import Scene

UPDATES, QUICK, TIMED = 20, 2, 3
SLEEPS = ("sleep", "sleep-5")  # these are here for the time that they take
FIRST, SHARED = 0.1, 1.0  # seconds


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
    ready = Readiness(scene.kubectl, APP)
    try:
        scene.put(*ways.servers(way, scene.image), *ways.callers(way, way.target, scene.image))
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
        first = [min(books[-1].first.get(pod, math.inf) for books in lines.values()) - at for pod, at in new.items()]
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
    return math.inf


def rows(name: str, found: Outcome, updates: int) -> Iterator[Row]:
    title = WAYS[name].title
    took = Spread.of(found.seconds)
    lost = f"{found.failed:,} of {found.calls:,} failed{f', such as {found.told[0][:90]}' if found.told else ''}"
    yield Row(
        f"{updates} rolling updates of 3 pods, 32 callers, {title}", f"{lost}; {took.median:.1f} s each (longest {took.most:.1f} s)",
        *(("0 failed", found.failed == 0) if WAYS[name].ours else ()),
    )  # fmt: skip
    if WAYS[name].client == "drain":
        for what, values, most in (("its first answer", found.first, FIRST), ("its share", found.share, SHARED)):
            spread = Spread.of(values)
            yield Row(
                f"new pod ready -> {what}, {title}", f"{spread.ms()}, of {len(values)} pods", f"<= {most * 1000:.0f} ms", spread.median <= most,
                {"values": values},
            )  # fmt: skip


def sooner(found: Mapping[str, Outcome]) -> Iterator[Row]:
    """How long an update takes, against the two sleeps."""
    took = {name: Spread.of(each.seconds).median for name, each in found.items()}
    if not all(each in took for each in SLEEPS):
        return
    for name, own in took.items():
        if name not in SLEEPS:
            than = "; ".join(f"{WAYS[each].title} {took[each]:.1f} s" for each in SLEEPS)
            yield Row(
                f"rolling update until the last old pod is gone, {WAYS[name].title}", f"{own:.1f} s ({than})",
                "sooner than both", own < min(took[each] for each in SLEEPS),
            )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.compare.updates")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rows", default=",".join(("both", "server", *SLEEPS)))
    asked = parser.parse_args()
    programs, archives = cluster.parts(print), images.ready(print)
    made = cluster.Cluster(programs).start(print)
    found: dict[str, Outcome] = {}
    shown: list[Row] = []

    def show(lines: Iterable[Row]) -> None:
        for row in lines:
            print(f"  {row.what}: {row.figure}   [{row.verdict}: {row.mark}]", flush=True)
            shown.append(row)

    try:
        for image in images.LOADED:
            made.load(image, archives[image])
        for name in asked.rows.split(","):
            updates = QUICK if asked.quick else TIMED if name in SLEEPS else UPDATES
            found[name] = run(name, made, updates)
            show(rows(name, found[name], updates))
        show(sooner(found))
    finally:
        made.stop()
    print(markdown(shown))
    print(json.dumps([row.details for row in shown], default=str))


if __name__ == "__main__":
    main()
