"""A server whose service has grown rotates its connections once, and only then (drain/_rebalancing)."""

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import drain
from drain import events
from drain.config import DrainPolicy, RebalancePolicy
from drain.errors import TargetError
from drain.events import State
from tests.integration._servers.calls import PATIENCE, Client, Load
from tests.integration._servers.hosted import FAST, Hosted
from tests.integration._servers.waiting import until

Serve = Callable[..., Hosted]
Clients = Callable[..., Client]
SOON = RebalancePolicy(spread=0.05, still=0.05, min_interval=0)
NEVER = 3600.0


class Endpoints:
    """A file of endpoints."""

    def __init__(self, path: Path) -> None:
        self.path, self.target = path, f"file://{path}"

    def say(self, *ports: int) -> None:
        """Replace it, as a whole."""
        self.list(*(f"127.0.0.1:{port}" for port in ports))

    def list(self, *addresses: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(f"endpoints: {[*addresses]}")
        new.replace(self.path)


@pytest.fixture
def endpoints(tmp_path: Path) -> Endpoints:
    made = Endpoints(tmp_path / "endpoints.yaml")
    made.say(1)
    return made


def policy(endpoints: Endpoints, rebalance: RebalancePolicy = SOON) -> DrainPolicy:
    return replace(FAST, rebalance=replace(rebalance, target=endpoints.target))


def followed(endpoints: Endpoints, ready: int, users: int = 1) -> None:
    """The target is followed, and so many endpoints are known."""

    def known() -> bool:
        return any(
            each.target == endpoints.target and each.users == users and len(each.endpoints or ()) == ready
            for each in drain.resolver.snapshot()
        )

    until(known)


def rebalancers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "drain-rebalance"]


def rebalanced(hosted: Hosted, *, times: int = 1) -> events.Rebalanced:
    found = hosted.events.until(lambda event: isinstance(event, events.Rebalanced), times=times)
    assert isinstance(found, events.Rebalanced)
    return found


@pytest.fixture(autouse=True)
def nothing_is_left() -> Any:
    yield
    gc.collect()
    until(lambda: not rebalancers())
    until(lambda: drain.resolver.snapshot() == ())


class TestServed:
    """Sync and asyncio."""

    def test_growth_rotates_once(self, serve: Serve, client: Clients, endpoints: Endpoints) -> None:
        hosted = serve(policy=policy(endpoints))
        client(hosted.port).call("Echo")
        followed(endpoints, 1)
        endpoints.say(1, 2, 3)
        event = rebalanced(hosted)
        assert (event.added, event.total, event.connections) == (2, 3, 1)
        assert len(hosted.happened(events.Rotated)) == 1
        assert client(hosted.port).call("Echo") == b"hello"
        endpoints.say(1, 2, 3, 4)  # and once more: the base has moved on
        assert rebalanced(hosted, times=2).added == 1
        assert len(hosted.happened(events.Rotated)) == 2

    @pytest.mark.parametrize("variable", ["DRAIN_POD_IP", "POD_IP"])
    def test_our_own_coming_is_no_growth(
        self, serve: Serve, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch, variable: str
    ) -> None:
        monkeypatch.setenv(variable, "127.0.0.9")
        hosted = serve(policy=policy(endpoints))
        followed(endpoints, 1)
        endpoints.list("127.0.0.1:1", "127.0.0.9:1")
        followed(endpoints, 2)
        endpoints.list("127.0.0.1:1", "127.0.0.9:1", "127.0.0.2:1", "127.0.0.3:1")
        event = rebalanced(hosted)
        assert (event.added, event.total) == (2, 3)
        assert len(hosted.happened(events.Rotated)) == 1

    def test_under_load_no_call_fails(self, serve: Serve, endpoints: Endpoints) -> None:
        hosted = serve(policy=policy(endpoints))
        followed(endpoints, 1)
        with Load([hosted.port]) as load:
            for ports in range(2, 6):
                endpoints.say(*range(1, ports + 1))
                rebalanced(hosted, times=ports - 1)
                load.more(5)
        assert load.failures == []
        assert load.ok
        assert all(event.connections for event in hosted.happened(events.Rebalanced))

    def test_not_before_it_is_still(self, serve: Serve, endpoints: Endpoints) -> None:
        """Two changes, less than `still` apart: one rotation, after the second."""
        hosted = serve(policy=policy(endpoints, replace(SOON, still=1.5)))
        followed(endpoints, 1)
        endpoints.say(1, 2)
        followed(endpoints, 2)
        endpoints.say(1, 2, 3)
        followed(endpoints, 3)
        assert hosted.happened(events.Rotated) == []
        event = rebalanced(hosted)
        assert (event.added, event.total) == (2, 3)
        assert len(hosted.happened(events.Rotated)) == 1

    def test_growth_within_the_min_interval_is_answered_after_it(self, serve: Serve, endpoints: Endpoints) -> None:
        hosted = serve(policy=policy(endpoints, replace(SOON, min_interval=1.5)))
        followed(endpoints, 1)
        endpoints.say(1, 2)
        first = rebalanced(hosted)
        endpoints.say(1, 2, 3)
        second = rebalanced(hosted, times=2)
        assert 1.4 < second.at - first.at < 4
        assert second.added == 1

    def test_a_rotation_by_hand_is_one(self, serve: Serve, endpoints: Endpoints) -> None:
        hosted = serve(policy=policy(endpoints, replace(SOON, still=0.5)))
        followed(endpoints, 1)
        endpoints.say(1, 2)
        followed(endpoints, 2)
        hosted.ask(hosted.server.rotate)
        endpoints.say(1, 2, 3)
        assert rebalanced(hosted).added == 1, "the second one was dealt to by the rotation by hand"

    def test_what_is_lost_needs_no_rotation(self, serve: Serve, endpoints: Endpoints) -> None:
        endpoints.say(1, 2, 3)
        hosted = serve(policy=policy(endpoints))
        followed(endpoints, 3)
        endpoints.say(1)
        followed(endpoints, 1)
        endpoints.path.unlink()
        until(lambda: any(each.failure for each in drain.resolver.snapshot()))
        endpoints.say(1, 4)
        event = rebalanced(hosted)
        assert (event.added, event.total) == (1, 2)
        assert len(hosted.happened(events.Rotated)) == 1

    def test_it_ends_when_a_drain_begins(self, serve: Serve, client: Clients, endpoints: Endpoints) -> None:
        """Not when it ends: the announcing's own rotations are questions, and nobody else may put one."""
        hosted = serve(policy=policy(endpoints))
        followed(endpoints, 1)
        assert len(rebalancers()) == 1
        call = client(hosted.port).begin("Wait")
        hosted.told.name("Wait")
        report = hosted.drain()
        hosted.phase(State.ANNOUNCING)
        until(lambda: not rebalancers())
        until(lambda: drain.resolver.snapshot() == ())
        hosted.service.release.set()
        assert call.result(PATIENCE) == b"hello"
        assert report.result(PATIENCE).clean
        assert hosted.happened(events.Rebalanced) == []

    def test_without_lossless_goaway_it_is_off_and_says_so(self, serve: Serve, endpoints: Endpoints) -> None:
        hosted = serve(start=False, policy=replace(policy(endpoints), goaway="classic")).start("classic")
        (told,) = [each for each in hosted.happened(events.FallbackTaken) if each.what == "rebalancing"]
        assert 'goaway="classic"' in told.reason
        assert rebalancers() == []
        assert drain.resolver.snapshot() == ()

    def test_a_bad_target_is_an_error_when_the_server_is_made(self, serve: Serve) -> None:
        with pytest.raises(TargetError, match="nowhere"):
            serve(start=False, policy=replace(FAST, rebalance=replace(SOON, target="nowhere:1")))

    def test_two_servers_share_one_watch(self, serve: Serve, endpoints: Endpoints) -> None:
        both = [serve(policy=policy(endpoints)) for _ in range(2)]
        followed(endpoints, 1, users=2)
        endpoints.say(1, 2)
        for each in both:
            rebalanced(each)

    def test_who_does_not_ask_for_it_follows_nothing(self, serve: Serve) -> None:
        serve()
        assert rebalancers() == []


