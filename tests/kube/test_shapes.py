"""How a service can be cut into slices, and what of it a target means."""

import time

import pytest

import drain
from tests.integration._servers.waiting import AT_ONCE, until
from tests.kube._cluster.addresses import Addresses
from tests.kube._cluster.backends import Backends
from tests.kube._cluster.client import Connect
from tests.kube._cluster.follow import Follow
from tests.kube._cluster.namespace import Namespace, Slice


def fill(namespace: Namespace, service: str, hosts: list[str], *sizes: int) -> None:
    """Slices of these sizes."""
    begin = 0
    for number, size in enumerate(sizes):
        namespace.put(service, Slice(name=f"{service}-{number}", addresses=hosts[begin : begin + size]))
        begin += size


@pytest.mark.parametrize("sizes", [(100, 100, 50), (100,) * 50], ids=["250 in 3", "5000 in 50"])
def test_every_endpoint_of_every_slice_is_known(
    reader: Namespace, follow: Follow, addresses: Addresses, sizes: tuple[int, ...]
) -> None:
    """Found there at the start, and changed one slice at a time."""
    hosts = addresses.take(sum(sizes)) if sum(sizes) < 1000 else spread(sum(sizes))
    fill(reader, "many", hosts, *sizes)
    known = follow("kubernetes:///many:50051")
    known.until(hosts, 60)
    reader.put("many", Slice(name="many-1", addresses=hosts[100:199]))
    known.until(set(hosts) - {hosts[199]})
    reader.put("many", Slice(name="many-1", addresses=hosts[100:200]))
    known.until(hosts)
    reader.delete_slice("many-0")
    known.until(hosts[100:])


def spread(count: int) -> list[str]:
    """Addresses that nobody connects to: they need not be this machine's."""
    return [f"198.19.{128 + number // 250}.{number % 250 + 1}" for number in range(count)]


def test_250_endpoints_are_called(reader: Namespace, backend: Backends, connect: Connect, addresses: Addresses) -> None:
    """With a channel: the one server that listens is in the last of three slices, and is found among addresses that refuse."""
    server = backend()
    hosts = [*addresses.take(249), server.address]
    fill(reader, "many", hosts, 100, 100, 50)
    client = connect("kubernetes:///many:50051")
    assert client.call(30, wait=True) == server.address
    assert client.everyone(10) == {server.address}


def test_a_deleted_slice_takes_its_endpoints_along(reader: Namespace, backend: Backends, connect: Connect) -> None:
    """kuberesolver moves clients to the deleted addresses."""
    kept, gone = backend(), backend()
    reader.put("web", Slice(name="web-1", addresses=[kept.address]))
    reader.put("web", Slice(name="web-2", addresses=[gone.address]))
    client = connect("kubernetes:///web:50051")
    client.until_answered()
    client.until_everyone({kept.address, gone.address})
    reader.delete_slice("web-2")
    client.until_everyone({kept.address})
    reader.delete_slice("web-1")
    until(client.fails)
    reader.put("web", Slice(name="web-3", addresses=[gone.address]))
    assert client.until_answered() == gone.address


def test_a_service_is_deleted_and_made_again(reader: Namespace, backend: Backends, connect: Connect) -> None:
    """By the real controllers: the slices go and come with the service."""
    one, two = backend(), backend()
    reader.service("web")
    reader.pod("one", "web", one.address)
    client = connect("kubernetes:///web:50051")
    assert client.until_answered() == one.address
    reader.delete_service("web")
    until(client.fails)
    _, details, took = client.refusal()
    assert took < AT_ONCE
    assert "web" in details
    reader.remove("one")
    reader.pod("two", "web", two.address)
    reader.service("web")
    assert client.until_answered() == two.address


def test_a_pod_in_two_slices_is_one_endpoint(
    reader: Namespace, follow: Follow, backend: Backends, connect: Connect
) -> None:
    """As while the controller moves it from one slice to another; the younger slice knows better."""
    server = backend()
    reader.put("web", Slice(name="web-1", addresses=[server.address], pod="p"))
    reader.put("web", Slice(name="web-2", addresses=[server.address], pod="p", ready=False))
    known = follow("kubernetes:///web:50051")
    until(lambda: known.known is not None)
    assert {each: what.ready for each, what in (known.known or {}).items()} == {f"{server.address}:50051": False}
    reader.put("web", Slice(name="web-1", addresses=[server.address], pod="p", zone="z"))  # now web-1 is the younger
    known.until([server.address])
    assert list(known.known or ()) == [f"{server.address}:50051"]
    client = connect("kubernetes:///web:50051")
    assert client.until_answered() == server.address
    reader.delete_slice("web-1")
    until(lambda: known.ready == set())
    reader.delete_slice("web-2")
    until(lambda: not known.known)


def test_unsaid_readiness_is_ready(reader: Namespace, backend: Backends, connect: Connect) -> None:
    server = backend()
    reader.put("web", Slice(name="web-1", addresses=[server.address], ready=None))
    assert connect("kubernetes:///web:50051").until_answered() == server.address


