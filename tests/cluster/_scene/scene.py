"""Servers of both flavours under load of unaware and paired callers, while something is done to them."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.cluster._node.kubectl import Kubectl, KubectlError
from tests.cluster._scene import manifests
from tests.cluster._scene.books import Books, read
from tests.cluster._scene.endings import Ending, Endings, gone
from tests.integration._servers.waiting import until

FLAVOURS = ("sync", "aio")
KINDS = ("plain", "drain")
CALLERS = tuple(f"{kind}-{flavour}" for kind in KINDS for flavour in FLAVOURS)
START_BOUND = 120.0
LULL = 1.5  # seconds of calls before and after what is done: a call lost at its edge is not missed
TAIL = 30.0  # seconds: a caller's calls end after 15, whatever happens
FEW = 20  # calls that each caller makes at least while something is done


@dataclass
class Seen:
    """What came of it."""

    books: dict[str, Books] = field(default_factory=dict)
    endings: list[Ending] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)  # of events
    took: float = 0.0

    @property
    def calls(self) -> int:
        return sum(each.calls for each in self.books.values())

    def assert_no_lost_call(self, *callers: str) -> None:
        """None of all, or of these callers."""
        chosen = {name: each for name, each in self.books.items() if name in callers or not callers}
        lost = {name: (each.failed, each.calls, list(each.told)[:3]) for name, each in chosen.items() if each.failed}
        assert not lost, f"failed, of calls, the first ones: {lost}"
        idle = {name: each.calls for name, each in chosen.items() if each.calls < FEW}
        assert chosen, callers
        assert not idle, f"these callers hardly called: {idle}"

    def assert_good_endings(self, count: int) -> None:
        """So many containers ended, all of them with 0, and no hook failed."""
        codes = [(each.pod, each.exit_code) for each in self.endings]
        assert len(codes) == count, codes
        assert {code for _, code in codes} <= {0}, codes
        assert "FailedPreStopHook" not in self.reasons, self.reasons


class Scene:
    """One namespace, which is made and deleted here, with servers and callers (deployments, by name) that are watched.

    `label` of a pod names its deployment.
    """

    def __init__(
        self, kubectl: Kubectl, image: str, servers: tuple[str, ...], callers: tuple[str, ...], label: str = "app"
    ) -> None:
        assert kubectl.namespace is not None
        self.kubectl, self.image = kubectl, image
        self.servers, self.callers, self._label = servers, callers, label
        self.kubectl.within(None).apply(manifests.namespace(kubectl.namespace))
        self.endings = Endings(self.kubectl)

    def put(self, *objects: manifests.Object) -> None:
        """Returns when all servers are ready and all callers call."""
        self.kubectl.apply(*objects)
        self.kubectl("wait", "--for=condition=Available", "deployment", "--all", "--timeout=90s", bound=START_BOUND)
        for each in self.servers:
            self.rolled_out(each)
        until(self._all_are_answered, START_BOUND, every=0.1)

    def caller(self, name: str, kind: str, flavour: str, target: str, *more: str) -> manifests.Object:
        """Unaware clients have several connections: one pod each, while that one lives."""
        connections = ("--channels=4",) if kind == "plain" else ()
        return manifests.caller(name, self.image, kind, flavour, target, *connections, *more)

    def close(self) -> None:
        self.endings.close()
        self.kubectl.within(None).attempt("delete", "namespace", str(self.kubectl.namespace), "--wait=false")

    @contextlib.contextmanager
    def watched(self, *more: str) -> Iterator[Seen]:
        """What the callers (and these) and the servers' pods went through meanwhile, and a moment before and after."""
        names = (*self.callers, *more)
        before = {each: read(self.kubectl, each) for each in names}
        ended = {each: len(self.endings.of(each)) for each in self.servers}
        told = self._events()
        seen = Seen()
        time.sleep(LULL)
        began = time.monotonic()
        yield seen
        seen.took = time.monotonic() - began
        marks = {each: read(self.kubectl, each) for each in names}
        until(lambda: all(self._went_on(each, marks[each]) for each in names), TAIL, every=LULL)
        seen.books = {each: read(self.kubectl, each).since(before[each]) for each in names}
        seen.endings = [ending for each in self.servers for ending in self.endings.of(each, since=ended[each])]
        seen.reasons = [reason for uid, reason in self._events().items() if uid not in told]

    def pods(self, app: str) -> list[str]:
        """Those that live, the oldest first."""
        found = self.kubectl.items("pods", f"{self._label}={app}")
        alive = [each["metadata"] for each in found if "deletionTimestamp" not in each["metadata"]]
        return [each["name"] for each in sorted(alive, key=lambda each: each["creationTimestamp"])]

    def there(self, app: str) -> set[str]:
        """All of them, whether they live or terminate."""
        return {each["metadata"]["name"] for each in self.kubectl.items("pods", f"{self._label}={app}")}

    def rolled_out(self, app: str, within: float = 120.0) -> None:
        """Wait until the deployment is as it is wanted, and all that was before has gone."""
        self.kubectl("rollout", "status", f"deployment/{app}", f"--timeout={within:g}s", bound=within + 10)
        gone(self.kubectl, self.there(app) - set(self.pods(app)), within)

    def restart(self, *apps: str) -> None:
        """A rolling update of these, at once, to its end."""
        self.kubectl("rollout", "restart", *(f"deployment/{each}" for each in apps))
        for each in apps:
            self.rolled_out(each)

    def scale(self, replicas: int) -> None:
        """All servers, to the end."""
        self.kubectl("scale", f"--replicas={replicas}", *(f"deployment/{each}" for each in self.servers))
        for each in self.servers:
            self.rolled_out(each)

    def _all_are_answered(self) -> bool:
        """For a while: what failed before there was a server is not of interest, and a channel in its back-off goes on failing."""
        try:
            before = {each: read(self.kubectl, each) for each in self.callers}
            time.sleep(2 * LULL)
            lately = [read(self.kubectl, name).since(books) for name, books in before.items()]
        except (KubectlError, AssertionError, json.JSONDecodeError):
            return False
        return all(each.calls > FEW and not each.failed for each in lately)

    def _went_on(self, name: str, mark: Books) -> bool:
        """It called a few times since, and all that it had in flight then has ended: a call that hangs is of what was done before."""
        now = read(self.kubectl, name)
        return now.calls > mark.calls + FEW and now.oldest > mark.at

    def _events(self) -> Mapping[str, str]:
        return {each["metadata"]["uid"]: each["reason"] for each in self.kubectl.items("events")}


def both_flavours(kubectl: Kubectl, image: str) -> Scene:
    """Servers are "sync" and "aio", with all that README's story of a pod has; their callers "plain-sync", "drain-sync" ..."""
    scene = Scene(kubectl, image, FLAVOURS, CALLERS)
    made = [
        *manifests.account("server", manifests.READ_SLICES, manifests.READ_POD),
        *manifests.account("client", manifests.READ_SLICES),
    ]
    for flavour in FLAVOURS:
        arguments = ("programs.serve", "drain", flavour)
        made += manifests.services(flavour)
        made.append(manifests.budget(flavour, 2))
        made.append(manifests.server(flavour, image, *arguments, prestop=["drain-prestop"]))
        for kind in KINDS:
            target = f"kubernetes:///{flavour}:50051" if kind == "drain" else f"{flavour}:50051"
            made.append(scene.caller(f"{kind}-{flavour}", kind, flavour, target))
    try:
        scene.put(*made)
    except BaseException:
        scene.close()
        raise
    return scene
