"""Horizontal bars as an SVG element: one row each, its name on the left, its figure at the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

ROW, NAMES, BARS, FIGURES = 24, 292, 290, 128  # pixels


@dataclass(frozen=True, slots=True)
class Bar:
    """`parts` are stacked. `kind`: a class of the style: "ours", or nothing; `mark`: that of the figure."""

    name: str
    parts: tuple[float, ...]
    figure: str
    kind: str = ""
    mark: str = ""


def svg(bars: Sequence[Bar], label: str) -> str:
    """The longest one fills the width."""
    most = max((sum(each.parts) for each in bars), default=0.0) or 1.0
    drawn = []
    for number, each in enumerate(bars):
        top, at = ROW * number, float(NAMES)
        drawn.append(f'<text class="name {each.kind}" x="{NAMES - 10}" y="{top + 16}">{escape(each.name)}</text>')
        for part, value in enumerate(each.parts):
            width = BARS * value / most
            shape = f'x="{at:.1f}" y="{top + 5}" width="{width:.1f}" height="{ROW - 9}"'
            if width:
                drawn.append(f'<rect class="part{part} {each.kind}" {shape}/>')
            at += width
        drawn.append(f'<text class="figure {each.mark}" x="{at + 7:.1f}" y="{top + 16}">{escape(each.figure)}</text>')
    axis = f'<line class="axis" x1="{NAMES}" x2="{NAMES}" y1="0" y2="{ROW * len(bars)}"/>'
    size = f"0 0 {NAMES + BARS + FIGURES} {ROW * len(bars)}"
    return f'<svg viewBox="{size}" role="img" aria-label="{escape(label)}">{"".join(drawn)}{axis}</svg>'
