"""What a rehearsal says of what it saw: the verdict, the evidence, the page."""

import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from drain._demo.results import Failure, LoadResult, Run, Span
from drain._doctor.finding import Finding, Place, Severity
from drain._rehearse.calling import UNNAMED, Names
from drain._rehearse.live import Action
from drain._rehearse.local import CommandError, Template
from drain._rehearse.method import MethodError, metadata, path_of, raw
from drain._rehearse.page import render
from drain._rehearse.pods import Pod, phase_of
from drain._rehearse.result import Life, Rehearsal, Step, Verdict

ADVICE = Finding(
    "prestop-missing", Severity.ERROR, "Deployment shop/x", 'container "<b>" has no hook.', "It costs calls.",
    "lifecycle: {}\n# or <that>", Place("the cluster", "spec.x", None, present=False), "https://example.org/?a=1&b=2",
)  # fmt: skip


def load(**changes: Any) -> LoadResult:
    made = LoadResult(
        started_at=1.0, duration=10.0, bucket=0.1, calls={"aaaaa": (3,) * 100, "bbbbb": (2,) * 100}, failed={}, failures=(),
        p50=0.004, p99=0.02, stream_p50=0.0, stream_p99=0.0, longest_pause=0.1, p90=0.01, slowest=0.2,
    )  # fmt: skip
    return replace(made, **changes)


def rehearsal(**changes: Any) -> Rehearsal:
    result = changes.pop("load_", load())
    spans = (
        Span("aaaaa", "serving", 0, 6),
        Span("aaaaa", "leaving", 6, 7),
        Span("bbbbb", "starting", 4, 5),
        Span("bbbbb", "serving", 5, 10),
    )
    made = Rehearsal(
        subject="Deployment shop/x", done="restarted", load="16 callers.", named=True, connections={"aaaaa": 16, "bbbbb": 16},
        run=Run(mode="rehearsal", load=result, restarts=(), spans=spans, listed=()), steps=(Step("restarted", 3.0, 4.0),),
        lives=(Life("x-1-aaaaa", "aaaaa", 1.0, {"main": 0}), Life("x-2-bbbbb", "bbbbb", None)), advice=(), notes=(), about={"on": "Linux"},
    )  # fmt: skip
    return replace(made, **changes)


def failing(*failures: tuple[str, str]) -> LoadResult:
    told = tuple(Failure(1.0, 0, "unary", status, details) for status, details in failures)
    return load(failed={status: (1, *(0,) * 99) for status, _ in failures}, failures=told)


KILLED = Life("x-1-aaaaa", "aaaaa", 30.0, {"main": 137}, killed=True)


@pytest.mark.parametrize(
    ("made", "verdict"),
    [
        (rehearsal(), Verdict.KEPT),
        (rehearsal(load_=failing(("UNAVAILABLE", "x"))), Verdict.LOST),
        (rehearsal(lives=(KILLED,)), Verdict.KILLED),
        (rehearsal(steps=(Step("restarted", 0, 1, "2 of 3 pods ready"),), load_=failing(("UNAVAILABLE", "x"))), Verdict.UNFINISHED),
        (rehearsal(load_=load(calls={})), Verdict.UNFINISHED),
        (rehearsal(advice=(ADVICE,)), Verdict.KEPT),  # what is said of a manifest is no loss
    ],
)  # fmt: skip
def test_verdicts(made: Rehearsal, verdict: Verdict) -> None:
    assert made.verdict is verdict
    assert made.as_dict()["verdict"] == verdict.value
    assert render(made)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (rehearsal(lives=(KILLED,)), "aaaaa: killed by SIGKILL"),
        (rehearsal(lives=(Life("x", "x", 1.0, {"main": 3}),)), "x with exit code 3"),
        (rehearsal(lives=(Life("x", "x", 1.0, restarts=2),)), "x: a container was restarted"),
        (rehearsal(load_=failing(("CANCELLED", "CANCELLED"))), "1 calls ended CANCELLED"),
        (rehearsal(load_=failing(("UNAVAILABLE", "GOAWAY received; Error code: 11; Debug Text: too_many_pings"))), "pinged more often"),
        (rehearsal(load_=failing(("UNAVAILABLE", "connect: Connection refused (111)"))), "Connections were refused"),
        (rehearsal(load_=failing(("UNAVAILABLE", "max connection age"))), "closed by max_connection_age_grace"),
        (rehearsal(load_=load(calls={"aaaaa": (1,) * 100})), "bbbbb: got no call"),
    ],
)  # fmt: skip
def test_evidence(made: Rehearsal, said: str) -> None:
    (one,) = made.evidence
    assert said in one
    assert re.sub("&#x27;", "'", said) in re.sub("&#x27;", "'", render(made))


