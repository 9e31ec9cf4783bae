"""The one time budget of a drain: what is configured fits, and what is told later is shared."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drain._core.budget import Budget

T = 1000.0  # when the drain began


def budget(grace: float | None = None, announcing: float = 8, finishing: float = 20, reserve: float = 2) -> Budget:
    return Budget(T, announcing=announcing, finishing=finishing, reserve=reserve, grace=grace)


def test_without_a_grace_period_the_phases_have_their_own_time() -> None:
    made = budget()
    assert (made.announce_until, made.over, made.total) == (T + 8, None, None)
    assert made.deadline(T + 3) == T + 23
    assert made.deadline(T + 8) == T + 28


def test_the_whole_is_bounded_by_the_grace_period() -> None:
    """Finishing has its own time, unless announcing began late: then the end comes first."""
    made = budget(30)
    assert made.total == 28
    assert made.deadline(T + 1) == T + 21
    assert made.deadline(T + 20) == T + 28


def test_a_shorter_grace_is_shared_in_the_same_proportion() -> None:
    made = budget(30)
    assert made.told(T + 1, 10)  # killed at T + 11: 2 s of reserve leave 9 s in all
    assert made.over == T + 9
    assert made.announce_until == pytest.approx(T + 9 * 8 / 28)
    assert made.deadline(T + 2) == T + 9


@pytest.mark.parametrize("left", [29, 30, 60, 3600])
def test_a_longer_grace_changes_nothing(left: float) -> None:
    made = budget(30)
    assert not made.told(T + 1, left)
    assert (made.over, made.announce_until) == (T + 28, T + 8)


def test_what_is_enough_for_all_phases_changes_nothing_where_no_period_was_known() -> None:
    made = budget()
    assert not made.told(T, 30)
    assert made.over is None


def test_a_very_short_grace_is_not_eaten_by_the_reserve() -> None:
    made = budget(30)
    assert made.told(T, 1)
    assert made.over == T + 0.75


def test_a_grace_that_is_over_ends_all_at_once() -> None:
    made = budget(30)
    assert made.told(T + 3, -5)
    assert made.over is not None
    assert made.over <= T + 3
    assert made.deadline(T + 3) <= T + 3


_SECONDS = st.floats(0, 600)


@given(
    announcing=_SECONDS,
    finishing=_SECONDS,
    reserve=st.floats(0, 30),
    spare=st.floats(0, 100),
    told=st.lists(st.tuples(st.floats(0, 60), st.floats(0, 700)), max_size=4),
    closing=_SECONDS,
)
def test_nothing_outlasts_what_was_told(
    announcing: float,
    finishing: float,
    reserve: float,
    spare: float,
    told: list[tuple[float, float]],
    closing: float,
) -> None:
    """Whatever is told, and when: the end is before every kill, never moves back, and announcing is over before it."""
    grace = announcing + finishing + reserve + spare
    made = budget(grace, announcing, finishing, reserve)
    ends = [T + grace - reserve]
    for at, left in sorted(told):
        made.told(T + at, left)
        assert made.over is not None
        assert made.over <= T + at + left + 1e-6
        ends.append(made.over)
    assert all(later <= earlier for earlier, later in itertools.pairwise(ends))
    assert made.announce_until <= ends[-1] + 1e-6 or math.isclose(announcing, 0)
    assert made.deadline(T + closing) <= ends[-1]
