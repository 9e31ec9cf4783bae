"""How one server stands at this moment: what the admin socket and `drain status` show."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from drain.events import State
from drain.report import DrainReport


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One look at a server. Durations in seconds; counts are calls, health and reflection apart.

    Attributes:
        addresses: what it listens on, as "host:port" or a socket's path.
        state: where it stands. since: seconds in that state.
        reason: what began the drain; empty before.
        time_left: until the drain is over at the latest; None: it does not drain, or nobody knows.
        longest: how long a drain may take in all.
        in_flight: calls not yet ended. in_flight_by_method: those whose handler is at work, as far as the method is known.
        threads: of its pool: how many calls its handlers can work on at once; None: asyncio, or a pool that does not say.
        peers: the other ends of its connections.
        goaway, goaway_reason: "lossless" or "classic", and why.
        rotations: GOAWAY rounds so far.
        endpoint: what the cluster says of this pod's own endpoint; empty: nobody has asked.
        held: drained, and waiting for SIGTERM.
        report: what the drain cost, once it is over.
    """

    addresses: tuple[str, ...]
    state: State
    since: float
    reason: str = ""
    time_left: float | None = None
    longest: float = 0.0
    in_flight: int = 0
    in_flight_by_method: Mapping[str, int] = field(default_factory=dict)
    threads: int | None = None
    peers: tuple[str, ...] = ()
    goaway: str = ""
    goaway_reason: str = ""
    rotations: int = 0
    endpoint: str = ""
    held: bool = False
    report: DrainReport | None = None

    def as_dict(self) -> dict[str, object]:
        """As plain JSON-able values."""
        return {
            **asdict(self),
            "state": self.state.value,
            "report": self.report.as_dict() if self.report is not None else None,
        }