def test_nobody_is_idle_where_answers_have_no_name() -> None:
    made = rehearsal(load_=load(calls={UNNAMED: (5,) * 100}), named=False)
    assert made.evidence == ()
    assert "have it put into metadata" in render(made)


def test_the_page_stands_alone_and_is_well_formed() -> None:
    page = render(rehearsal(advice=(ADVICE,), load_=failing(("UNAVAILABLE", "<script>alert(1)</script>"))))
    assert "1</b> of 501 calls failed" in page
    assert "<script>alert" not in page
    assert not re.search(r'(src|href)="(?!https://example)', page)
    assert "url(" not in page
    assert "@import" not in page
    assert "container &quot;&lt;b&gt;&quot;" in page
    svg = page[page.index("<svg") : page.index("</svg>") + 6]
    found = ElementTree.fromstring(svg)
    assert [each.text for each in found.iter("text") if each.get("class") == "marked"] == ["1"]  # its one step


def test_actions() -> None:
    assert [Action.read(each) for each in ("restart", "delete", "delete=3", "scale=5")] == [
        Action("restart"), Action("delete"), Action("delete", 3), Action("scale", 5),
    ]  # fmt: skip
    for wrong in ("", "restart=2", "scale", "scale=0", "scale=x", "scale=99999", "explode"):
        with pytest.raises(ValueError, match="write restart, scale=PODS"):
            Action.read(wrong)


def test_methods() -> None:
    assert path_of("shop.Orders/Get") == path_of("/shop.Orders/Get") == "/shop.Orders/Get"
    for wrong in ("", "Get", "/Get", "shop.Orders/", "a/b/c", "a b/c\n", "ä/b"):
        with pytest.raises(MethodError, match="write SERVICE/METHOD"):
            path_of(wrong)
    assert (raw(""), raw("0a 01 78")) == (b"", b"\n\x01x")
    with pytest.raises(MethodError, match="not hexadecimal"):
        raw("xyz")
    assert metadata(["a=b=c", "d="]) == (("a", "b=c"), ("d", ""))
    for wrong in ("a", "=b", "A=b", "a-bin=x"):
        with pytest.raises(MethodError, match="write key=value"):
            metadata([wrong])


def test_commands() -> None:
    assert Template("python a.py '{port} x' {name}").checked().words(7, "n") == ["python", "a.py", "7 x", "n"]
    for wrong in (
        "python a.py",
        "python {port} {what}",
        "python {port} {}",
        "python 'x {port}",
        "nothing-of-that-name {port}",
        "",
    ):
        with pytest.raises(CommandError, match="--command"):
            Template(wrong).checked()


def test_names_are_found_in_answers() -> None:
    names = Names()
    names.add("x-1-aaaaa", "aaaaa")
    assert names.within(b"", b"hello from x-1-aaaaa!") == "aaaaa"
    assert names.within(b"hello") == UNNAMED
    names.connected("aaaaa")
    names.connected("aaaaa")
    assert names.connections == {"aaaaa": 2}


def test_the_life_of_a_pod() -> None:
    pod = Pod("x-1-aaaaa", "aaaaa", [(10.0, "starting"), (12.0, "serving"), (15.0, "leaving"), (16.0, "gone")])
    assert [(each.phase, each.start, each.end) for each in pod.spans(11.0, 15.5)] == [
        ("starting", 0.0, 1.0), ("serving", 1.0, 4.0), ("leaving", 4.0, 4.5),
    ]  # fmt: skip
    assert not pod.killed
    pod.exit_codes["main"] = 137
    assert pod.killed


@pytest.mark.parametrize(
    ("raw_", "phase"),
    [
        ({}, "starting"),
        ({"status": None, "metadata": []}, "starting"),
        ({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}, "serving"),
        ({"status": {"conditions": [{"type": "Ready", "status": "False"}, None]}}, "starting"),
        (
            {"metadata": {"deletionTimestamp": "x"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}},
            "leaving",
        ),
    ],
)
def test_phases_of_pods(raw_: dict[str, Any], phase: str) -> None:
    assert phase_of(raw_) == phase
