"""What came of all trials, as rows of text: Markdown, JSON, and one page."""

import html
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tests.bench.compare.trial import SHARE_BOUND, Trial
from tests.bench.compare.ways import WAYS

LOSSES = ("rolling update", "scale down", "deletion", "kill -9")
HEAD = ("way", *(f"failed: {each}" for each in LOSSES), "share after", "max/mean", "rolling update", "p50", "p99", "CPU per 1,000 calls")  # fmt: skip

Trials = Mapping[str, Sequence[Trial]]


def lines(trials: Trials) -> list[tuple[str, ...]]:
    """One for each way: failed calls are summed over the rounds, times are medians."""
    return [(WAYS[name].title, *_cells(rounds)) for name, rounds in trials.items()]


def _cells(rounds: Sequence[Trial]) -> tuple[str, ...]:
    whole = [each for each in rounds if not each.broke]
    if not whole:
        return (f"broke: {rounds[0].broke}", *([""] * (len(HEAD) - 2)))
    lost = []
    for what in LOSSES:
        failed, calls = (sum(numbers) for numbers in zip(*(each.lost[what] for each in whole), strict=True))
        lost.append(f"{failed:,} of {calls:,}")
    shares = [each.share for each in whole]
    known = [each for each in shares if each is not None]
    share = f"{statistics.median(known):.1f} s" if len(known) == len(shares) else f"not within {SHARE_BOUND:.0f} s"
    middle = {
        name: statistics.median(getattr(each, name) for each in whole)
        for name in ("spread", "update", "p50", "p99", "cpu")
    }
    return (
        *lost, share, f"{middle['spread']:.2f}", f"{middle['update']:.1f} s",
        f"{middle['p50'] * 1000:.1f} ms", f"{middle['p99'] * 1000:.1f} ms", f"{middle['cpu']:.2f} s",
    )  # fmt: skip


def markdown(trials: Trials) -> str:
    """For README."""
    rows = [HEAD, tuple("---" for _ in HEAD), *lines(trials)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def raw(trials: Trials, about: Mapping[str, object]) -> dict[str, Any]:
    """All of it, for JSON."""
    return {
        "about": dict(about),
        "ways": {
            name: {"way": asdict(WAYS[name]), "rounds": [asdict(each) for each in rounds]}
            for name, rounds in trials.items()
        },
    }


def page(trials: Trials, about: Mapping[str, object]) -> str:
    """Self-contained: bars for what is lost, for how long an update takes, and for how long new pods wait."""
    whole = {name: [each for each in rounds if not each.broke] for name, rounds in trials.items()}
    whole = {name: rounds for name, rounds in whole.items() if rounds}
    lost = {
        name: float(sum(each.lost[what][0] for each in rounds for what in LOSSES[:3])) for name, rounds in whole.items()
    }
    update = {name: statistics.median(each.update for each in rounds) for name, rounds in whole.items()}
    share = {
        name: statistics.median(each.share if each.share is not None else SHARE_BOUND for each in rounds)
        for name, rounds in whole.items()
    }
    cpu = {name: statistics.median(each.cpu for each in rounds) for name, rounds in whole.items()}
    figures = "".join(
        (
            _bars("Calls that failed in rolling updates, scale downs and deletions", lost, "", 0),
            _bars("Seconds that a rolling update of 3 pods takes, until the last old one is gone", update, " s", 1),
            _bars(f"Seconds until new pods have their share (at {SHARE_BOUND:.0f}: not by then)", share, " s", 1),
            _bars("Seconds of CPU for 1,000 calls, servers and proxies together", cpu, " s", 2),
        )
    )
    head = "".join(f"<th>{html.escape(each)}</th>" for each in HEAD)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in lines(trials))
    told = html.escape(", ".join(f"{key}: {value}" for key, value in about.items()))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>drain: ways side by side</title>"
        f"<style>{_STYLE}</style><main><h1>Every known way, side by side</h1><p>{_SETTING}</p><p>{told}</p>{figures}"
        f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></main></html>"
    )


def _bars(title: str, values: Mapping[str, float], unit: str, digits: int) -> str:
    """Horizontal bars, the names at their left."""
    most, row, left, width = max(values.values(), default=0) or 1, 26, 330, 420
    drawn = []
    for number, (name, value) in enumerate(values.items()):
        top = number * row
        ours = " class=ours" if WAYS[name].title.startswith("drain") else ""
        drawn.append(
            f"<text x={left - 8} y={top + 17} text-anchor=end>{html.escape(WAYS[name].title)}</text>"
            f"<rect{ours} x={left} y={top + 4} width={max(1, width * value / most):.1f} height={row - 8} rx=2></rect>"
            f"<text x={left + 6 + width * value / most:.1f} y={top + 17}>{value:,.{digits}f}{unit}</text>"
        )
    height = row * len(values)
    return (
        f"<h2>{html.escape(title)}</h2><svg viewBox='0 0 {left + width + 90} {height}' role=img>{''.join(drawn)}</svg>"
    )


_SETTING = (
    "One real Kubernetes node. Three pods whose one method takes 10 ms; 32 callers in two pods, each 20 ms between calls, without any retry policy. Failed "
    "calls are summed over the rounds, times are medians. Share: after a scale up from 3 to 6, seconds from the last new pod's readiness until each pod "
    "has 80 % of the mean of calls; max/mean: the busiest pod's calls then."
)
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --bar: #9aa4b2; --ours: #1a7f5a; --line: #d5dae1; --ground: #fff }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --bar: #5c6675; --ours: #3fbf8f; --line: #333a44; --ground: #14171b } }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 70rem; margin: 0 auto; padding: 2rem 1rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1rem; margin: 2rem 0 .5rem }
svg { width: 100%; max-width: 54rem; height: auto; font-size: 12.5px } svg text { fill: var(--ink) }
rect { fill: var(--bar) } rect.ours { fill: var(--ours) }
.wide { overflow-x: auto; margin-top: 2rem } table { border-collapse: collapse; font-size: 13px }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .6rem; text-align: right; vertical-align: bottom }
th:first-child, td:first-child { text-align: left; white-space: nowrap } td { white-space: nowrap }
"""
