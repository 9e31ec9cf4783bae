"""`helm install`, upgrade, rollback of helm/grpc-service with the example's image, under load, where the restricted standard is enforced."""

import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster._node.kubectl import Kubectl
from tests.cluster._scene import manifests
from tests.cluster._scene.scene import Scene

CHART = Path(__file__).parents[2] / "helm" / "grpc-service"
RELEASE = "greeter"
CALLERS = {
    "plain-sync": f"{RELEASE}:50051",
    "plain-aio": f"{RELEASE}:50051",
    "drain-sync": f"kubernetes:///{RELEASE}:grpc",
    "drain-aio": f"kubernetes:///{RELEASE}:50051",
}
BOUND = 150

Helm = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def scene(kubectl: Kubectl, image: str) -> Iterator[Scene]:
    """A namespace, with nothing in it yet."""
    room = kubectl.within(f"drain-{uuid.uuid4().hex[:6]}")
    made = Scene(room, image, (RELEASE,), tuple(CALLERS), label="app.kubernetes.io/instance")
    yield made
    made.close()


@pytest.fixture(scope="module")
def helm(scene: Scene, helm_program: Path) -> Helm:
    """`helm COMMAND greeter ...` in that namespace."""

    def run(command: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        where = (f"--kubeconfig={scene.kubectl.kubeconfig}", f"--namespace={scene.kubectl.namespace}")
        return subprocess.run(
            [helm_program, command, RELEASE, *arguments, *where],
            capture_output=True, text=True, timeout=BOUND, check=False,
        )  # fmt: skip

    return run


def values(scene: Scene, *more: str) -> list[str]:
    """As a user would give them; the server's flavour apart, all else is the chart's default."""
    repository, _, tag = scene.image.rpartition(":")
    chosen = [f"image.repository={repository}", f"image.tag={tag}", f"fullnameOverride={RELEASE}"]
    return [str(CHART), "--wait", "--timeout=120s", *(f"--set={each}" for each in (*chosen, *more))]


def served(scene: Scene) -> manifests.Object:
    """The server's container, as it is wanted now."""
    found: manifests.Object = scene.kubectl.get("deployment", RELEASE)["spec"]["template"]["spec"]["containers"][0]
    return found


def grace(scene: Scene) -> str:
    """What the server believes of its grace period; it must be what Kubernetes gives."""
    told = next(each["value"] for each in served(scene)["env"] if each["name"] == "DRAIN_TERMINATION_GRACE_PERIOD")
    template = scene.kubectl.get("deployment", RELEASE)["spec"]["template"]["spec"]
    assert told == str(template["terminationGracePeriodSeconds"])
    return str(told)


def test_install(scene: Scene, helm: Helm) -> None:
    """It comes up as it is, and its callers find it by the names that its notes tell."""
    done = helm("install", *values(scene, "args={examples.greeter.server}"))
    assert done.returncode == 0, done.stderr
    assert f"kubernetes:///{RELEASE}.{scene.kubectl.namespace}:grpc" in done.stdout, done.stdout
    callers = [scene.caller(name, *name.split("-"), target, "--greeter") for name, target in CALLERS.items()]
    scene.put(*manifests.account("client", manifests.READ_SLICES), *callers)
    assert grace(scene) == "30"
    assert len(scene.pods(RELEASE)) == 3


def test_rollout_restart_under_load(scene: Scene) -> None:
    with scene.watched() as seen:
        scene.restart(RELEASE)
    seen.assert_no_lost_call()
    seen.assert_good_endings(3)


def test_upgrade(scene: Scene, helm: Helm) -> None:
    """To another program (the asyncio server), and another budget."""
    more = ("args={examples.greeter.aio_server}", "drain.drainTimeout=15", "drain.streamGrace=5")
    with scene.watched() as seen:
        done = helm("upgrade", *values(scene, *more))
        assert done.returncode == 0, done.stderr
        scene.rolled_out(RELEASE)
    seen.assert_no_lost_call()
    seen.assert_good_endings(3)
    assert grace(scene) == "25"


def test_an_upgrade_to_a_sum_that_cannot_hold_is_refused(scene: Scene, helm: Helm) -> None:
    """By name, and nothing is touched."""
    before = served(scene)
    done = helm("upgrade", *values(scene, "drain.drainTimeout=25", "drain.terminationGracePeriodSeconds=30"))
    assert done.returncode != 0
    assert "terminationGracePeriodSeconds" in done.stderr, done.stderr
    assert served(scene) == before


def test_rollback(scene: Scene, helm: Helm) -> None:
    """To the synchronous server and its budget."""
    with scene.watched() as seen:
        done = helm("rollback", "1", "--wait", "--timeout=120s")
        assert done.returncode == 0, done.stderr
        scene.rolled_out(RELEASE)
    seen.assert_no_lost_call()
    seen.assert_good_endings(3)
    assert (grace(scene), served(scene)["args"]) == ("30", ["examples.greeter.server"])


def test_scaling_by_hand(scene: Scene, helm: Helm) -> None:
    """replicaCount, up and down."""
    for replicas in (5, 3):
        with scene.watched() as seen:
            done = helm("upgrade", *values(scene, "args={examples.greeter.server}", f"replicaCount={replicas}"))
            assert done.returncode == 0, done.stderr
            scene.rolled_out(RELEASE)
        seen.assert_no_lost_call()
        assert len(scene.pods(RELEASE)) == replicas
    seen.assert_good_endings(2)


def test_uninstall(scene: Scene, helm: Helm) -> None:
    """Nothing of it stays."""
    done = helm("uninstall", "--wait", "--timeout=60s")
    assert done.returncode == 0, done.stderr
    ours = "deployment,service,serviceaccount,role,rolebinding,poddisruptionbudget"
    assert scene.kubectl.items(ours, f"app.kubernetes.io/instance={RELEASE}") == []
