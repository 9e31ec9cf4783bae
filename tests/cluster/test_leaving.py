"""Whatever makes pods leave: no call is lost, of clients that know nothing of drain behind a ClusterIP, and of paired ones.

Servers of both flavours are under load of both kinds of callers all the time; each test disturbs them and reads the books.
"""

import json
import signal
import time

import pytest

from tests.cluster._node import traces
from tests.cluster._node.cluster import Cluster
from tests.cluster._node.kubectl import Kubectl
from tests.cluster._scene import manifests
from tests.cluster._scene.books import parsed, read
from tests.cluster._scene.endings import followed, gone
from tests.cluster._scene.scene import FLAVOURS, Scene
from tests.integration._servers.waiting import until

BOUND = 60.0
CONNECT = f"""
import socket, sys
for _ in range(30):
    socket.create_connection((sys.argv[1], {manifests.PORT}), timeout=2).close()
"""
AFTER_AN_OUTAGE = 240.0  # seconds: kubelet and the scheduler, too, have a back-off of up to 30 s, one after the other


def test_rolling_update(scene: Scene) -> None:
    """All pods are replaced, at once in both deployments."""
    before = {each: scene.pods(each) for each in FLAVOURS}
    with scene.watched() as seen:
        scene.restart(*FLAVOURS)
    seen.assert_no_lost_call()
    seen.assert_good_endings(2 * 3)
    for each in FLAVOURS:
        assert not set(before[each]) & set(scene.pods(each))


def test_scale_up_and_down(scene: Scene) -> None:
    """New pods get their share of the paired callers' calls; those that go are not missed."""
    with scene.watched() as up:
        scene.scale(5)
    up.assert_no_lost_call()
    up.assert_good_endings(0)
    with scene.watched() as even:
        pass
    for flavour in FLAVOURS:
        assert len(even.books[f"drain-{flavour}"].pods) == 5
        assert even.books[f"drain-{flavour}"].spread < 1.4
    with scene.watched() as down:
        scene.scale(3)
    down.assert_no_lost_call()
    down.assert_good_endings(2 * 2)


def test_pod_deletion(scene: Scene) -> None:
    """kubectl delete pod, with the pod's own grace."""
    chosen = {scene.pods(each)[0] for each in FLAVOURS}
    with scene.watched() as seen:
        scene.kubectl("delete", "pod", *chosen, "--wait=false")
        gone(scene.kubectl, chosen, BOUND)
        for each in FLAVOURS:
            scene.rolled_out(each)
    seen.assert_no_lost_call()
    seen.assert_good_endings(2)


def test_eviction_through_a_disruption_budget(scene: Scene) -> None:
    """Two pods of three are evicted, as a node's drain does: the second one has to wait until the first one's successor is there."""
    refused = 0
    with scene.watched() as seen:
        for flavour in FLAVOURS:
            for pod in scene.pods(flavour)[:2]:
                until(lambda pod=pod: _evicted(scene.kubectl, pod), BOUND, every=0.2)  # type: ignore[misc]
            first, *_ = (_evicted(scene.kubectl, each) for each in scene.pods(flavour)[:1])
            refused += not first
            scene.rolled_out(flavour)
    seen.assert_no_lost_call()
    assert refused, "the budget never said no: this showed nothing of it"
    seen.assert_good_endings(2 * 3 - refused)


@pytest.mark.own_node
def test_node_drain(scene: Scene, cluster: Cluster) -> None:
    """kubectl drain: the pods of a second node move to the first one."""
    node = cluster.add_node("node2")
    try:
        scene.scale(5)
        there = scene.kubectl("get", "pods", "-o", "name", f"--field-selector=spec.nodeName={node.name}").split()
        assert there, "the scheduler put nothing on the second node"
        with scene.watched() as seen:
            scene.kubectl(
                "drain", node.name, "--ignore-daemonsets", "--delete-emptydir-data", "--pod-selector=role!=caller",
                "--timeout=90s", bound=100,
            )  # fmt: skip
            for each in FLAVOURS:
                scene.rolled_out(each)
        seen.assert_no_lost_call()
        seen.assert_good_endings(len([each for each in there if "plain" not in each and "drain" not in each]))
    finally:
        scene.scale(3)
        cluster.remove_node(node.name)


