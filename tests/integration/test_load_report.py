"""`load_report=True`: trailing metadata of every ending, on both servers; and nothing without it."""

from collections.abc import Callable
from typing import Any

import pytest

from drain._grpc import load_report
from drain._grpc.load_report import INTERVAL, KEY, LoadMeter
from drain._xds.xds_pb2 import OrcaLoadReport
from tests.integration._servers.calls import Client
from tests.integration._servers.hosted import Hosted
from tests.integration._servers.waiting import until

Serve = Callable[..., Hosted]
Clients = Callable[..., Client]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, bytes | None]]:
    """What the servers told, and to which context. (grpc's own clients take this key out before Python sees it.)"""
    found: list[tuple[Any, bytes | None]] = []
    real = load_report._tell

    def tell(context: Any, report: bytes | None) -> None:
        real(context, report)
        found.append((context.trailing_metadata(), report))

    monkeypatch.setattr(load_report, "_tell", tell)
    return found


def test_every_call_tells(serve: Serve, client: Clients, told: list[Any]) -> None:
    caller = client(serve(load_report=True).port)

    def reported() -> Any:
        assert caller.call("Echo") == b"hello"
        return [each for each in told if each[1] is not None]

    metadata, found = until(reported)[-1]
    assert (KEY, found) in [tuple(pair) for pair in metadata]
    report = OrcaLoadReport.FromString(found)
    assert report.rps_fractional > 0
    assert report.cpu_utilization > 0
    assert report.eps == 0


def test_not_unless_it_is_asked_for(serve: Serve, client: Clients, told: list[Any]) -> None:
    assert client(serve().port).call("Echo") == b"hello"
    assert told == []


class TestMeter:
    """With clocks that the test turns."""

    def meter(self) -> tuple[LoadMeter, list[float], list[float]]:
        now, used = [0.0], [0.0]
        return LoadMeter(lambda: now[0], lambda: used[0], width=2.0), now, used

    def test_none_before_the_first_interval_is_over(self) -> None:
        meter, now, _ = self.meter()
        now[0] = INTERVAL / 2
        assert meter.ended(failed=False) is None

    def test_figures(self) -> None:
        meter, now, used = self.meter()
        for _ in range(3):
            meter.ended(failed=True)
        now[0], used[0] = 2.0, 1.0
        found = OrcaLoadReport.FromString(meter.ended(failed=False) or b"")
        assert (found.cpu_utilization, found.rps_fractional, found.eps) == pytest.approx((0.25, 2.0, 1.5))
        now[0] = 2.1
        assert OrcaLoadReport.FromString(meter.ended(failed=False) or b"") == found, "until the next interval is over"
        now[0] = 3.0
        assert OrcaLoadReport.FromString(meter.ended(failed=False) or b"").rps_fractional == pytest.approx(2.0)
