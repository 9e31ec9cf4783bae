"""The one time budget of a drain: announcing, finishing and a reserve within `terminationGracePeriodSeconds`. Pure.

Kubernetes counts from the beginning of the preStop hook and kills at the end, whatever is in flight. So the drain is over
`reserve` seconds earlier. What was configured fits (the settings are refused otherwise), but the pod may be given less than its
manifest says: `kubectl delete --grace-period`, an eviction. Then what is left is shared in the same proportion.
"""

# Of a grace that turns out short the reserve takes this share at most: the calls need it more.
_MOST_RESERVE = 0.25


class Budget:
    """How long the phases of one drain may take. Times are seconds of one monotonic clock.

    Args:
        began: when the drain began. announcing, finishing, reserve: as configured. grace: until the pod is killed, from
            `began` on; None: not known.
    """

    def __init__(
        self, began: float, *, announcing: float, finishing: float, reserve: float, grace: float | None = None
    ) -> None:
        self._began, self._announcing, self._finishing, self._reserve = began, announcing, finishing, reserve
        self.announce_until = began + announcing
        self.over: float | None = None  # when the drain must be over at the latest; None: no bound but the sum
        self._spare: float | None = None
        if grace is not None:
            self.over, self._spare = began + grace - reserve, reserve

    @property
    def total(self) -> float | None:
        """Seconds in all; None: no bound but the sum."""
        return None if self.over is None else self.over - self._began

    @property
    def spare(self) -> float | None:
        """Seconds between the end of the drain and the kill; None: nobody knows of a kill."""
        return self._spare

    def told(self, now: float, left: float) -> bool:
        """The pod is killed `left` seconds from now. True if that is sooner than was known before.

        A longer grace than was known changes nothing: what was configured stays.
        """
        kill = now + max(0.0, left)
        spare = min(self._reserve, _MOST_RESERVE * (kill - self._began))
        over = kill - spare
        if over >= (self.over if self.over is not None else self._began + self._announcing + self._finishing):
            return False
        self.over, self._spare = over, spare
        whole = self._announcing + self._finishing
        share = self._announcing / whole if whole else 0.0
        self.announce_until = min(self.announce_until, self._began + (over - self._began) * share)
        return True

    def deadline(self, closing: float) -> float:
        """When calls in flight are cut, if closing begins at `closing`."""
        latest = closing + self._finishing
        return latest if self.over is None else min(latest, self.over)
