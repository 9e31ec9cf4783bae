"""When each phase is over: examples, and what holds whatever is observed and however late we look.

Over 300 lines: examples and properties of the same phases.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drain._core.phases import (
    AT_LEAST_ROTATIONS,
    DEAF,
    LINGER,
    Announcing,
    Closing,
    Finishing,
    FixedAnnouncing,
    Over,
    Rotate,
    Step,
    Wait,
)

DEFAULTS = {"at_least": 1.0, "at_most": 8.0, "interval": 0.5, "window": 0.3}
T = 1000.0  # when a phase begins


@dataclass
class Seen:
    """One look of the driver."""

    at: float
    begun: int
    step: Step
    rotation: int


def driven(
    announcing: Announcing, begun: Callable[[float], int], late: Iterator[float], *, start: float = T
) -> list[Seen]:
    """Drive a phase as the driver does: act on each step, look again when it says, `late` by so much."""
    now, seen = start, []
    for _ in range(2000):
        step = announcing.step(now, begun(now))
        seen.append(Seen(now, begun(now), step, announcing.rotations))
        if isinstance(step, Over):
            return seen
        if isinstance(step, Rotate):
            now += next(late) / 10  # a rotation takes a moment itself
            announcing.rotated(now)
        else:
            assert step.until > now, "a Wait that is over already would spin"
            now = step.until + next(late)
    raise AssertionError("the phase made no progress")


def never(value: float = 0.0) -> Iterator[float]:
    while True:
        yield value


class TestAnnouncing:
    """Rotate until nobody comes back."""

    def test_nobody_there(self) -> None:
        """An idle server rotates twice, half a second apart, and goes when announce_min is over."""
        seen = driven(Announcing(T, **DEFAULTS), lambda now: 7, never())
        assert [round(look.at - T, 3) for look in seen if isinstance(look.step, Rotate)] == [0.0, 0.5]
        assert seen[-1].step == Over("nobody came back")
        assert seen[-1].at - T == pytest.approx(1.0)

    def test_callers_that_come_back_are_waited_for(self) -> None:
        """While a balancer has not learned yet, calls begin after each rotation; the phase ends one window after the last."""
        announcing = Announcing(T, **DEFAULTS)
        seen = driven(announcing, lambda now: round((min(now, T + 3.0) - T) * 100), never())
        assert seen[-1].step == Over("nobody came back")
        assert 3.0 < seen[-1].at - T <= 3.0 + DEFAULTS["interval"] + DEFAULTS["window"]
        *busy, last = announcing.returned
        assert last == 0
        assert all(calls > 0 for calls in busy[:-1])

    def test_a_balancer_that_never_learns(self) -> None:
        """The bound holds, and the report can say why."""
        seen = driven(Announcing(T, **DEFAULTS), lambda now: round((now - T) * 100), never())
        assert seen[-1].step == Over("announce_timeout")
        assert seen[-1].at - T == pytest.approx(8.0)

    def test_calls_of_clients_that_have_not_read_their_goaway_yet(self) -> None:
        """What begins in the first tenth of a second came on the old connection: it is no return."""
        announcing = Announcing(T, **DEFAULTS)

        def begun(now: float) -> int:
            return sum(now >= T + rotated + DEAF / 2 for rotated in (0.0, 0.5))

        seen = driven(announcing, begun, never())
        assert announcing.returned == [0, 0]
        assert seen[-1].at - T == pytest.approx(1.0)

    def test_a_look_that_comes_late_has_seen_nothing(self) -> None:
        """A driver that was held up for the whole window (a pod at its CPU limit) has not observed that nobody came."""
        announcing = Announcing(T, **{**DEFAULTS, "at_least": 0.0})
        announcing.rotated(T)
        announcing.rotated(T + 0.5)
        held_up_until = T + 0.9
        assert isinstance(announcing.step(held_up_until, 100), Wait)
        assert isinstance(announcing.step(held_up_until + 0.3, 150), Rotate)
        assert announcing.returned[-1] == 50

    @given(
        at_least=st.floats(0, 2),
        span=st.floats(0, 3),
        interval=st.floats(0.05, 1),
        share=st.floats(0.1, 1),
        quiet_from=st.floats(0, 4),
        rate=st.integers(0, 50),
        lateness=st.lists(st.floats(0, 0.6), min_size=1, max_size=20),
    )
    def test_always(
        self,
        at_least: float,
        span: float,
        interval: float,
        share: float,
        quiet_from: float,
        rate: int,
        lateness: list[float],
    ) -> None:
        """Bounds, rotations and observation hold for any policy, any callers, any lateness."""
        window, at_most = interval * share, at_least + span
        announcing = Announcing(T, at_least=at_least, at_most=at_most, interval=interval, window=window)

        def begun(now: float) -> int:
            return int((min(now - T, quiet_from)) * rate)

        def late() -> Iterator[float]:
            while True:
                yield from lateness

        seen = driven(announcing, begun, late())
        over, at = seen[-1].step, seen[-1].at
        assert isinstance(over, Over)
        assert not over.cut
        assert len(announcing.returned) == announcing.rotations
        # Never late, but for the lateness of the one who looks.
        assert at <= T + at_most + max(lateness) + 1e-6
        if over.why == "announce_timeout":
            assert at >= T + at_most
            return
        assert over.why == "nobody came back"
        assert T + at_least <= at < T + at_most
        assert announcing.rotations >= AT_LEAST_ROTATIONS
        assert announcing.returned[-1] == 0
        # It really was observed: two looks after the last rotation, as far apart as the window without its deaf part.
        looks = [look for look in seen if look.rotation == announcing.rotations and not isinstance(look.step, Rotate)]
        listened = [look for look in looks if look.begun == seen[-1].begun]
        assert at - listened[0].at >= window - min(DEAF, window / 2) - 1e-6


class TestLongCalls:
    """A caller whose call is in flight cannot come back yet."""

    def left_after(self, busy: Callable[[float], int], ended: Callable[[float], int]) -> tuple[float, Over]:
        announcing = Announcing(T, **DEFAULTS)
        now = T
        for _ in range(2000):
            step = announcing.step(now, 7, ended=ended(now - T), busy=busy(now - T))
            if isinstance(step, Over):
                return now - T, step
            if isinstance(step, Rotate):
                announcing.rotated(now)
            else:
                now = step.until
        raise AssertionError("the phase made no progress")

    def test_unary_calls_are_waited_for(self) -> None:
        """Until they have ended, and a window after that."""
        took, step = self.left_after(lambda after: int(after < 2.7), lambda after: int(after >= 2.7))
        assert step == Over("nobody came back")
        assert 2.7 < took <= 2.7 + 2 * DEFAULTS["interval"]

    def test_one_that_never_ends(self) -> None:
        took, step = self.left_after(lambda after: 1, lambda after: 0)
        assert (took, step) == (pytest.approx(8.0), Over("announce_timeout"))

    def test_one_that_ended_just_now(self) -> None:
        """A stream, say: whoever had it may be about to come back."""
        took, step = self.left_after(lambda after: 0, lambda after: int(after > 0.95))
        assert step == Over("nobody came back")
        assert took > 0.95 + DEFAULTS["window"] - DEAF

    def test_streams_that_are_open_hold_nobody(self) -> None:
        took, _ = self.left_after(lambda after: 0, lambda after: 0)
        assert took == pytest.approx(1.0)


class TestOwnEndpoint:
    """Where it can be seen whether a service still lists this pod."""

    def quiet(self, listed: Callable[[float], bool | None], **changes: float) -> list[Seen]:
        """Nobody ever comes back; the endpoint stands as `listed(seconds)` says."""
        announcing = Announcing(T, **{**DEFAULTS, **changes})
        now, seen = T, []
        for _ in range(2000):
            step = announcing.step(now, 7, listed=listed(now - T))
            seen.append(Seen(now, 7, step, announcing.rotations))
            if isinstance(step, Over):
                return seen
            if isinstance(step, Rotate):
                announcing.rotated(now)
            else:
                now = step.until
        raise AssertionError("the phase made no progress")

    def test_what_cannot_be_seen_counts_for_nothing(self) -> None:
        assert self.quiet(lambda after: None)[-1].step == Over("nobody came back")

    def test_left_before_announce_min(self) -> None:
        """It was not what was waited for."""
        end = self.quiet(lambda after: after < 0.3)[-1]
        assert (end.step, end.at - T) == (Over("nobody came back"), pytest.approx(1.0))

    def test_a_listed_endpoint_is_waited_for(self) -> None:
        """Nobody comes back, and yet a service still sends here: clients that call seldom are not seen otherwise."""
        seen = self.quiet(lambda after: after < 3.2)
        assert seen[-1].step == Over("endpoint left")
        assert 3.2 <= seen[-1].at - T <= 3.2 + DEFAULTS["interval"] + DEFAULTS["window"]

    def test_an_endpoint_that_never_leaves(self) -> None:
        """The bound holds."""
        end = self.quiet(lambda after: True)[-1]
        assert (end.step, end.at - T) == (Over("announce_timeout"), pytest.approx(8.0))

    def test_one_that_is_lost_from_sight_is_waited_for_no_more(self) -> None:
        end = self.quiet(lambda after: True if after < 2.1 else None)[-1]
        assert end.step == Over("nobody came back"), "nobody has seen it leave"
        assert end.at - T < 3

    @pytest.mark.parametrize("left", [0.3, 0.9, 3.2])
    def test_who_follows_kubernetes_does_so_later(self, left: float) -> None:
        """kube-proxy's rules are up to a second older than the slices."""
        seen = self.quiet(lambda after: after < left, settle=2.0)
        known = next(look.at for look in seen if look.at - T >= left)
        assert seen[-1].step == Over("endpoint left")
        assert known + 2.0 <= seen[-1].at <= known + 2.0 + DEFAULTS["interval"] + DEFAULTS["window"]

    def test_one_that_had_left_before_the_first_look(self) -> None:
        """Its slice was changed when the pod was told to go, or before: announce_min is enough."""
        end = self.quiet(lambda after: False if after > 0.05 else None, settle=2.0)[-1]
        assert (end.step, end.at - T) == (Over("nobody came back"), pytest.approx(1.0))

    def test_a_first_answer_that_comes_late(self) -> None:
        """Nobody came back all the time, but calls were in flight; and then it has left, perhaps just now."""
        announcing = Announcing(T, **DEFAULTS, settle=2.0)
        announcing.step(T, 0, busy=1)
        announcing.rotated(T)
        announcing.step(T + 3.0, 0, busy=1)
        announcing.rotated(T + 3.0)
        assert isinstance(announcing.step(T + 3.1, 0, listed=False), Wait)
        assert announcing.step(T + 3.9, 0, listed=False) == Wait(pytest.approx(T + 5.1))
        assert announcing.step(T + 5.1, 0, listed=False) == Over("endpoint left")

    def test_who_comes_while_it_settles(self) -> None:
        """Is waited for."""
        announcing = Announcing(T, **DEFAULTS, settle=2.0)
        for at in (T, T + 0.5):
            announcing.step(at, 7, listed=True)
            announcing.rotated(at)
        announcing.step(T + 0.6, 7, listed=False)
        assert announcing.step(T + 1.0, 7, listed=False) == Wait(pytest.approx(T + 2.6))
        assert announcing.step(T + 2.6, 8, listed=False) == Rotate()

    def test_announce_timeout_is_no_later_for_that(self) -> None:
        end = self.quiet(lambda after: after < 7.2, settle=2.0)[-1]
        assert (end.step, end.at - T) == (Over("announce_timeout"), pytest.approx(8.0))

    @given(flips=st.lists(st.floats(0, 8), max_size=6), settle=st.floats(0, 3), at_least=st.floats(0, 2))
    def test_never_sooner_than_settle_after_it_was_seen_to_leave(
        self, flips: list[float], settle: float, at_least: float
    ) -> None:
        """However often it comes and goes."""
        shown: list[tuple[float, bool]] = []

        def listed(after: float) -> bool:
            answer = sum(flip <= after for flip in flips) % 2 == 0
            shown.append((T + after, answer))
            return answer

        over = self.quiet(listed, settle=settle, at_least=at_least)[-1]
        if over.step != Over("announce_timeout"):
            assert shown[-1][1] is False
            last = max((at for at, answer in shown if answer), default=T - 1)
            left = next(at for at, _ in shown if at > last)
            assert over.at >= left + (settle if last >= T else 0) - 1e-6

    def test_less_time_than_was_thought(self) -> None:
        announcing = Announcing(T, **DEFAULTS)
        announcing.rotated(T)
        announcing.end_by(T + 0.5)
        assert announcing.step(T + 0.5, 100) == Over("announce_timeout")
        announcing.end_by(T + 5)
        assert announcing.step(T + 0.6, 200) == Over("announce_timeout"), "it never grows again"


