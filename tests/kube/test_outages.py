"""The API server dies and comes back; calls do not notice."""

import time

import pytest

import drain
from tests.integration._servers.waiting import AT_ONCE
from tests.kube._cluster.backends import Backends
from tests.kube._cluster.client import Connect
from tests.kube._cluster.cluster import Cluster
from tests.kube._cluster.follow import Follow
from tests.kube._cluster.namespace import Namespace, Slice


def test_a_restart_under_load(cluster: Cluster, reader: Namespace, backend: Backends, connect: Connect) -> None:
    """No call is lost, and what happened meanwhile is seen within 2 s of its return: the wait is not the back-off's."""
    one, two = backend(), backend()
    reader.put("web", Slice(name="web-1", addresses=[one.address]))
    target = f"kubernetes:///web.{reader.name}:50051"
    client = connect(target)
    client.until_answered()
    with client.load() as load, cluster.out_of_reach() as back:
        reader.put("web", Slice(name="web-1", addresses=[two.address]))
        known = next(each for each in drain.resolver.snapshot() if each.target == target)
        assert known.stale
        assert client.everyone(5) == {one.address}  # the last good set
        ready = back()
        client.until_everyone({two.address}, within=10)
        took = time.monotonic() - ready
    assert load.failed == []
    assert took < 4, f"{took:.2f} s after readyz"
    known = next(each for each in drain.resolver.snapshot() if each.target == target)
    assert known.failure is None


def test_a_channel_made_during_an_outage(
    cluster: Cluster, reader: Namespace, backend: Backends, connect: Connect
) -> None:
    """It says why its calls fail, at once, and works as soon as the API server does."""
    server = backend()
    reader.put("web", Slice(name="web-1", addresses=[server.address]))
    cluster.kill_apiserver()
    try:
        client = connect("kubernetes:///web:50051")
        code, details, took = client.refusal()
    finally:
        cluster.start_apiserver()
    ready = time.monotonic()
    assert code == "UNAVAILABLE"
    assert "cannot reach the API server" in details
    assert took < AT_ONCE
    client.until_answered()
    assert time.monotonic() - ready < 4


@pytest.mark.parametrize("restarts", [3])
def test_restarts_in_a_row_do_not_slow_it_down(
    cluster: Cluster, reader: Namespace, follow: Follow, restarts: int
) -> None:
    """kuberesolver's back-off never resets: 14 s to follow after the fourth outage."""
    known = follow("kubernetes:///web:50051")
    reader.put("web", Slice(name="web-1", addresses=["198.19.128.1"]))
    known.until(["198.19.128.1"])
    for number in range(restarts):
        ready = cluster.restart_apiserver()
        reader.put("web", Slice(name="web-1", addresses=[f"198.19.128.{number + 2}"]))
        known.until([f"198.19.128.{number + 2}"])
        assert time.monotonic() - ready < 4
