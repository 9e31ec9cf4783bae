"""The examples' manifests, applied as they are (but for the image's name), under load."""

import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster._node.kubectl import Kubectl
from tests.cluster._scene import manifests
from tests.cluster._scene.scene import Scene
from tests.integration._servers.waiting import until

EXAMPLES = Path(__file__).parents[2] / "examples"
IMAGE = "grpc-drain-greeter"
BOUND = 60.0


def renamed(text: str, image: str) -> list[manifests.Object]:
    """The objects, with that image."""
    found: list[Any] = []
    for each in yaml.safe_load_all(text):
        pod = each.get("spec", {}).get("template", {}).get("spec", {})
        for container in (*pod.get("initContainers", ()), *pod.get("containers", ())):
            assert container["image"].partition(":")[0] == IMAGE, container
            container |= {"image": image, "imagePullPolicy": "IfNotPresent"}
        found.append(each)
    return found


@pytest.fixture
def place(kubectl: Kubectl) -> Kubectl:
    """A namespace's name, for a scene that makes and deletes it."""
    return kubectl.within(f"drain-{uuid.uuid4().hex[:6]}")


def test_manifests(place: Kubectl, image: str) -> None:
    """`kubectl apply -k`: the greeter is rolled over while its own client, and others, call."""
    scene = Scene(place, image, ("greeter",), ("plain-sync", "drain-aio"))
    try:
        scene.put(
            *renamed(place("kustomize", str(EXAMPLES / "manifests")), image),
            *manifests.account("client", manifests.READ_SLICES),
            scene.caller("plain-sync", "plain", "sync", "greeter:50051", "--greeter"),
            scene.caller("drain-aio", "drain", "aio", "kubernetes:///greeter:50051", "--greeter"),
        )
        until(lambda: "greeter-" in place("logs", "deployment/greeter-client", "--tail=2"), BOUND, every=0.5)
        with scene.watched() as seen:
            scene.restart("greeter")
        seen.assert_no_lost_call()
        seen.assert_good_endings(3)
        client = place("logs", "deployment/greeter-client", "--since=8s")
        assert "greeter-" in client
        assert "failed" not in client, client
        applied = [
            place.attempt("apply", "-f", str(EXAMPLES / "manifests" / f"{each}.yaml")) for each in ("server", "client")
        ]
        assert all(each.returncode == 0 for each in applied), [each.stderr for each in applied]
    finally:
        scene.close()


def test_prestop(place: Kubectl, image: str) -> None:
    """The server that cannot be changed, with the hook that an init container puts beside it: paired clients lose nothing."""
    scene = Scene(place, image, ("unchanged",), ("drain-sync",))
    try:
        scene.put(
            *renamed((EXAMPLES / "prestop" / "manifests.yaml").read_text(), image),
            *manifests.account("client", manifests.READ_SLICES),
            scene.caller("drain-sync", "drain", "sync", "kubernetes:///unchanged:50051", "--greeter"),
        )
        with scene.watched() as seen:
            scene.restart("unchanged")
        seen.assert_no_lost_call()
        seen.assert_good_endings(3)
    finally:
        scene.close()
