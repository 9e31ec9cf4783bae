"""When a server whose service has grown tells its connections to go elsewhere, once. Pure: times and chances are handed in.

Behind a layer-4 balancer a connection stays where it once went, so new servers idle. A rotation (GOAWAY to every connection,
while serving) has the clients connect anew, and the balancer deals the connections out again.
"""

from collections.abc import Hashable
from collections.abc import Set as AbstractSet


class Rebalancing:
    """One server's machine. Not thread safe. Times are seconds of one monotonic clock, durations seconds.

    The **base** is the set over which connections are spread: the first that is told, and what there was at each rotation.
    Endpoints beyond it are growth, and growth is answered by one rotation:

    - when nothing has changed for `still`: a rollout adds many. Endpoints that never stop changing put it off by `min_interval`
      at most;
    - at a moment within the next `spread`, by `chance` (0 - 1): all servers see the growth at the same time;
    - `min_interval` after the last rotation at the earliest, by whomever it was. Growth meanwhile is answered then.

    What comes and goes again before that needs nothing. What comes within `spread` of the first set joins the base: a server that
    has just come is itself part of the growth that the others answer now, and would only throw back what they deal to it. An
    endpoint that has been away for `still` is out of the base: it lost its connections, so its return is growth. An empty set is
    no news: an outage of all endpoints, or of whoever lists them, must not make every server rotate when it is over.

    Args:
        spread, still, min_interval: see `drain.RebalancePolicy`.
    """

    def __init__(self, *, spread: float, still: float, min_interval: float) -> None:
        self._spread, self._still, self._min_interval = spread, still, min_interval
        self._base: frozenset[Hashable] | None = None
        self._new_until = 0.0
        self._known: frozenset[Hashable] = frozenset()
        self._changed_at = 0.0
        self._grown_at = 0.0
        self._chance = 0.0
        self._allowed_at: float | None = None

    def told(self, endpoints: AbstractSet[Hashable], now: float, chance: float) -> None:
        """The ready endpoints as they are, our own left out where it is known.

        `chance`: random, 0 <= chance <= 1; used if growth begins with this.
        """
        if not endpoints or endpoints == self._known:
            return
        self._settle(now)
        grown = bool(self.added)
        self._known, self._changed_at = frozenset(endpoints), now
        if self._base is None:
            self._base, self._new_until = self._known, now + self._spread
        elif now < self._new_until:
            self._base |= self._known
        elif self.added and not grown:
            self._grown_at, self._chance = now, chance

    def rotated(self, now: float) -> None:
        """A rotation happened, whoever asked for it: what is known now is what connections are spread over."""
        self._allowed_at = now + self._min_interval
        if self._base is not None:
            self._base = self._known

    def failed(self, now: float, pause: float) -> None:
        """A rotation did not happen: the growth is still to be answered, not sooner than `pause` seconds from now."""
        self._allowed_at = now + max(pause, self._min_interval)

    @property
    def added(self) -> frozenset[Hashable]:
        """Endpoints over which connections are not spread yet."""
        return self._known - self._base if self._base is not None else frozenset()

    @property
    def total(self) -> int:
        """How many endpoints are known."""
        return len(self._known)

    @property
    def due(self) -> float | None:
        """When to rotate, if nothing else is told before; None: there is no reason to."""
        if not self.added:
            return None
        still_at = min(self._changed_at, self._grown_at + self._min_interval) + self._still
        allowed_at = still_at if self._allowed_at is None else self._allowed_at
        return max(still_at, allowed_at) + self._chance * self._spread

    def _settle(self, now: float) -> None:
        """The set up to now stood long enough to be believed: what is missing in it is gone."""
        if self._base is not None and now - self._changed_at >= self._still:
            self._base &= self._known
