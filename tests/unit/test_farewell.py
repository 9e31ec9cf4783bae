"""What a server leaves behind: which drains are told of, how, and where nothing is written."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from drain._cli import reporting
from drain._farewell import Farewell, leave_message
from drain.report import DrainReport

CLEAN = DrainReport(
    "SIGTERM", "lossless", {"announcing": 1.0, "closing": 0.01, "finishing": 0.3}, "nobody came back", finished=12
)
LOSSY = DrainReport(
    "preStop (hook)",
    "classic",
    {"finishing": 20.0},
    "forced",
    cancelled=7,
    cancelled_by_method={f"/s/M{n}": 1 for n in range(7)},
)


class Told:
    """A mock of whoever tells the cluster."""

    def __init__(self) -> None:
        self.letters: list[tuple[str, str, str]] = []
        self.ended: list[float] = []

    def tell(self, kind: str, reason: str, message: str) -> None:
        self.letters.append((kind, reason, message))

    def end(self, within: float) -> None:
        self.ended.append(within)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As kubelet makes it."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    (tmp_path / "termination-log").touch()
    return tmp_path / "termination-log"


def test_a_clean_drain(told: Told, log: Path) -> None:
    farewell = Farewell(lambda: told, lambda: "[::]:50051", str(log))
    farewell.begin("SIGTERM", 3, 28.0)
    farewell.begin("SIGTERM", 3, 28.0)  # it joins
    farewell.close(CLEAN, 0.25)
    assert told.letters == [
        ("Normal", "Draining", "[::]:50051 leaves (SIGTERM): 3 calls in flight, 28 s at most"),
        ("Normal", "Drained", f"[::]:50051 {CLEAN}"),
    ]
    assert told.ended == [0.25]
    assert log.read_text() == f"[::]:50051 {CLEAN}\n"


def test_one_with_losses(told: Told, log: Path) -> None:
    log.write_text("what the program itself has written\n")
    farewell = Farewell(lambda: told, lambda: "[::]:50051", str(log))
    farewell.begin("SIGTERM", 7, 28.0)
    farewell.close(LOSSY, 0.5)
    kind, reason, message = told.letters[-1]
    assert (kind, reason) == ("Warning", "CallsCut")
    assert message.endswith("cancelled: 1 /s/M0, 1 /s/M1, 1 /s/M2, 1 /s/M3, 1 /s/M4")
    assert log.read_text() == f"what the program itself has written\n[::]:50051 {LOSSY}\n"


def test_one_that_is_not_the_pods(told: Told, log: Path) -> None:
    """Never begun: `stop()`, or a worker that is replaced."""
    Farewell(lambda: told, lambda: "[::]:50051", str(log)).close(CLEAN, 0.5)
    assert (told.letters, told.ended, log.read_text()) == ([], [], "")


def test_no_pod_around_us(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    farewell = Farewell(lambda: None, lambda: "[::]:50051", str(log))
    farewell.begin("SIGTERM", 0, 28.0)
    farewell.close(CLEAN, 0.5)
    assert log.read_text() == ""


def test_what_is_no_termination_log_is_left_alone(log: Path, tmp_path: Path) -> None:
    """Nothing is made, no link is followed, nobody waits for a reader."""
    leave_message(str(tmp_path / "not there"), "x")
    assert not (tmp_path / "not there").exists()
    (tmp_path / "link").symlink_to(log)
    leave_message(str(tmp_path / "link"), "x")
    os.mkfifo(tmp_path / "fifo")
    leave_message(str(tmp_path / "fifo"), "x")
    leave_message(str(tmp_path), "x")
    assert log.read_text() == ""


# What `drain report` reads of it.


@pytest.mark.parametrize("report", [CLEAN, LOSSY])
def test_what_is_told_is_read(report: DrainReport, told: Told, log: Path) -> None:
    farewell = Farewell(lambda: told, lambda: "worker 1, [::]:50051", str(log))
    farewell.begin(report.reason, 0, 28.0)
    farewell.close(report, 0.5)
    for line in (told.letters[-1][2], log.read_text().strip()):
        row = reporting.read(line, "orders-1", "Event")
        assert row is not None
        assert (row.server, row.reason, row.goaway) == ("worker 1, [::]:50051", report.reason, report.goaway)
        assert (row.finished, row.cancelled, row.clean) == (report.finished, report.cancelled, report.clean)
        assert row.duration == pytest.approx(report.duration, abs=0.01)


def event(
    reason: str, message: str, pod: str = "orders-1", at: str = "2026-01-01T00:00:00.000000Z"
) -> dict[str, object]:
    return {"involvedObject": {"kind": "Pod", "name": pod}, "reason": reason, "message": message, "eventTime": at}


def named(pod: str) -> dict[str, object]:
    return {"metadata": {"name": pod}}


def test_rows() -> None:
    """The latest first; what is over hides its beginning; a line that is in an Event, too, is there once; what is no report is not."""
    line = f"[::]:1 {CLEAN}"
    ended = {
        "terminated": {"message": f"something else\n{line}\n[::]:2 {LOSSY}\n", "finishedAt": "2026-01-01T00:00:09Z"}
    }
    pod = {
        "metadata": {"name": "orders-1"},
        "status": {"containerStatuses": [{"state": {"running": {}}, "lastState": ended}]},
    }
    found = reporting.rows(
        [
            event("Draining", "[::]:1 leaves (SIGTERM): 0 calls in flight, 28 s at most"),
            event("Drained", line, at="2026-01-01T00:00:01.000000Z"),
            event("Draining", "[::]:1 leaves (SIGTERM): 5 calls in flight, 28 s at most", pod="orders-2"),
            event("Scheduled", "by somebody else"),
            {"reason": "Drained", "message": line, "involvedObject": {"kind": "Node", "name": "orders-1"}},
        ],
        [pod, named("orders-2")],
        now=datetime(2026, 1, 1, 0, 0, 20, tzinfo=UTC),
    )
    assert [(row.pod, row.server, row.where, row.over, row.clean) for row in found] == [
        ("orders-1", "[::]:2", "termination message", True, False),
        ("orders-1", "[::]:1", "Event", True, True),
        ("orders-2", "[::]:1", "Event", False, None),
    ]


BEGUN = "[::]:1 leaves (SIGTERM): 5 calls in flight, 28 s at most"


@pytest.mark.parametrize(
    ("there", "seconds", "untold"),
    [
        (["orders-1"], 30, False),  # within its time
        (None, 30, False),
        (["orders-1"], 40, True),
        (None, 40, True),
        ([], 1, True),  # the pod has gone
    ],
)
def test_an_end_that_nobody_told(there: list[str] | None, seconds: int, untold: bool) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    pods = None if there is None else [named(each) for each in there]
    (row,) = reporting.rows([event("Draining", BEGUN)], pods, now=now)
    assert (row.server, row.reason, row.longest) == ("[::]:1", "SIGTERM", 28.0)
    assert (row.untold, row.over, row.clean) == ((True, True, False) if untold else (False, False, None))


def test_an_end_goes_with_the_beginning_before_it() -> None:
    """web-0 was killed, came back under its name, and left in good order."""
    times = [f"2026-01-01T00:0{minute}:00.000000Z" for minute in range(3)]
    happened = [("Draining", BEGUN), ("Draining", BEGUN), ("Drained", f"[::]:1 {CLEAN}")]
    told = [event(reason, line, "web-0", at) for (reason, line), at in zip(happened, times, strict=True)]
    for events in (told, told[::-1]):
        found = reporting.rows(events, [named("web-0")])
        assert [(row.untold, row.clean) for row in found] == [(False, True), (True, False)]


def test_the_beginning_is_read_as_it_is_told(told: Told, log: Path) -> None:
    """By both sides: what `Farewell` writes."""
    Farewell(lambda: told, lambda: "worker 1, [::]:50051", str(log)).begin("preStop (hook)", 3, 1234.5)
    ((_, reason, line),) = told.letters
    (row,) = reporting.rows([event(reason, line)], None, now=datetime(2026, 1, 1, tzinfo=UTC))
    assert (row.server, row.reason, row.longest, row.over) == ("worker 1, [::]:50051", "preStop (hook)", 1230.0, False)


def test_lines_that_were_cut_short_are_kept() -> None:
    """The API server takes 1,024 characters: what was told then is not all read, and an end goes with its beginning all the same."""
    cut = event("Draining", "[::]:1 leaves (a long rea…")
    (row,) = reporting.rows([cut], None)
    assert (row.server, row.longest, row.over, row.clean) == ("[::]:1", None, False, None)
    (row,) = reporting.rows([cut], [])
    assert row.untold
    end = event("CallsCut", "[::]:1 drained with losses in 20.0 s (a long rea…", at="2026-01-01T00:00:20.000000Z")
    (row,) = reporting.rows([cut, end], [])
    assert (row.server, row.over, row.clean, row.untold) == ("[::]:1", True, False, False)


@pytest.mark.parametrize(
    ("pod", "kind", "name", "does"),
    [
        ("orders-7c9d8b5f4-x2x9z", "Deployment", "orders", True),
        ("orders-api-7c9d8b5f4-x2x9z", "Deployment", "orders", False),
        ("orders-7c9d8b5f4-x2x9z", "Deployment", "orders-7c9d8b5f4", False),
        ("orders-12", "StatefulSet", "orders", True),
        ("orders-x2x9z", "DaemonSet", "orders", True),
        ("orders-x2x9z", "StatefulSet", "orders", False),
        ("orders-12", "Pod", "orders-12", True),
        ("orders-12", "Pod", "orders", False),
    ],
)
def test_whose_pod_it_is(pod: str, kind: str, name: str, does: bool) -> None:
    assert reporting.belongs(pod, kind, name) is does
