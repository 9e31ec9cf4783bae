"""Endpoint sets, and which of them a channel uses."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drain._core.endpoints import Endpoint, EndpointSet, Locality, Preference, localities, place


def endpoint(number: int, **more: object) -> Endpoint:
    return Endpoint(**{"address": f"10.0.{number // 250}.{number % 250}", "port": 1, **more})  # type: ignore[arg-type]


def leaving(number: int, **more: object) -> Endpoint:
    return endpoint(number, **{"ready": False, "serving": True, "terminating": True, **more})


READY = endpoint(1)
NOT_READY = endpoint(2, ready=False, serving=False)
LEAVING = leaving(3)
GONE = leaving(4, serving=False)


def used(endpoints: list[Endpoint], **preference: object) -> list[list[Endpoint]]:
    """By priority."""
    found = localities(place(EndpointSet.of(endpoints), Preference(**preference)))  # type: ignore[arg-type]
    ranks: dict[int, list[Endpoint]] = {}
    for each in found:
        ranks.setdefault(each.priority, []).extend(each.endpoints)
    assert sorted(ranks) == list(range(len(ranks))), "grpc refuses a gap"
    return [ranks[each] for each in sorted(ranks)]


def why(endpoints: list[Endpoint], **preference: object) -> list[str]:
    return [each.why for each in place(EndpointSet.of(endpoints), Preference(**preference))]  # type: ignore[arg-type]


class TestEndpoint:
    def test_one_spelling(self) -> None:
        assert Endpoint(address="FD00::0001", port=1) == Endpoint(address="fd00::1", port=1)
        assert str(Endpoint(address="fd00::1", port=1)) == "[fd00::1]:1"
        assert str(READY) == "10.0.0.1:1"

    @pytest.mark.parametrize(
        "more", [{"address": "host"}, {"port": 0}, {"port": 65536}, {"port": "1"}, {"port": True}, {"weight": 0}]
    )
    def test_bad(self, more: dict[str, object]) -> None:
        with pytest.raises(ValueError, match=str(next(iter(more.values())))):
            endpoint(1, **more)


class TestEndpointSet:
    def test_each_address_once_and_the_better_one_wins(self) -> None:
        assert EndpointSet.of([endpoint(1, ready=False, serving=False), READY, leaving(1)]).endpoints == (READY,)
        assert EndpointSet.of([leaving(1, serving=False), leaving(1)]).endpoints == (leaving(1),)
        first, second = endpoint(1, zone="a"), endpoint(1, zone="b")
        assert EndpointSet.of([first, second]).endpoints == (first,)

    def test_two_ports_are_two_endpoints(self) -> None:
        assert len(EndpointSet.of([READY, replace(READY, port=2)])) == 2

    @given(st.permutations([endpoint(n) for n in (1, 2, 10, 300)] + [Endpoint(address="::1", port=1)]))
    def test_order_does_not_matter(self, endpoints: list[Endpoint]) -> None:
        assert [str(each) for each in EndpointSet.of(endpoints).endpoints] == [
            "10.0.0.1:1", "10.0.0.2:1", "10.0.0.10:1", "10.0.1.50:1", "[::1]:1",
        ]  # fmt: skip


class TestConditions:
    """KEP-1669."""

    def test_ready_ones_only(self) -> None:
        assert used([READY, NOT_READY, LEAVING, GONE]) == [[READY]]
        assert why([READY, NOT_READY, LEAVING, GONE]) == [
            "ready",
            "not ready",
            "terminating",
            "terminating, no longer serving",
        ]

    def test_terminating_ones_are_the_last_resort(self) -> None:
        assert used([NOT_READY, LEAVING, GONE]) == [[LEAVING]]
        assert why([NOT_READY, LEAVING])[1] == "terminating, but none is ready"

    def test_a_pod_that_is_merely_not_ready_is_no_last_resort(self) -> None:
        assert used([replace(NOT_READY, serving=True), GONE]) == []

    def test_none(self) -> None:
        assert used([]) == []


class TestZones:
    """KEP-2433, and xDS priorities for what is the failover."""

    NEAR, FAR, NOWHERE = endpoint(1, zone="a"), endpoint(2, zone="b"), endpoint(3)

    def test_no_preference_unless_asked(self) -> None:
        assert used([self.NEAR, self.FAR, self.NOWHERE], zone="a") == [[self.NOWHERE, self.NEAR, self.FAR]]
        assert used([self.NEAR, self.FAR], prefer_same_zone=True) == [[self.NEAR, self.FAR]]

    def test_own_zone_first(self) -> None:
        assert used([self.NEAR, self.FAR, self.NOWHERE], zone="a", prefer_same_zone=True) == [
            [self.NEAR],
            [self.NOWHERE, self.FAR],
        ]
        assert why([self.NEAR, self.FAR], zone="a", prefer_same_zone=True) == [
            "ready, own zone a",
            "ready, failover: other zone",
        ]

    def test_nobody_in_the_own_zone(self) -> None:
        assert used([self.FAR], zone="a", prefer_same_zone=True) == [[self.FAR]]

    def test_hints_select_without_being_asked(self) -> None:
        one, two = endpoint(1, zone="b", hints=frozenset({"a"})), endpoint(2, zone="a", hints=frozenset({"b"}))
        assert used([one, two], zone="a") == [[one], [two]]
        assert used([one, two], zone="b", prefer_same_zone=True) == [[two], [one]]
        assert used([one, two], zone="c") == [[two, one]], "hinted for none: all of them"
        assert used([one, two]) == [[two, one]]

    def test_hints_that_are_not_on_every_endpoint_do_not_count(self) -> None:
        """As kube-proxy has it: the controller is about to change them."""
        assert used([endpoint(1, hints=frozenset({"a"})), endpoint(2)], zone="a") == [
            [endpoint(1, hints=frozenset({"a"})), endpoint(2)]
        ]

    def test_localities(self) -> None:
        found = localities(
            place(EndpointSet.of([self.NEAR, self.FAR, self.NOWHERE]), Preference(zone="a", prefer_same_zone=True))
        )
        assert found == (
            Locality("a", 0, (self.NEAR,)),
            Locality("", 1, (self.NOWHERE,)),
            Locality("b", 1, (self.FAR,)),
        )


class TestSubset:
    """gRFC A68."""

    ALL = [endpoint(number) for number in range(1, 101)]

    def test_deterministic_and_different_for_each_client(self) -> None:
        one = used(self.ALL, subset_size=10, subset_key="one")[0]
        assert one == used(self.ALL[::-1], subset_size=10, subset_key="one")[0]
        assert one != used(self.ALL, subset_size=10, subset_key="two")[0]
        assert len(one) == 10
        assert why(self.ALL, subset_size=10, subset_key="one").count("not in the subset of 10") == 90

    def test_small_sets_are_taken_whole(self) -> None:
        assert used(self.ALL, subset_size=100)[0] == self.ALL

    def test_fair(self) -> None:
        counts = dict.fromkeys(self.ALL, 0)
        for client in range(200):
            for each in used(self.ALL, subset_size=10, subset_key=str(client))[0]:
                counts[each] += 1
        assert max(counts.values()) < 45, "20 on average"
        assert min(counts.values()) > 4

    @given(st.sets(st.integers(1, 60), min_size=8), st.integers(1, 60))
    def test_one_change_changes_one_member_at_most(self, numbers: set[int], number: int) -> None:
        def subset(numbers: set[int]) -> set[Endpoint]:
            return set(used([endpoint(each) for each in numbers], subset_size=5, subset_key="x")[0])

        assert len(subset(numbers) - subset(numbers ^ {number})) <= 1

    def test_the_own_zone_first(self) -> None:
        endpoints = [endpoint(number, zone="ab"[number % 2]) for number in range(1, 21)]
        near, far = used(endpoints, subset_size=12, zone="a", prefer_same_zone=True)
        assert (len(near), len(far)) == (10, 2)
        assert {each.zone for each in near} == {"a"}
