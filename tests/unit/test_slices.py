"""EndpointSlices joined: the rules of KEP-752, 1672 and 5504, and that the order of events does not matter.

Over 300 lines: a case for each rule.
"""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from drain._core.endpoints import EndpointSet
from drain._core.slices import Slices, version_order
from drain.errors import ResolutionError

GRPC = {"name": "grpc", "port": 9200, "protocol": "TCP"}
METRICS = {"name": "metrics", "port": 9090, "protocol": "TCP"}


def endpoint(*addresses: str, pod: str | None = None, **more: Any) -> dict[str, Any]:
    reference = {"kind": "Pod", "namespace": "shop", "name": pod, "uid": f"uid-{pod}"} if pod else None
    conditions = {name: more.pop(name) for name in ("ready", "serving", "terminating") if name in more}
    return {"addresses": list(addresses), "conditions": conditions, "targetRef": reference} | more


def a_slice(
    name: str, *endpoints: dict[str, Any], version: object = 1, ports: Any = (GRPC,), family: str = "IPv4"
) -> Any:
    return {
        "metadata": {"name": name, "resourceVersion": str(version)},
        "addressType": family,
        "ports": None if ports is None else list(ports),
        "endpoints": list(endpoints) or None,
    }


def joined(*slices: Any) -> Slices:
    return Slices("shop/geoipd").replaced(slices)


def shown(found: EndpointSet) -> list[str]:
    return [str(each) for each in found.endpoints]


def test_all_slices_together() -> None:
    """100 + 100 + 50 are 250: kuberesolver holds 50."""
    slices = joined(
        *(
            a_slice(f"s{n}", *(endpoint(f"10.0.{n}.{k}", pod=f"p{n}-{k}") for k in range(size)))
            for n, size in enumerate((100, 100, 50))
        )
    )
    assert len(slices.endpoints("grpc")) == 250


def test_an_endpoint_in_full() -> None:
    """Everything that is used of it."""
    raw = endpoint(
        "10.0.0.1", pod="geoipd-0", zone="a", nodeName="n1", hints={"forZones": [{"name": "a"}, {"name": "b"}]}
    )
    (found,) = joined(a_slice("s", raw)).endpoints(9200).endpoints
    assert (str(found), found.zone, found.node, found.name) == ("10.0.0.1:9200", "a", "n1", "pod/shop/geoipd-0")
    assert found.hints == {"a", "b"}


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, (True, True, False)),
        ({"ready": None, "serving": None, "terminating": None}, (True, True, False)),
        ({"ready": True}, (True, True, False)),
        ({"ready": False}, (False, False, False)),
        ({"ready": False, "serving": True, "terminating": True}, (False, True, True)),
        ({"ready": False, "serving": False, "terminating": True}, (False, False, True)),
        ({"ready": False, "serving": None, "terminating": True}, (False, False, True)),
        ({"ready": True, "serving": True, "terminating": True}, (False, True, True)),  # publishNotReadyAddresses
    ],
    ids=str,
)
def test_conditions(conditions: dict[str, Any], expected: tuple[bool, bool, bool]) -> None:
    """ready: null is ready; serving: null follows it; what terminates is not ready."""
    (found,) = joined(a_slice("s", endpoint("10.0.0.1", **conditions))).endpoints("grpc").endpoints
    assert (found.ready, found.serving, found.terminating) == expected


def test_a_pod_in_two_slices_is_taken_from_the_newer() -> None:
    """While the controller moves it. Versions are numbers: 100 is newer than 99, and of any length."""
    for old, new in ((99, 100), (9, 10), ("9" * 40, "1" + "0" * 40)):
        before = a_slice("a", endpoint("10.0.0.1", pod="p", ready=True), version=old)
        after = a_slice("b", endpoint("10.0.0.2", pod="p", ready=False), version=new)
        for order in ((before, after), (after, before)):
            found = joined(*order).endpoints("grpc").endpoints
            assert [(str(each), each.ready) for each in found] == [("10.0.0.2:9200", False)]


