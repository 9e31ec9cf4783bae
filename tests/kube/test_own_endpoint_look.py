"""`look` by itself, in a pod of a real cluster; tests/kube/test_own_endpoint.py has servers that leave by it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from drain._core.own_endpoint import Standing, View
from drain._kube.own_endpoint import Look, look
from tests.integration._servers.waiting import until
from tests.kube._cluster.addresses import Addresses
from tests.kube._cluster.cluster import Cluster
from tests.kube._cluster.namespace import Namespace, Slice

POD = "web-0"
SOON = 5.0  # seconds: far more than the controller takes, far less than anything in here waits for of itself


class Seen:
    """A look, and when it told what."""

    def __init__(self) -> None:
        self.told: list[tuple[float, View]] = []
        self._ready = threading.Event()
        began = look(self._changed)
        assert began is not None, "there is a pod around us"
        self.look: Look = began
        self._ready.set()

    def _changed(self) -> None:
        assert self._ready.wait(SOON)  # it may have news before `look` has returned
        self.told.append((time.monotonic(), self.look.view()))

    def until(self, standing: Standing, why: str = "") -> float:
        """Wait until it sees so. When it was told."""
        return self._until(lambda view: view.standing is standing and why in view.why)[0]

    def until_grace(self) -> tuple[float, float]:
        """When it was told how long the pod has, and how long."""
        at, view = self._until(lambda view: view.grace is not None)
        return at, view.grace or 0.0

    def _until(self, wanted: Callable[[View], bool]) -> tuple[float, View]:
        """The first one told of those that it has seen without a break."""
        until(lambda: bool(self.told) and wanted(self.told[-1][1]))
        found = self.told[-1]
        for each in reversed(self.told):
            if not wanted(each[1]):
                break
            found = each
        return found


See = Callable[[], Seen]


@pytest.fixture
def see() -> Iterator[See]:
    with ExitStack() as ends:

        def start() -> Seen:
            seen = Seen()
            ends.callback(seen.look.stop)
            return seen

        yield start


@pytest.fixture
def inside(cluster: Cluster, namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Namespace:
    """This process is in the pod web-0 of that namespace, whose ServiceAccount may list and watch slices, and get pods."""
    folder = namespace.mount(tmp_path / "serviceaccount", namespace.token(namespace.account(pods=True)))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", cluster.address[0])
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(cluster.address[1]))
    monkeypatch.setenv("DRAIN_SERVICE_ACCOUNT_DIR", str(folder))
    monkeypatch.setenv("DRAIN_POD_NAME", POD)
    return namespace


@pytest.fixture
def pod(inside: Namespace, addresses: Addresses) -> Namespace:
    """It is ready, and of the service "web"; so is another one."""
    both = addresses.take(2)
    inside.service("web")
    inside.pod(POD, "web", both[0])
    inside.pod("web-1", "web", both[1])
    inside.until_slices("web", both)
    return inside


# How it stands.


def test_it_is_deleted(pod: Namespace, see: See) -> None:
    seen = see()
    seen.until(Standing.LISTED, "ready in 1 slice")
    at = time.monotonic()
    pod.terminate(POD)
    took = seen.until(Standing.LEFT, "terminating in 1 slice") - at
    print(f"seen {1000 * took:.0f} ms after the deletion was asked for")
    assert took < SOON


def test_ready_is_published_until_the_end(pod: Namespace, see: See) -> None:
    """publishNotReadyAddresses: the real controller says ready of a pod that is being deleted, and terminating beside it."""
    peers = {"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"port": 1}], "publishNotReadyAddresses": True}
    pod.api.create(f"/api/v1/namespaces/{pod.name}/services", {"metadata": {"name": "peers"}, "spec": peers})
    seen = see()
    seen.until(Standing.LISTED, "ready in 2 slices")
    pod.terminate(POD)
    seen.until(Standing.LEFT, "terminating in 2 slices")
    (part,) = pod.slices("peers")
    (ours,) = [each["conditions"] for each in part["endpoints"] if each["targetRef"]["name"] == POD]
    assert (ours["ready"], ours["terminating"]) == (True, True), "what this test is about"


def test_not_ready_and_ready_again(pod: Namespace, see: See) -> None:
    """A readiness probe that changes its mind is not the end."""
    seen = see()
    seen.until(Standing.LISTED)
    pod.set_ready(POD, False)
    seen.until(Standing.LEFT, "not ready in 1 slice")
    pod.set_ready(POD, True)
    seen.until(Standing.LISTED, "ready in 1 slice")


def test_its_service_is_deleted(pod: Namespace, see: See) -> None:
    seen = see()
    seen.until(Standing.LISTED)
    pod.delete_service("web")
    seen.until(Standing.LEFT, "in no slice")


@pytest.mark.parametrize(
    ("host", "standing", "why"),
    [(POD, Standing.LISTED, "ready in 1 slice"), ("node-a", Standing.UNKNOWN, 'no slice has a pod "node-a"')],
)
def test_only_the_hosts_name_is_known(
    pod: Namespace, see: See, monkeypatch: pytest.MonkeyPatch, host: str, standing: Standing, why: str
) -> None:
    """It is the pod's, unless it has the node's: then the guess is not taken for an endpoint that has left."""
    monkeypatch.delenv("DRAIN_POD_NAME")
    monkeypatch.delenv("POD_NAME", raising=False)
    monkeypatch.setattr("socket.gethostname", lambda: host)
    see().until(standing, why)


# Who may not look, or finds nobody to ask.


@pytest.mark.parametrize(("verbs", "missing"), [((), "list"), (("watch",), "list"), (("list",), "watch")])
def test_it_is_allowed_later(pod: Namespace, see: See, verbs: tuple[str, ...], missing: str) -> None:
    """The view names the verb; once it is granted, the endpoint is followed."""
    pod.allow("reader", verbs)
    seen = see()
    seen.until(Standing.UNKNOWN, f'may not {missing} endpointslices.discovery.k8s.io in namespace "{pod.name}"')
    pod.allow("reader", ["list", "watch"])
    seen.until(Standing.LISTED)
    pod.terminate(POD)
    seen.until(Standing.LEFT)


def test_a_bad_token_is_replaced(pod: Namespace, see: See, tmp_path: Path) -> None:
    """Its file is read for each attempt."""
    file = tmp_path / "serviceaccount" / "token"
    good = file.read_text()
    file.write_text("nonsense")
    seen = see()
    seen.until(Standing.UNKNOWN, "did not accept the token (401 Unauthorized)")
    file.write_text(good)
    seen.until(Standing.LISTED)


def test_the_api_server_is_down_when_it_begins(pod: Namespace, see: See, cluster: Cluster) -> None:
    """When it is back, the look tells what happened meanwhile."""
    with cluster.out_of_reach() as back:
        seen = see()
        seen.until(Standing.UNKNOWN, "cannot reach the API server")
        pod.terminate(POD)
        back()
        seen.until(Standing.LEFT, "terminating in 1 slice")


def test_what_was_seen_outlives_a_restart(pod: Namespace, see: See, cluster: Cluster) -> None:
    """Once it has left, an outage does not undo it, and afterwards it is followed again."""
    seen = see()
    seen.until(Standing.LISTED)
    pod.terminate(POD)
    seen.until(Standing.LEFT, "terminating in 1 slice")
    until(lambda: seen.look.view().grace is not None)
    before = len(seen.told)
    cluster.restart_apiserver()
    pod.put("own", Slice(name="own-1", addresses=["198.19.128.9"], pod=POD))
    seen.until(Standing.LISTED, "ready in 1 slice")
    assert len(seen.told) == before + 1, seen.told[before:]


# How long the pod has.


def test_deleted_after_the_look_began(pod: Namespace, see: See) -> None:
    """A drain by hand, and then the deletion: the pod is read again."""
    seen = see()
    seen.until(Standing.LISTED)
    at = time.monotonic()
    pod.terminate(POD, 8)
    when, grace = seen.until_grace()
    print(f"told {grace:g} s, {1000 * (when - at):.0f} ms after a deletion with 8 s")
    assert 8 - (when - at) - 2 <= grace <= 8


def test_deleted_while_somebody_lists_it_still(pod: Namespace, see: See) -> None:
    """A service that has not let it go does not keep its time a secret."""
    pod.put("own", Slice(name="own-1", addresses=["198.19.128.9"], pod=POD))
    seen = see()
    seen.until(Standing.LISTED, "ready in 2 slices")
    pod.terminate(POD, 60)
    _, grace = seen.until_grace()
    assert 50 < grace <= 60
    seen.until(Standing.LISTED, "ready in 1 slice")


def test_deleted_a_while_ago(pod: Namespace, see: See) -> None:
    """By the API server's own clock, which tells whole seconds: never more than there is."""
    at = time.monotonic()
    pod.terminate(POD, 20)
    until(lambda: time.monotonic() - at > 4)
    when, grace = see().until_grace()
    left = 20 - (when - at)
    print(f"told {grace:g} s of {left:.2f}")
    assert left - 2.5 <= grace <= left


def test_nobody_may_read_the_pod(pod: Namespace, see: See, tmp_path: Path) -> None:
    """Not a word of it: what is configured counts."""
    (tmp_path / "serviceaccount" / "token").write_text(pod.token(pod.account("blind")))
    seen = see()
    seen.until(Standing.LISTED)
    pod.terminate(POD, 4)
    seen.until(Standing.LEFT, "terminating in 1 slice")
    assert [view for _, view in seen.told] == [
        View(Standing.LISTED, "ready in 1 slice"),
        View(Standing.LEFT, "terminating in 1 slice"),
    ]
