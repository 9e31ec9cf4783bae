"""What all pages share: one self-contained HTML file; no script, font or style from elsewhere; light and dark."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template

from drain._demo.chart import STATUS_COLOURS, Chart, coarser
from drain._demo.results import Run
from drain._demo.words import PHASES


def filled(name: str, **parts: str) -> str:
    """A template of this folder with its parts, which are HTML."""
    return Template(files("drain._demo").joinpath(name).read_text(encoding="utf-8")).substitute(parts)


def page(*, kicker: str, title: str, headline: str, setting: str, body: str, about: Mapping[str, str]) -> str:
    """A whole page. `headline` and `body` are HTML, the others text."""
    return filled(
        "page.html",
        kicker=escape(kicker),
        title=escape(title),
        headline=headline,
        setting=escape(setting),
        body=body,
        about=" · ".join(f"{escape(name)} {escape(value)}" for name, value in about.items()),
    )


def figure(run: Run, chart: Chart, name: str, marks: Sequence[float] = ()) -> str:
    """A run's chart, with what its colours mean and its figures for the pointer. `marks`: see `Chart.svg`."""
    label = f"{name}: {run.load.lost:,} of {run.load.total:,} calls failed in {len(run.restarts)} restarts"
    kinds = dict.fromkeys(span.phase for span in (*run.spans, *run.listed))
    keys = "".join(f'<li><i class="p-{kind}"></i>{escape(text)}</li>' for kind, text in PHASES.items() if kind in kinds)
    statuses = enumerate(run.load.lost_by_status.items())
    lost = "".join(f'<li><i class="f{n % STATUS_COLOURS}"></i>{count:,} {escape(s)}</li>' for n, (s, count) in statuses)
    data = {
        "calls": {server: coarser(run.load.calls.get(server, ()), chart.factor) for server in run.servers},
        "failed": {status: coarser(counts, chart.factor) for status, counts in run.load.failed.items()},
    }
    # "<" written out, so that no text in the data can end the script element.
    embedded = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f"<figure><figcaption><h2>{escape(name)}</h2><p>calls per second, by server</p>"
        f'<ul class="legend lost">{lost}</ul></figcaption>'
        f'{chart.svg(run, label, marks)}<ul class="legend">{keys}</ul>'
        f'<script type="application/json">{embedded}</script></figure>'
    )


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """All cells are text."""
    titles = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'
