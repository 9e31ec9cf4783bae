"""The list and watch: every state meets every input, back-off by numbers, and that nobody is flooded."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drain._core import watching
from drain._core.watching import TABLE, Effect, Input, State, Watching, watch_seconds

JUDGED = {Input.CLOSED_EARLY, Input.CUT, Input.GONE_AGAIN}
SEEN = [what for what in Input if what not in JUDGED]
BLOCKING = {Effect.LIST, Effect.WATCH, Effect.READ, Effect.REST, Effect.SEEK, Effect.HANG_UP}
REQUESTS = {Effect.LIST, Effect.WATCH}


class Run:
    """A machine with a clock."""

    def __init__(self) -> None:
        self.machine = Watching()
        self.now = 1_000.0
        self.requests: list[float] = []

    def __call__(self, *inputs: Input, jitter: float = 1.0, retry_after: float = 0.0, away: bool = False) -> "Run":
        for what in inputs:
            outcome = self.machine.handle(what, self.now, jitter, retry_after=retry_after, away=away)
            self.effects, self.rest = outcome.effects, outcome.rest
            self.requests += [self.now for each in outcome.effects if each in REQUESTS]
        return self

    def after(self, seconds: float) -> "Run":
        self.now += seconds
        return self


def open_watch() -> Run:
    return Run()(Input.START, Input.LISTED, Input.OPENED)


@pytest.mark.parametrize(("state", "what"), list(product(State, Input)), ids=lambda each: each.name)
def test_every_state_takes_every_input(state: State, what: Input) -> None:
    """What is in the table happens; what is not leaves the state as it is, with nothing to do. Nothing raises."""
    machine = Watching()
    machine.state = state
    judged = machine.judge(what, 0.0)
    outcome = machine.handle(what, 0.0, 0.5)
    assert (machine.state, outcome.effects) == TABLE.get((state, judged), (state, ()))


def test_each_row_ends_in_something_that_leads_on() -> None:
    """One blocking effect, and it is the last: the driver always has a next input."""
    for key, (_, effects) in TABLE.items():
        assert [each in BLOCKING for each in effects] == [False] * (len(effects) - 1) + [True], key


def test_states_do_what_they_are_called() -> None:
    """The last effect belongs to the state."""
    doing = {
        State.LISTING: {Effect.LIST},
        State.WATCHING: {Effect.WATCH, Effect.READ},
        State.RESTING_TO_LIST: {Effect.REST},
        State.RESTING_TO_WATCH: {Effect.REST},
        State.SEEKING_TO_LIST: {Effect.SEEK},
        State.SEEKING_TO_WATCH: {Effect.SEEK},
        State.STOPPED: {Effect.HANG_UP},
    }
    for key, (after, effects) in TABLE.items():
        assert effects[-1] in doing[after], key


def test_what_can_happen_is_in_the_table() -> None:
    """Whatever a request, a rest or a search can come to has a row where it can come up: nothing gets stuck."""
    answers = {Input.BROKEN, Input.GONE, Input.GONE_AGAIN, Input.REFUSED, Input.RENEWED, Input.UNREACHABLE, Input.STOP}
    watched = {Input.OPENED, Input.EVENTS, Input.CLOSED, Input.CLOSED_EARLY, Input.CUT}
    possible = {
        State.IDLE: {Input.START, Input.STOP},
        State.LISTING: answers | {Input.LISTED},
        State.WATCHING: answers | watched,
        State.RESTING_TO_LIST: {Input.DUE, Input.AWAY, Input.STOP},
        State.RESTING_TO_WATCH: {Input.DUE, Input.AWAY, Input.STOP},
        State.SEEKING_TO_LIST: {Input.REACHABLE, Input.STOP},
        State.SEEKING_TO_WATCH: {Input.REACHABLE, Input.STOP},
        State.STOPPED: set(),
    }
    assert {(state, what) for state, inputs in possible.items() for what in inputs} == TABLE.keys()


def test_what_is_listed_is_told_before_the_watch_is_opened() -> None:
    """The first call waits for it."""
    assert Run()(Input.START, Input.LISTED).effects == (Effect.REPLACE, Effect.WATCH)


def test_back_off_doubles_to_its_bound() -> None:
    """0.8 s to 30 s; jitter takes at most a quarter away."""
    run, rests = Run()(Input.START), []
    for _ in range(8):
        rests.append(run(Input.REFUSED).rest)
        run.after(run.rest)(Input.DUE)
    assert rests == pytest.approx([0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30])
    assert Run()(Input.START)(Input.REFUSED, jitter=0.0).rest == pytest.approx(0.6)


@pytest.mark.parametrize(("healthy", "rest"), [(119, 3.2), (121, 0.8)])
def test_back_off_begins_anew_after_two_minutes_of_health(healthy: float, rest: float) -> None:
    """Clean closes and new watches in between are health."""
    run = Run()(Input.START, Input.REFUSED, Input.DUE, Input.REFUSED, Input.DUE, Input.LISTED, Input.OPENED)
    run.after(healthy / 2)(Input.EVENTS).after(healthy / 2)
    assert run(Input.REFUSED).rest == pytest.approx(rest)


@pytest.mark.parametrize(
    ("asked", "rest"), [(0, 0.8), (0.1, 0.8), (7, 7), (3_600, watching.LONGEST_RETRY_AFTER)], ids=str
)
def test_retry_after_is_honoured_and_bounded(asked: float, rest: float) -> None:
    """Never sooner than the server asks, or than the back-off; never later than a minute. And no new list."""
    run = Run()(Input.START, Input.LISTED)(Input.REFUSED, retry_after=asked)
    assert run.rest == pytest.approx(rest)
    assert run(Input.DUE).effects == (Effect.WATCH,)


def test_a_close_is_followed_at_once_and_an_early_one_after_a_rest() -> None:
    """Only the early one counts as a failure, and neither is told as one."""
    assert open_watch().after(watching.EARLY)(Input.CLOSED).effects == (Effect.WATCH,)
    early = open_watch().after(watching.EARLY - 0.1)(Input.CLOSED)
    assert (early.effects, early.rest) == ((Effect.REST,), pytest.approx(0.8))
    assert early(Input.DUE).effects == (Effect.WATCH,)


def test_a_cut_after_a_long_life_is_followed_at_once() -> None:
    """Most likely the server restarts: a rest would only be late. Soon after its opening it is a failure."""
    assert open_watch().after(100)(Input.BROKEN).effects == (Effect.WATCH,)
    assert open_watch().after(1)(Input.BROKEN).effects == (Effect.TELL_FAILURE, Effect.REST)
    assert open_watch().after(100)(Input.CLOSED, Input.BROKEN).effects == (Effect.TELL_FAILURE, Effect.REST)


def test_gone_lists_again_once() -> None:
    """At once the first time; a server that knows no version at all is left alone for a while."""
    run = open_watch().after(1)(Input.GONE)
    assert run.effects == (Effect.LIST,)
    run(Input.LISTED, Input.GONE)
    assert run.effects == (Effect.TELL_FAILURE, Effect.REST)
    run.after(30)(Input.DUE, Input.LISTED, Input.GONE)
    assert run.effects == (Effect.TELL_FAILURE, Effect.REST)
    run(Input.DUE, Input.LISTED, Input.OPENED).after(watching.EARLY)(Input.GONE)
    assert run.effects == (Effect.LIST,)


def test_gone_after_another_life_lists_at_once() -> None:
    """A watch that lived in between has made up for the last one."""
    run = open_watch()(Input.GONE, Input.LISTED, Input.OPENED).after(300)(Input.CLOSED, Input.GONE)
    assert run.effects == (Effect.LIST,)


def test_a_refusal_keeps_the_watch_where_it_was() -> None:
    """401, 403, 429 and 5xx of a watch do not cost a list."""
    assert open_watch()(Input.REFUSED, Input.DUE).effects == (Effect.WATCH,)
    assert Run()(Input.START, Input.REFUSED, Input.DUE).effects == (Effect.LIST,)


def test_a_renewed_token_is_tried_at_once_but_once() -> None:
    """A plugin that makes a new token each time must not make a flood."""
    run = Run()(Input.START, Input.RENEWED)
    assert run.effects == (Effect.LIST,)
    assert run(Input.RENEWED).effects == (Effect.TELL_FAILURE, Effect.REST)
    assert run(Input.DUE, Input.LISTED, Input.RENEWED).effects == (Effect.WATCH,)


@pytest.mark.parametrize("away", [True, False])
def test_a_server_that_returns_is_asked_often_for_a_while(away: bool) -> None:
    """At most a second apart for 15 s, without growing; then the back-off begins."""
    run = open_watch().after(1_000)(Input.BROKEN, Input.UNREACHABLE)
    assert run.effects == (Effect.TELL_FAILURE, Effect.SEEK)
    run.after(1)(Input.REACHABLE, away=away)
    rests = []
    for _ in range(22):
        rests.append(run(Input.REFUSED).rest)
        run.after(run.rest)(Input.DUE)
    assert max(rests[:14]) <= watching.RETURNED_BACKOFF
    assert rests[-4:] == sorted(rests[-4:])
    assert rests[-1] > 3


def test_a_port_that_answers_while_connections_fail_is_not_knocked_at_for_ever() -> None:
    """Then it rests like any failure; later it seeks again."""
    run = Run()(Input.START, Input.UNREACHABLE).after(0.5)(Input.REACHABLE, Input.UNREACHABLE)
    assert run.effects == (Effect.TELL_FAILURE, Effect.REST)
    run.after(watching.IN_VAIN)(Input.DUE, Input.UNREACHABLE)
    assert run.effects == (Effect.TELL_FAILURE, Effect.SEEK)
    run.after(3)(Input.REACHABLE, away=True)
    assert run(Input.UNREACHABLE).effects == (Effect.TELL_FAILURE, Effect.SEEK)


def test_a_watch_is_asked_to_last_five_to_ten_minutes() -> None:
    """So that an idle service costs less than a request in four minutes."""
    assert (watch_seconds(0), watch_seconds(1)) == (300, 600)


@given(st.lists(st.sampled_from(SEEN), max_size=60), st.floats(0, 1))
def test_stop_always_ends_it(inputs: list[Input], jitter: float) -> None:
    """From wherever it is, for good, and a rest is never longer than its bounds."""
    run = Run()
    for what in inputs:
        run(what, jitter=jitter)
        assert 0 <= run.rest <= 30
    run(Input.STOP, *inputs)
    assert run.machine.state is State.STOPPED


ANSWERS = [Input.CLOSED, Input.BROKEN, Input.REFUSED, Input.GONE, Input.RENEWED]


@given(st.lists(st.sampled_from(ANSWERS), min_size=40, max_size=40), st.floats(0, 1))
def test_a_bad_server_is_never_flooded(answers: list[Input], jitter: float) -> None:
    """Whatever it answers at once: few requests, and ever fewer. 40 of its answers take more than a minute."""
    run, began = Run()(Input.START), 1_000.0
    for answer in answers:
        if answer is Input.CLOSED and run.machine.state is State.LISTING:
            run(Input.LISTED)
        if answer is Input.CLOSED:
            run(Input.OPENED)
        run(answer, jitter=jitter)
        if Effect.REST in run.effects:
            run.after(run.rest)(Input.DUE)
    lists_and_opens = len(run.requests)
    rested = run.now - began
    steps = 0
    while sum(0.6 * 2**n if 0.8 * 2**n < 30 else 22.5 for n in range(steps)) <= rested:
        steps += 1
    # For a step: a list and a watch, and once in a while both again, for a new token or a version that is gone.
    assert lists_and_opens <= 4 * steps + 4