class TestFixedAnnouncing:
    """The classic way: a delay, or the endpoint's leaving and `settle`."""

    def seeing(self, at_least: float = 0.0) -> FixedAnnouncing:
        return FixedAnnouncing(T, delay=5, settle=2, at_least=at_least, at_most=8)

    def test_settle_counts_from_the_leaving(self) -> None:
        announcing = self.seeing()
        assert announcing.step(T, 0, listed=None) == Wait(T + 5)
        assert announcing.step(T + 0.1, 0, listed=True) == Wait(T + 8)
        assert announcing.step(T + 0.5, 0, listed=False) == Wait(T + 2.5)
        assert announcing.step(T + 2.5, 0, listed=False) == Over("endpoint left")

    def test_one_that_comes_back_begins_anew(self) -> None:
        announcing = self.seeing()
        announcing.step(T, 0, listed=False)
        announcing.step(T + 1.9, 0, listed=True)
        assert announcing.step(T + 2, 0, listed=False) == Wait(T + 4)

    def test_one_that_never_leaves(self) -> None:
        announcing = self.seeing()
        assert announcing.step(T + 8, 0, listed=True) == Over("announce_timeout")

    def test_one_that_is_lost_from_sight(self) -> None:
        """The delay counts again, from the beginning."""
        announcing = self.seeing()
        announcing.step(T + 1, 0, listed=True)
        assert announcing.step(T + 2, 0, listed=None) == Wait(T + 5)
        assert announcing.step(T + 6, 0, listed=None) == Over("announce_delay")

    def test_never_before_announce_min(self) -> None:
        announcing = self.seeing(at_least=4)
        assert announcing.step(T, 0, listed=False) == Wait(T + 4)

    def test_less_time_than_was_thought(self) -> None:
        announcing = self.seeing()
        announcing.end_by(T + 1)
        assert announcing.step(T, 0, listed=False) == Wait(T + 1)
        assert announcing.step(T + 1, 0, listed=False) == Over("announce_timeout")

    @given(st.floats(0, 30), st.floats(0, 40), st.integers(0, 1000))
    def test_over_when_the_delay_has_passed(self, delay: float, passed: float, begun: int) -> None:
        """Whatever is observed."""
        step = FixedAnnouncing(T, delay=delay).step(T + passed, begun)
        assert step == (Over("announce_delay") if T + passed >= T + delay else Wait(T + delay))


