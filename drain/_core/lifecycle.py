"""The life of a server as one table: (state, input) -> (state, effects).

A server is STARTING until it listens, SERVING or PAUSED while it works, and leaves in three phases:

- ANNOUNCING: still accepts everything, and lets the cluster learn that it is going;
- CLOSING: stops listening and tells every client to go (GOAWAY);
- FINISHING: lets the calls in flight end.

Inputs are what happens to it, effects what must be done about it. The table knows no time and no thread: phases.py judges
when a phase is over, `drain._driver` turns that into inputs and carries the effects out, in order. What is not in the table
changes nothing: a second DRAIN joins the first. What is in REFUSED the caller answers with an error.
ARCHITECTURE.md shows this table as a diagram; tests/unit/test_lifecycle.py checks that the two agree.
"""

import enum
from typing import TypeAlias

from drain.events import State


class Input(enum.Enum):
    """What can happen to a server."""

    STARTED = "started"
    START_FAILED = "start failed"
    PAUSE = "pause"
    RESUME = "resume"
    ROTATE = "rotate"
    DRAIN = "drain"
    LEAVE = "leave"  # a drain that does not announce: SIGINT, stop(grace), announce_timeout=0
    ANNOUNCED = "announced"  # the cluster knows, or the time for telling it is over
    CLOSED = "closed"  # nobody begins a call any more, or the time for waiting is over
    FINISHED = "finished"  # no call in flight
    TIME_UP = "time up"
    FORCE = "force"
    HALTED = "halted"  # grpc's own server has stopped


class Effect(enum.Enum):
    """What must be done, in the imperative."""

    ANSWER_SERVING = "answer SERVING"
    ANSWER_NOT_SERVING = "answer NOT_SERVING"
    TELL_HANDLERS = "tell handlers"
    ROTATE = "rotate"
    STOP_LISTENING = "stop listening"
    SEND_GOAWAY = "send GOAWAY"
    END_WATCHES = "end health Watches"
    CANCEL_CALLS = "cancel calls"
    STOP_SERVER = "stop server"
    REPORT = "report"


Outcome: TypeAlias = tuple[State, tuple[Effect, ...]]

_TELL = (Effect.TELL_HANDLERS, Effect.ANSWER_NOT_SERVING)
# Listening stops first: a server whose Listener is gone but whose socket listens accepts connections only to drop them.
_CLOSE = (Effect.STOP_LISTENING, Effect.SEND_GOAWAY)
_CUT = (Effect.CANCEL_CALLS, Effect.STOP_SERVER)

TABLE: dict[tuple[State, Input], Outcome] = {
    (State.STARTING, Input.STARTED): (State.SERVING, (Effect.ANSWER_SERVING,)),
    (State.STARTING, Input.START_FAILED): (State.STOPPED, (Effect.REPORT,)),
    (State.STARTING, Input.DRAIN): (State.STOPPED, (Effect.TELL_HANDLERS, Effect.REPORT)),
    (State.STARTING, Input.LEAVE): (State.STOPPED, (Effect.TELL_HANDLERS, Effect.REPORT)),
    (State.STARTING, Input.FORCE): (State.STOPPED, (Effect.TELL_HANDLERS, Effect.REPORT)),
    (State.SERVING, Input.PAUSE): (State.PAUSED, (Effect.ANSWER_NOT_SERVING, Effect.ROTATE)),
    (State.SERVING, Input.ROTATE): (State.SERVING, (Effect.ROTATE,)),
    (State.SERVING, Input.DRAIN): (State.ANNOUNCING, _TELL),
    (State.SERVING, Input.LEAVE): (State.CLOSING, _TELL + _CLOSE),
    (State.SERVING, Input.FORCE): (State.FINISHING, _TELL + (Effect.STOP_LISTENING,) + _CUT),
    (State.PAUSED, Input.RESUME): (State.SERVING, (Effect.ANSWER_SERVING,)),
    (State.PAUSED, Input.ROTATE): (State.PAUSED, (Effect.ROTATE,)),
    (State.PAUSED, Input.DRAIN): (State.ANNOUNCING, _TELL),
    (State.PAUSED, Input.LEAVE): (State.CLOSING, _TELL + _CLOSE),
    (State.PAUSED, Input.FORCE): (State.FINISHING, _TELL + (Effect.STOP_LISTENING,) + _CUT),
    (State.ANNOUNCING, Input.ROTATE): (State.ANNOUNCING, (Effect.ROTATE,)),
    (State.ANNOUNCING, Input.ANNOUNCED): (State.CLOSING, _CLOSE),
    (State.ANNOUNCING, Input.LEAVE): (State.CLOSING, _CLOSE),
    (State.ANNOUNCING, Input.FORCE): (State.FINISHING, (Effect.STOP_LISTENING,) + _CUT),
    (State.CLOSING, Input.CLOSED): (State.FINISHING, (Effect.END_WATCHES,)),
    (State.CLOSING, Input.FORCE): (State.FINISHING, _CUT),
    (State.FINISHING, Input.FINISHED): (State.FINISHING, (Effect.STOP_SERVER,)),
    (State.FINISHING, Input.TIME_UP): (State.FINISHING, _CUT),
    (State.FINISHING, Input.FORCE): (State.FINISHING, _CUT),
    (State.FINISHING, Input.HALTED): (State.STOPPED, (Effect.REPORT,)),
}

# What is answered with an error, and not passed over: before start nobody can be told, and a server that leaves stays away.
REFUSED = frozenset(
    {(state, what) for state in State if state.draining for what in (Input.PAUSE, Input.RESUME)}
    | {(State.STARTING, what) for what in (Input.PAUSE, Input.RESUME, Input.ROTATE)}
)


def handle(state: State, what: Input) -> Outcome:
    """The next state and what to do. An input that means nothing in a state leaves it as it is, with nothing to do."""
    return TABLE.get((state, what), (state, ()))
