"""The demo's result as a page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import cast

from drain._demo.chart import Chart
from drain._demo.frame import figure, filled, page, table
from drain._demo.results import Demo, Restart, Run
from drain._demo.table import rows, seconds, verdict
from drain._demo.words import WORDS

RESTARTS_SHOWN = 60
MESSAGES_SHOWN = 10
STDERR_SHOWN = 500


def render(demo: Demo) -> str:
    """The page."""
    chart = Chart.of(demo.runs)
    body = filled(
        "demo.html",
        cards="".join(_card(run) for run in demo.runs),
        figures="".join(figure(run, chart, WORDS[run.mode].name) for run in demo.runs),
        table=table(("", *(WORDS[run.mode].name for run in demo.runs)), rows(demo.runs)),
        explained="".join(_explained(run, demo.settings.aio) for run in demo.runs),
        lag=f"{demo.settings.lag:g}",
        messages=_messages(demo.runs),
        restarts=_restarts(demo.runs),
    )
    return page(
        kicker="drain demo · rolling restarts under load",
        title=verdict(demo),
        headline="".join(_headline(run) for run in demo.runs),
        setting=setting(demo),
        body=body,
        about=demo.about,
    )


def setting(demo: Demo) -> str:
    """What was run, in two sentences."""
    s = demo.settings
    kind = "grpc.aio" if s.aio else "gRPC"
    times = {1: "once", 2: "twice"}.get(s.rounds, f"{s.rounds} times")
    return (
        f"{s.servers} {kind} servers, each restarted {times} by SIGTERM, one after another, under load: "
        f"{s.callers} callers ({s.callers - s.streaming} unary, {s.streaming} streaming) that know nothing of drain "
        f"and retry nothing, behind a layer-4 balancer that learns {s.lag:g} s late, as kube-proxy does."
        + (" The last run is without a balancer: callers on drain's own channels." if demo.run("paired") else "")
    )


def _state(run: Run) -> str:
    return "bad" if run.load.lost else "good"


def _headline(run: Run) -> str:
    lost = f'<b class="{_state(run)}">{run.load.lost:,}</b> of {run.load.total:,} calls failed'
    return f'<span class="line"><span class="who">{escape(WORDS[run.mode].name)}</span> {lost}</span>'


def _card(run: Run) -> str:
    values = {
        "failed calls": f"{run.load.lost:,}",
        "longest pause of a caller": seconds(run.load.longest_pause),
        "per restart, median": seconds(run.restarting),
    }
    cells = "".join(f"<div><dd>{escape(value)}</dd><dt>{escape(name)}</dt></div>" for name, value in values.items())
    return f'<dl class="card {_state(run)}"><div class="name">{escape(WORDS[run.mode].name)}</div>{cells}</dl>'


def _explained(run: Run, aio: bool) -> str:
    words = WORDS[run.mode]
    code = escape(words.aio_code if aio else words.code)
    return f"<section><h3>{escape(words.name)}</h3><p>{escape(words.does)}</p><pre>{code}</pre></section>"


def _messages(runs: Sequence[Run]) -> str:
    counts = Counter((WORDS[run.mode].name, f.status, f.kind, f.details) for run in runs for f in run.load.failures)
    if not counts:
        return "<p>No call failed.</p>"
    lines = [
        (name, f"{count:,}", status, kind, text)
        for (name, status, kind, text), count in counts.most_common(MESSAGES_SHOWN)
    ]
    return table(("run", "calls", "status", "kind", "what the caller was told"), lines)


def _restarts(runs: Sequence[Run]) -> str:
    lines = [_restart(run, restart) for run in runs for restart in run.restarts[:RESTARTS_SHOWN]]
    return table(("run", "server", "at", "left in", "successor in use after", "what the server reported"), lines)


def _restart(run: Run, restart: Restart) -> tuple[str, ...]:
    said = [f"exit code {restart.exit_code}"]
    if restart.report is not None:
        phases = cast(Mapping[str, float], restart.report["phases"])
        rotations = cast(Sequence[Mapping[str, int]], restart.report["rotations"])
        returned = ", ".join(str(rotation["calls_returned"]) for rotation in rotations) or "none"
        said += [f"{restart.report['goaway']} GOAWAY", *(f"{name} {seconds(took)}" for name, took in phases.items())]
        said += [f"calls that came back after each rotation: {returned}", f"{restart.report['cancelled']} cancelled"]
    said += [restart.stderr[-STDERR_SHOWN:]] * bool(restart.stderr)
    where = (WORDS[run.mode].name, restart.server, f"{restart.signalled:.1f} s")
    return (*where, seconds(restart.leaving), seconds(restart.whole), "; ".join(said))
