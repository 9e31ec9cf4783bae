"""The rules about a process: each trips, and a good process trips none. The command in a real process: tests/integration/test_doctor.py."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drain._doctor import examine
from drain._doctor.process import Process, first_process
from drain._doctor.rule import RULES

GOOD = Process(
    called="this pod",
    grpcio="1.85.3",
    lossless={"sync": None, "aio": None},
    environ={"DRAIN_DRAIN_TIMEOUT": "10s", "PATH": "/bin"},
    first=("python", "-m", "shop"),
    catches=True,
    in_cluster=True,
    servers=(
        {"addresses": ["[::]:50051"], "goaway": "lossless", "goaway_reason": "known", "threads": 4, "in_flight": 3},
    ),
)
NO = ("grpcio 1.84.0 was imported before drain", "import drain before grpc")
TRIPS: dict[str, dict[str, Any]] = {
    "goaway-not-lossless": {"lossless": {"sync": NO, "aio": NO}},
    "server-leaves-classic": {"servers": ({"addresses": ["x"], "goaway": "classic", "goaway_reason": "no place"},)},
    "environment-refused": {"environ": {"DRAIN_DRAIN_TIMEOUT": "soon"}},
    "no-place-for-sockets": {"no_place": "run-time directory /tmp/drain-0: Read-only file system."},
    "pid1-is-a-shell": {"first": ("/bin/sh", "-c", "python -m shop"), "catches": False},
    "pid1-ignores-sigterm": {"catches": False},
    "not-permitted": {"refused": ("list endpointslices",)},
    "too-few-threads": {"servers": ({"addresses": ["x"], "threads": 2, "in_flight": 5},)},
}


def rules(process: Process) -> list[str]:
    return [each.rule for each in examine.process(process).findings]


def test_a_good_process() -> None:
    assert rules(GOOD) == []
    assert set(TRIPS) == {name for name, rule in RULES.items() if rule.subject is Process}


@pytest.mark.parametrize("rule", TRIPS)
def test_each_rule_trips(rule: str) -> None:
    assert rules(replace(GOOD, **TRIPS[rule])) == [rule]


@pytest.mark.parametrize(
    "changes",
    [
        {"catches": None, "first": ()},
        {"servers": ({"addresses": ["x"], "goaway": "classic", "goaway_reason": 'asked for: goaway="classic"'},)},
        {"servers": ({"threads": None, "in_flight": 900},)},
        {"servers": ({"threads": "x", "in_flight": None},)},
        {"servers": ({},)},
    ],
)
def test_what_is_not_known_is_not_told(changes: dict[str, Any]) -> None:
    assert rules(replace(GOOD, **changes)) == []


def test_one_flavour_that_cannot_is_advice() -> None:
    (found,) = examine.process(replace(GOOD, lossless={"sync": None, "aio": NO})).findings
    assert found.severity.word == "advice"
    assert "aio" in found.what


def test_the_first_process(tmp_path: Path) -> None:
    (tmp_path / "cmdline").write_bytes(b"python\0-m\0shop\0")
    (tmp_path / "status").write_text("Name:\tpython\nSigCgt:\t0000000180004002\n")
    assert first_process(tmp_path) == (("python", "-m", "shop"), True)
    (tmp_path / "status").write_text("Name:\tpython\nSigCgt:\t0000000180000002\n")
    assert first_process(tmp_path) == (("python", "-m", "shop"), False)
    (tmp_path / "status").write_text("Name:\tpython\n")
    assert first_process(tmp_path)[1] is None
    assert first_process(tmp_path / "none") == ((), None)
