"""The Roles that README asks for are the least that will do: each verb that is taken away is missed, by its name. And what needs none needs none."""

import subprocess

import pytest

from tests.cluster._node.kubectl import Kubectl
from tests.cluster._scene import manifests
from tests.cluster._scene.books import read
from tests.cluster._scene.endings import followed
from tests.integration._servers.waiting import until

BOUND = 60.0
VERBS = ["list", "watch"]


def looking(*verbs: str) -> manifests.Object:
    return manifests.READ_SLICES | {"verbs": list(verbs)}


def started(room: Kubectl, image: str, server: list[manifests.Object], client: list[manifests.Object]) -> None:
    """One server "web", one caller that follows it."""
    room.apply(
        *server,
        *client,
        *manifests.services("web"),
        manifests.server("web", image, "programs.serve", "drain", "sync", replicas=1, prestop=["drain-prestop"]),
        manifests.caller("caller", image, "drain", "sync", "kubernetes:///web:50051"),
    )
    room("rollout", "status", "deployment/web", "--timeout=60s", bound=70)


def last_words(room: Kubectl, *, by_hand: bool = False) -> str:
    """What the server says, its end included: its pod is deleted; `by_hand`: when it has drained already, still listed at first."""
    pod = room.items("pods", "app=web")[0]["metadata"]["name"]
    follower = followed(room, pod)
    if by_hand:
        room("exec", pod, "--", "drain-prestop")
    room("delete", "pod", pod, "--wait=false")
    try:
        text, _ = follower.communicate(timeout=BOUND)
    except subprocess.TimeoutExpired:
        follower.kill()
        raise
    assert "drained in" in text, text[-2000:]
    return str(text)


@pytest.mark.parametrize("missing", VERBS)
def test_each_verb_is_needed(room: Kubectl, image: str, missing: str) -> None:
    """Server and client say which one is missing, and what it is wanted for."""
    left = [each for each in VERBS if each != missing]
    accounts = (
        manifests.account("server", looking(*left), manifests.READ_POD),
        manifests.account("client", looking(*left)),
    )
    started(room, image, *accounts)
    named = f'may not {missing} endpointslices.discovery.k8s.io in namespace "{room.namespace}"'
    until(lambda: f"reason='{named}" in room("logs", "deployment/caller"), BOUND, every=0.5)
    if missing == "list":  # then nothing is known of the service, and calls say so, too
        until(lambda: _told(room, named), BOUND, every=0.5)
    text = last_words(room, by_hand=True)
    assert named in text, text[-2000:]


def test_they_suffice(room: Kubectl, image: str) -> None:
    """Nothing is missed, by either."""
    started(
        room,
        image,
        manifests.account("server", looking(*VERBS), manifests.READ_POD),
        manifests.account("client", looking(*VERBS)),
    )
    until(lambda: _calls(room), BOUND, every=0.5)
    text = last_words(room)
    assert "may not" not in text, text
    assert "terminating in" in text, text
    assert "may not" not in room("logs", "deployment/caller")


def test_a_server_needs_none(room: Kubectl, image: str) -> None:
    """It goes by who comes back, and says once that it does."""
    started(room, image, manifests.account("server"), manifests.account("client", looking(*VERBS)))
    text = last_words(room)
    logged, _, report = text.partition("drained in")
    assert logged.count("may not list endpointslices") == 1, text
    assert report.count("may not list endpointslices") == 1, text
    assert "lossless" in text


def _told(room: Kubectl, what: str) -> bool:
    try:
        return any(what in str(each["details"]) for each in read(room, "caller").told)
    except AssertionError:
        return False


def _calls(room: Kubectl) -> bool:
    try:
        return read(room, "caller").calls > 0
    except AssertionError:
        return False
