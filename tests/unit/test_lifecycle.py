"""The life of a server: every state meets every input, and the diagram in ARCHITECTURE.md is the table."""

import re
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drain._core.lifecycle import REFUSED, TABLE, Effect, Input, handle
from drain.events import State

ARCHITECTURE = Path(__file__).parents[2] / "ARCHITECTURE.md"
EVERYTHING = list(product(State, Input))
LIFE = [  # in the order in which a server may go through them; SERVING and PAUSED alternate
    {State.STARTING},
    {State.SERVING, State.PAUSED},
    {State.ANNOUNCING},
    {State.CLOSING},
    {State.FINISHING},
    {State.STOPPED},
]
ENDINGS = (Input.DRAIN, Input.LEAVE, Input.FORCE)


def stage(state: State) -> int:
    """How far through its life a server is."""
    return next(number for number, states in enumerate(LIFE) if state in states)


@pytest.mark.parametrize(("state", "what"), EVERYTHING, ids=lambda each: each.name)
def test_every_state_takes_every_input(state: State, what: Input) -> None:
    """What is in the table happens; what is not leaves the state as it is, with nothing to do. Nothing raises."""
    assert handle(state, what) == TABLE.get((state, what), (state, ()))


def test_the_table_has_no_idle_rows() -> None:
    """A row that changes nothing and does nothing would be said by leaving it out."""
    assert not [key for key, (state, effects) in TABLE.items() if state is key[0] and not effects]


def test_nobody_comes_back() -> None:
    """No input leads a server back to an earlier stage of its life, and STOPPED is final."""
    assert not [key for key, (after, _) in TABLE.items() if stage(after) < stage(key[0])]
    assert not [key for key in TABLE if key[0] is State.STOPPED]


@pytest.mark.parametrize(
    ("state", "what", "after"),
    [
        (State.STARTING, Input.STARTED, State.SERVING),
        (State.STARTING, Input.START_FAILED, State.STOPPED),
        (State.SERVING, Input.PAUSE, State.PAUSED),
        (State.PAUSED, Input.RESUME, State.SERVING),
        (State.SERVING, Input.DRAIN, State.ANNOUNCING),
        (State.PAUSED, Input.DRAIN, State.ANNOUNCING),
        (State.SERVING, Input.LEAVE, State.CLOSING),
        (State.ANNOUNCING, Input.DRAIN, State.ANNOUNCING),
        (State.ANNOUNCING, Input.ANNOUNCED, State.CLOSING),
        (State.ANNOUNCING, Input.LEAVE, State.CLOSING),
        (State.CLOSING, Input.CLOSED, State.FINISHING),
        (State.FINISHING, Input.TIME_UP, State.FINISHING),
        (State.FINISHING, Input.HALTED, State.STOPPED),
        (State.STOPPED, Input.DRAIN, State.STOPPED),
    ],
)
def test_examples(state: State, what: Input, after: State) -> None:
    """The life as README tells it."""
    assert handle(state, what)[0] is after


@pytest.mark.parametrize("state", [state for state in State if stage(state) >= stage(State.ANNOUNCING)])
def test_a_second_drain_joins_the_first(state: State) -> None:
    """DRAIN of a server that is leaving does nothing."""
    assert handle(state, Input.DRAIN) == (state, ())


@pytest.mark.parametrize("state", [state for state in State if stage(state) >= stage(State.CLOSING)])
def test_leaving_at_once_joins_too(state: State) -> None:
    """LEAVE (SIGINT, stop) ends announcing, and after that changes nothing."""
    assert handle(state, Input.LEAVE) == (state, ())


@pytest.mark.parametrize("state", [state for state in State if state is not State.STOPPED])
def test_force_always_ends_it(state: State) -> None:
    """A forced end cancels the calls and then stops the server, whatever it was doing; one that never ran just ends."""
    after, effects = handle(state, Input.FORCE)
    if state is State.STARTING:
        assert (after, effects[-1]) == (State.STOPPED, Effect.REPORT)
    else:
        assert (after, effects[-2:]) == (State.FINISHING, (Effect.CANCEL_CALLS, Effect.STOP_SERVER))


def test_listening_stops_before_goaway() -> None:
    """A server without its Listener that still listens would accept connections only to drop them."""
    for key, (_, effects) in TABLE.items():
        if Effect.SEND_GOAWAY in effects:
            assert effects.index(Effect.STOP_LISTENING) < effects.index(Effect.SEND_GOAWAY), key


def test_health_tells_before_anything_is_done() -> None:
    """Where a drain begins, handlers are told and health flips before listening stops or calls are cut."""
    for state, what in product((State.SERVING, State.PAUSED), ENDINGS):
        assert handle(state, what)[1][:2] == (Effect.TELL_HANDLERS, Effect.ANSWER_NOT_SERVING)


def test_pause_and_resume_are_refused_while_leaving_and_starting() -> None:
    """Refused exactly where the server does not work: the caller gets an error instead of silence."""
    working = {State.SERVING, State.PAUSED}
    refused = {pair for pair in EVERYTHING if pair[0] not in working and pair[1] in (Input.PAUSE, Input.RESUME)}
    assert refused | {(State.STARTING, Input.ROTATE)} == REFUSED
    assert not REFUSED & TABLE.keys()


@given(st.lists(st.sampled_from(Input), max_size=40))
def test_every_life_ends_once(inputs: list[Input]) -> None:
    """Whatever happens in whatever order: told at most once, reported exactly when stopped, the server stopped before that."""
    state, done = State.STARTING, Counter[Effect]()
    for what in inputs:
        if what is Input.HALTED and not done[Effect.STOP_SERVER]:
            continue  # the driver says so of a server that it has stopped
        before = state
        state, effects = handle(state, what)
        done.update(effects)
        assert (Effect.REPORT in effects) == (state is State.STOPPED and before is not State.STOPPED)
        if Effect.REPORT in effects and before is not State.STARTING:
            assert done[Effect.STOP_SERVER]
    assert done[Effect.TELL_HANDLERS] <= 1
    assert done[Effect.REPORT] <= 1
    assert done[Effect.SEND_GOAWAY] <= 1
    assert done[Effect.STOP_LISTENING] <= 1


@given(st.lists(st.sampled_from(Input), max_size=12), st.sampled_from(ENDINGS))
def test_every_life_can_end(inputs: list[Input], ending: Input) -> None:
    """From wherever it is, an ending and the driver's own inputs lead to STOPPED: there is no trap."""
    state = State.STARTING
    for what in (*inputs, ending, Input.ANNOUNCED, Input.CLOSED, Input.FINISHED, Input.HALTED):
        state, _ = handle(state, what)
    assert state is State.STOPPED


def test_the_diagram_is_the_table() -> None:
    """ARCHITECTURE.md draws one arrow for every (state, input) that moves the server, and no other."""
    drawn = re.search(r"```mermaid\nstateDiagram-v2\n(.*?)```", ARCHITECTURE.read_text(), re.DOTALL)
    assert drawn is not None
    arrows = re.findall(r"^    ([A-Z]+) --> ([A-Z]+): (.+)$", drawn[1], re.MULTILINE)
    moves = {
        (before.name, after.name, what.value) for (before, what), (after, _) in TABLE.items() if before is not after
    }
    assert len(arrows) == len(set(arrows)), "an arrow is drawn twice"
    assert set(arrows) == moves
    assert "[*] --> STARTING" in drawn[1]
    assert "STOPPED --> [*]" in drawn[1]
