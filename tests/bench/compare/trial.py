"""One way through everything: steady, rolling update, deletion, kill -9, scale 3 -> 6 -> 3."""

import math
import signal
import subprocess
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.compare import fronts, usage, ways
from tests.bench.compare.readiness import Readiness
from tests.bench.compare.ways import APP, FLAVOURS, Way
from tests.cluster._node.cluster import Cluster
from tests.cluster._programs.call import STEP
from tests.cluster._scene.books import Books, read
from tests.cluster._scene.endings import gone
from tests.cluster._scene.scene import Scene, Seen
from tests.integration._servers.waiting import until
from tests.proxies._fronts import Front

STEADY = 6.0  # seconds
SHARE_BOUND = 60.0  # seconds that new pods are waited for, until each has its share
SHARE = 0.8  # of the mean
LOOK = 1.0
BOUND = 120.0


@dataclass
class Trial:
    """What came of it. Times in seconds; None: it did not come about within its bound. `lost`: (failed, calls) by disturbance."""

    lost: dict[str, tuple[int, int]] = field(default_factory=dict)
    update: float = 0.0
    share: float | None = None
    spread: float = 0.0  # max / mean of calls per pod, at the end of the scale up
    p50: float = 0.0
    p99: float = 0.0
    cpu: float = 0.0  # seconds per 1000 calls, of servers, proxies and sidecars
    clients_cpu: float = 0.0  # the same, of the clients
    told: list[str] = field(default_factory=list)  # failures, some of them
    broke: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where it takes place."""

    scene: Scene
    cluster: Cluster
    readiness: Readiness
    front: Front | None

    def cpu(self) -> tuple[float, float]:
        """Seconds so far: of all that serves, of the clients."""
        node = self.cluster.nodes["node1"]
        return usage.serving(self.scene, node, self.front), usage.calling(self.scene, node)


def run(way: Way, cluster: Cluster, image: str, programs: Mapping[str, Path], say: Callable[[str], None]) -> Trial:
    """Bounded; what breaks is told in the result."""
    trial = Trial()
    with ExitStack() as ended:
        try:
            scene = Scene(cluster.kubectl.within(f"compare-{uuid.uuid4().hex[:6]}"), image, (APP,), FLAVOURS)
            ended.callback(_away, scene)
            stage = _begin(way, scene, cluster, programs, ended)
            for what in (_steady, _rolling_update, _deletion, _kill, _scale):
                say(f"    {what.__name__[1:].replace('_', ' ')}")
                what(trial, stage)
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            # Something did not come about in time, or has ended that should not have.
            trial.broke = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return trial


def _begin(way: Way, scene: Scene, cluster: Cluster, programs: Mapping[str, Path], ended: ExitStack) -> Stage:
    front: Front | None = None
    place, target = scene.kubectl, way.target
    readiness = Readiness(place, APP)
    ended.callback(readiness.close)
    place.apply(*ways.servers(way, scene.image))
    scene.rolled_out(APP)
    if way.front:
        folder = Path(ended.enter_context(tempfile.TemporaryDirectory()))
        front = fronts.start(way.front, APP, ways.PORT, cluster, str(place.namespace), programs, folder)
        ended.callback(front.stop)
        until(front.listens, BOUND, every=0.2)
        target = front.address
    scene.put(*ways.callers(way, target, scene.image))
    return Stage(scene, cluster, readiness, front)


def _away(scene: Scene) -> None:
    """The next way has the machine to itself."""
    place = scene.kubectl
    place.attempt("delete", "deployment", "--all", "--wait=false")
    place.attempt("delete", "pods", "--all", "--grace-period=0", "--force", "--wait=false")
    scene.close()
    place.within(None).attempt("wait", "--for=delete", f"namespace/{place.namespace}", "--timeout=60s", bound=70)


def _note(trial: Trial, what: str, seen: Seen) -> None:
    failed = sum(each.failed for each in seen.books.values())
    trial.lost[what] = (failed, seen.calls)
    trial.told += [
        f"{what}: {each['code']}: {each['details']}" for books in seen.books.values() for each in books.told[:2]
    ]


def _steady(trial: Trial, stage: Stage) -> None:
    scene = stage.scene
    before, used = _read(scene), stage.cpu()
    time.sleep(STEADY)
    after, spent = _read(scene), stage.cpu()
    books = [after[each].since(before[each]) for each in scene.callers]
    calls = sum(each.calls for each in books)
    trial.lost["steady"] = (sum(each.failed for each in books), calls)
    trial.cpu, trial.clients_cpu = (1000 * (now - then) / calls for now, then in zip(spent, used, strict=True))
    trial.p50, trial.p99 = (percentile(books, share) for share in (0.5, 0.99))


def _rolling_update(trial: Trial, stage: Stage) -> None:
    scene = stage.scene
    with scene.watched() as seen:
        scene.restart(APP)
    _note(trial, "rolling update", seen)
    trial.update = seen.took


def _deletion(trial: Trial, stage: Stage) -> None:
    scene = stage.scene
    with scene.watched() as seen:
        pod = scene.pods(APP)[0]
        scene.kubectl("delete", "pod", pod, "--wait=false")
        gone(scene.kubectl, {pod}, BOUND)
        scene.rolled_out(APP)
    _note(trial, "deletion", seen)


def _kill(trial: Trial, stage: Stage) -> None:
    scene = stage.scene
    with scene.watched() as seen:
        pod = scene.pods(APP)[0]
        (container,) = scene.kubectl.get("pod", pod)["status"]["containerStatuses"]
        node = stage.cluster.nodes["node1"]
        assert node.kill(container["containerID"].rpartition("/")[2], "serve", signal.SIGKILL)

        def again() -> bool:
            return bool(scene.kubectl.get("pod", pod)["status"]["containerStatuses"][0]["restartCount"] == 1)

        until(again, BOUND, every=0.3)
        scene.kubectl("wait", "--for=condition=Ready", "pod", pod, "--timeout=60s", bound=70)
    _note(trial, "kill -9", seen)


def _scale(trial: Trial, stage: Stage) -> None:
    scene = stage.scene
    with scene.watched() as seen:
        old = set(scene.pods(APP))
        scene.scale(6)
        ready = stage.readiness.last(set(scene.pods(APP)) - old)
        trial.share, trial.spread = _share(scene, ready)
    _note(trial, "scale up", seen)
    with scene.watched() as seen:
        scene.scale(3)
    _note(trial, "scale down", seen)


def _share(scene: Scene, ready: float) -> tuple[float | None, float]:
    """Seconds after which each pod had its share, in the first second in which that was so; and how calls are spread then, or at the end."""
    pods = set(scene.pods(APP))
    while True:
        before = _read(scene)
        time.sleep(LOOK)
        calls = Counter[str]()
        for each, books in _read(scene).items():
            calls.update(books.since(before[each]).pods)
        mean = sum(calls.values()) / len(pods)
        spread = max(calls.values(), default=0) / mean if mean else 0.0
        if mean and min(calls[pod] for pod in pods) >= SHARE * mean:
            return max(0.0, min(each.at for each in before.values()) - ready), spread
        if time.time() > ready + SHARE_BOUND:
            return None, spread


def _read(scene: Scene) -> dict[str, Books]:
    return {each: read(scene.kubectl, each) for each in scene.callers}


def percentile(books: Iterable[Books], share: float) -> float:
    """Of the latencies of all, seconds: the upper end of the bucket in which it is."""
    buckets = Counter[int]()
    for each in books:
        buckets.update(each.latency)
    left = math.ceil(share * buckets.total())
    for bucket in sorted(buckets):
        left -= buckets[bucket]
        if left <= 0:
            return STEP**bucket
    return math.nan
