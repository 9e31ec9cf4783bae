"""`helm install`, upgrade, rollback of helm/grpc-service with the example's image, under load, where the restricted standard is enforced."""

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster._node.kubectl import Kubectl
from tests.cluster._scene import manifests
from tests.cluster._scene.scene import Scene
from tests.integration._servers.waiting import until

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


def test_what_the_drains_left_behind(scene: Scene) -> None:
    """Of pods that have gone: their Events. Of a container that was restarted: its termination message, and `kubectl describe` shows both."""
    done = report(scene)
    assert done.returncode == 0, done.stderr
    drains = json.loads(done.stdout)["drains"]
    assert len({each["pod"] for each in drains if each["over"]}) >= 3, drains
    assert {(each["clean"], each["where"], each["goaway"]) for each in drains if each["over"]} == {
        (True, "Event", "lossless")
    }
    assert not [each for each in drains if not each["over"]], drains
    pod = scene.pods(RELEASE)[0]
    scene.kubectl("exec", pod, "--", "python", "-c", "import os, signal; os.kill(1, signal.SIGTERM)")

    def ended() -> dict[str, Any]:
        (status,) = scene.kubectl.get("pod", pod)["status"]["containerStatuses"]
        return status["lastState"].get("terminated") or {}  # type: ignore[no-any-return]

    until(ended, 60)
    assert ended()["exitCode"] == 0
    line = ended()["message"]
    assert re.fullmatch(
        r"\S+ drained in \d+\.\d\d s \(SIGTERM, lossless\): \d+ calls finished, 0 cancelled, 0 peers left\n", line
    ), line
    described = scene.kubectl("describe", "pod", pod)
    assert re.search(r"Normal +Drained .*grpc-drain +" + re.escape(line.strip()), described), described
    assert [each["where"] for each in json.loads(report(scene, f"pod/{pod}").stdout)["drains"]] == [
        "Event"
    ]  # told twice, shown once
    scene.kubectl("wait", f"pod/{pod}", "--for=condition=Ready", "--timeout=60s", bound=70)


def test_a_live_view_of_pods(scene: Scene) -> None:
    """Through pods/exec; each of the three, and what it has been told of last."""
    found: list[dict[str, Any]] = []

    def all_three() -> bool:  # an exec into a container may fail while it is being started
        done = drain("top", scene, f"deploy/{RELEASE}", "--json")
        found[:] = json.loads(done.stdout)["processes"] if done.returncode == 0 else []
        return len(found) == 3 and not any(each["error"] for each in found)

    until(all_three, 60)
    assert {each["process"] for each in found} == set(scene.pods(RELEASE))
    for each in found:
        (server,) = each["servers"]
        assert (server["state"], server["goaway"]) == ("serving", "lossless")
        assert server["peers"]
        assert each["events"][-1]["event"].startswith("drain.")
    shown = drain("top", scene, f"pod/{found[0]['process']}", "--once").stdout
    assert found[0]["process"] in shown
    assert "serving" in shown


def report(scene: Scene, workload: str = f"deploy/{RELEASE}") -> "subprocess.CompletedProcess[str]":
    return drain("report", scene, workload, "--json")


def drain(command: str, scene: Scene, *words: str) -> "subprocess.CompletedProcess[str]":
    """That command, as whoever has the kubeconfig."""
    program = [sys.executable, "-c", "import sys; from drain._cli import main; sys.exit(main())", command]
    where = [f"--kubeconfig={scene.kubectl.kubeconfig}", "-n", str(scene.kubectl.namespace)]
    environ = {**os.environ, "COLUMNS": "160"}
    return subprocess.run(
        [*program, *where, *words], capture_output=True, text=True, timeout=60, check=False, env=environ
    )


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
