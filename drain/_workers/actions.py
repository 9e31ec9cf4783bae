"""What the fleet knows of a worker's process, and what it wants done. Pure."""

import enum
from dataclasses import dataclass
from typing import TypeAlias


class Life(enum.Enum):
    """Where a member stands, as its parent sees it."""

    STARTING = "starting"
    SERVING = "serving"
    RETIRING = "retiring"  # has a successor


@dataclass(slots=True)
class Member:
    """One process. Times are seconds of one monotonic clock.

    `kill_at`: when it is killed unless it is gone. `longest`: what its drain may take. `reserve`: what its pod has left
    then; 0: not known.
    """

    serial: int
    number: int
    began: float
    kill_at: float | None
    life: Life = Life.STARTING
    longest: float | None = None
    reserve: float = 0.0
    overdue: bool = False  # was killed, because its time was up
    nudge_at: float | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """Start a process."""

    serial: int
    number: int


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask a member to leave: "drain", or "replace" (a successor serves already)."""

    serial: int
    what: str
    reason: str
    announce: bool = True
    hold: bool = False


@dataclass(frozen=True, slots=True)
class Terminate:
    """Send SIGTERM."""

    serial: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Send SIGKILL."""

    serial: int


Action: TypeAlias = Start | Ask | Terminate | Kill
