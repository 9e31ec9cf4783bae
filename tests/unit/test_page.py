"""The demo's page: says the verdict, needs nothing from elsewhere, stays small, and survives odd results."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from drain._demo.chart import THINNEST, WIDTH, Chart
from drain._demo.incidents import incidents
from drain._demo.page import render
from drain._demo.results import Demo, Failure, LoadResult, Restart, Run, Settings, Span
from drain._demo.table import rows, verdict
from drain._demo.timeline import listed_spans, server_spans, steps_of

SERVERS = ("server-1", "server-2", "server-3")
REPORT = {
    "goaway": "lossless",
    "phases": {"announcing": 1.3, "closing": 0.002, "finishing": 0.01},
    "rotations": [{"connections": 6, "calls_returned": 41}, {"connections": 3, "calls_returned": 0}],
    "cancelled": 0,
}


def run(mode: str = "baseline", seconds: float = 20.0, failed: dict[int, int] | None = None, restarts: int = 6) -> Run:
    """A run of even load; `failed` calls in the buckets given, each 0.1 s wide."""
    buckets = int(seconds / 0.1) + 1
    counts = failed or {}
    lost = tuple(counts.get(bucket, 0) for bucket in range(buckets))
    every = seconds / (restarts + 1)
    times = [(every * (n + 1), SERVERS[n % 3]) for n in range(restarts)]
    load = LoadResult(
        started_at=1000.0,
        duration=seconds,
        bucket=0.1,
        calls=dict.fromkeys(SERVERS, (40,) * buckets),
        failed={"UNAVAILABLE": lost} if counts else {},
        failures=tuple(Failure(b * 0.1, 1, "unary", "UNAVAILABLE", "Socket closed") for b in counts),
        p50=0.004,
        p99=0.009,
        stream_p50=0.2,
        stream_p99=0.22,
        longest_pause=0.591,
    )
    return Run(
        mode=mode,
        load=load,
        restarts=tuple(Restart(s, 1, t, t + 0.2, t + 0.4, t + 0.5, 0, REPORT) for t, s in times),
        spans=tuple(
            Span(s, phase, n * 3.0, n * 3.0 + 2) for s in SERVERS for n, phase in enumerate(("serving", "stopping"))
        ),
        listed=tuple(Span(s, "listed", 0.0, seconds) for s in SERVERS),
    )


def demo(*runs: Run) -> Demo:
    """A result of these runs."""
    return Demo(Settings(), runs, {"grpcio": "1.85.1", "Python": "3.11.7"})


LOSING = run(failed={30: 17, 31: 12, 90: 5})
CLEAN = run("drain")


def test_the_verdict_is_the_headline() -> None:
    """Both runs' failed calls and totals, in the title and at the top, thousands separated."""
    page = render(demo(LOSING, CLEAN))
    text = "server.stop(grace): 34 of 24,154 calls failed. drain: 0 of 24,120 calls failed."
    assert verdict(demo(LOSING, CLEAN)) == text
    assert f"<title>{text}</title>" in page
    headline = re.sub(r"<[^>]+>", " ", page.split("<h1>")[1].split("</h1>")[0])
    assert " ".join(headline.split()) == "server.stop(grace) 34 of 24,154 calls failed drain 0 of 24,120 calls failed"


def test_it_is_self_contained() -> None:
    """No address, no reference to another file, no placeholder left."""
    page = render(demo(LOSING, CLEAN))
    assert not re.search(r"https?://|//cdn|\bsrc=|\bhref=|@import|url\(|\$\w", page)


def test_it_has_a_light_and_a_dark_side() -> None:
    """Every colour that the style uses is set for both."""
    page = render(demo(LOSING, CLEAN))
    light, dark = page.split("@media (prefers-color-scheme: dark)")[0], page.split("prefers-color-scheme: dark")[1]
    used = set(re.findall(r"var\((--\w+)\)", page))
    assert used == set(re.findall(r"(--\w+):", light)) == set(re.findall(r"(--\w+):", dark))


