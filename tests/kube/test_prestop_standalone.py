"""`drain.prestop --standalone` in a pod of a real cluster: its own EndpointSlices, as the real controller writes them."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.test_prestop import Ended, Hook
from tests.kube._cluster.cluster import Cluster
from tests.kube._cluster.namespace import Namespace, Slice
from tests.kube._cluster.proxy import Proxy

POD, ADDRESS = "web-0", "198.19.128.7"  # nobody connects to it
BUSY = 3.0  # seconds: by so much a busy machine may be late; what would be wrong is 15 s or 29 s
Start = Callable[..., Hook]


@pytest.fixture
def pod(namespace: Namespace) -> Namespace:
    """A pod of two services' own, ready in both, beside another one."""
    namespace.service("web")
    namespace.pod(POD, "web", ADDRESS)
    namespace.pod("web-1", "web", "198.19.128.8")
    namespace.until_slices("web", [ADDRESS, "198.19.128.8"])
    return namespace


@pytest.fixture
def inside(namespace: Namespace, cluster: Cluster, tmp_path: Path) -> Iterator[Start]:
    """Hooks in that pod, with an account that may do so much. All are ended after the test."""
    with ExitStack() as made:

        def start(*arguments: str, verbs: tuple[str, ...] = ("list", "watch"), port: int | None = None) -> Hook:
            token = namespace.token(namespace.account("hook", verbs))
            started = Hook(
                "--standalone",
                *arguments,
                KUBERNETES_SERVICE_HOST=cluster.address[0],
                KUBERNETES_SERVICE_PORT=str(port or cluster.address[1]),
                DRAIN_SERVICE_ACCOUNT_DIR=str(namespace.mount(tmp_path / "serviceaccount", token)),
                POD_NAME=POD,
            )
            made.callback(started.close)
            return started

        yield start


def left(ended: Ended, finished: float, change: float, settle: float, said: str) -> None:
    assert ended.code == 0, ended.stderr
    assert f"the endpoint has left: {said}" in ended.stderr
    assert settle <= finished - change < settle + BUSY, ended.stderr


def test_the_pod_is_deleted(pod: Namespace, inside: Start) -> None:
    hook = inside("--settle", "1s").until("ready in 1 slice")
    change = time.monotonic()
    pod.terminate(POD)
    left(hook.ended(), time.monotonic(), change, 1, "terminating in 1 slice")


def test_the_pod_is_not_ready(pod: Namespace, inside: Start) -> None:
    hook = inside("--settle", "0.5").until("ready in 1 slice")
    change = time.monotonic()
    pod.set_ready(POD, False)
    left(hook.ended(), time.monotonic(), change, 0.5, "not ready in 1 slice")


def test_a_second_service(pod: Namespace, inside: Start) -> None:
    """The controller has taken it out of one; somebody else's slice still has it."""
    other = Slice(name="api-1", addresses=[ADDRESS], pod=POD)
    pod.put("api", other)
    hook = inside("--settle", "0.5").until("ready in 2 slices")
    pod.terminate(POD)
    hook.until("ready in 1 slice\n")
    change = time.monotonic()
    pod.delete_slice("api-1")
    left(hook.ended(), time.monotonic(), change, 0.5, "terminating in 1 slice")


def test_in_no_slice(namespace: Namespace, inside: Start) -> None:
    began = time.monotonic()
    left(inside("--settle", "0.5").ended(), time.monotonic(), began, 0.5, "in no slice")


@pytest.mark.parametrize(("verbs", "missing"), [((), "list"), (("watch",), "list")])
def test_no_permission(pod: Namespace, inside: Start, verbs: tuple[str, ...], missing: str) -> None:
    ended = inside("--delay", "1.5", verbs=verbs).ended()
    assert (ended.code, 1.5 <= ended.took < 1.5 + BUSY) == (0, True)
    assert f'may not {missing} endpointslices in namespace "{pod.name}" (403 Forbidden)' in ended.stderr
    assert "the delay of 1.5 s is over" in ended.stderr


def test_permission_to_list_only(pod: Namespace, inside: Start) -> None:
    hook = inside("--settle", "0.5", "--delay", "1", verbs=("list",)).until("may not watch")
    change = time.monotonic()
    pod.terminate(POD)
    left(hook.ended(), time.monotonic(), change, 0.5, "terminating in 1 slice")


def test_the_api_server_is_down(pod: Namespace, inside: Start, proxy: Proxy) -> None:
    """From the start."""
    port = proxy.port
    proxy.close()
    ended = inside("--delay", "1.5", port=port).ended()
    assert (ended.code, 1.5 <= ended.took < 1.5 + BUSY) == (0, True)
    assert "cannot be reached: Connection refused" in ended.stderr


def test_the_api_server_is_away_for_a_moment(pod: Namespace, inside: Start, cluster: Cluster) -> None:
    """What happened meanwhile is seen afterwards; until then nobody knows, and --timeout is far."""
    hook = inside("--settle", "0.5", "--delay", "60", "--timeout", "90").until("ready in 1 slice")
    with cluster.out_of_reach() as back:
        pod.terminate(POD)
        hook.until("cannot look")
        change = back()
    ended = hook.ended(60)
    assert (ended.code, "has left: terminating in 1 slice" in ended.stderr) == (0, True), ended.stderr
    assert time.monotonic() - change < 60
