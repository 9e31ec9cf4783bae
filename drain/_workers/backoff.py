"""How long to wait before a worker that ended is started again. Pure."""

import random

FIRST = 0.1  # seconds
MOST = 30.0
PROVEN = 60.0  # seconds of life after which a worker's end says nothing about the next one's
JITTER = 0.2  # of the wait, up or down: workers that crash together do not come back together


class Backoff:
    """One place's. Not thread safe."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._failures = 0

    def after(self, life: float) -> float:
        """Seconds to wait after a worker that lived so many seconds."""
        if life >= PROVEN:
            self._failures = 0
        wait = min(MOST, FIRST * 2.0 ** min(self._failures, 20))
        self._failures += 1
        return min(MOST, wait * self._chance.uniform(1 - JITTER, 1 + JITTER))
