"""What a bench found, as frozen rows, and the table made of them."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

FLAVOURS = ("sync", "aio")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `passed` None: no mark of ours, shown for comparison. `details` go into the JSON only."""

    what: str
    figure: str
    mark: str = ""
    passed: bool | None = None
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """In one word."""
        return {True: "pass", False: "MISS", None: ""}[self.passed]


@dataclass(frozen=True, slots=True)
class Spread:
    """How values are spread."""

    least: float
    lower: float
    median: float
    upper: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Quartiles of at least one value."""
        lower, median, upper = (
            statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
        )
        return cls(min(values), lower, median, upper, max(values))

    def ratio(self) -> str:
        """As a ratio with its quartiles."""
        return f"{self.median:.3f} ({self.lower:.3f} - {self.upper:.3f})"

    def ms(self) -> str:
        """Seconds, as milliseconds: median and most."""
        return f"median {self.median * 1000:.0f} ms, max {self.most * 1000:.0f} ms"


def markdown(rows: Sequence[Row]) -> str:
    """The table, to read as it is and to paste into README."""
    lines = [("measure", "figure", "must reach", ""), *((row.what, row.figure, row.mark, row.verdict) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    texts = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
    texts.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(texts)
