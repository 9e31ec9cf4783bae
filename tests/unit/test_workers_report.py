"""The joint report."""

import json

from drain._workers.report import WorkerReport, WorkersReport, drain_report
from drain.report import DrainReport, RotationReport

REPORT = DrainReport(
    reason="SIGTERM",
    goaway="lossless",
    phases={"announcing": 1.0, "closing": 0.01, "finishing": 0.5},
    announcing_ended="nobody came back",
    rotations=(RotationReport(4, 3, 2), RotationReport(4, 0)),
    finished=7,
    finished_by_method={"/a/B": 7},
    peers_left=("ipv4:127.0.0.1:1",),
    errors=("rotating: x",),
)
LOST = DrainReport("SIGTERM", "lossless", {}, "skipped", cancelled=2)


def test_a_report_survives_the_way_to_the_parent() -> None:
    assert drain_report(json.loads(json.dumps(REPORT.as_dict()))) == REPORT


def test_fields_that_are_not_known_are_left_out() -> None:
    told = json.loads(json.dumps({**REPORT.as_dict(), "new": 1}))
    told["rotations"][0]["new"] = 1
    assert drain_report(told) == REPORT


def joint(*workers: WorkerReport) -> WorkersReport:
    return WorkersReport("SIGTERM", 1.5, workers, restarts=1, replaced=4, kills=1)


def test_sums() -> None:
    report = joint(WorkerReport(0, 10, 0, reports=(REPORT,)), WorkerReport(1, 11, 0, reports=(REPORT, LOST)))
    assert (report.finished, report.cancelled, report.clean) == (14, 2, False)
    assert json.loads(json.dumps(report.as_dict()))["cancelled"] == 2
    assert str(report) == "2 workers drained with losses in 1.50 s (SIGTERM): 14 calls finished, 2 cancelled"
    assert "worker 1" in report.text()
    assert "1 restarts, 4 replaced, 1 killed" in report.text()


def test_clean_means_that_everybody_knows() -> None:
    told = WorkerReport(0, 10, 0, reports=(REPORT,))
    assert joint(told).clean
    assert joint(told, WorkerReport(1, 11, -15, served=False)).clean, "it had no call to lose"
    assert not joint(told, WorkerReport(1, 11, -9)).clean, "without a report nobody knows"
    assert not joint(told, WorkerReport(1, 11, -9, killed=True, reports=(REPORT,))).clean
    assert "ended without a report (exit code -9)" in joint(WorkerReport(1, 11, -9)).text()
