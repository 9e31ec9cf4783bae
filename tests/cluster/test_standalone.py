"""A server that knows nothing of drain, behind `drain-prestop --standalone`, and clients that follow the endpoints: no call is lost."""

import uuid
from collections.abc import Iterator

import pytest

from tests.cluster._node.kubectl import Kubectl
from tests.cluster._scene import manifests
from tests.cluster._scene.endings import followed
from tests.cluster._scene.scene import Scene

BOUND = 60.0
SETTLE = 2.0


@pytest.fixture(scope="module")
def scene(kubectl: Kubectl, image: str) -> Iterator[Scene]:
    """grpc's own server, whose SIGTERM is server.stop(10)."""
    made = Scene(kubectl.within(f"drain-{uuid.uuid4().hex[:6]}"), image, ("web",), ("drain-sync", "drain-aio"))
    target = "kubernetes:///web:50051"
    hook = ["drain-prestop", "--standalone"]
    made.put(
        *manifests.account("server", manifests.READ_SLICES),
        *manifests.account("client", manifests.READ_SLICES),
        *manifests.services("web"),
        manifests.server("web", image, "programs.serve", "plain", "sync", prestop=hook),
        *(made.caller(name, *name.split("-"), target) for name in made.callers),
    )
    yield made
    made.close()


def test_rolling_update(scene: Scene) -> None:
    with scene.watched() as seen:
        scene.restart("web")
    seen.assert_no_lost_call()
    seen.assert_good_endings(3)


def test_it_stays_until_the_endpoint_has_left_and_no_longer(scene: Scene) -> None:
    """The hook returns `settle` later, not 15 s: kubelet sends SIGTERM then, and the server's log ends."""
    pod = scene.pods("web")[0]
    follower = followed(scene.kubectl, pod)
    with scene.watched() as seen:
        scene.kubectl("delete", "pod", pod, "--wait=true", bound=BOUND)
    text, _ = follower.communicate(timeout=BOUND)
    assert SETTLE <= seen.took < 15, text
    seen.assert_no_lost_call()
    seen.assert_good_endings(1)
