"""Several workers on one port: serving, leaving, both flavours, both ways to start them.

Over 300 lines: both flavours and both ways to start share the scenes.
"""

import itertools
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, SIGSTOP, SIGTERM
from typing import Any

import pytest

from tests.integration._servers.calls import SERVING, Client, Load, code
from tests.integration._servers.waiting import until
from tests.integration._workers.group import Group, children, lives

BOTH = pytest.mark.parametrize("method", ["fork", "spawn"])


@pytest.fixture
def group(flavour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Group]]:
    directory = tmp_path / "run"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("DRAIN_RUNTIME_DIR", str(directory))
    with ExitStack() as made:

        def start(**settings: Any) -> Group:
            started = Group(flavour=flavour, **settings)
            made.callback(started.kill)
            return started

        yield start


def clean(report: dict[str, Any], workers: int) -> bool:
    """Nobody lost anything, and everybody told."""
    return bool(report["clean"]) and [len(each["reports"]) for each in report["workers"]] == [1] * workers


@BOTH
def test_all_workers_serve_and_leave_together_without_losing_a_call(group: Callable[..., Group], method: str) -> None:
    run = group(method=method, workers=2).ready()
    with Load([run.port], callers=8) as load:
        load.more(10)
        run.signal(SIGTERM)
        run.until("phase", phase="stopped", times=2)
    # Nobody else listens, so what failed came after the last had closed.
    answered = {server for caller in load.callers for server, _ in caller.ended}
    assert len(answered) == 2, "the kernel spreads connections"
    assert run.exit_code() == 0
    assert clean(run.report, 2), run.report
    assert run.report["reason"] == "SIGTERM"
    assert run.report["finished"] > 0
    assert {"restored": True, "threads": 1}.items() <= run.until("returned").items()
    assert "2 workers drained in" in run.stderr
    phases = [e["phase"] for e in run.said("phase", number=0)]
    assert phases == ["serving", "announcing", "closing", "finishing", "stopped"]


def test_the_workers_have_processes_of_their_own(group: Callable[..., Group]) -> None:
    run = group(workers=3).ready()
    assert sorted(run.serving.values()) == sorted(children(run.pid))
    assert {e["goaway"] for e in run.said("phase")} == {"lossless"}
    assert "grpc" not in Path(f"/proc/{run.pid}/comm").read_text()
    assert len(list(Path(f"/proc/{run.pid}/task").iterdir())) == 1


def test_a_busy_port_is_an_error_at_once(group: Callable[..., Group]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        run = group(address=f"127.0.0.1:{taken.getsockname()[1]}")
        assert run.exit_code() == 1
    error = run.until("failed")
    assert error["type"] == "BindError"
    assert "Address already in use" in str(error["error"])
    assert run.said("started") == []


def test_two_groups_do_not_share_a_port_by_accident(group: Callable[..., Group]) -> None:
    run = group().ready()
    other = group(address=f"127.0.0.1:{run.port}")
    assert other.exit_code() == 1
    assert other.until("failed")["type"] == "BindError"


def test_a_classic_group_shares_its_port_whatever_its_options_say(group: Callable[..., Group]) -> None:
    run = group(policy={"goaway": "classic"}, options=[("grpc.so_reuseport", 0)]).ready()
    assert {e["goaway"] for e in run.said("phase")} == {"classic"}
    run.signal(SIGTERM)
    assert run.exit_code() == 0
    assert clean(run.report, 2)


@BOTH
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("raise", "LookupError: no database"),
        ("exit", "exit code 7"),
        ("sys.exit", "nothing to do"),
        ("return", "exit code 0"),
    ],
)
def test_a_first_start_that_fails_ends_everything(
    group: Callable[..., Group], method: str, how: str, words: str
) -> None:
    run = group(method=method, workers=3, fails={"1": f"0:{how}"})
    assert run.exit_code() == 1
    error = run.until("failed")
    assert error["type"] == "WorkerError"
    assert words in str(error["error"])
    assert "worker 1" in str(error["error"])
    assert not any(lives(int(e["pid"])) for e in run.said("started"))  # type: ignore[call-overload]