class TestClosing:
    """The classic way, after listening has stopped."""

    def test_quiet(self) -> None:
        """Over when no call has begun for the quiet period; a call begins it anew."""
        closing = Closing(T, quiet=0.5, latest=T + 10)
        assert closing.step(T, 1) == Wait(T + 0.5)
        assert closing.step(T + 0.4, 2) == Wait(T + 0.9)
        assert closing.step(T + 0.9, 2) == Over("quiet")

    def test_never_quiet(self) -> None:
        """Bounded."""
        closing = Closing(T, quiet=0.5, latest=T + 2)
        looks = (closing.step(T + tenths / 10, tenths) for tenths in range(100))
        assert next(step for step in looks if isinstance(step, Over)) == Over("still called")

    @given(
        quiet=st.floats(0, 2),
        latest=st.floats(0, 5),
        looks=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=60),
    )
    def test_always(self, quiet: float, latest: float, looks: list[tuple[float, int]]) -> None:
        """It is over by `latest`, not before `quiet` has passed, and a Wait is always in the future."""
        closing, now, begun, last_call = Closing(T, quiet=quiet, latest=T + latest), T, 0, T
        for passed, calls in looks:
            now, begun = now + passed, begun + calls
            last_call = now if calls else last_call
            step = closing.step(now, begun)
            if isinstance(step, Over):
                assert now >= T + latest or now >= last_call + quiet - 1e-6
                return
            assert isinstance(step, Wait)
            assert now < step.until <= T + latest


