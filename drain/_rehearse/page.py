"""A rehearsal's result as a page that needs no engineer to explain it: the verdict, what it means, then the evidence."""

from collections import Counter
from collections.abc import Iterable
from html import escape

from drain._demo.chart import Chart
from drain._demo.frame import figure, filled, page, table
from drain._demo.table import seconds
from drain._doctor.finding import Finding, Severity
from drain._rehearse.calling import UNNAMED
from drain._rehearse.result import Rehearsal, Verdict, latency

_MESSAGES_SHOWN = 12
_LIVES_SHOWN = 60
_UNNAMED = (
    "Where calls are not shown by server, their answers hold no server's name: have it put into metadata, or an answer."
)
_MEANING = {
    Verdict.KEPT: "Every call was answered while servers left and others took their place. Users would have noticed nothing.",
    Verdict.LOST: "Calls failed while servers left or others took their place. Each would have been an error for somebody.",
    Verdict.KILLED: "No call failed, but a server was killed before it had left in good order: longer calls would be cut.",
    Verdict.UNFINISHED: "It was not over in time, so nothing can be said of it. What stood in the way is told below.",
}


def render(rehearsal: Rehearsal) -> str:
    """The page."""
    run, load = rehearsal.run, rehearsal.run.load
    body = filled(
        "rehearsal.html",
        cards=_cards(rehearsal),
        meaning=_meaning(rehearsal),
        figure=figure(run, Chart.of([run]), "Calls", [each.began for each in rehearsal.steps]) if run.servers else "",
        advice=_advice(rehearsal.advice),
        calls=table(("", ""), _figures(rehearsal)),
        who="Servers" if rehearsal.named else "Servers (answers do not say which one gave them)",
        servers=_servers(rehearsal),
        steps=table(("", "", "at", "took", ""), _steps(rehearsal)),
        messages=_messages(rehearsal),
        reading=_UNNAMED if UNNAMED in load.calls else "",
    )
    state = "good" if rehearsal.verdict is Verdict.KEPT else "bad"
    lost = f'<b class="{state}">{load.lost:,}</b> of {load.total:,} calls failed'
    what = f"{rehearsal.subject}: {rehearsal.done}"
    return page(
        kicker="drain rehearse · servers leave under load",
        title=rehearsal.headline,
        headline=f'<span class="line">{lost}</span><span class="line done">{escape(what)}</span>',
        setting=rehearsal.load,
        body=body,
        about=rehearsal.about,
    )


def _steps(rehearsal: Rehearsal) -> Iterable[tuple[str, ...]]:
    for number, each in enumerate(rehearsal.steps, 1):
        yield str(number), each.what, f"{each.began:.1f} s", seconds(each.took), each.unfinished


def _cards(rehearsal: Rehearsal) -> str:
    load = rehearsal.run.load
    state = "good" if rehearsal.verdict is Verdict.KEPT else "bad"
    left = [each.left for each in rehearsal.lives if each.left is not None]
    values = {
        "failed calls": f"{load.lost:,}",
        "longest pause of a caller": seconds(load.longest_pause),
        "to leave, the slowest": seconds(max(left)) if left else "-",
    }
    cells = "".join(f"<div><dd>{escape(value)}</dd><dt>{escape(name)}</dt></div>" for name, value in values.items())
    counts = Counter(each.severity for each in rehearsal.advice)
    doctor = {"errors": counts[Severity.ERROR], "warnings": counts[Severity.WARNING], "advice": counts[Severity.ADVICE]}
    words = "".join(f"<div><dd>{count}</dd><dt>{name}</dt></div>" for name, count in doctor.items())
    grade = "bad" if counts[Severity.ERROR] else "good"
    return (
        f'<dl class="card {state}"><div class="name">rehearsal</div>{cells}</dl>'
        f'<dl class="card {grade}"><div class="name">drain doctor</div>{words}</dl>'
    )


def _meaning(rehearsal: Rehearsal) -> str:
    said = [_MEANING[rehearsal.verdict], *rehearsal.evidence]
    errors = [each for each in rehearsal.advice if each.severity is Severity.ERROR]
    if errors and rehearsal.verdict is not Verdict.KEPT:
        names = ", ".join(dict.fromkeys(each.rule for each in errors))
        said.append(f"The likely cause, and what to change, is told below: {names}.")
    return "".join(f"<p>{escape(each)}</p>" for each in said)


def _figures(rehearsal: Rehearsal) -> Iterable[tuple[str, str]]:
    load = rehearsal.run.load
    yield "Calls", f"{load.total:,}"
    yield "Failed", f"{load.lost:,} ({load.lost / load.total:.2%})" if load.lost else "0"
    yield from ((f"· {status}", f"{count:,}") for status, count in load.lost_by_status.items())
    for name, value in latency(rehearsal.run).items():
        yield f"Latency, {name}", seconds(value)
    yield "Longest pause of one caller", seconds(load.longest_pause)
    yield "Connections made", f"{sum(rehearsal.connections.values()):,}"
    if load.held_up > 0.1:
        yield "Held up by a busy machine", seconds(load.held_up)


def _servers(rehearsal: Rehearsal) -> str:
    calls = {name: sum(counts) for name, counts in rehearsal.run.load.calls.items()}
    rows = []
    for each in rehearsal.lives[:_LIVES_SHOWN]:
        told = rehearsal.named and each.short in calls  # of one that was restarted in its place: once
        codes = ", ".join(map(str, dict.fromkeys(each.exit_codes.values())))
        rows.append(
            (
                each.name,
                f"{calls.pop(each.short):,}" if told else "",
                f"{rehearsal.connections.get(each.short, 0):,}" if told else "",
                seconds(each.left) if each.left is not None else "",
                f"{codes}{' (killed)' if each.killed else ''}",
            )
        )
    return table(("", "calls", "connections", "left in", "exit code"), rows)


def _advice(findings: Iterable[Finding]) -> str:
    parts = [_finding(each) for each in findings]
    return "".join(parts) or "<p>Nothing that would lose a call.</p>"


def _finding(found: Finding) -> str:
    change = "".join(f"<ins>+ {escape(line)}</ins>\n" for line in found.change.splitlines())
    lines = f"<pre>{escape(found.place.field)}\n{change}</pre>" if change else ""
    return (
        f'<div class="finding {found.severity.word}"><b>{found.severity.word}: {escape(found.rule)}</b>'
        f'<p>{escape(found.what)}</p><p class="why">{escape(found.why)} <a href="{escape(found.source)}">source</a></p>'
        f"{lines}</div>"
    )


def _messages(rehearsal: Rehearsal) -> str:
    counts = Counter((failure.status, failure.details) for failure in rehearsal.run.load.failures)
    if not counts:
        return "<p>No call failed.</p>"
    rows = [(f"{count:,}", status, details) for (status, details), count in counts.most_common(_MESSAGES_SHOWN)]
    return table(("calls", "status", "what the caller was told"), rows)
