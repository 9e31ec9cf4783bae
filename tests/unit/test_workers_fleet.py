"""Which workers there should be: the fleet's decisions, with the time handed in."""

import random

import pytest

from drain._workers.actions import Ask, Kill, Start, Terminate
from drain._workers.backoff import FIRST, JITTER, MOST, PROVEN, Backoff
from drain._workers.fleet import ENDING, FORCED, MARGIN, NUDGE, SHARE, UNKNOWN_LONGEST, Fleet


class Even(random.Random):
    """No jitter."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def fleet(size: int = 2) -> Fleet:
    return Fleet(size, 60.0, Even())


def serving(size: int = 2, longest: float = 10.0) -> Fleet:
    """All serve; their serials are their numbers."""
    made = fleet(size)
    made.begin(0.0)
    for serial in range(size):
        assert made.serves(serial, longest, 1.0) == []
    return made


def test_backoff_doubles_to_its_most_and_is_reset_by_a_long_life() -> None:
    backoff = Backoff(Even())
    waits = [backoff.after(1.0) for _ in range(12)]
    assert waits[:4] == pytest.approx([FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST])
    assert waits[-1] == MOST
    assert backoff.after(PROVEN) == pytest.approx(FIRST)
    assert backoff.after(1.0) == pytest.approx(2 * FIRST)


def test_backoffs_jitter_stays_within_its_share() -> None:
    waits = [Backoff(random.Random(seed)).after(0.0) for seed in range(50)]
    assert len(set(waits)) > 40
    assert all(FIRST * (1 - JITTER) <= wait <= FIRST * (1 + JITTER) for wait in waits)


def test_all_are_started_at_once() -> None:
    made = fleet(3)
    assert made.begin(0.0) == [Start(0, 0), Start(1, 1), Start(2, 2)]
    assert made.wake == 60.0


def test_one_that_crashes_is_started_again_after_a_while() -> None:
    made = serving()
    assert made.gone(0, 5.0) == []
    assert made.restart_at(0) == pytest.approx(5.0 + FIRST)
    assert made.due(5.05) == []
    assert made.due(5.2) == [Start(2, 0)]
    made.gone(2, 5.3)
    assert made.restart_at(0) == pytest.approx(5.3 + 2 * FIRST)
    assert (made.restarts, made.restarts_of(0), made.restarts_of(1)) == (1, 1, 0)


def test_a_first_start_that_fails_ends_everything() -> None:
    made = fleet(3)
    made.begin(0.0)
    made.serves(0, 10.0, 1.0)
    actions = made.gone(1, 2.0)
    assert made.failed is not None
    assert made.failed.number == 1
    assert actions == [Ask(0, "drain", "worker 1 failed to start"), Terminate(2)]
    made.gone(0, 3.0)
    assert not made.over
    made.gone(2, 3.0)
    assert made.over


def test_a_place_that_has_served_once_may_fail_later() -> None:
    made = fleet(2)
    made.begin(0.0)
    made.serves(0, 10.0, 1.0)
    made.gone(0, 2.0)  # although worker 1 has not served yet
    assert made.failed is None
    assert made.due(3.0) == [Start(2, 0)]
    assert made.gone(2, 3.1) == []
    assert made.failed is None


def test_one_that_does_not_come_up_in_time_is_killed() -> None:
    made = fleet(1)
    made.begin(0.0)
    assert made.due(59.9) == []
    assert made.due(60.0) == [Kill(0)]
    assert made.members[0].overdue
    made.gone(0, 60.1)
    assert made.failed is not None


def test_all_leave_within_one_budget() -> None:
    made = serving(2, longest=10.0)
    assert made.leave(100.0, "SIGTERM") == [
        Ask(serial, "drain", "SIGTERM", announce=True, hold=False) for serial in (0, 1)
    ]
    made.gone(0, 101.0)
    assert made.wake == 100.0 + 10.0 + MARGIN
    assert made.due(112.0) == [Kill(1)]
    assert made.due(113.0) == [], "once"
    assert made.kills == 1
    made.gone(1, 112.1)
    assert made.over
    assert made.wake is None


@pytest.mark.parametrize(("reserve", "margin"), [(0.0, MARGIN), (1.0, SHARE), (2.0, 2 * SHARE), (60.0, MARGIN)])
def test_who_hangs_is_gone_before_the_pod_is_killed(reserve: float, margin: float) -> None:
    made = fleet(1)
    made.begin(0.0)
    made.serves(0, 28.0, 1.0, reserve=reserve)
    made.leave(100.0, "SIGTERM")
    assert made.wake == 128.0 + margin


def test_nothing_is_started_while_leaving() -> None:
    made = serving()
    made.gone(0, 5.0)
    made.leave(5.05, "SIGTERM")
    made.gone(1, 6.0)
    assert made.over
    assert made.due(50.0) == []
    assert made.replace(6.0) == []


def test_who_is_held_stays_until_another_word() -> None:
    made = serving(2, longest=10.0)
    assert made.leave(100.0, "preStop", hold=True) == [
        Ask(serial, "drain", "preStop", announce=True, hold=True) for serial in (0, 1)
    ]
    assert (made.held, made.wake) == (True, None)
    made.gone(0, 105.0)
    actions = made.leave(200.0, "SIGTERM")
    assert actions == [Ask(1, "drain", "SIGTERM", announce=True, hold=False)]
    assert made.wake == 200.0 + MARGIN, "the budget counts from the preStop hook"
    made.gone(1, 200.1)
    assert made.over


def test_who_was_let_go_is_not_held_again() -> None:
    made = serving()
    made.leave(0.0, "SIGTERM")
    made.leave(1.0, "preStop", hold=True)
    assert not made.held


def test_a_group_that_is_held_waits_even_where_all_have_gone() -> None:
    made = serving(1)
    made.leave(0.0, "preStop", hold=True)
    made.gone(0, 1.0)
    assert not made.over
    made.leave(2.0, "SIGTERM")
    assert made.over


def test_the_bound_of_one_that_had_not_told_its_own_is_corrected() -> None:
    made = fleet(2)
    made.begin(0.0)
    made.leave(10.0, "SIGTERM")
    assert made.wake == 10.0 + UNKNOWN_LONGEST + MARGIN
    assert made.serves(0, 5.0, 10.1) == [Ask(0, "drain", "SIGTERM", announce=True, hold=False)]
    assert made.due(17.0) == [Kill(0), Kill(1)]


def test_a_second_signal_nudges_until_all_are_gone() -> None:
    made = serving()
    made.leave(0.0, "SIGTERM")
    assert made.force(1.0) == [Terminate(0), Terminate(1)]
    assert made.due(1.0 + NUDGE) == [Terminate(0), Terminate(1)]
    made.gone(0, 1.15)
    assert made.due(1.0 + FORCED) == [Kill(1)]
    assert made.due(1.0 + FORCED + NUDGE) == []


def test_replacement_one_by_one() -> None:
    made = serving(2, longest=10.0)
    assert made.replace(100.0) == [Start(2, 0)]
    assert made.serves(2, 10.0, 101.0) == [Ask(0, "replace", "replaced")]
    assert made.wake == 101.0 + 10.0 + MARGIN
    assert made.gone(0, 102.0) == [Start(3, 1)]
    assert made.serves(3, 10.0, 103.0) == [Ask(1, "replace", "replaced")]
    assert made.replacing
    assert made.gone(1, 104.0) == []
    assert (made.replacing, made.replaced, made.restarts, made.round_failed) == (False, 2, 0, "")


def test_one_that_does_not_make_room_is_killed() -> None:
    made = serving(2, longest=10.0)
    made.replace(100.0)
    made.serves(2, 10.0, 101.0)
    assert made.due(113.0) == [Kill(0)]
    assert made.gone(0, 113.1) == [Start(3, 1)]


def test_a_successor_that_fails_ends_the_round_and_leaves_the_old_one() -> None:
    made = serving(2)
    made.replace(100.0)
    assert made.gone(2, 101.0) == []
    assert not made.replacing
    assert "worker 0" in made.round_failed
    assert made.restart_at(0) is None
    assert set(made.members) == {0, 1}
    assert made.replace(102.0) == [Start(3, 0)], "the next round begins anew"
    assert made.round_failed == ""


def test_one_that_crashes_while_its_successor_starts_needs_no_other() -> None:
    made = serving(2)
    made.replace(100.0)
    assert made.gone(0, 100.5) == []
    assert made.restart_at(0) is None
    assert made.serves(2, 10.0, 101.0) == [Start(3, 1)]


def test_both_gone_is_a_restart() -> None:
    made = serving(2)
    made.replace(100.0)
    made.gone(0, 100.5)
    made.gone(2, 101.0)
    assert made.restart_at(0) is not None
    assert made.due(102.0) == [Start(3, 0)]


def test_a_place_that_waits_for_its_restart_is_passed_over() -> None:
    made = serving(2)
    made.gone(0, 99.95)
    assert made.replace(100.0) == [Start(2, 1)]
    assert made.due(101.0) == [Start(3, 0)]


def test_a_second_round_comes_after_the_first() -> None:
    made = serving(1)
    assert made.replace(100.0) == [Start(1, 0)]
    assert made.replace(100.1) == []
    assert made.replace(100.2) == [], "two more are one more"
    made.serves(1, 10.0, 101.0)
    assert made.gone(0, 102.0) == [Start(2, 0)]
    made.serves(2, 10.0, 103.0)
    assert made.gone(1, 104.0) == []
    assert not made.replacing


def test_leaving_amid_a_replacement() -> None:
    made = serving(2, longest=10.0)
    made.replace(100.0)
    made.serves(2, 10.0, 101.0)  # 0 retires until 113
    actions = made.leave(105.0, "SIGTERM")
    assert {action.serial for action in actions if isinstance(action, Ask)} == {0, 1, 2}
    assert made.due(113.0) == [Kill(0)]
    assert made.gone(0, 113.1) == []
    assert made.due(117.0) == [Kill(1), Kill(2)]


def test_leaving_while_a_successor_starts() -> None:
    made = serving(2)
    made.replace(100.0)
    actions = made.leave(100.5, "SIGTERM")
    assert Terminate(2) in actions
    assert not made.replacing or made.leaving
    for serial in (2, 0, 1):
        assert made.gone(serial, 101.0) == []
    assert made.over
    assert made.round_failed == ""


def test_one_whose_work_is_over_has_a_bound_for_its_end() -> None:
    made = serving(1)
    made.ending(0, 5.0)
    assert made.due(5.0 + ENDING - 0.1) == []
    assert made.due(5.0 + ENDING) == [Kill(0)]
    made.gone(0, 15.1)
    assert made.restart_at(0) is not None
    made = serving(1, longest=1.0)
    made.leave(5.0, "SIGTERM")
    made.ending(0, 5.5)
    assert made.wake == 5.0 + 1.0 + MARGIN, "never later than the drain's own bound"


def test_news_of_one_that_is_gone_changes_nothing() -> None:
    made = serving()
    made.gone(0, 5.0)
    assert made.serves(0, 1.0, 5.1) == []
    assert made.gone(0, 5.2) == []
    assert made.gone(77, 5.2) == []