def test_a_pod_without_uid_is_known_by_name() -> None:
    """And without a name by its address: two unknown ones are two."""
    first, second = endpoint("10.0.0.1", pod="p"), endpoint("10.0.0.2", pod="p")
    del first["targetRef"]["uid"], second["targetRef"]["uid"]
    assert shown(joined(a_slice("a", first), a_slice("b", second, version=2)).endpoints("grpc")) == ["10.0.0.2:9200"]
    nameless = endpoint("10.0.0.1", targetRef={}), endpoint("10.0.0.2", targetRef={"kind": "Pod"})
    assert len(joined(a_slice("a", nameless[0]), a_slice("b", nameless[1])).endpoints("grpc")) == 2


def test_two_pods_with_one_address() -> None:
    """The ready one wins, whichever slice is newer."""
    going, coming = endpoint("10.0.0.1", pod="old", ready=False), endpoint("10.0.0.1", pod="new", ready=True)
    for versions in ((1, 2), (2, 1)):
        slices = joined(a_slice("a", going, version=versions[0]), a_slice("b", coming, version=versions[1]))
        (found,) = slices.endpoints("grpc").endpoints
        assert (found.ready, found.name) == (True, "pod/shop/new")


def test_one_pod_of_two_ports_in_two_slices() -> None:
    """Selector-less services do that: each port has it."""
    slices = joined(
        a_slice("a", endpoint("10.0.0.1", pod="p")), a_slice("b", endpoint("10.0.0.1", pod="p"), ports=[METRICS])
    )
    assert shown(slices.endpoints("grpc")) == ["10.0.0.1:9200"]
    assert shown(slices.endpoints(9090)) == ["10.0.0.1:9090"]


@pytest.mark.parametrize(
    ("four", "six", "family", "expected"),
    [
        ({}, {}, None, ["10.0.0.1:9200"]),
        ({}, {}, "ipv6", ["[fd00::1]:9200"]),
        ({}, {}, "ipv4", ["10.0.0.1:9200"]),
        ({"ready": False}, {}, None, ["[fd00::1]:9200"]),
        ({"ready": False, "serving": True, "terminating": True}, {}, None, ["[fd00::1]:9200"]),
        ({"ready": False, "serving": True, "terminating": True}, {"ready": False}, None, ["10.0.0.1:9200"]),
        ({"ready": False}, {"ready": False}, None, ["10.0.0.1:9200"]),
    ],
    ids=str,
)
def test_one_family(four: Any, six: Any, family: str | None, expected: list[str]) -> None:
    """A dual-stack pod is there once: by IPv4 where any can be used, else by IPv6, or as asked."""
    slices = joined(
        a_slice("four", endpoint("10.0.0.1", pod="p", **four)),
        a_slice("six", endpoint("fd00::1", pod="p", **six), family="IPv6", version=2),
    )
    assert shown(slices.endpoints("grpc", family)) == expected


def test_a_family_that_is_not_there() -> None:
    """Said, not answered with an empty set."""
    with pytest.raises(ResolutionError, match="shop/geoipd has no IPv6 EndpointSlice, only IPv4"):
        joined(a_slice("a", endpoint("10.0.0.1"))).endpoints("grpc", "ipv6")


def test_a_named_port_is_resolved_for_each_slice() -> None:
    """Pods may have the port of one name at different numbers; a number means those who have it."""
    other = {"name": "grpc", "port": 9300, "protocol": "TCP"}
    slices = joined(a_slice("a", endpoint("10.0.0.1")), a_slice("b", endpoint("10.0.0.2"), ports=[other]))
    assert shown(slices.endpoints("grpc")) == ["10.0.0.1:9200", "10.0.0.2:9300"]
    assert shown(slices.endpoints(None)) == ["10.0.0.1:9200", "10.0.0.2:9300"]
    assert shown(slices.endpoints(9300)) == ["10.0.0.2:9300"]