@pytest.mark.own_node
def test_kill_9_of_the_server(scene: Scene, cluster: Cluster) -> None:
    """The process dies without a word. With `retry` no call fails: the others answer."""
    extra = [f"retrying-{each}" for each in FLAVOURS]
    for name, flavour in zip(extra, FLAVOURS, strict=True):
        target = f"kubernetes:///{flavour}:50051"
        scene.kubectl.apply(scene.caller(name, "drain", flavour, target, "--retry"))
    for name in extra:
        scene.kubectl("rollout", "status", f"deployment/{name}", "--timeout=60s", bound=70)
    until(lambda: all(_calls(scene.kubectl, each) for each in extra), BOUND, every=0.5)
    with scene.watched(*extra) as seen:
        for flavour in FLAVOURS:
            _kill(cluster, scene.kubectl, scene.pods(flavour)[0])
        until(lambda: sum(each.exit_code == 137 for each in scene.endings.of("sync")) == 1, BOUND, every=0.2)
        for each in FLAVOURS:
            scene.rolled_out(each)
            scene.kubectl("wait", "--for=condition=Ready", "pod", "-l", f"app={each}", "--timeout=60s", bound=70)
    seen.assert_no_lost_call(*extra)
    assert [each.exit_code for each in seen.endings] == [137, 137]
    scene.kubectl("delete", "deployment", *extra)


@pytest.mark.own_node
def test_prestop_hook_killed_half_way(scene: Scene, cluster: Cluster) -> None:
    """kubelet reports the failed hook and sends SIGTERM at once, which joins the drain that is under way."""
    chosen = {each: scene.pods(each)[0] for each in FLAVOURS}
    with scene.watched() as seen:
        scene.kubectl("delete", "pod", *chosen.values(), "--wait=false")
        for pod in chosen.values():
            until(lambda pod=pod: _signal(cluster, scene.kubectl, pod, "drain-prestop"), BOUND, every=0.02)  # type: ignore[misc]
        gone(scene.kubectl, set(chosen.values()), BOUND)
        for each in FLAVOURS:
            scene.rolled_out(each)
    seen.assert_no_lost_call()
    assert [each.exit_code for each in seen.endings] == [0, 0]
    assert seen.reasons.count("FailedPreStopHook") == 2


@pytest.mark.own_node
def test_api_server_restart_during_a_rollout(scene: Scene, cluster: Cluster) -> None:
    """kill -9 of the API server while pods are being replaced.

    Who follows it is started anew, too: back-offs leave the EndpointSlices, and kube-proxy, up to a minute behind, and then
    unaware clients are sent to pods that have long gone. Those are the next two tests.
    """
    before = {each: scene.there(each) for each in FLAVOURS}
    with scene.watched() as seen:
        scene.kubectl("rollout", "restart", *(f"deployment/{each}" for each in FLAVOURS))
        until(lambda: all(scene.there(each) - before[each] for each in FLAVOURS), BOUND, every=0.2)
        cluster.kill_apiserver()
        time.sleep(2)  # an outage, not a hiccup
        cluster.start_apiserver()
        cluster.restart("kube-proxy", "kube-controller-manager")
        for each in FLAVOURS:
            scene.rolled_out(each, AFTER_AN_OUTAGE)
    seen.assert_no_lost_call()
    assert {each.exit_code for each in seen.endings} <= {0}