def test_a_dropped_server_takes_it_along(endpoints: Endpoints) -> None:
    """It keeps nothing alive."""
    pool = ThreadPoolExecutor(1)
    server = drain.server(pool, policy=policy(endpoints))
    server.add_insecure_port("127.0.0.1:0")
    server.start()
    followed(endpoints, 1)
    gone = weakref.ref(server)
    del server
    gc.collect()
    assert gone() is None
    until(lambda: not rebalancers())
    pool.shutdown(wait=False)


def test_a_rotation_that_is_refused_is_tried_again(endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    """Growth is not forgotten for a failure, and the failure is told."""
    monkeypatch.setattr("drain._rebalancing.rebalancer.PAUSE", 0.2)
    hosted = Hosted("sync", policy=policy(endpoints)).start()
    request, refusals = hosted.server._driver.request, [RuntimeError("not now")]

    def asked(*arguments: Any, **more: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return request(*arguments, **more)

    try:
        followed(endpoints, 1)
        monkeypatch.setattr(hosted.server._driver, "request", asked)
        endpoints.say(1, 2)
        assert rebalanced(hosted).added == 1
        (failed,) = hosted.happened(events.StepFailed)
        assert failed.step == "rebalancing"
        assert "not now" in failed.error
    finally:
        hosted.close()


def test_a_fault_of_ours_is_told_and_harms_nobody(endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise LookupError("a bug")

    monkeypatch.setattr("drain._rebalancing.rebalancer.sources", broken)
    hosted = Hosted("sync", policy=policy(endpoints)).start()
    try:
        event = hosted.events.until(lambda event: isinstance(event, events.StepFailed))
        assert "LookupError: a bug" in str(event)
        with Client(hosted.port) as client:
            assert client.call("Echo") == b"hello"
    finally:
        hosted.close()


def test_without_threads_the_server_starts_all_the_same(endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(threading.Thread):
        def start(self) -> None:
            if self.name == "drain-rebalance":
                raise RuntimeError("can't start new thread")
            super().start()

    monkeypatch.setattr(threading, "Thread", Refused)
    hosted = Hosted("sync", policy=policy(endpoints)).start()
    try:
        assert [each.reason for each in hosted.happened(events.FallbackTaken)] == ["can't start new thread"]
    finally:
        monkeypatch.undo()
        hosted.close()
