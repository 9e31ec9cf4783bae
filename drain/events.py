"""What happens to a server, and to the targets of a client, as frozen values in the past tense.

`server.subscribe(callback)` and `drain.resolver.subscribe(callback)` hand them to the user's code;
`drain._observe.structlog_sink` turns each into one log event.
Times (`at`) are seconds of `time.monotonic()`, plus what a test's `drain.testing.Clock` has set forward; durations are seconds.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from drain.report import DrainReport


class State(enum.Enum):
    """Where a server stands. ANNOUNCING, CLOSING and FINISHING are the three phases of a drain."""

    STARTING = "starting"
    SERVING = "serving"
    PAUSED = "paused"
    ANNOUNCING = "announcing"
    CLOSING = "closing"
    FINISHING = "finishing"
    STOPPED = "stopped"

    @property
    def draining(self) -> bool:
        """True from the first moment of a drain on, and for ever after."""
        return self in (State.ANNOUNCING, State.CLOSING, State.FINISHING, State.STOPPED)


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The server moved from one state to another; `reason` is what moved it ("SIGTERM", "last call ended", ...)."""

    previous: State
    state: State
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class GoawayChosen:
    """How this server will say goodbye: `goaway` is "lossless" or "classic", `reason` why."""

    goaway: str
    reason: str


@dataclass(frozen=True, slots=True)
class FallbackTaken:
    """Something better was not to be had; `instead` is what is done now, `remedy` what would bring the better way back."""

    what: str
    instead: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class OptionOverridden:
    """The user's own channel argument differs from the one drain would have set; `used` is what counts."""

    name: str
    ours: object
    users: object
    used: object


@dataclass(frozen=True, slots=True)
class Rotated:
    """GOAWAY went out on every open connection while the server goes on accepting. `number` counts from 1."""

    number: int
    connections: int
    at: float


@dataclass(frozen=True, slots=True)
class Rebalanced:
    """The service has grown, by `added` ready endpoints to `total`: so many connections were told to go elsewhere, once."""

    added: int
    total: int
    connections: int
    at: float


@dataclass(frozen=True, slots=True)
class CallersReturned:
    """What a rotation showed: new calls (health and reflection apart) and connections that came after it."""

    rotation: int
    calls: int
    at: float
    connections: int = 0


@dataclass(frozen=True, slots=True)
class AnnouncingEnded:
    """`why`: "nobody came back", "endpoint left", "announce_timeout", "announce_delay", "skipped" or "forced"."""

    why: str
    rotations: int
    at: float


@dataclass(frozen=True, slots=True)
class EndpointSeen:
    """What the cluster says of this pod's own endpoint: `standing` is "listed", "left" or "unknown", `why` the details."""

    standing: str
    why: str
    at: float


@dataclass(frozen=True, slots=True)
class BudgetShortened:
    """The pod is killed sooner than its manifest says, `left` seconds from now: announcing and finishing share what there is."""

    left: float
    at: float


@dataclass(frozen=True, slots=True)
class Held:
    """Drained on behalf of a preStop hook or `drain drain`: `run()` waits for SIGTERM before it returns."""

    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class CallsCancelled:
    """Calls still in flight when the time was up were cancelled. `methods` as far as known."""

    calls: int
    methods: Mapping[str, int]
    at: float


@dataclass(frozen=True, slots=True)
class PeersCut:
    """Connections that were still open at the end (the peer never answered the GOAWAY) were closed by force."""

    peers: tuple[str, ...]
    at: float


@dataclass(frozen=True, slots=True)
class Drained:
    """The drain is over; the report says what it cost."""

    report: "DrainReport"


@dataclass(frozen=True, slots=True)
class StepFailed:
    """A step of the drain raised or outlasted its bound; the drain goes on without it."""

    step: str
    error: str
    at: float


# What a channel's targets go through (`drain.resolver.subscribe`).


@dataclass(frozen=True, slots=True)
class EndpointsChanged:
    """A target's endpoints differ from before: how many were added and removed, how many there are, how many of them ready.

    `behind`: seconds since the cluster saw the change that brought the latest of those added, as EndpointSlices say it, mostly to
    the second, by this machine's clock; None: nobody says, or it is the first set.
    """

    target: str
    added: int
    removed: int
    total: int
    ready: int
    at: float
    behind: float | None = None


@dataclass(frozen=True, slots=True)
class EndpointAdded:
    """An endpoint ("10.0.0.1:50051") is there, or its conditions changed. Not told of each one of a target's first set."""

    target: str
    endpoint: str
    ready: bool
    at: float


@dataclass(frozen=True, slots=True)
class EndpointRemoved:
    """An endpoint is gone."""

    target: str
    endpoint: str
    at: float


@dataclass(frozen=True, slots=True)
class WatchFailed:
    """A target cannot be followed now; the resolver goes on trying. `endpoints` of the last good set stay in use (0: none)."""

    target: str
    reason: str
    endpoints: int
    at: float


@dataclass(frozen=True, slots=True)
class EndpointsStale:
    """Since the watch failed, the endpoints in use are those of `age` seconds ago, the time of the last news."""

    target: str
    age: float
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class WatchRecovered:
    """A target is followed again, `after` seconds of failure."""

    target: str
    after: float
    at: float


@dataclass(frozen=True, slots=True)
class UpdateTaken:
    """grpc has taken all that is known of this target, `after` seconds since the news came. Of each channel's configuration."""

    target: str
    after: float
    at: float


@dataclass(frozen=True, slots=True)
class UpdateRefused:
    """grpc did not take an update of this target's resources (a NACK) and keeps what it had."""

    target: str
    reason: str
    at: float


ClientEvent: TypeAlias = (
    EndpointsChanged
    | EndpointAdded
    | EndpointRemoved
    | WatchFailed
    | EndpointsStale
    | WatchRecovered
    | UpdateTaken
    | UpdateRefused
)

Event: TypeAlias = (
    StateChanged
    | GoawayChosen
    | FallbackTaken
    | OptionOverridden
    | Rotated
    | Rebalanced
    | CallersReturned
    | AnnouncingEnded
    | EndpointSeen
    | BudgetShortened
    | Held
    | CallsCancelled
    | PeersCut
    | Drained
    | StepFailed
    | ClientEvent
)
