"""When `--standalone` returns, and why. Pure: the time is handed in."""

from drain._core.own_endpoint import Standing, View
from drain._prestop.exits import DRAINED, TIMEOUT
from drain._prestop.options import Options

PATIENCE = (
    2.0  # seconds without an answer that are borne when --delay is over: as long as the longest pause between attempts
)
_NOT_YET = "nobody has answered yet"


class Judgement:
    """Not thread safe. Times are seconds of one monotonic clock.

    Args:
        options: its timeout, settle and delay. began: from when on they count.
    """

    def __init__(self, options: Options, began: float) -> None:
        self._options = options
        self._deadline, self._delayed = began + options.timeout, began + options.delay
        self._view: View | None = None
        self._left_at: float | None = None
        self._blind, self._blind_at = _NOT_YET, began  # empty: we know

    def seen(self, view: View, now: float) -> None:
        """The endpoint stands so."""
        if view.standing is Standing.UNKNOWN:
            self.unseen(view.why or _NOT_YET, now)
            return
        self._view, self._blind = view, ""
        if view.standing is Standing.LISTED:
            self._left_at = None
        elif self._left_at is None:
            self._left_at = now

    def unseen(self, why: str, now: float) -> None:
        """Nobody knows now."""
        if not self._blind:
            self._blind_at = now
        self._blind = why

    @property
    def due(self) -> float:
        """When to return, if nothing else is seen before."""
        if self._left_at is not None:  # and if nobody knows now: it has left all the same
            return min(self._left_at + self._options.settle, self._deadline)
        if not self._blind:
            return self._deadline
        patience = self._blind_at + PATIENCE if self._view is not None else self._delayed
        return min(max(self._delayed, patience), self._deadline)

    def verdict(self, now: float) -> tuple[int, str]:
        """The exit code, and why, at the moment that was due."""
        if self._left_at is not None and self._view is not None:
            since = now - self._left_at
            return DRAINED, f"the endpoint has left: {self._view.why}, for {since:.1f} s"
        if not self._blind and self._view is not None:
            return (
                TIMEOUT,
                f"the timeout of {self._options.timeout:g} s is over, and the endpoint is still {self._view.why}",
            )
        return (
            DRAINED,
            f"the delay of {self._options.delay:g} s is over, and the endpoint cannot be looked at: {self._blind}",
        )
