"""What is known of a target at one moment, for people and for monitoring."""

from dataclasses import dataclass
from typing import Any

from drain._core.endpoints import EndpointSet


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSnapshot:
    """One target that is being followed.

    Args:
        target: as it was written.
        version: grows with each difference.
        endpoints: the last good set; None: there was none yet.
        age: seconds since the last news from the source, which grows through an outage; None: there was none yet.
        failure: why it cannot be followed now; None: it is followed, or has just begun.
        failing_for: seconds since then; None: no failure.
        users: channels' configurations and watchers that use it.
    """

    target: str
    version: int = 0
    endpoints: EndpointSet | None = None
    age: float | None = None
    failure: str | None = None
    failing_for: float | None = None
    users: int = 0

    @property
    def stale(self) -> bool:
        """Whether the endpoints in use are those of before a failure that goes on."""
        return self.failure is not None and bool(self.endpoints)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "target": self.target,
            "endpoints": None if self.endpoints is None else [str(each) for each in self.endpoints.endpoints],
            "ready": None if self.endpoints is None else sum(each.ready for each in self.endpoints.endpoints),
            "age": self.age,
            "failure": self.failure,
            "failing_for": self.failing_for,
            "stale": self.stale,
            "users": self.users,
        }