def test_ports_by_name_number_and_alone(
    reader: Namespace, backend: Backends, connect: Connect, addresses: Addresses
) -> None:
    """A name means what each slice says it means; the same name can be another number in another slice."""
    here, there = addresses.take(2)
    old, new = backend(here, port=50051), backend(there, port=50052)
    reader.put("web", Slice(name="web-1", addresses=[here], ports={"grpc": 50051}))
    reader.put("web", Slice(name="web-2", addresses=[there], ports={"grpc": 50052}))
    named = connect("kubernetes:///web:grpc")
    named.until_answered()
    named.until_everyone({old.name, new.name})
    alone = connect("kubernetes:///web")
    alone.until_answered()
    alone.until_everyone({old.name, new.name})
    numbered = connect("kubernetes:///web:50052")
    assert numbered.until_answered() == new.name
    assert numbered.everyone() == {new.name}


def test_a_port_that_pods_name_differently(
    reader: Namespace, backend: Backends, connect: Connect, addresses: Addresses
) -> None:
    """By the real controller: `targetPort: grpc`, and two generations of pods that say which number that is."""
    first, second = addresses.take(2)
    servers = [backend(first, port=50051), backend(second, port=50052)]
    reader.service("web", ports={"api": "grpc"})
    reader.pod("one", "web", first, ports={"grpc": 50051})
    reader.pod("two", "web", second, ports={"grpc": 50052})
    client = connect("kubernetes:///web:api")
    client.until_answered()
    client.until_everyone({each.name for each in servers})


@pytest.mark.parametrize(
    "target",
    [
        "kubernetes:///web.{namespace}:50051",
        "kubernetes:///web.{namespace}.svc.cluster.local:grpc",
        "kubernetes://{namespace}/web:50051",
        "kubernetes://web.{namespace}:50051/",
    ],
)
def test_the_namespace_in_the_target(reader: Namespace, backend: Backends, follow: Follow, target: str) -> None:
    reader.put("web", Slice(name="web-1", addresses=["198.19.128.1"]))
    follow(target.format(namespace=reader.name)).until(["198.19.128.1"])


def test_dual_stack(reader: Namespace, backend: Backends, connect: Connect, follow: Follow) -> None:
    """The controller makes a slice for each family: they are the same pods, so one family is used."""
    server = backend()
    reader.service("web", families=("IPv4", "IPv6"))
    reader.pod("one", "web", [server.address, "fd00:198::1"])
    until(lambda: {each["addressType"] for each in reader.slices("web") if each["endpoints"]} == {"IPv4", "IPv6"})
    follow("kubernetes:///web:50051").until([server.address])
    follow("kubernetes:///web:50051?family=ipv6").until(["fd00:198::1"])
    client = connect("kubernetes:///web:50051")
    assert client.until_answered() == server.address
    assert client.everyone() == {server.address}


def test_ipv6_alone(reader: Namespace, follow: Follow) -> None:
    reader.put("web", Slice(name="web-1", addresses=["fd00:198::2"], family="IPv6"))
    follow("kubernetes:///web:50051").until(["fd00:198::2"])


def test_hints_choose_the_zone(reader: Namespace, backend: Backends, connect: Connect) -> None:
    """With hints on all endpoints each zone has its own; without a zone of one's own hints mean nothing."""
    near, far = backend(), backend()
    reader.put(
        "web",
        Slice(name="web-1", addresses=[near.address], zone="zone-a", hints=["zone-a"]),
        Slice(name="web-1", addresses=[far.address], zone="zone-b", hints=["zone-b"]),
    )
    here = connect("kubernetes:///web:50051", policy=drain.ClientPolicy(zone="zone-a"))
    assert here.until_answered() == near.address
    assert here.everyone() == {near.address}
    anywhere = connect("kubernetes:///web:50051")
    anywhere.until_answered()
    anywhere.until_everyone({near.address, far.address})


def test_the_own_zone_first_and_the_other_when_it_is_gone(
    reader: Namespace, backend: Backends, connect: Connect
) -> None:
    """By the real controller: zones come from the pods' nodes. Without a hint only who asks for it stays in its zone."""
    near, far = backend(), backend()
    reader.service("web")
    reader.pod("near", "web", near.address, node="node-a")
    reader.pod("far", "web", far.address, node="node-b")
    reader.until_slices("web", [near.address, far.address])
    here = connect("kubernetes:///web:50051", policy=drain.ClientPolicy(zone="zone-a", prefer_same_zone=True))
    assert here.until_answered() == near.address
    assert here.everyone() == {near.address}
    with here.load() as load:
        reader.terminate("near")
        here.until_everyone({far.address})
    assert load.failed == []


def test_a_subset(reader: Namespace, backend: Backends, connect: Connect) -> None:
    servers = [backend() for _ in range(4)]
    reader.put("web", Slice(name="web-1", addresses=[each.address for each in servers]))
    client = connect("kubernetes:///web:50051", policy=drain.ClientPolicy(subset_size=2, subset_key="me"))
    client.until_answered()
    until(lambda: len(client.everyone(20)) == 2)


def test_a_flood_of_changes_ends_right(reader: Namespace, follow: Follow) -> None:
    """A slice that changes 200 times as fast as the server takes it: the last state counts."""
    known = follow("kubernetes:///web:50051")
    for number in range(200):
        reader.put("web", Slice(name="web-1", addresses=[f"198.19.128.{number + 1}", "198.19.129.1"]))
    began = time.monotonic()
    known.until(["198.19.128.200", "198.19.129.1"])
    assert time.monotonic() - began < AT_ONCE
