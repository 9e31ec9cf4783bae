"""One run as an inline SVG: calls per server over time, failed calls below the line, and each server's phases as bands.

Colours are classes, so that the page's style sheet can have a light and a dark set; nothing here needs a script.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from drain._demo.incidents import incidents
from drain._demo.results import Run, Span

WIDTH, LEFT, RIGHT = 1120, 92, 12
TOP, CALLS, FAILED, AXIS = 10, 150, 54, 26  # heights, from the top down; the lanes are between the last two
LANE, LISTED, GAP = 18, 4, 12
THINNEST = 3
DOT = 8  # radius of a mark's number
NOTE = 190  # width of the note beside a run that was over sooner
DEEPEST = FAILED - 26  # the tallest bar of failed calls: their number has to fit below
POINTS = 300  # along the time axis: the page stays small however long the run was
STEPS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600)  # seconds between two marks of the axis, 16 marks at most
SERVER_COLOURS, STATUS_COLOURS = 6, 4


@dataclass(frozen=True, slots=True)
class Chart:
    """Draws runs to one scale, so that they can be compared.

    Attributes:
        seconds: how long the longest run was.
        bucket: width of the runs' buckets in seconds.
        factor: buckets that make one point of the chart.
        peak: the most successful calls in one point of any run.
        worst: the most failed calls in one point of any run.
    """

    seconds: float
    bucket: float
    factor: int
    peak: int
    worst: int

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "Chart":
        """The scale for these runs."""
        seconds = max(run.load.duration for run in runs)
        bucket = runs[0].load.bucket
        factor = max(2, round(seconds / bucket / POINTS))
        peak = max(_highest(run.load.calls.values(), factor) for run in runs)
        return cls(seconds, bucket, factor, peak, max(_highest(run.load.failed.values(), factor) for run in runs))

    @property
    def step(self) -> float:
        """Seconds from one point to the next."""
        return self.bucket * self.factor

    def x(self, seconds: float) -> float:
        """Where a time is."""
        return round(LEFT + seconds / self.seconds * (WIDTH - LEFT - RIGHT), 1)

    def y(self, calls: float) -> float:
        """Where a number of calls in one point is."""
        return round(TOP + CALLS * (1 - calls / max(1, self.peak) / 1.05), 1)

    def svg(self, run: Run, label: str, marks: Sequence[float] = ()) -> str:
        """The whole picture of one run. `marks`: times at which something was done; numbered from 1."""
        lanes = TOP + CALLS + FAILED
        bottom = lanes + len(run.servers) * (LANE + LISTED + GAP)
        data = f'data-step="{self.step}" data-left="{LEFT}" data-right="{WIDTH - RIGHT}" data-seconds="{self.seconds}"'
        parts = [
            f'<svg viewBox="0 0 {WIDTH} {bottom + AXIS}" role="img" aria-label="{escape(label)}" {data}>',
            *self._grid(run, bottom),
            *self._areas(run),
            *self._failures(run),
            *self._marks(marks, bottom),
        ]
        for number, server in enumerate(run.servers):
            parts += self._lane(run, server, number, lanes + number * (LANE + LISTED + GAP))
        return "\n".join([*parts, f'<line class="cursor" y1="{TOP}" y2="{bottom}" visibility="hidden"/>', "</svg>"])

    def _grid(self, run: Run, bottom: float) -> Iterator[str]:
        every = next((step for step in STEPS if self.seconds / step <= 16), STEPS[-1])
        for second in range(0, int(self.seconds) + 1, every):
            yield _line("grid", self.x(second), self.x(second), TOP, bottom)
            yield _text("tick", self.x(second), bottom + 16, f"{second} s", "middle")
        round_rate = _round_number(self.peak / self.step)
        for rate in (round_rate / 2, round_rate):
            y = self.y(rate * self.step)
            yield _line("grid", LEFT, WIDTH - RIGHT, y, y)
            yield _text("tick", LEFT - 8, y + 4, f"{rate:,.0f}/s", "end")
        yield _text("tick", LEFT - 8, self.y(0) + 4, "0", "end")
        if run.load.duration < self.seconds * 0.97:
            x = self.x(run.load.duration)
            yield _line("end", x, x, TOP, bottom)
            if WIDTH - x > NOTE:
                yield _text("note", x + 10, self.y(0) - 10, f"all restarted after {run.load.duration:.0f} s")

    def _marks(self, marks: Sequence[float], bottom: float) -> Iterator[str]:
        for number, seconds in enumerate(marks, 1):
            x = self.x(seconds)
            yield _line("mark", x, x, TOP, bottom)
            yield f'<circle class="mark" cx="{x}" cy="{TOP}" r="{DOT}"/>'
            yield _text("marked", x, TOP + 4, str(number), "middle")

    def _areas(self, run: Run) -> Iterator[str]:
        points = int(run.load.duration / self.step)  # whole ones only
        floor = [0] * points
        for number, server in enumerate(run.servers):
            counts = coarser(run.load.calls.get(server, (0,) * points * self.factor), self.factor)
            top = [low + count for low, count in zip(floor, counts, strict=False)]
            there = [f"{self.x((n + 0.5) * self.step)},{self.y(value)}" for n, value in enumerate(top)]
            back = [f"{self.x((n + 0.5) * self.step)},{self.y(value)}" for n, value in enumerate(floor)]
            outline = " ".join([*there, *reversed(back)])
            yield f'<polygon class="s{number % SERVER_COLOURS}" points="{outline}"/>'
            floor = top

    def _failures(self, run: Run) -> Iterator[str]:
        zero = TOP + CALLS
        yield _line("zero", LEFT, self.x(run.load.duration), zero, zero)
        yield _text("tick", LEFT - 8, zero + 19, "failed", "end")
        if not run.load.lost:
            yield _text("none", LEFT + 8, zero + 20, "none")
        depths: dict[int, float] = {}
        for number, status in enumerate(run.load.lost_by_status):
            for point, count in enumerate(coarser(run.load.failed[status], self.factor)):
                if count:
                    depth = depths.get(point, 0.0)
                    tall = count / self.worst * DEEPEST
                    wide = self.x(self.step) - LEFT - 0.5
                    kind = f"f{number % STATUS_COLOURS}"
                    yield _rect(kind, self.x(point * self.step), zero + 1 + depth, max(2.0, wide), max(1.5, tall))
                    depths[point] = depth + tall
        for incident in incidents(run):
            why = ", ".join(f"{count} {status}" for status, count in incident.by_status.items())
            x = self.x((incident.start + incident.end) / 2)
            yield _text("lost", x, zero + FAILED - 12, f"{incident.calls:,}", "middle", why)

    def _lane(self, run: Run, server: str, number: int, y: float) -> Iterator[str]:
        yield _rect(f"s{number % SERVER_COLOURS}", 8, y + 4, 10, 10, 2)
        yield _text("name", 24, y + 13.5, server)
        yield from self._bands((span for span in run.spans if span.server == server), y, LANE)
        yield from self._bands((span for span in run.listed if span.server == server), y + LANE + 1, LISTED)

    def _bands(self, spans: Iterable[Span], y: float, tall: float) -> Iterator[str]:
        free = float(LEFT)  # a phase of milliseconds is drawn too, and pushes the next one a little to the right
        for span in spans:
            if free - self.x(span.end) > 2 * THINNEST:  # pushed too far to be true: a very long run
                continue
            x = max(free, self.x(span.start))
            free = max(x + THINNEST, self.x(span.end))
            said = f"{span.server} {span.phase}: {span.end - span.start:.3f} s, from {span.start:.2f} s"
            yield _rect(f"p-{span.phase}", x, y, free - x, tall, 1.5, said)


def coarser(counts: Sequence[int], factor: int) -> list[int]:
    """The same counts in wider buckets."""
    return [sum(counts[start : start + factor]) for start in range(0, len(counts), factor)]


def _highest(series: Iterable[Sequence[int]], factor: int) -> int:
    return max((sum(column) for column in zip(*(coarser(counts, factor) for counts in series), strict=True)), default=0)


def _round_number(rate: float) -> float:
    """The greatest of 1, 2 or 5 times a power of ten that is not above `rate`."""
    power = 10.0 ** (len(str(max(1, int(rate)))) - 1)
    return next((power * step for step in (5, 2) if power * step <= rate), power)


def _line(kind: str, x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}"/>'


def _text(kind: str, x: float, y: float, text: str, anchor: str = "start", title: str = "") -> str:
    more = f"<title>{escape(title)}</title>" if title else ""
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}{more}</text>'


def _rect(kind: str, x: float, y: float, wide: float, tall: float, radius: float = 0, title: str = "") -> str:
    where = f'x="{x}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}" rx="{radius}"'
    return (
        f'<rect class="{kind}" {where}><title>{escape(title)}</title></rect>'
        if title
        else f'<rect class="{kind}" {where}/>'
    )
