"""Who holds a process that has drained, and who lets it go."""

import pytest

from drain._hold import Hold


def test_without_a_hold_the_end_is_the_end() -> None:
    hold = Hold()
    freed = hold.freed()
    hold.draining()
    assert not freed.done()
    hold.stopped()
    assert freed.done()
    assert not hold.holds
    assert hold.freed().done(), "who asks later is told at once"


def test_held_until_somebody_asks_without() -> None:
    hold = Hold()
    freed = hold.freed()
    hold.want(True)
    hold.draining()
    hold.stopped()
    assert hold.holds
    assert not freed.done()
    hold.want(False)
    assert freed.done()
    assert not hold.holds


def test_whoever_hears_of_the_end_can_ask_whether_it_is_held() -> None:
    """The end is told before the process is let go."""
    held, free = Hold(), Hold()
    held.want(True)
    for hold in (held, free):
        hold.draining()
        hold.stopping()
    assert (held.holds, free.holds) == (True, False)


def test_only_who_begins_a_drain_may_hold() -> None:
    """After SIGTERM a late hook must not keep the process."""
    hold = Hold()
    hold.want(False)
    hold.draining()
    hold.want(True)
    hold.stopped()
    assert hold.freed().done()


def test_a_second_hook_does_not_free() -> None:
    hold = Hold()
    hold.want(True)
    hold.draining()
    hold.want(True)
    hold.stopped()
    assert hold.holds


def test_sigterm_amid_a_drain_frees_its_end() -> None:
    hold = Hold()
    hold.want(True)
    hold.draining()
    hold.want(False)
    hold.stopped()
    assert hold.freed().done()


@pytest.mark.parametrize("wanted", [True, False])
def test_who_has_given_up_is_passed_over(wanted: bool) -> None:
    hold = Hold()
    hold.freed().cancel()
    kept = hold.freed()
    hold.want(wanted)
    hold.stopped()
    hold.want(False)
    assert kept.done()