@pytest.mark.parametrize(
    ("port", "ports", "said"),
    [
        ("http", [GRPC, METRICS], 'port "http" of shop/geoipd: no such port; there are: grpc (9200), metrics (9090)'),
        (80, [GRPC, METRICS], "port 80 of shop/geoipd: no such port; there are: grpc (9200), metrics (9090)"),
        (None, [GRPC, METRICS], "shop/geoipd has several ports and the target names none; there are: grpc (9200), metrics (9090)"),
        ("grpc", [{"port": 9200}], 'port "grpc" of shop/geoipd: no such port; there are: 9200'),
        (53, [{"name": "dns", "port": 53, "protocol": "UDP"}], "port 53 of shop/geoipd: no such port; there are none (of TCP)"),
        ("grpc", [], 'port "grpc" of shop/geoipd: no such port; there are none (of TCP)'),
        (None, [], "shop/geoipd does not say which port it has: the target must give a number"),
        (None, [{"name": "any", "port": None}], "shop/geoipd does not say which port it has: the target must give a number"),
        ("any", [{"name": "any", "port": None}], 'port "any" of shop/geoipd: no such port; there are: any (any number)'),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_ports_are_answered_with_those_there_are(port: Any, ports: Any, said: str) -> None:
    """Exactly."""
    with pytest.raises(ResolutionError) as raised:
        joined(a_slice("a", endpoint("10.0.0.1"), ports=ports)).endpoints(port)
    assert str(raised.value) == said


@pytest.mark.parametrize("ports", [None, [], [{"name": "any", "port": None}], [{"port": 9200}]], ids=str)
def test_a_number_fits_where_no_port_contradicts(ports: Any) -> None:
    """`port: null` means all ports; a headless service without ports declares none."""
    assert shown(joined(a_slice("a", endpoint("10.0.0.1"), ports=ports)).endpoints(9200)) == ["10.0.0.1:9200"]


@pytest.mark.parametrize("port", ["grpc", 9200, None])
def test_an_emptied_service_is_an_empty_set(port: Any) -> None:
    """What its controller leaves behind declares no port: that is no error."""
    assert joined(a_slice("a", ports=None)).endpoints(port) == EndpointSet()
    assert joined(a_slice("a")).endpoints(port) == EndpointSet()
    assert joined().endpoints(port) == EndpointSet()


def test_an_empty_slice_without_ports_hides_no_wrong_port() -> None:
    """Beside one that declares ports it says nothing."""
    with pytest.raises(ResolutionError, match="no such port"):
        joined(a_slice("a", endpoint("10.0.0.1")), a_slice("b", ports=None)).endpoints(80)


def test_slices_of_host_names_are_refused_by_name() -> None:
    """Alone they are an error; beside others they are left out, and named."""
    names = a_slice("names", endpoint("geoipd.example"), family="FQDN")
    with pytest.raises(ResolutionError, match=r'EndpointSlice "names" of shop/geoipd has addressType FQDN'):
        joined(names).endpoints("grpc")
    both = joined(names, a_slice("a", endpoint("10.0.0.1")))
    assert shown(both.endpoints("grpc")) == ["10.0.0.1:9200"]
    assert both.skipped == ("names (addressType FQDN)",)


def test_what_is_no_address_is_named() -> None:
    """And does not take the others along. Neither do nulls."""
    bad = {"addresses": None}, endpoint(), {"addresses": ["10.0.0.300"], "conditions": None, "hints": None}
    ports = [GRPC, {"name": "bad", "port": 70_000}]
    slices = joined(a_slice("a", *bad, endpoint("10.0.0.1"), ports=ports), {}, {"metadata": None, "endpoints": None})
    assert shown(slices.endpoints("grpc")) == ["10.0.0.1:9200"]
    assert slices.skipped == ("a (address 10.0.0.300)", "a (port 70000)")


def test_several_addresses_of_one_endpoint() -> None:
    """All are used, as kuberesolver does; the API leaves their meaning open."""
    assert len(joined(a_slice("a", endpoint("10.0.0.1", "10.0.0.2", pod="p"))).endpoints("grpc")) == 2


@given(st.integers(min_value=0), st.integers(min_value=0))
def test_versions_are_numbers(first: int, second: int) -> None:
    """Of any length, leading zeros or not."""
    assert (version_order(first) < version_order(second)) == (first < second)
    assert version_order(f"00{first}") == version_order(str(first))


@pytest.mark.parametrize("version", [None, "", "abc", "-1", "1.5", "\u0663"])
def test_what_is_no_version_comes_first(version: object) -> None:
    """And breaks nothing."""
    assert version_order(version) <= version_order(0)


PODS = st.builds(
    endpoint,
    st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
    pod=st.sampled_from([None, "p", "q", "r"]),
    ready=st.sampled_from([None, True, False]),
    serving=st.sampled_from([None, True, False]),
    terminating=st.sampled_from([None, True, False]),
    zone=st.sampled_from([None, "a", "b"]),
)
SLICES = st.builds(
    lambda name, pods, ports: a_slice(name, *pods, ports=ports),
    st.sampled_from("abcd"),
    st.lists(PODS, max_size=4),
    st.sampled_from([(GRPC,), (GRPC, METRICS), ({"name": "grpc", "port": 9300},), None, ()]),
)


class Events(RuleBasedStateMachine):
    """Whatever comes in whatever order: the set is that of a fresh list of what exists."""

    def __init__(self) -> None:
        super().__init__()
        self.slices = Slices("shop/geoipd")
        self.exists: dict[str, Any] = {}
        self.version = 0

    @rule(raw=SLICES)
    def put(self, raw: Any) -> None:
        self.version += 1
        name = raw["metadata"]["name"]
        raw["metadata"]["resourceVersion"] = str(self.version)
        self.slices = self.slices.applied("MODIFIED" if name in self.exists else "ADDED", raw)
        self.exists[name] = raw

    @rule(name=st.sampled_from("abcd"))
    def delete(self, name: str) -> None:
        raw = self.exists.pop(name, a_slice(name))
        self.slices = self.slices.applied("DELETED", raw)

    @rule(name=st.sampled_from("abcd"))
    def repeat(self, name: str) -> None:
        """A watch that begins again may say what is known."""
        if name in self.exists:
            self.slices = self.slices.applied("ADDED", self.exists[name])

    @invariant()
    def same_as_a_list(self) -> None:
        forwards = Slices("shop/geoipd").replaced(self.exists.values())
        backwards = Slices("shop/geoipd").replaced(reversed(self.exists.values()))
        for port in ("grpc", 9200, 9090, None):
            expected = outcome(forwards, port)
            assert outcome(self.slices, port) == expected
            assert outcome(backwards, port) == expected

    @invariant()
    def a_proper_set(self) -> None:
        found = outcome(self.slices, "grpc")
        if isinstance(found, tuple):
            assert tuple(each for each in EndpointSet.of(found).endpoints) == found


def outcome(slices: Slices, port: Any) -> Any:
    try:
        return slices.endpoints(port).endpoints
    except ResolutionError as error:
        return str(error)


TestEvents = Events.TestCase


def test_a_change_among_many_is_cheap() -> None:
    """One of 50 slices of 100: only that one is parsed. Some 4 ms; the bound is for a busy machine."""
    raws = [
        a_slice(f"s{n}", *(endpoint(f"10.{n}.0.{k}", pod=f"p{n}-{k}") for k in range(100)), version=n)
        for n in range(50)
    ]
    slices = joined(*raws)
    assert len(slices.endpoints("grpc")) == 5_000
    took = []
    for version in range(100, 110):
        changed = raws[7] | {"metadata": {"name": "s7", "resourceVersion": str(version)}}
        began = time.perf_counter()
        slices = slices.applied("MODIFIED", changed)
        assert len(slices.endpoints("grpc")) == 5_000
        took.append(time.perf_counter() - began)
    assert min(took) < 0.02