# Who is behind; for how long; what makes up for it, where the defaults do not.
@pytest.mark.own_node
@pytest.mark.parametrize(
    ("who", "seconds", "remedy"),
    [
        ("kube-proxy", 3, "DRAIN_ANNOUNCE_MIN=7s"),  # its rules; the pod cannot know
        ("kube-controller-manager", 10, "DRAIN_ANNOUNCE_TIMEOUT=24s"),  # the EndpointSlices: the pod sees itself listed
    ],
)
def test_the_cluster_is_behind(scene: Scene, cluster: Cluster, who: str, seconds: float, remedy: str) -> None:
    """As after an outage of the API server, and unaware clients are still sent to pods that leave. They are served."""
    deployments = [f"deployment/{each}" for each in FLAVOURS]
    name, _, _ = remedy.partition("=")
    scene.kubectl("set", "env", *deployments, remedy)
    try:
        for each in FLAVOURS:
            scene.rolled_out(each)
        chosen = {scene.pods(each)[0] for each in FLAVOURS}
        addresses = {f"{scene.kubectl.get('pod', each)['status']['podIP']}:{manifests.PORT}" for each in chosen}
        with scene.watched() as seen:
            with cluster.behind(who):
                scene.kubectl("delete", "pod", *chosen, "--wait=false")
                time.sleep(seconds)  # with the defaults they would have gone
                assert addresses <= traces.sent_to(), f"{who} was not behind: this shows nothing of it"
                for each in FLAVOURS:  # a third of them each to a pod that leaves; one that is gone would not answer
                    scene.kubectl("exec", f"deployment/plain-{each}", "--", "python", "-c", CONNECT, each)
            gone(scene.kubectl, chosen, BOUND)
            for each in FLAVOURS:
                scene.rolled_out(each)
        seen.assert_no_lost_call()
        seen.assert_good_endings(2)
    finally:
        scene.kubectl("set", "env", *deployments, f"{name}-")
        for each in FLAVOURS:
            scene.rolled_out(each)


def test_rollout_of_the_clients(scene: Scene) -> None:
    """Clients that leave take their answers with them: no call of theirs fails, and servers that nobody calls any more stay calm."""
    before = {each: scene.pods(each)[0] for each in scene.callers}
    failed = {each: read(scene.kubectl, each).failed for each in scene.callers}
    following = {each: followed(scene.kubectl, pod) for each, pod in before.items()}
    with scene.watched() as seen:
        scene.restart(*scene.callers)
    for name, follower in following.items():
        text, _ = follower.communicate(timeout=BOUND)
        last = text.splitlines()[-1]
        assert json.loads(last).get("final") is True, f"{name} was cut: {last[-300:]}"
        assert parsed(last).failed == failed[name], f"{name}, ended at {parsed(last).at}: {parsed(last).told[-5:]}"
    seen.assert_good_endings(0)
    for each in scene.callers:
        books = read(scene.kubectl, each)
        assert books.failed == 0, books.told
        assert books.calls > 0


def test_the_image_has_no_shell(scene: Scene) -> None:
    """All of the above, hooks included, was done by an image without one."""
    pod = scene.pods("sync")[0]
    assert scene.kubectl("exec", pod, "--", "python", "-c", "print('here')") == "here\n"
    for shell in ("/bin/sh", "/bin/bash"):
        tried = scene.kubectl.attempt("exec", pod, "--", shell, "-c", "true")
        assert tried.returncode != 0
        assert "no such file" in tried.stderr.lower()


def test_the_report_says_what_the_cluster_said(scene: Scene) -> None:
    """The pod's log ends with the drain's report: announcing waited for the endpoint to leave."""
    pod = scene.pods("aio")[0]
    follower = followed(scene.kubectl, pod)
    scene.kubectl("delete", "pod", pod, "--wait=false")
    text, _ = follower.communicate(timeout=BOUND)
    assert "drained in" in text, text[-2000:]
    assert "lossless" in text
    assert "0 cancelled" in text
    scene.rolled_out("aio")


def _calls(kubectl: Kubectl, name: str) -> bool:
    try:
        return read(kubectl, name).calls > 0
    except AssertionError:
        return False


def _evicted(kubectl: Kubectl, pod: str) -> bool:
    """False: the budget says no."""
    namespace = kubectl.namespace
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    done = kubectl.attempt("create", "--raw", path, "-f", "-", text=json.dumps(body))
    assert done.returncode == 0 or "disruption budget" in done.stderr, done.stderr
    return done.returncode == 0


def _kill(cluster: Cluster, kubectl: Kubectl, pod: str) -> None:
    assert _signal(cluster, kubectl, pod, "programs.serve")


def _signal(cluster: Cluster, kubectl: Kubectl, pod: str, program: str) -> bool:
    """SIGKILL to the pod's processes that run it, from outside. False: there is none (any more)."""
    status = kubectl.get("pod", pod)["status"]["containerStatuses"][0]
    identity = status["containerID"].rpartition("/")[2]
    node = cluster.nodes["node1"]
    return node.kill(identity, program, signal.SIGKILL)
