"""Time, for a test that will not wait."""

from drain import _clock


class Clock:
    """The time by which servers leave and endpoints age. Thread safe; one for the process, whose time never goes back."""

    def now(self) -> float:
        """Seconds, as events' `at` has them."""
        return _clock.now()

    def advance(self, seconds: float) -> None:
        """So much later it is: phases whose time is up end at once, and endpoints, connections and drains are so much older.

        Args:
            seconds: not negative; ValueError.

        What needs no clock takes its own time as ever: a call, a GOAWAY on its way, a client that connects anew. So set it
        forward past a limit (`drain_timeout`, `announce_timeout`), and wait for what is to come of it.
        """
        if not seconds >= 0:
            raise ValueError(f"advance({seconds!r}): time does not go back")
        _clock.advance(seconds)