def test_a_worker_that_never_listens_is_told_from_one_that_does(group: Callable[..., Group]) -> None:
    run = group(fails={"0": "0:hang"}, start_timeout=3.0)
    assert run.exit_code() == 1
    assert "did not listen in time" in str(run.until("failed")["error"])


def test_a_worker_that_listens_elsewhere_is_told_so(group: Callable[..., Group]) -> None:
    run = group(workers=1, elsewhere=True, start_timeout=2.0)
    assert run.exit_code() == 1
    assert "did not listen in time (it listens on " in str(run.until("failed")["error"])


def test_a_fork_beside_threads_is_refused(group: Callable[..., Group]) -> None:
    run = group(channel=True)
    assert run.exit_code() == 1
    error = str(run.until("failed")["error"])
    assert "other threads" in error
    assert "grpc" in error
    assert 'method="spawn"' in error
    spawned = group(channel=True, method="spawn").ready()
    spawned.signal(SIGTERM)
    assert spawned.exit_code() == 0


def test_a_crash_loop_is_slowed_down(group: Callable[..., Group], tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    run = group(fails={"0": "1:exit"}, marks=str(marks)).ready()
    run.signal(SIGKILL, run.serving[0])
    run.until("started", number=0, times=6)
    at = [float(str(e["at"])) for e in run.said("started", number=0)[1:6]]
    gaps = [b - a for a, b in itertools.pairwise(at)]
    assert gaps[-1] > 3 * gaps[0], gaps
    with Client(run.port) as client:  # the other serves
        assert client.call("Echo") == b"hello"
    run.signal(SIGTERM)
    assert run.exit_code() == 0
    assert run.report["restarts"] >= 5
    assert run.report["clean"]


def test_a_worker_that_is_killed_under_load_is_started_again(group: Callable[..., Group]) -> None:
    run = group(workers=2).ready()
    with Load([run.port], callers=4) as load:
        before = run.serving
        run.signal(SIGKILL, before[1])
        run.until("phase", phase="serving", times=3)
        load.callers[0].failures.clear()
        assert run.serving[0] == before[0]
        assert run.serving[1] != before[1]
    assert "was ended by SIGKILL; another is started in 0.1 s" in run.stderr
    run.signal(SIGTERM)
    assert run.exit_code() == 0
    assert run.report["restarts"] == 1
    assert clean(run.report, 2)


def test_sigterm_to_one_worker_drains_that_one_only(group: Callable[..., Group]) -> None:
    run = group(workers=2).ready()
    before = run.serving
    run.signal(SIGTERM, before[0])
    run.until("phase", phase="stopped", number=0)
    run.until("phase", phase="serving", number=0, times=2)
    assert run.serving[1] == before[1]
    assert [e["phase"] for e in run.said("phase", number=1)] == ["serving"]


def test_ctrl_c_reaches_the_whole_group_and_counts_once(group: Callable[..., Group]) -> None:
    run = group(workers=2, policy={"drain_timeout": 10}).ready()
    with Client(run.port) as client:
        call = client.begin("Sleep", b"1")
        run.until("begun")
        run.signal_all(SIGINT)
        assert code(call) == "OK"
    assert run.exit_code() == 0
    assert clean(run.report, 2)
    assert run.report["reason"] == "SIGINT"
    assert not run.report["forced"]
    assert {r["announcing_ended"] for w in run.report["workers"] for r in w["reports"]} == {"skipped"}


def test_sigterm_to_the_whole_group_is_one_drain(group: Callable[..., Group]) -> None:
    run = group(workers=2).ready()
    run.signal_all(SIGTERM)
    assert run.exit_code() == 0
    assert clean(run.report, 2)
    assert not run.report["forced"]
    assert [w["exit_code"] for w in run.report["workers"]] == [0, 0]


def test_sighup_to_the_whole_group_is_one_replacement(group: Callable[..., Group]) -> None:
    run = group(workers=2).ready()
    run.signal_all(SIGHUP)
    until(lambda: run.ask("status")[0]["replaced"] == 2)
    assert run.ask("status")[0]["restarts"] == 0


def test_a_second_signal_forces_the_end(group: Callable[..., Group]) -> None:
    run = group(workers=2, policy={"drain_timeout": 60}).ready()
    with Client(run.port) as client:
        call = client.begin("Sleep", b"30", timeout=40)
        run.until("begun")
        run.signal(SIGTERM)
        run.until("phase", phase="announcing", times=2)
        run.signal(SIGTERM)
        assert run.exit_code() == -SIGTERM
        assert code(call) != "OK"
    assert "SIGTERM, forced" in run.stderr


def test_a_worker_that_hangs_does_not_hold_the_parent(group: Callable[..., Group]) -> None:
    run = group(workers=2, policy={"announce_timeout": 0.5, "drain_timeout": 1, "announce_min": 0}).ready()
    hung = run.serving[1]
    run.signal(SIGSTOP, hung)
    run.signal(SIGTERM)
    assert run.exit_code(12) == 0
    assert not lives(hung)
    report = run.report
    assert report["duration"] < 6
    assert report["kills"] == 1
    assert not report["clean"]
    assert [w["killed"] for w in report["workers"]] == [False, True]


def test_workers_drain_when_their_parent_is_killed(group: Callable[..., Group]) -> None:
    run = group(workers=2).ready()
    pids = list(run.serving.values())
    with Client(run.port) as client:
        call = client.begin("Sleep", b"0.5")
        run.until("begun")
        run.signal(SIGKILL)
        run.parent_gone()
        assert code(call) == "OK"
    until(lambda: not any(map(lives, pids)))
    assert len(run.said("ending")) == 2, "they came to their own end"


@BOTH
def test_sighup_replaces_all_without_a_failed_call_or_check(group: Callable[..., Group], method: str) -> None:
    run = group(workers=2, method=method).ready()
    before = run.serving
    with Load([run.port], callers=8) as load, Client(run.port) as prober:
        seen = set()
        run.signal(SIGHUP)

        def replaced() -> bool:
            with Client(run.port) as fresh:
                seen.update({fresh.health(), prober.health()})
            now = run.serving
            return len(run.said("phase", phase="stopped")) == 2 and not set(now.values()) & set(before.values())

        until(replaced, 30)
        load.more(10)
    assert load.failures == []
    assert seen == {SERVING}
    stopped = [e["pid"] for e in run.said("phase", phase="stopped")]
    assert stopped == [before[0], before[1]], "one by one"
    assert [e["phase"] for e in run.said("phase", pid=before[0])] == ["serving", "closing", "finishing", "stopped"]
    run.signal(SIGTERM)
    assert run.exit_code() == 0
    assert run.report["replaced"] == 2
    assert clean(run.report, 2)


def test_a_successor_that_fails_leaves_the_old_one(group: Callable[..., Group], tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    run = group(workers=2, fails={"0": "1:exit"}, marks=str(marks)).ready()
    before = run.serving
    answer = run.ask("replace")
    assert answer[-1]["ok"] is False
    assert "successor of worker 0" in answer[-1]["error"]
    assert run.serving == before
    run.signal(SIGTERM)
    assert run.exit_code() == 0
    assert clean(run.report, 2)


@pytest.mark.parametrize("moment", ["starting", "restarting", "replacing", "announcing", "finishing", "retiring"])
def test_sigterm_at_every_moment(group: Callable[..., Group], moment: str) -> None:
    run = group(workers=2, policy={"announce_min": 0.5})
    with ExitStack() as stack:
        if moment == "starting":
            run.until("started", times=1)
        else:
            run.ready()
            load = stack.enter_context(Load([run.port], callers=4, streaming=1))
            if moment == "restarting":
                run.signal(SIGKILL, run.serving[0])
                run.until("started", times=3)
            elif moment in ("replacing", "retiring"):
                run.signal(SIGHUP)
                run.until("started", times=3) if moment == "replacing" else run.until("phase", phase="closing")
            elif moment == "announcing":
                run.ask("drain", reason="before", hold=False, until="closing")
            elif moment == "finishing":
                client = stack.enter_context(Client(run.port))
                call = client.begin("Sleep", b"1.5")
                run.until("begun", method="Sleep")
                for _ in run.asking("drain", reason="before", hold=False, until="closing"):
                    pass
                stack.callback(lambda: call.result(10))
            load.more(1)
        run.signal(SIGTERM)
        assert run.exit_code() == 0
    if moment not in ("starting", "restarting"):  # no load; calls that SIGKILL cut
        assert load.failures, "it outlasted the workers"
        # Refused, or reset in the socket's queue before anybody had accepted it: the call has not left its client.
        lost = [failure for failure in load.failures if "failed to connect to all addresses" not in failure]
        assert not lost, f"lost, not turned away: {lost}"
    assert run.report["clean"], run.report
    assert run.report["kills"] == 0
    assert not run.report["forced"]
    assert not any(lives(int(e["pid"])) for e in run.said("started"))  # type: ignore[call-overload]


def test_a_drain_by_prestop_holds_all_until_sigterm(group: Callable[..., Group]) -> None:
    run = group(workers=2).ready()
    pids = run.serving
    for pid in pids.values():  # as a hook does that finds every socket
        assert run.ask("drain", pid, reason="preStop", hold=True)[-1]["ok"]
    answer = run.ask("drain", reason="preStop", hold=True)
    assert answer[-1] == {"kind": "end", "ok": True}
    assert {line["server"] for line in answer if line["kind"] == "report"} == {0, 1}
    status = run.ask("status")[0]
    assert status["role"] == "parent"
    assert status["held"]
    assert [(w["number"], w["pid"], w["state"]) for w in status["workers"]] == [
        (number, pid, "stopped") for number, pid in sorted(pids.items())
    ]
    assert all(map(lives, [run.pid, *pids.values()]))
    run.signal(SIGTERM)
    assert run.exit_code() == 0
    assert clean(run.report, 2)


def test_the_parent_is_asked_for_all(group: Callable[..., Group]) -> None:
    run = group(workers=2).ready()
    with Client(run.port) as client:
        client.call("Echo")
        assert run.ask("rotate")[-1] == {"kind": "end", "ok": True, "connections": 1}
        client.call("Echo")
        assert run.ask("pause")[-1]["ok"]
        run.until("phase", phase="paused", times=2)
        assert client.health() != SERVING
        run.signal(SIGKILL, run.serving[0])
        run.until("phase", phase="paused", number=0, times=2)
        assert run.ask("resume")[-1]["ok"]
        run.until("phase", phase="serving", times=5)
    assert run.ask("replace")[-1]["ok"]
    assert run.ask("status")[0]["replaced"] == 2
    assert run.ask("nonsense")[-1]["code"] == "usage"
    lines = run.asking("drain", reason="by hand", hold=False)
    states = [(line["server"], line["state"]) for line in lines if line["kind"] == "phase"]
    assert {(0, "announcing"), (1, "announcing"), (0, "stopped"), (1, "stopped")} <= set(states)
    assert run.exit_code() == 0
    assert run.report["reason"] == "by hand"


def test_orphans_are_reaped_by_who_inherits_them(group: Callable[..., Group]) -> None:
    run = group(workers=1, subreaper=True, orphan=True).ready()
    orphan = run.until("orphan")["pid"]
    until(lambda: not Path(f"/proc/{orphan}").exists())  # nor its exit code
    run.signal(SIGTERM)
    assert run.exit_code() == 0
    assert run.report["orphans"] == 1
    assert clean(run.report, 1)
