"""`drain.testing`: its documentation is run as it stands, and what it asserts can fail."""

import contextlib
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest

import drain
from drain import events
from drain._observe import watched
from drain.testing import Clock, Endpoints, Recorder, assert_no_lost_calls, serving
from tests.integration._servers.waiting import until

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


def test_the_documentation_as_it_stands(tmp_path: Path) -> None:
    """By pytest in a process of its own."""
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        name = re.match(r"# (\w+\.py)", block)
        assert name is not None, block
        (tmp_path / name[1]).write_text(block)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_a_lost_call_is_told() -> None:
    """How many, and what each kind of them was told."""
    counted = iter(range(1_000_000))

    def call() -> None:
        if next(counted) == 3:
            raise ValueError("x")

    with pytest.raises(AssertionError, match=r"1 of \d+ calls were lost: ValueError: x"), assert_no_lost_calls(call):
        time.sleep(0.1)


def test_grpcs_own_words_are_told() -> None:
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        call = channel.unary_unary("/a.B/C")
        with pytest.raises(AssertionError, match="were lost: UNAVAILABLE: "), assert_no_lost_calls(lambda: call(b"")):
            time.sleep(0.3)


def test_a_block_that_means_nothing() -> None:
    """Nobody got through: that is no proof."""
    with pytest.raises(AssertionError, match=r"2 of 2 callers made no call: the block was over too soon"):
        _over_at_once()


def _over_at_once() -> None:
    with assert_no_lost_calls(lambda: None, callers=2) as calls:
        calls._done.set()
        for thread in calls._running:
            thread.join()
        calls.counts[:] = [0, 0]


def test_a_failure_in_the_block_is_not_hidden() -> None:
    with pytest.raises(KeyError), assert_no_lost_calls(lambda: 1 / 0):
        raise KeyError("mine")


def test_endpoints() -> None:
    """What a channel of theirs knows: nothing, some, nobody, a failure."""
    endpoints = Endpoints()
    with drain.resolver.watch(endpoints.target) as watching:
        with pytest.raises(TimeoutError):
            watching.next(0.1)
        endpoints.set("10.0.0.1:1", "[fd00::1]:2")
        assert [str(each) for each in watching.next(10).endpoints] == ["10.0.0.1:1", "[fd00::1]:2"]
        endpoints.set()
        assert len(watching.next(10)) == 0
        endpoints.fail("away")
        deadline = time.monotonic() + 10
        while watching.snapshot.failure != "away":
            assert time.monotonic() < deadline
    with pytest.raises(drain.ConfigurationError, match="must be HOST:PORT"):
        endpoints.set("nothing")
    with pytest.raises(drain.TargetError, match="no Endpoints"):
        drain.resolver.watch("drain-testing:///none")


def test_a_recorder() -> None:
    with Recorder() as recorder, serving() as it:
        it.drain()
        assert recorder.wait_for(events.StateChanged, lambda event: event.state is drain.State.STOPPED)
        assert len(recorder.of(events.Drained)) == 1
        with pytest.raises(AssertionError, match=r"no CallsCancelled within 0\.1 s; there was: "):
            recorder.wait_for(events.CallsCancelled, within=0.1)
    assert watched.listeners() == ()


def test_servers_are_ended_even_so() -> None:
    """When the block fails, and when what is registered does."""
    with contextlib.suppress(KeyError), serving() as it:
        raise KeyError
    assert it.server.state is drain.State.STOPPED
    with pytest.raises(ZeroDivisionError), serving(lambda server: 1 / 0):
        pass


# The clock.


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_time_does_not_go_back(seconds: float) -> None:
    with pytest.raises(ValueError, match="time does not go back"):
        Clock().advance(seconds)


def test_what_is_known_grows_old() -> None:
    """Endpoints of a target that is no longer followed, as metrics and alerts see them."""
    endpoints, clock = Endpoints("127.0.0.1:1"), Clock()
    with drain.resolver.watch(endpoints.target) as watching:
        watching.next(10)
        endpoints.fail("away")
        until(lambda: watching.snapshot.failure is not None)
        clock.advance(3600)
        assert watching.snapshot.stale
        assert 3600 <= (watching.snapshot.failing_for or 0) < 3660


def test_announcing_ends_at_its_limit() -> None:
    """A caller keeps coming back, so that observation alone would not end it; ten minutes later it is over."""
    policy = drain.DrainPolicy(
        announce_min=0, announce_timeout=600, rotation_interval=0.15, return_window=0.1, drain_timeout=10
    )
    handler = grpc.method_handlers_generic_handler(
        "a.B", {"C": grpc.unary_unary_rpc_method_handler(lambda request, context: b"")}
    )
    clock, over = Clock(), threading.Event()
    with (
        Recorder() as events_,
        serving(lambda server: server.add_generic_rpc_handlers((handler,)), policy=policy) as it,
    ):

        def call() -> None:
            with grpc.insecure_channel(it.address) as channel:
                while not over.is_set():
                    with contextlib.suppress(grpc.RpcError):
                        channel.unary_unary("/a.B/C")(b"", timeout=5)

        caller = threading.Thread(target=call)
        caller.start()
        leaving = it.server.drain("test")
        events_.wait_for(events.CallersReturned, lambda event: event.calls > 0)
        clock.advance(600)
        report = leaving.result(20)
        over.set()
        caller.join(20)
    assert report.announcing_ended == "announce_timeout"
    assert report.phases["announcing"] >= 600