def test_every_picture_is_well_formed_and_says_what_it_shows() -> None:
    """One SVG a run; XML; failed calls marked with their number; a label for people who do not see it."""
    page = render(demo(LOSING, CLEAN))
    plain, drained = (ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert [t.text for t in plain.iter("text") if t.get("class") == "lost"] == ["29", "5"]
    assert [t.text for t in drained.iter("text") if t.get("class") in ("lost", "none")] == ["none"]
    assert plain.get("aria-label") == "server.stop(grace): 34 of 24,154 calls failed in 6 restarts"
    assert {"p-serving", "p-stopping", "p-listed"} <= {rect.get("class") for rect in plain.iter("rect")}


def test_every_class_in_the_pictures_has_a_style() -> None:
    """A phase, a status or a server without a colour would be black."""
    page = render(demo(LOSING, CLEAN))
    style = page.split("</style>")[0]
    for name in set(re.findall(r'<(?:rect|text|line|polygon|i) class="([\w-]+)"', page)):
        assert f".{name} " in style or f".{name}," in style, name
    for phase in ("serving", "announcing", "closing", "finishing", "stopping", "restarting", "listed"):
        assert f".p-{phase}" in style


def test_texts_of_others_are_only_texts() -> None:
    """What a failed call was told, a server's name and where it ran are escaped, also inside the embedded data."""
    evil = "</script><script>alert(1)</script>"
    load = replace(
        LOSING.load,
        calls={evil: LOSING.load.calls["server-1"]},
        failures=(Failure(1.0, 1, "unary", evil, evil),),
        failed={evil: LOSING.load.failed["UNAVAILABLE"]},
    )
    odd = replace(LOSING, load=load, spans=(Span(evil, "serving", 0.0, 9.0),))
    assert "<script>alert" not in render(replace(demo(odd, CLEAN), about={"on": evil}))


def test_a_long_run_stays_small() -> None:
    """The most that `drain demo` can be told, an hour, 12 servers, 20 rounds, failed calls everywhere: below 1 MB."""
    long = run(seconds=3_600.0, failed=dict.fromkeys(range(0, 36_000, 3), 2), restarts=240)
    phases = ("serving", "announcing", "closing", "finishing", "restarting")
    names = [f"server-{n}" for n in range(12)]
    spans = tuple(Span(s, phases[n % 5], n * 36.0, n * 36.0 + 36) for s in names for n in range(100))
    long = replace(long, spans=spans, listed=tuple(span for span in spans if span.phase == "serving"))
    page = render(demo(long, replace(long, mode="drain")))
    assert len(page.encode()) < 1_000_000


def test_bands_stay_inside_the_picture() -> None:
    """Phases of milliseconds are drawn wide enough to be seen, but thousands of them do not run out of the picture."""
    spans = tuple(
        Span("server-1", ("announcing", "closing")[n % 2], n * 0.005, n * 0.005 + 0.005) for n in range(4_000)
    )
    picture = ElementTree.fromstring(Chart.of([CLEAN]).svg(replace(CLEAN, spans=spans), "many"))
    bands = [rect for rect in picture.iter("rect") if rect.get("class", "").startswith("p-")]
    assert max(float(b.get("x", "")) + float(b.get("width", "")) for b in bands) < WIDTH
    assert min(float(b.get("width", "")) for b in bands) >= THINNEST


@pytest.mark.parametrize(
    "odd",
    [
        replace(CLEAN, load=replace(CLEAN.load, calls={}, failed={}, failures=())),
        replace(LOSING, load=replace(LOSING.load, calls={}, p50=0.0, p99=0.0)),
        replace(CLEAN, load=replace(CLEAN.load, duration=0.05, calls={"server-1": (1,)})),
        run(seconds=1.0, restarts=1),
    ],
    ids=["no call at all", "no call succeeded", "over at once", "one restart"],
)
def test_odd_results_are_drawn_too(odd: Run) -> None:
    """A run that went wrong is the one to be looked at."""
    assert "<svg" in render(demo(odd))


def test_drain_alone() -> None:
    """Without a baseline the page has one run, and the table one column."""
    page = render(demo(replace(CLEAN, spans=(Span("server-1", "serving", 0.0, 20.0),))))
    assert page.count("<figure>") == 1
    assert "stop(grace)" not in page.split("How to read it")[0].split("<h1>")[1]
    assert all(len(row) == 2 for row in rows([CLEAN]))


def test_a_restart_begins_a_new_incident() -> None:
    """Failed calls right before and right after a SIGTERM belong to two restarts; a pause parts them too."""
    close = run(failed={28: 3, 30: 4, 60: 5}, seconds=20.0)
    close = replace(close, restarts=(replace(close.restarts[0], signalled=2.95),))
    assert [(i.calls, i.by_status) for i in incidents(close)] == [
        (3, {"UNAVAILABLE": 3}),
        (4, {"UNAVAILABLE": 4}),
        (5, {"UNAVAILABLE": 5}),
    ]


def test_both_runs_share_one_scale() -> None:
    """A second and a call are as large in one picture as in the other."""
    chart = Chart.of([run(seconds=8.0), run("drain", seconds=20.0)])
    assert chart.seconds == 20.0
    assert chart.peak == 3 * 40 * chart.factor


def test_phases_become_spans() -> None:
    """A server's events, process after process, become one line without holes, counted from the first call."""
    first: list[dict[str, object]] = [
        {"event": "serving", "at": 101.0},
        {"event": "phase", "phase": "announcing", "at": 110.0},
        {"event": "Rotated", "number": 1, "at": 110.1},
        {"event": "phase", "phase": "closing", "at": 111.0},
        {"event": "phase", "phase": "finishing", "at": 111.1},
        {"event": "phase", "phase": "stopped", "at": 111.2},
        {"event": "report", "report": {}},
    ]
    second: list[dict[str, object]] = [{"event": "serving", "at": 112.0}]
    steps = [*steps_of(first, 100.0), *steps_of(second, 111.3)]
    spans = [(s.phase, round(s.start, 3), round(s.end, 3)) for s in server_spans("a", steps, began=105.0, ended=120.0)]
    assert spans == [
        ("serving", 0.0, 5.0),
        ("announcing", 5.0, 6.0),
        ("closing", 6.0, 6.1),
        ("finishing", 6.1, 6.2),
        ("restarting", 6.2, 7.0),
        ("serving", 7.0, 15.0),
    ]


def test_the_balancers_table_becomes_spans() -> None:
    """Listed from "learned, listed" to "learned, not listed" of that address only."""
    events: list[dict[str, object]] = [
        {"event": "learned", "backend": "h:1", "listed": True, "at": 90.0},
        {"event": "observed", "backend": "h:1", "serving": False, "at": 109.0},
        {"event": "learned", "backend": "h:2", "listed": False, "at": 109.0},
        {"event": "learned", "backend": "h:1", "listed": False, "at": 110.0},
        {"event": "learned", "backend": "h:1", "listed": True, "at": 115.0},
    ]
    spans = [(span.start, span.end) for span in listed_spans("a", "h:1", events, began=100.0, ended=120.0)]
    assert spans == [(0.0, 10.0), (15.0, 20.0)]


def test_the_totals_come_first_in_json() -> None:
    """What a script wants (was anything lost?) is at the top."""
    values = demo(LOSING, CLEAN).as_dict()
    assert values["lost"] == 0
    assert values["totals"]["baseline"]["failed_by_status"] == {"UNAVAILABLE": 34}  # type: ignore[index]
