"""Restarts by SIGTERM under callers at full speed, directly on two servers: drain, and plain `stop(grace)` beside it.

Half of the 16 callers share one channel, each of the others has its own; all are round_robin over both servers, with no retry
policy, and a quarter open server streams. With nothing in between there is nobody to announce to: callers would come back to an
announcing server until `announce_timeout`. So that is 0, as for any server whose clients know its address; closing and
finishing have to do it alone. A few restarts with the default policy come on top.
"""

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass

from tests.bench._rows import FLAVOURS, Row, Spread
from tests.bench._stage import Calls, Stage

CALLERS = ("--round-robin", "--callers=16", "--channels=9", "--streaming=4", "--work=0.003")
BLOCKS = 5  # drain and plain in turns
DEFAULT_POLICY = 4  # restarts


@dataclass(slots=True)
class Tally:
    """One side of the comparison."""

    calls: Calls
    restarts: int
    took: list[float]

    def row(self, what: str, mark: str = "") -> Row:
        """As a line of the table."""
        figure = f"{self.calls}; SIGTERM to exit: {Spread.of(self.took).ms()}"
        details = {"restarts": self.restarts, **asdict(self)}
        return Row(f"{self.restarts} {what}", figure, mark, self.calls.failed == 0 if mark else None, details)


async def measure(quick: bool) -> AsyncIterator[Row]:
    """Both flavours."""
    blocks, each = (1, {"drain": 4, "plain": 4}) if quick else (BLOCKS, {"drain": 20, "plain": 8})
    for flavour in FLAVOURS:
        tallies = {library: Tally(Calls(), 0, []) for library in each}
        for _ in range(blocks):
            for library, restarts in each.items():
                await run(tallies[library], library, flavour, restarts, announce_timeout=0.0)
        yield tallies["drain"].row(f"restarts, {flavour}", "0 failed")
        yield tallies["plain"].row(f"restarts, {flavour}, plain stop(grace)")
        if not quick:
            tally = Tally(Calls(), 0, [])
            await run(tally, "drain", flavour, DEFAULT_POLICY, announce_timeout=None)
            yield tally.row(f"restarts, {flavour}, default policy", "0 failed")


async def run(tally: Tally, library: str, flavour: str, restarts: int, *, announce_timeout: float | None) -> None:
    """Restart two servers in turn; the next one only when every channel has met the successor of the last."""
    async with Stage(library, flavour, servers=2, announce_timeout=announce_timeout) as stage:
        await stage.call(*CALLERS)
        await stage.met(*stage.places)
        for number in range(restarts):
            place = stage.places[number % 2]
            _, told, gone = await stage.leave(place)
            tally.took.append(gone - told)
            await stage.start(place)
            await stage.met(place)
        tally.calls.add(asdict(await stage.hang_up()))
        tally.restarts += restarts
