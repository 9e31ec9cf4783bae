"""A list and watch of the Kubernetes API as one table: (state, input) -> (state, effects).

It lists once, then watches from the list's resourceVersion, and begins a new watch wherever an old one ended; 410 Gone (the
version is too old) is normal life and means listing again. After a failure it waits (RESTING), and goes on where it was: with a
list or with a watch. An API server that cannot be reached at all is a case of its own (SEEKING): the driver knocks at its port,
which costs the server nothing, and so the back-off need not be waited out when it returns. It does so too while it rests after a
connection that broke, since the server may have died with it.

Inputs are what the driver (`drain._kube.reflector`) saw, effects what it must do, in order; the last one leads to the next
input. Some inputs mean different things at different times: `judge` tells a watch that was closed at once from one that had
lived. What is not in the table changes nothing. Pure: time and chance are handed in.
Sources: client-go's reflector and kubernetes.io/docs/reference/using-api/api-concepts (efficient detection of changes).
"""

import enum
from dataclasses import dataclass
from typing import TypeAlias

FIRST_BACKOFF, LONGEST_BACKOFF = 0.8, 30.0  # seconds; client-go's reflector has the same
HEALTHY = 120.0  # seconds without a failure after which the back-off begins anew; the same
EARLY = 5.0  # seconds: a watch that ends sooner counts as a failure, or a server that closes each one would be flooded
RETURNED = 15.0  # seconds after an API server's return in which it may still refuse (RBAC not loaded yet) ...
RETURNED_BACKOFF = 1.0  # ... and is asked this often
IN_VAIN = 30.0  # seconds before seeking is tried again where the port answers and connections fail all the same
LONGEST_RETRY_AFTER = 60.0  # seconds: more is not believed
SILENCE = 90.0  # seconds without a byte: where bookmarks come, they come every 60 s, so the connection is dead
# Seconds a watch is asked to last; spread, so that a thousand clients do not return at once.
_WATCH_LEAST, _WATCH_SPREAD = 300.0, 300.0


class State(enum.Enum):
    """What a watch is at."""

    IDLE = "idle"
    LISTING = "listing"
    WATCHING = "watching"
    RESTING_TO_LIST = "resting, then list"
    RESTING_TO_WATCH = "resting, then watch"
    SEEKING_TO_LIST = "seeking, then list"
    SEEKING_TO_WATCH = "seeking, then watch"
    STOPPED = "stopped"


class Input(enum.Enum):
    """What can happen to it. Those marked * are judged, and never handed in."""

    START = "start"
    LISTED = "listed"
    OPENED = "opened"  # the watch was answered with 200
    EVENTS = "events"  # one or more, bookmarks included
    CLOSED = "closed"  # by the server, in good order
    CLOSED_EARLY = "closed early"  # *
    BROKEN = "broken"  # cut, silent, truncated, no JSON
    CUT = "cut"  # * broken, after it had lived
    GONE = "gone"  # 410
    GONE_AGAIN = "gone again"  # * and no watch has lived since it was listed for the same reason
    REFUSED = "refused"  # 401, 403, 429, 5xx and whatever else is not an answer
    RENEWED = "renewed"  # 401, but there is a newer token
    UNREACHABLE = "unreachable"  # no connection to be had
    DUE = "due"  # rested
    AWAY = "away"  # the port does not answer, as was seen while resting
    REACHABLE = "reachable"  # the port answers
    STOP = "stop"


class Effect(enum.Enum):
    """What must be done, in the imperative."""

    REPLACE = "replace all by what was listed, and tell"
    APPLY = "apply the events, and tell"
    TELL_FAILURE = "tell the failure"
    TELL_RECOVERY = "tell again what is known, if a failure was told"
    LIST = "list"
    WATCH = "watch"
    READ = "read"
    REST = "rest"
    SEEK = "seek"
    HANG_UP = "hang up"


Row: TypeAlias = tuple[State, tuple[Effect, ...]]

_FAIL = (Effect.TELL_FAILURE, Effect.REST)
_LOSE = (Effect.TELL_FAILURE, Effect.SEEK)

TABLE: dict[tuple[State, Input], Row] = {
    (State.IDLE, Input.START): (State.LISTING, (Effect.LIST,)),
    (State.LISTING, Input.LISTED): (State.WATCHING, (Effect.REPLACE, Effect.WATCH)),
    (State.LISTING, Input.RENEWED): (State.LISTING, (Effect.LIST,)),
    (State.LISTING, Input.BROKEN): (State.RESTING_TO_LIST, _FAIL),
    (State.LISTING, Input.REFUSED): (State.RESTING_TO_LIST, _FAIL),
    (State.LISTING, Input.GONE): (State.RESTING_TO_LIST, _FAIL),
    (State.LISTING, Input.GONE_AGAIN): (State.RESTING_TO_LIST, _FAIL),
    (State.LISTING, Input.UNREACHABLE): (State.SEEKING_TO_LIST, _LOSE),
    (State.WATCHING, Input.OPENED): (State.WATCHING, (Effect.TELL_RECOVERY, Effect.READ)),
    (State.WATCHING, Input.EVENTS): (State.WATCHING, (Effect.APPLY, Effect.READ)),
    (State.WATCHING, Input.CLOSED): (State.WATCHING, (Effect.WATCH,)),
    (State.WATCHING, Input.CUT): (State.WATCHING, (Effect.WATCH,)),
    (State.WATCHING, Input.RENEWED): (State.WATCHING, (Effect.WATCH,)),
    # No failure to tell: each such watch brings what changed, only later.
    (State.WATCHING, Input.CLOSED_EARLY): (State.RESTING_TO_WATCH, (Effect.REST,)),
    (State.WATCHING, Input.BROKEN): (State.RESTING_TO_WATCH, _FAIL),
    (State.WATCHING, Input.REFUSED): (State.RESTING_TO_WATCH, _FAIL),
    (State.WATCHING, Input.UNREACHABLE): (State.SEEKING_TO_WATCH, _LOSE),
    (State.WATCHING, Input.GONE): (State.LISTING, (Effect.LIST,)),
    (State.WATCHING, Input.GONE_AGAIN): (State.RESTING_TO_LIST, _FAIL),
    (State.RESTING_TO_LIST, Input.DUE): (State.LISTING, (Effect.LIST,)),
    (State.RESTING_TO_WATCH, Input.DUE): (State.WATCHING, (Effect.WATCH,)),
    (State.RESTING_TO_LIST, Input.AWAY): (State.SEEKING_TO_LIST, _LOSE),
    (State.RESTING_TO_WATCH, Input.AWAY): (State.SEEKING_TO_WATCH, _LOSE),
    (State.SEEKING_TO_LIST, Input.REACHABLE): (State.LISTING, (Effect.LIST,)),
    (State.SEEKING_TO_WATCH, Input.REACHABLE): (State.WATCHING, (Effect.WATCH,)),
} | {(state, Input.STOP): (State.STOPPED, (Effect.HANG_UP,)) for state in State if state is not State.STOPPED}


