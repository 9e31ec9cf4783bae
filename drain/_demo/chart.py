"""One run as an inline SVG: calls per server over time, failed calls below the line, and each server's phases as bands.

Colours are classes, so that the page's style sheet can have a light and a dark set; nothing here needs a script.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from drain._demo.results import Run, Span

WIDTH, LEFT, RIGHT = 1120, 92, 12
AREA = 150  # height of the calls
FAILED = 54  # height of the failed calls below them
LANE, LISTED, GAP = 18, 4, 12
TOP, AXIS = 10, 26
POINTS = 300  # along the time axis: the page stays small however long the run was
INCIDENT = 0.6  # seconds without a failed call that part one incident from the next


@dataclass(frozen=True, slots=True)
class Incident:
    """Failed calls that belong together."""

    start: float
    end: float
    by_status: Mapping[str, int]

    @property
    def calls(self) -> int:
        """How many."""
        return sum(self.by_status.values())


def incidents(run: Run) -> list[Incident]:
    """The failed calls, grouped: a restart begins a new group, and so does a while without failed calls."""
    bucket, failed = run.load.bucket, run.load.failed
    signals = [int(restart.signalled / bucket) for restart in run.restarts]
    groups: list[list[tuple[int, Counter[str]]]] = []
    for index, column in enumerate(zip(*failed.values(), strict=True)):
        counts = Counter({status: count for status, count in zip(failed, column, strict=True) if count})
        last = groups[-1][-1][0] if groups else -1
        if counts and (
            last < 0 or (index - last) * bucket > INCIDENT or any(last < signal <= index for signal in signals)
        ):
            groups.append([])
        if counts:
            groups[-1].append((index, counts))
    return [_incident(group, bucket) for group in groups]


def _incident(group: Sequence[tuple[int, Counter[str]]], bucket: float) -> Incident:
    by_status = sum((counts for _, counts in group), Counter[str]())
    return Incident(group[0][0] * bucket, (group[-1][0] + 1) * bucket, by_status)


def coarser(counts: Sequence[int], factor: int) -> list[int]:
    """The same counts in wider buckets."""
    return [sum(counts[start : start + factor]) for start in range(0, len(counts), factor)]


@dataclass(frozen=True, slots=True)
class Chart:
    """Draws runs to one scale, so that they can be compared: `seconds` wide, `peak` calls a second high.

    `factor` load buckets make one point of the chart; `worst` is the most failed calls that one point of any run has.
    """

    seconds: float
    peak: float
    worst: int
    factor: int
    bucket: float

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "Chart":
        """The scale for these runs."""
        seconds = max(run.load.duration for run in runs)
        bucket = runs[0].load.bucket
        factor = max(2, round(seconds / bucket / POINTS))
        columns = [
            [sum(c) for c in zip(*(coarser(n, factor) for n in run.load.calls.values()), strict=True)] for run in runs
        ]
        failed = [
            [sum(c) for c in zip(*(coarser(n, factor) for n in run.load.failed.values()), strict=True)] for run in runs
        ]
        peak = max((max(column, default=0) for column in columns), default=0) / (bucket * factor)
        return cls(
            seconds, max(peak, 1.0), max((max(column, default=0) for column in failed), default=0), factor, bucket
        )

    @property
    def step(self) -> float:
        """Seconds from one point to the next."""
        return self.bucket * self.factor

    def x(self, seconds: float) -> float:
        """Where a time is."""
        return round(LEFT + seconds / self.seconds * (WIDTH - LEFT - RIGHT), 1)

    def y(self, calls_per_second: float) -> float:
        """Where a rate is."""
        return round(TOP + AREA * (1 - calls_per_second / self.peak / 1.05), 1)

    def svg(self, run: Run, label: str) -> str:
        """The whole picture of one run."""
        lanes = TOP + AREA + FAILED
        height = lanes + len(run.servers) * (LANE + LISTED + GAP) + AXIS
        parts = [
            f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}" data-step="{self.step}" '
            f'data-left="{LEFT}" data-right="{self.x(self.seconds)}" data-seconds="{self.seconds:.3f}">',
            *self._grid(run, height - AXIS),
            *self._areas(run),
            *self._failures(run),
        ]
        for number, server in enumerate(run.servers):
            parts += self._lane(run, server, number, lanes + number * (LANE + LISTED + GAP))
        return "\n".join(
            [*parts, f'<line class="cursor" y1="{TOP}" y2="{height - AXIS}" visibility="hidden"/>', "</svg>"]
        )

    def _grid(self, run: Run, bottom: float) -> Iterator[str]:
        every = next(
            step for step in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800) if self.seconds / step <= 16 or step == 1800
        )
        for second in range(0, int(self.seconds) + 1, every):
            x = self.x(second)
            yield f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}"/>'
            yield f'<text class="tick" x="{x}" y="{bottom + 16}" text-anchor="middle">{second} s</text>'
        rate = _round_number(self.peak)
        for calls in (rate / 2, rate):
            yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{self.y(calls)}" y2="{self.y(calls)}"/>'
            yield f'<text class="tick" x="{LEFT - 8}" y="{self.y(calls) + 4}" text-anchor="end">{calls:,.0f}/s</text>'
        yield f'<text class="tick" x="{LEFT - 8}" y="{self.y(0) + 4}" text-anchor="end">0</text>'
        if run.load.duration < self.seconds * 0.97:
            x = self.x(run.load.duration)
            yield f'<line class="end" x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}"/>'
            yield f'<text class="note" x="{x + 8}" y="{self.y(0) - 10}">all restarted after {run.load.duration:.0f} s</text>'

    def _areas(self, run: Run) -> Iterator[str]:
        floor = [0.0] * int(run.load.duration / self.step)  # whole points only: the last one is but a part
        for number, server in enumerate(run.servers):
            counts = coarser(run.load.calls.get(server, ()), self.factor)[: len(floor)] or [0] * len(floor)
            top = [low + count / self.step for low, count in zip(floor, counts, strict=True)]
            there = " ".join(f"{self.x((n + 0.5) * self.step)},{self.y(v)}" for n, v in enumerate(top))
            back = " ".join(f"{self.x((n + 0.5) * self.step)},{self.y(v)}" for n, v in reversed(list(enumerate(floor))))
            yield f'<polygon class="s{number % 6}" points="{there} {back}"><title>{escape(server)}</title></polygon>'
            floor = top

    def _failures(self, run: Run) -> Iterator[str]:
        zero = TOP + AREA
        yield f'<line class="zero" x1="{LEFT}" x2="{self.x(run.load.duration)}" y1="{zero}" y2="{zero}"/>'
        yield f'<text class="tick" x="{LEFT - 8}" y="{zero + 19}" text-anchor="end">failed</text>'
        if not run.load.lost:
            yield f'<text class="none" x="{LEFT + 8}" y="{zero + 20}">none: not one call failed</text>'
        depth = [0.0] * len(next(iter(run.load.failed.values()), ()))
        for number, status in enumerate(run.load.lost_by_status):
            for index, count in enumerate(coarser(run.load.failed[status], self.factor)):
                if count:
                    tall = count / self.worst * (FAILED - 26)
                    x, wide = self.x(index * self.step), max(2.0, self.x(self.step) - LEFT - 0.5)
                    yield f'<rect class="f{number % 4}" x="{x}" y="{zero + 1 + depth[index]:.1f}" width="{wide:.1f}" height="{max(1.5, tall):.1f}"/>'
                    depth[index] += tall
        for incident in incidents(run):
            x = self.x((incident.start + incident.end) / 2)
            why = ", ".join(f"{count} {status}" for status, count in incident.by_status.items())
            yield f'<text class="lost" x="{x}" y="{zero + FAILED - 12}" text-anchor="middle">{incident.calls}<title>{escape(why)}</title></text>'

    def _lane(self, run: Run, server: str, number: int, y: float) -> Iterator[str]:
        yield f'<rect class="s{number % 6}" x="8" y="{y + 4}" width="10" height="10" rx="2"/>'
        yield f'<text class="name" x="24" y="{y + 13.5}">{escape(server)}</text>'
        for span in (span for span in run.spans if span.server == server):
            yield self._band(span, f"p-{span.phase}", y, LANE, 2)
        for span in (span for span in run.listed if span.server == server):
            yield self._band(span, "listed", y + LANE + 1, LISTED, 1.5)

    def _band(self, span: Span, kind: str, y: float, tall: float, radius: float) -> str:
        x, wide = self.x(span.start), max(2.0, self.x(span.end) - self.x(span.start))
        said = f"{span.server} {span.phase} {span.end - span.start:.3f} s, from {span.start:.2f} s"
        where = f'x="{x}" y="{y}" width="{wide:.1f}" height="{tall}" rx="{radius}"'
        return f'<rect class="{kind}" {where}><title>{escape(said)}</title></rect>'


def _round_number(peak: float) -> float:
    """The greatest of 1, 2, 5 times a power of ten that is not above `peak`."""
    power = 10.0 ** (len(str(int(peak))) - 1)
    return next(power * step for step in (5, 2, 1) if power * step <= peak)
