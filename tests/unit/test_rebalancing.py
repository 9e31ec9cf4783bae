"""When a server rotates because its service has grown."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drain._core.rebalancing import Rebalancing

SPREAD, STILL, APART = 10.0, 2.0, 60.0
A, B, C, D = "abcd"


def machine(spread: float = SPREAD, still: float = STILL, apart: float = APART) -> Rebalancing:
    return Rebalancing(spread=spread, still=still, min_interval=apart)


def test_the_first_set_is_the_base() -> None:
    made = machine()
    assert made.due is None
    made.told({A, B}, -100, 0.5)
    assert made.due is None
    assert made.total == 2


def test_growth_is_answered_when_still_within_the_spread() -> None:
    made = machine()
    made.told({A}, -100, 0.9)
    made.told({A, B}, 100, 0.25)
    assert made.added == {B}
    assert made.due == 100 + STILL + 0.25 * SPREAD


@pytest.mark.parametrize(("chance", "later"), [(0.0, 0.0), (1.0, SPREAD)])
def test_the_whole_spread_is_used(chance: float, later: float) -> None:
    made = machine()
    made.told({A}, -100, 0.5)
    made.told({A, B}, 1, chance)
    assert made.due == 1 + STILL + later


def test_each_change_puts_it_off_but_draws_no_new_moment() -> None:
    made = machine()
    made.told({A}, -100, 0.5)
    made.told({A, B}, 10, 0.25)
    made.told({A, B, C}, 11, 0.75)
    assert made.due == 11 + STILL + 0.25 * SPREAD
    assert made.added == {B, C}


def test_a_change_within_the_spread_puts_it_off_as_well() -> None:
    made = machine()
    made.told({A}, -100, 0.5)
    made.told({A, B}, 10, 0.5)
    made.told({A, B, C}, 16, 0.5)
    assert made.due == 16 + STILL + 0.5 * SPREAD


def test_endpoints_that_never_stop_changing_put_it_off_by_the_min_interval_at_most() -> None:
    made = machine()
    made.told({A}, -100, 0.5)
    made.told({A, B}, 1, 0.0)
    for second in range(2, 200):
        made.told({A, B, C} if second % 2 else {A, B}, second, 0.0)
    assert made.due == 1 + APART + STILL


def test_the_same_set_again_is_no_change() -> None:
    made = machine()
    made.told({A}, -100, 0.5)
    made.told({A, B}, 10, 0.0)
    made.told({B, A}, 11, 0.0)
    assert made.due == 10 + STILL


def test_after_a_rotation_the_base_is_what_there_was() -> None:
    made = machine()
    made.told({A}, -100, 0.0)
    made.told({A, B}, 10, 0.0)
    made.rotated(12)
    assert made.due is None
    assert made.added == frozenset()


def test_growth_within_the_min_interval_is_answered_after_it() -> None:
    made = machine()
    made.told({A}, -100, 0.0)
    made.told({A, B}, 10, 0.0)
    made.rotated(12)
    made.told({A, B, C}, 20, 0.5)
    assert made.due == 12 + APART + 0.5 * SPREAD


def test_a_rotation_by_hand_counts_as_one() -> None:
    made = machine()
    made.told({A}, -100, 0.0)
    made.told({A, B}, 10, 0.0)
    made.rotated(11)  # before it was due
    assert made.due is None
    made.told({A, B, C}, 12, 0.0)
    assert made.due == 11 + APART


def test_a_rotation_before_anything_is_known_only_counts_for_the_interval() -> None:
    made = machine()
    made.rotated(0)
    made.told({A}, 1, 0.0)
    assert made.due is None
    made.told({A, B}, 12, 0.0)
    assert made.due == APART


def test_who_comes_and_goes_needs_no_rotation() -> None:
    made = machine()
    made.told({A}, -100, 0.0)
    made.told({A, B}, 10, 0.0)
    made.told({A}, 11, 0.0)
    assert made.due is None


def test_who_comes_and_goes_while_a_rotation_is_not_allowed_needs_none() -> None:
    made = machine()
    made.told({A}, -100, 0.0)
    made.rotated(1)
    made.told({A, B}, 10, 0.0)
    made.told({A}, 30, 0.0)
    assert made.due is None


def test_less_is_no_growth() -> None:
    made = machine()
    made.told({A, B, C}, -100, 0.0)
    made.told({A}, 10, 0.0)
    assert made.due is None


def test_one_for_another_is_growth() -> None:
    """A rollout: the new one has no connection."""
    made = machine()
    made.told({A, B}, -100, 0.0)
    made.told({A, C}, 10, 0.0)
    assert made.due == 10 + STILL


def test_an_empty_set_is_no_news() -> None:
    made = machine()
    made.told({A, B}, -100, 0.0)
    made.told(set(), 10, 0.0)
    made.told({A, B}, 100, 0.0)
    assert made.due is None


def test_an_empty_set_does_not_put_a_rotation_off() -> None:
    made = machine()
    made.told({A}, -100, 0.0)
    made.told({A, B}, 10, 0.0)
    made.told(set(), 11, 0.0)
    assert made.due == 10 + STILL


def test_an_empty_first_set_is_no_base() -> None:
    made = machine()
    made.told(set(), 0, 0.0)
    made.told({A, B}, 1, 0.0)
    assert made.due is None


def test_a_short_absence_is_none() -> None:
    """A readiness probe that failed once."""
    made = machine()
    made.told({A, B}, -100, 0.0)
    made.told({A}, 10, 0.0)
    made.told({A, B}, 11, 0.0)
    assert made.due is None


def test_who_was_away_for_long_has_lost_its_connections() -> None:
    made = machine()
    made.told({A, B}, -100, 0.0)
    made.told({A}, 10, 0.0)
    made.told({A, B}, 30, 0.0)
    assert made.due == 30 + STILL


def test_without_stillness_spread_and_interval_it_is_due_at_once() -> None:
    made = machine(0, 0, 0)
    made.told({A}, -100, 1.0)
    made.told({A, B}, 10, 1.0)
    assert made.due == 10
    made.rotated(10)
    made.told({A, B, C}, 10, 1.0)
    assert made.due == 10


def test_a_newcomer_is_part_of_the_growth_itself() -> None:
    """Who came a moment before others has nothing to give away: the old servers deal to all of them."""
    made = machine()
    made.told({A, B}, 0, 0.0)
    made.told({A, B, C}, SPREAD - 0.1, 0.0)
    assert made.due is None
    made.told({A, B, C, D}, SPREAD, 0.0)
    assert made.added == {D}


@dataclass(frozen=True)
class Step:
    after: float
    endpoints: frozenset[str]
    chance: float
    by_hand: bool


STEPS = st.lists(
    st.builds(
        Step,
        after=st.floats(0, 100),
        endpoints=st.frozensets(st.sampled_from("abcdef")),
        chance=st.floats(0, 1),
        by_hand=st.sampled_from([False, False, False, False, True]),
    ),
    max_size=30,
)


@given(STEPS, st.floats(0, 20), st.floats(0, 10), st.floats(0, 100))
def test_whatever_happens(steps: list[Step], spread: float, still: float, apart: float) -> None:
    """Rotations as a server would do them, against what is promised."""
    made = Rebalancing(spread=spread, still=still, min_interval=apart)
    now = 0.0
    last: float | None = None
    changed = grown = 0.0
    known, growing = frozenset[str](), False
    new_until: float | None = None
    for step in [*steps, Step(1000, frozenset(), 0, False)]:  # at last nothing happens any more
        then = now + step.after
        while (due := made.due) is not None and due <= then:
            at = max(due, now)
            assert made.added, "for a reason only"
            assert last is None or due >= last + apart, "not too soon after the last one"
            assert due >= min(changed, grown + apart) + still, "only when still"
            assert due <= max(min(changed, grown + apart) + still, (last or 0) + apart) + spread, "and not much later"
            made.rotated(at)
            last, now, growing = at, at, False
            assert made.due is None
        now = then
        if step.by_hand:
            made.rotated(now)
            last, growing = now, False
            assert made.due is None
        made.told(step.endpoints, now, step.chance)
        if step.endpoints and step.endpoints != known:
            new_until = new_until if new_until is not None else now + spread
            known, changed = step.endpoints, now
            grown = grown if growing else now
            assert now >= new_until or made.due is None, "a newcomer has nothing to give away"
        growing = bool(made.added)
        if made.due is not None:
            assert made.added <= step.endpoints or not step.endpoints
    assert made.due is None, "growth is not forgotten"


def test_a_rotation_that_failed_is_tried_again() -> None:
    made = machine(apart=1)
    made.told({A}, 0, 0.0)
    made.told({A, B}, 10, 0.0)
    made.failed(12, 5)
    assert made.due == 17
    assert made.added == {B}