def watch_seconds(jitter: float) -> int:
    """How long the server is asked to let a watch live. `jitter`: from 0 to 1."""
    return int(_WATCH_LEAST + _WATCH_SPREAD * jitter)


_ENDS = frozenset(Input) - {
    Input.START, Input.LISTED, Input.OPENED, Input.EVENTS, Input.DUE, Input.AWAY, Input.REACHABLE, Input.STOP,
}  # fmt: skip
"""What a list or watch ends by, unless it is asked to."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to do, in order; `rest` is for how many seconds, where that is among it; `ended`: by what a list or watch did."""

    effects: tuple[Effect, ...]
    rest: float = 0.0
    ended: Input | None = None


class Watching:
    """Where one list and watch stands. Not safe for several threads: it belongs to the driver's."""

    def __init__(self) -> None:
        self.state = State.IDLE
        self._failures = 0  # in a row, as the back-off counts them
        self._healthy_since: float | None = None
        self._opened_at: float | None = None  # the watch that is open
        self._relisted = False  # because of 410, and no watch has lived since
        self._returned_at: float | None = None  # the API server was away, or may have been
        self._sought_in_vain_at: float | None = None  # the port answered at once, so seeking is not what helps
        self._renewed = False

    def handle(
        self, what: Input, now: float, jitter: float, *, retry_after: float = 0.0, away: bool = False
    ) -> Outcome:
        """Takes an input, and says what to do.

        Args:
            now: seconds of a monotonic clock.
            jitter: from 0 to 1, another one each time.
            retry_after: seconds, as the server asked with REFUSED.
            away: with REACHABLE: it had not answered before.
        """
        what = self.judge(what, now)
        self._remember(what, now, away)
        self.state, effects = TABLE.get((self.state, what), (self.state, ()))
        if Effect.WATCH in effects or Effect.LIST in effects:
            self._opened_at = None
        rest = self._rest(now, jitter, retry_after) if Effect.REST in effects else 0.0
        return Outcome(effects, rest, what if effects and what in _ENDS else None)

    def judge(self, what: Input, now: float) -> Input:
        """What an input means now."""
        lived = self._opened_at is not None and now - self._opened_at >= EARLY
        if what is Input.CLOSED and not lived:
            return Input.CLOSED_EARLY
        if what is Input.BROKEN and lived:
            return Input.CUT
        if what is Input.GONE and self._relisted and not lived:
            return Input.GONE_AGAIN
        if (
            what is Input.UNREACHABLE
            and self._sought_in_vain_at is not None
            and now - self._sought_in_vain_at < IN_VAIN
        ):
            return Input.BROKEN
        if what is Input.RENEWED and self._renewed:
            return Input.REFUSED
        return what

    def _remember(self, what: Input, now: float, away: bool) -> None:
        if what in (Input.LISTED, Input.OPENED):
            self._sought_in_vain_at, self._renewed = None, False
        if what is Input.OPENED:
            self._opened_at = now
            self._healthy_since = now if self._healthy_since is None else self._healthy_since
        elif what is Input.GONE:
            self._relisted = True
        elif what is Input.RENEWED:
            self._renewed = True
        elif what is Input.REACHABLE:
            self._sought_in_vain_at = None if away else now
            self._returned_at = now if away else self._returned_at
        elif what in (Input.UNREACHABLE, Input.AWAY):
            self._returned_at = now  # even if it is back before we look
            self._sicken(now)
        elif what in (Input.CUT, Input.CLOSED) and self._opened_at is not None:
            self._relisted = False

    def _sicken(self, now: float) -> None:
        if self._healthy_since is not None and now - self._healthy_since >= HEALTHY:
            self._failures = 0
        self._healthy_since = None

    def _rest(self, now: float, jitter: float, retry_after: float) -> float:
        self._sicken(now)
        longest: float = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(self._failures, 10))
        if self._returned_at is not None and now - self._returned_at < RETURNED:
            longest = min(longest, RETURNED_BACKOFF)
        else:
            self._failures += 1
        return max(longest * (0.75 + 0.25 * jitter), min(retry_after, LONGEST_RETRY_AFTER))
