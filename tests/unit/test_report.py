"""The report: as text, as one line, as JSON; what counts as clean; and the books it is made of."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from drain._account import Account
from drain._grpc.inflight import Flow, Ledger
from drain.events import State
from drain.report import DrainReport, RotationReport

REPORT = DrainReport(
    reason="SIGTERM",
    goaway="lossless",
    phases={"announcing": 1.0, "closing": 0.002, "finishing": 0.25},
    announcing_ended="nobody came back",
    rotations=(RotationReport(3, 12, 2), RotationReport(1, 0)),
    in_flight_at_start=4,
    finished=16,
    finished_by_method={"/a.B/C": 16},
)
LOSSES = replace(
    REPORT, cancelled=2, cancelled_by_method={"/a.B/Hang": 2}, peers_left=("ipv4:10.0.0.1:1",), refused=1,
    calls_after_goaway=5, forced=True, errors=("rotating: TimeoutError: late",),
)  # fmt: skip


def test_duration_and_clean() -> None:
    """The duration is the sum of the phases; only a cut call makes a drain unclean."""
    assert REPORT.duration == pytest.approx(1.252)
    assert REPORT.clean
    assert replace(REPORT, peers_left=("x",), refused=3).clean
    assert not LOSSES.clean


def test_one_line() -> None:
    """`str()` says how it ended, how long it took, and what it cost."""
    assert str(REPORT) == "drained in 1.25 s (SIGTERM, lossless): 16 calls finished, 0 cancelled, 0 peers left"
    assert str(LOSSES).startswith("drained with losses in 1.25 s")
    assert "\n" not in str(LOSSES)


def test_text_names_everything_that_was_lost() -> None:
    """Method, peer and failed step each have a line of their own."""
    text = LOSSES.text()
    assert text.startswith(str(LOSSES))
    for said in ("/a.B/Hang: 2", "peer left   ipv4:10.0.0.1:1", "rotating: TimeoutError: late", "12 0", "1 refused"):
        assert said in text
    assert "came back: -" in replace(REPORT, rotations=()).text()


def test_as_dict_is_json() -> None:
    """All fields, and the two that are derived."""
    told = json.loads(json.dumps(LOSSES.as_dict()))
    assert told.keys() == set(DrainReport.__dataclass_fields__) | {"duration", "clean"}
    assert told["rotations"] == [
        {"connections": 3, "calls_returned": 12, "connections_returned": 2},
        {"connections": 1, "calls_returned": 0, "connections_returned": 0},
    ]
    assert (told["clean"], told["forced"]) == (False, True)


def test_frozen() -> None:
    """Every caller of drain() gets the same report: none may change it for the others."""
    with pytest.raises(FrozenInstanceError):
        REPORT.finished = 0  # type: ignore[misc]


class TestAccount:
    """From the books to the report."""

    def test_a_server_that_never_ran(self) -> None:
        """No phase, no calls."""
        account = Account(Ledger())
        account.reason = "drain()"
        report = account.report("classic")
        assert (report.reason, report.phases, report.finished, report.announcing_ended) == ("drain()", {}, 0, "skipped")

    def test_phases_add_up(self) -> None:
        """Each phase lasts from its entering to the next one's; serving is no phase."""
        account = Account(Ledger())
        for state, now in ((State.SERVING, 0), (State.ANNOUNCING, 10), (State.CLOSING, 12), (State.FINISHING, 12.5),
                           (State.STOPPED, 15)):  # fmt: skip
            account.entered(state, now)
        assert account.report("lossless").phases == {"announcing": 2, "closing": 0.5, "finishing": 2.5}

    def test_calls(self) -> None:
        """In flight at the start 2, begun since 3, of these 1 cut at the end: 4 have finished, 1 was cancelled."""
        ledger = Ledger()
        account = Account(ledger)
        called = ledger.entry("/a.B/C")
        begin, end, hang = called.begin, called.end, ledger.entry("/a.B/Hang").begin
        for each in (begin, begin):
            each()
        account.open(Flow(begun=10, in_flight=2))
        account.closing(Flow(begun=11, in_flight=2))
        for each in (begin, begin, hang, end, end, end, end):
            each()
        account.cancel(1)
        account.close(Flow(begun=13, in_flight=1))
        report = account.report("lossless")
        assert (report.in_flight_at_start, report.finished, report.cancelled) == (2, 4, 1)
        assert report.finished_by_method == {"/a.B/C": 4}
        assert report.cancelled_by_method == {"/a.B/Hang": 1}
        assert (report.refused, report.calls_after_goaway) == (0, 2)

    def test_calls_that_no_handler_saw_were_refused(self) -> None:
        """Begun in C-core, never in a handler: turned away (maximum_concurrent_rpcs, unknown method)."""
        account = Account(Ledger())
        account.open(Flow(begun=10, in_flight=0))
        account.close(Flow(begun=13, in_flight=0))
        assert account.report("lossless").refused == 3
