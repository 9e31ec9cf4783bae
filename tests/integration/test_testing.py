"""`drain.testing`: its documentation is run as it stands, and what it asserts can fail."""

import contextlib
import re
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest

import drain
from drain import events
from drain._observe import watched
from drain.testing import Endpoints, Recorder, assert_no_lost_calls, serving

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


def test_the_documentation_as_it_stands(tmp_path: Path) -> None:
    """By pytest in a process of its own: three files, three tests."""
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        name = re.match(r"# (\w+\.py)", block)
        assert name is not None, block
        (tmp_path / name[1]).write_text(block)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


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
