"""One way through everything: steady, rolling update, deletion, kill -9, scale 3 -> 6 -> 3."""

import math
import signal
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from examples.processes import free_address
from tests.bench.compare import ways
from tests.bench.compare.ways import APP, Way
from tests.cluster._node import places
from tests.cluster._node.cluster import Cluster
from tests.cluster._programs.call import STEP
from tests.cluster._scene import ingress
from tests.cluster._scene.books import Books, read
from tests.cluster._scene.endings import gone
from tests.cluster._scene.scene import Scene, Seen
from tests.integration._servers.waiting import until
from tests.proxies._fronts import FRONTS, Front, Name

FLAVOURS = ("sync", "aio")
STEADY = 6.0  # seconds
SHARE_BOUND = 40.0  # seconds that new pods are waited for, until each has its share
SHARE = 0.8  # of the mean
LOOK = 1.0
BOUND = 120.0
HERTZ = 100  # of /proc's clock


@dataclass
class Trial:
    """What came of it. Times in seconds; None: it did not come about within its bound. `lost`: (failed, calls) by disturbance."""

    lost: dict[str, tuple[int, int]] = field(default_factory=dict)
    update: float = 0.0
    share: float | None = None
    spread: float = 0.0  # max / mean of calls per pod, at the end of the scale up
    p50: float = 0.0
    p99: float = 0.0
    cpu: float = 0.0  # seconds per 1000 calls, of servers and proxies
    told: list[str] = field(default_factory=list)  # failures, some of them
    broke: str = ""


def run(way: Way, cluster: Cluster, image: str, programs: Mapping[str, Path], say: Callable[[str], None]) -> Trial:
    """Bounded; what breaks is told in the result."""
    trial = Trial()
    scene = Scene(cluster.kubectl.within(f"compare-{uuid.uuid4().hex[:6]}"), image, (APP,), FLAVOURS)
    with ExitStack() as ended:
        ended.callback(_away, scene)
        try:
            front = _begin(way, scene, cluster, programs, ended)
            for what in (_steady, _rolling_update, _deletion, _kill, _scale):
                say(f"    {what.__name__[1:].replace('_', ' ')}")
                what(trial, scene, cluster, front)
        except AssertionError as error:  # of the harness: something did not come about in time
            trial.broke = str(error).splitlines()[0][:200]
    return trial


def _begin(way: Way, scene: Scene, cluster: Cluster, programs: Mapping[str, Path], ended: ExitStack) -> Front | None:
    front: Front | None = None
    place, target = scene.kubectl, way.target
    place.apply(*ways.servers(way, scene.image))
    scene.rolled_out(APP)
    if way.front:
        folder = Path(ended.enter_context(tempfile.TemporaryDirectory()))
        port = int(free_address().rpartition(":")[2])
        if way.front == "traefik":
            place.apply(*ingress.objects(APP))
            token = place("create", "token", "traefik").strip()
            front = ingress.TraefikIngress(programs, folder, port, cluster, str(place.namespace), token, places.CONTROL)
        else:
            name = Name(f"{APP}-headless.{place.namespace}.svc.{places.DOMAIN}", ways.PORT, f"{places.CONTROL}:53")
            front = FRONTS[way.front](programs, folder, port, name, places.CONTROL)
        ended.callback(front.stop)
        until(front.listens, BOUND, every=0.2)
        target = front.address
    scene.put(*ways.callers(way, target, scene.caller))
    return front


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


def _steady(trial: Trial, scene: Scene, cluster: Cluster, front: Front | None) -> None:
    before, used = _read(scene), _cpu(scene, cluster, front)
    time.sleep(STEADY)
    after, spent = _read(scene), _cpu(scene, cluster, front) - used
    books = [after[each].since(before[each]) for each in scene.callers]
    calls = sum(each.calls for each in books)
    trial.lost["steady"] = (sum(each.failed for each in books), calls)
    trial.cpu = 1000 * spent / calls
    trial.p50, trial.p99 = (percentile(books, share) for share in (0.5, 0.99))


def _rolling_update(trial: Trial, scene: Scene, cluster: Cluster, front: Front | None) -> None:
    with scene.watched() as seen:
        scene.restart(APP)
    _note(trial, "rolling update", seen)
    trial.update = seen.took


def _deletion(trial: Trial, scene: Scene, cluster: Cluster, front: Front | None) -> None:
    with scene.watched() as seen:
        pod = scene.pods(APP)[0]
        scene.kubectl("delete", "pod", pod, "--wait=false")
        gone(scene.kubectl, {pod}, BOUND)
        scene.rolled_out(APP)
    _note(trial, "deletion", seen)


def _kill(trial: Trial, scene: Scene, cluster: Cluster, front: Front | None) -> None:
    with scene.watched() as seen:
        pod = scene.pods(APP)[0]
        (container,) = scene.kubectl.get("pod", pod)["status"]["containerStatuses"]
        node = cluster.nodes["node1"]
        assert node.kill(container["containerID"].rpartition("/")[2], "serve", signal.SIGKILL)
        until(
            lambda: scene.kubectl.get("pod", pod)["status"]["containerStatuses"][0]["restartCount"] == 1,
            BOUND,
            every=0.3,
        )
        scene.kubectl("wait", "--for=condition=Ready", "pod", pod, "--timeout=60s", bound=70)
    _note(trial, "kill -9", seen)


def _scale(trial: Trial, scene: Scene, cluster: Cluster, front: Front | None) -> None:
    with scene.watched() as seen:
        scene.scale(6)
        ready = time.monotonic()
        trial.share, trial.spread = _share(scene, ready)
    _note(trial, "scale up", seen)
    with scene.watched() as seen:
        scene.scale(3)
    _note(trial, "scale down", seen)


def _share(scene: Scene, ready: float) -> tuple[float | None, float]:
    """Seconds until each pod has its share of the calls of the last moment, and how they are spread then, or at the end."""
    pods = set(scene.pods(APP))
    while True:
        before = _read(scene)
        began = time.monotonic()
        time.sleep(LOOK)
        calls = Counter[str]()
        for each, books in _read(scene).items():
            calls.update(books.since(before[each]).pods)
        mean = sum(calls.values()) / len(pods)
        spread = max(calls.values(), default=0) / mean if mean else 0.0
        if mean and min(calls[pod] for pod in pods) >= SHARE * mean:
            return max(0.0, began - ready), spread
        if time.monotonic() > ready + SHARE_BOUND:
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


def _cpu(scene: Scene, cluster: Cluster, front: Front | None) -> float:
    """Seconds so far, of the servers' processes and the proxy's."""
    node = cluster.nodes["node1"]
    pids = [front.pid] if front is not None else []
    for pod in scene.kubectl.items("pods", f"app={APP}"):
        for container in pod["status"].get("containerStatuses", ()):
            rows = node.ctr("tasks", "ps", container["containerID"].rpartition("/")[2]).splitlines()[1:]
            pids += [int(row.split()[0]) for row in rows]
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / HERTZ