class TestFinishing:
    """Until nothing is in flight and nobody is connected."""

    def test_all_gone(self) -> None:
        """Over at once, and nothing is cut."""
        assert Finishing(T + 20).step(T, 0, 0) == Over("last call ended")

    def test_a_call_that_never_ends(self) -> None:
        """It has until the deadline, and is cut then."""
        finishing = Finishing(T + 20)
        assert finishing.step(T, 1, 1) == Wait(T + 20)
        assert finishing.step(T + 20, 1, 1) == Over("drain_timeout", cut=True)

    def test_a_peer_that_never_answers(self) -> None:
        """With no call in flight it has `LINGER` seconds; a call that comes on it meanwhile begins them anew."""
        finishing = Finishing(T + 20)
        assert finishing.step(T, 0, 1) == Wait(T + LINGER)
        assert finishing.step(T + 0.9, 1, 1) == Wait(T + 20)
        assert finishing.step(T + 1.0, 0, 1) == Wait(T + 1.0 + LINGER)
        assert finishing.step(T + 1.0 + LINGER, 0, 1) == Over("GOAWAY unanswered")

    def test_classic_waits_for_no_peer(self) -> None:
        """Nobody was told to go."""
        assert Finishing(T + 20, linger=0.0).step(T, 0, 1) == Over("last call ended")

    def test_the_deadline_may_come_nearer(self) -> None:
        """`stop(grace)` of a server that is leaving already: the most restrictive grace counts."""
        finishing = Finishing(T + 20)
        assert finishing.step(T, 1, 1) == Wait(T + 20)
        finishing.deadline = T + 1
        assert finishing.step(T + 1, 1, 1) == Over("drain_timeout", cut=True)

    @given(
        allowed=st.floats(0, 5),
        looks=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60),
    )
    def test_always(self, allowed: float, looks: list[tuple[float, int, int]]) -> None:
        """Calls are cut at the deadline and never before, peers alone are never called cut, and a Wait is in the future."""
        finishing, now = Finishing(T + allowed), T
        for passed, in_flight, peers in looks:
            now += passed
            step = finishing.step(now, in_flight, peers)
            if isinstance(step, Over):
                assert step.cut == (in_flight > 0)
                assert not step.cut or now >= T + allowed
                return
            assert isinstance(step, Wait)
            assert now < step.until <= T + allowed
            assert in_flight or peers
