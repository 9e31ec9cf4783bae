"""The cluster grows, shrinks and changes, by pods and the real EndpointSlice controller; calls go where the living are."""

import time
from functools import partial

import grpc
import pytest

from tests.integration._servers.waiting import AT_ONCE, until
from tests.kube._cluster.backends import Backends
from tests.kube._cluster.client import Client, Connect
from tests.kube._cluster.namespace import Namespace, Slice


def test_up_down_to_zero_and_back(reader: Namespace, backend: Backends, connect: Connect) -> None:
    """Each change of the pods is followed, an emptied service included: its calls fail at once and do not hang."""
    servers = [backend() for _ in range(3)]
    names = [f"web-{number}" for number in range(3)]
    reader.service("web")
    reader.pod(names[0], "web", servers[0].address)
    client = connect("kubernetes:///web:50051")
    assert client.until_answered() == servers[0].address
    for name, server in zip(names[1:], servers[1:], strict=True):
        reader.pod(name, "web", server.address)
    client.until_everyone({each.address for each in servers})
    reader.remove(names[0])
    client.until_everyone({each.address for each in servers[1:]})
    reader.remove(*names[1:])
    until(client.fails)
    _, _, took = client.refusal()
    assert took < AT_ONCE
    reader.pod("web-9", "web", servers[0].address)
    assert client.until_answered() == servers[0].address


def test_a_call_that_waits_for_ready_outlives_zero(reader: Namespace, backend: Backends, connect: Connect) -> None:
    server = backend()
    reader.service("web")
    client = connect("kubernetes:///web:50051")
    with pytest.raises(grpc.RpcError) as failed:
        client.call(0.5, wait=True)
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    reader.pod("web-0", "web", server.address)
    assert client.call(wait=True) == server.address


def test_readiness_is_followed(reader: Namespace, backend: Backends, connect: Connect) -> None:
    """A pod that is not ready gets no call; one that becomes ready does."""
    one, two = backend(), backend()
    reader.service("web")
    reader.pod("one", "web", one.address)
    reader.pod("two", "web", two.address, ready=False)
    client = connect("kubernetes:///web:50051")
    client.until_answered()
    assert client.everyone() == {one.address}
    reader.set_ready("two", True)
    client.until_everyone({one.address, two.address})
    reader.set_ready("one", False)
    client.until_everyone({two.address})


def test_a_terminating_pod_is_the_last_resort(reader: Namespace, backend: Backends, connect: Connect) -> None:
    """KEP-1669: while anyone is ready it gets no call, and when nobody is it gets them all."""
    one, two = backend(), backend()
    reader.service("web")
    reader.pod("one", "web", one.address)
    reader.pod("two", "web", two.address)
    client = connect("kubernetes:///web:50051")
    client.until_answered()
    client.until_everyone({one.address, two.address})
    with client.load() as load:
        reader.terminate("one")
        client.until_everyone({two.address})
        reader.terminate("two")
        # Both terminate now, and both serve on.
        client.until_everyone({one.address, two.address})
    assert load.failed == []


def test_a_rolling_update_loses_no_call(reader: Namespace, backend: Backends, connect: Connect) -> None:
    """Three pods are replaced one after another, as a Deployment would; the old ones leave the way drain's servers do."""
    old = [backend(graceful=True) for _ in range(3)]
    reader.service("web")
    for number, server in enumerate(old):
        reader.pod(f"old-{number}", "web", server.address)
    client = connect("kubernetes:///web:50051")
    client.until_answered()
    client.until_everyone({each.address for each in old})
    new = []
    with client.load() as load:
        for number, server in enumerate(old):
            new.append(backend(graceful=True))
            reader.pod(f"new-{number}", "web", new[-1].address)
            reader.terminate(f"old-{number}")
            server.drain()
            reader.remove(f"old-{number}")
        client.until_everyone({each.address for each in new})
    assert load.failed == []
    assert load.calls > 200


def answers(client: Client, wanted: str) -> bool:
    return client.call() == wanted


def test_a_change_arrives_in_milliseconds(reader: Namespace, backend: Backends, connect: Connect) -> None:
    """Not a measure, only a guard against polling: of ten changes the quickest few are far below what a poll would take."""
    one, two = backend(), backend()
    reader.put("web", Slice(name="web-1", addresses=[one.address]))
    client = connect("kubernetes:///web:50051")
    client.until_answered()
    took = []
    for number in range(10):
        wanted = (two, one)[number % 2].address
        reader.put("web", Slice(name="web-1", addresses=[wanted]))
        began = time.monotonic()
        until(partial(answers, client, wanted), every=0.0)
        took.append(time.monotonic() - began)
    assert sorted(took)[4] < 0.25, took
