"""What the cluster says of this pod's own endpoint: whether every service that had it has taken it out."""

import enum
from dataclasses import dataclass


class Standing(enum.Enum):
    """How the pod's own endpoint stands."""

    UNKNOWN = "unknown"  # no answer yet, or nobody may ask
    LISTED = "listed"  # some service still sends here
    LEFT = "left"  # not ready or terminating in every slice that has it, or in none


@dataclass(frozen=True, slots=True)
class View:
    """What is known now.

    Attributes:
        standing: see `Standing`.
        why: a few words for the report: "terminating in 2 slices", "not ready in 1 slice", "in no slice", or why nobody knows.
        grace: seconds that the pod had left before it is killed, as its own object said when it was read; None: not known.
    """

    standing: Standing = Standing.UNKNOWN
    why: str = ""
    grace: float | None = None
