"""`drain status`, `rotate`, `pause`, `resume` and `drain`: what they do to real servers, what they print, how they end.

Over 300 lines: five commands, asked of the same servers.
"""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from drain._cli import asking
from tests.integration._servers.admin import admin_socket, ask
from tests.integration._servers.process import ServerProcess
from tests.integration._servers.service import path
from tests.integration._servers.waiting import until

Spawn = Callable[..., ServerProcess]
PROGRAM = [sys.executable, "-c", "import sys; from drain._cli import main; sys.exit(main())"]


def drain(*words: str, **named: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*PROGRAM, *words], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, **named},
    )  # fmt: skip


@pytest.fixture
def running(spawn: Spawn) -> ServerProcess:
    """A server that can be asked."""
    process = spawn().ready()
    until(socket_of(process).exists)
    return process


def socket_of(process: ServerProcess) -> Path:
    return admin_socket(Path(os.environ["DRAIN_RUNTIME_DIR"]), process.pid)


def test_status(running: ServerProcess) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{running.ports[0]}") as channel:
        call = channel.unary_unary(path("Wait")).future(b"x")
        running.until("begun", method="Wait")
        found = drain("status")
        verbose = drain("status", "-v")
        (shown,) = map(json.loads, drain("status", "--json").stdout.splitlines())
        running.order("release")
        assert call.result(20) == b"x"
    assert (found.returncode, found.stderr) == (0, "")
    lines = [line.rstrip() for line in found.stdout.splitlines()]
    assert lines[0] == f"server {running.pid}  {socket_of(running)}"
    assert re.fullmatch(rf"  127\.0\.0\.1:{running.ports[0]}  serving for \d+\.\d s", lines[1])
    assert lines[2:5] == ["    in flight    1", f"                 1 {path('Wait')}", "    connections  1"]
    assert lines[5].startswith("    goaway       lossless: grpcio ")
    (peer,) = shown["servers"][0]["peers"]
    assert peer in verbose.stdout
    assert peer not in found.stdout
    assert (shown["pid"], shown["role"], shown["socket"]) == (running.pid, "server", str(socket_of(running)))
    assert shown["servers"][0]["in_flight_by_method"] == {path("Wait"): 1}


def test_pause_resume_rotate(running: ServerProcess) -> None:
    for command, words, state in (
        ("pause", "paused, 0 connections told to go elsewhere", "paused"),
        ("resume", "serving", "serving"),
        ("rotate", "rotated, 0 connections told to connect anew", "serving"),
    ):
        found = drain(command)
        assert (found.returncode, found.stdout, found.stderr) == (0, f"[{running.pid}] {words}\n", "")
        assert state_of(running) == state


def state_of(process: ServerProcess) -> str:
    return str(ask(socket_of(process), "status")[0]["servers"][0]["state"])


def test_rotate_is_refused_in_the_classic_way(spawn: Spawn) -> None:
    process = spawn(policy={"goaway": "classic"}).ready()
    until(socket_of(process).exists)
    found = drain("rotate")
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.startswith(f"drain rotate: [{process.pid}] refused: server 0 (127.0.0.1:{process.ports[0]}): ")
    assert "needs lossless GOAWAY" in found.stderr


def test_drain_prints_the_phases_and_the_report(running: ServerProcess) -> None:
    found = drain("drain", "--reason", "maintenance")
    assert (found.returncode, found.stderr) == (0, "")
    head = f"[{running.pid}] server 0: "
    lines = found.stdout.splitlines()
    assert re.fullmatch(re.escape(head) + r"announcing, at most \d+\.\d s left", lines[0])
    assert any(re.match(re.escape(head) + r"drained in \d\.\d\d s \(maintenance, lossless\)", line) for line in lines)
    assert any(line.startswith("  in flight   0 at the start") for line in lines)
    status = drain("status").stdout
    assert "stopped" in status
    assert ", waits for SIGTERM  (maintenance)" in status
    running.signal(signal.SIGTERM)
    assert running.exit_code() == 0


def test_json_of_what_was_done(running: ServerProcess) -> None:
    """One object a process, with how it ended: connections that were told, reports, and why one refused."""
    paused, resumed, rotated = (json.loads(drain(word, "--json").stdout) for word in ("pause", "resume", "rotate"))
    for each in (paused, resumed, rotated):
        assert (each["pid"], each["ok"], each["outcome"], each["connections"]) == (running.pid, True, "done", 0)
    (told,) = map(json.loads, drain("drain", "--json").stdout.splitlines())
    assert [each["clean"] for each in told["reports"]] == [True]
    refused = drain("pause", "--json")
    assert refused.returncode == 1
    told = json.loads(refused.stdout)
    assert (told["ok"], told["outcome"], told["code"]) == (False, "refused", "refused")
    assert "cannot pause a server that is stopped" in told["error"]


def test_drain_without_hold_ends_the_process(running: ServerProcess) -> None:
    assert drain("drain", "--no-hold").returncode == 0
    assert running.exit_code() == 0


def test_drain_until_closing_leaves_calls_behind(running: ServerProcess) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{running.ports[0]}") as channel:
        call = channel.unary_unary(path("Wait")).future(b"x")
        running.until("begun", method="Wait")
        found = drain("drain", "--until", "closing")
        assert found.returncode == 0
        assert "drained in" not in found.stdout
        assert not call.done()
        running.order("release")
        assert call.result(20) == b"x"


def test_a_drain_that_is_not_done_in_time(running: ServerProcess) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{running.ports[0]}") as channel:
        call = channel.unary_unary(path("Wait")).future(b"x")
        running.until("begun", method="Wait")
        found = drain("drain", "--timeout", "1")
        assert found.returncode == 1
        assert f"drain drain: [{running.pid}] no answer: " in found.stderr
        assert "was not done in time" in found.stderr
        running.order("release")
        assert call.result(20) == b"x"  # the drain went on


def test_all_processes_are_asked(spawn: Spawn) -> None:
    processes = [spawn().ready() for _ in range(2)]
    for process in processes:
        until(socket_of(process).exists)
    found = drain("pause")
    assert found.returncode == 0
    assert {line.split()[0] for line in found.stdout.splitlines()} == {f"[{process.pid}]" for process in processes}
    one = drain("resume", "--socket", str(socket_of(processes[0])))
    assert one.stdout == f"[{processes[0].pid}] serving\n"
    assert [state_of(process) for process in processes] == ["serving", "paused"]


def test_some_do_not_answer(spawn: Spawn) -> None:
    hung, well = (spawn().ready() for _ in range(2))
    for process in (hung, well):
        until(socket_of(process).exists)
    hung.signal(signal.SIGSTOP)
    try:
        found = drain("status")
        assert found.returncode == 1
        assert f"server {well.pid}" in found.stdout
        assert found.stderr.startswith(f"drain status: [{hung.pid}] no answer: ")
    finally:
        hung.signal(signal.SIGCONT)


@pytest.mark.parametrize("command", ["status", "rotate", "pause", "resume", "drain"])
class TestNobodyToAsk:
    def test_no_directory(self, command: str, tmp_path: Path) -> None:
        found = drain(command, DRAIN_RUNTIME_DIR=str(tmp_path / "none"))
        assert (found.returncode, found.stdout) == (69, "")
        assert f"no admin socket in {tmp_path / 'none'}" in found.stderr
        assert not (tmp_path / "none").exists()  # asking is no reason to make it

    def test_a_dead_process(self, command: str, tmp_path: Path) -> None:
        left = tmp_path / "admin-7.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(left))
        tmp_path.chmod(0o700)
        found = drain(command, DRAIN_RUNTIME_DIR=str(tmp_path))
        assert (found.returncode, found.stdout) == (69, "")
        assert "nobody is there to ask" in found.stderr
        assert "nobody listens there any more" in found.stderr

    def test_a_directory_of_somebody_else(self, command: str, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)
        found = drain(command, DRAIN_RUNTIME_DIR=str(tmp_path))
        assert (found.returncode, found.stdout) == (77, "")
        assert "mode 0755 lets others in" in found.stderr

    def test_a_path_that_is_not_there(self, command: str, tmp_path: Path) -> None:
        found = drain(command, "--socket", str(tmp_path / "admin-1.sock"))
        assert (found.returncode, found.stdout) == (69, "")
        assert "is not there" in found.stderr


def test_no_place_for_a_directory(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A read-only root file system with no volume: one line, no trace of ours."""
    monkeypatch.delenv("DRAIN_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/proc/none"])
    with pytest.raises(SystemExit) as ended:
        asking.paths("status", ())
    assert ended.value.code == 77
    assert "Mount an emptyDir at /tmp" in capsys.readouterr().err


def test_all_meet_in_a_volume(spawn: Spawn) -> None:
    """An `emptyDir` that DRAIN_RUNTIME_DIR names: root's, mode 0777, setgid for its fsGroup."""
    volume = Path(os.environ["DRAIN_RUNTIME_DIR"])
    volume.chmod(0o2777)
    process = spawn().ready()
    until(admin_socket(volume / f"drain-{os.geteuid()}", process.pid).exists)
    process.until("GoawayChosen", goaway="lossless")
    assert f"server {process.pid} " in (shown := drain("status").stdout), shown
    hook = subprocess.run(
        [sys.executable, "-m", "drain.prestop"], capture_output=True, text=True, timeout=60, check=False
    )
    assert hook.returncode == 0, hook.stderr
    process.signal(signal.SIGTERM)
    assert process.exit_code() == 0


def test_workers_without_a_parent(running: ServerProcess) -> None:
    found = drain("rotate", "--workers")
    assert (found.returncode, found.stdout) == (69, "")
    assert found.stderr == (
        "drain rotate: no parent of workers among 1 processes. It is one that calls drain.run_workers().\n"
    )


WORKERS = """
import drain
from concurrent import futures
def serve(address):
    server = drain.server(futures.ThreadPoolExecutor(2), policy=drain.DrainPolicy(announce_min=0, announce_timeout=2))
    server.add_insecure_port(address)
    server.run()
drain.run_workers(serve, workers=2, address="127.0.0.1:0")
"""


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["subprocess.Popen[bytes]"]:
    """The parent of two workers, which serve."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("DRAIN_RUNTIME_DIR", str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", WORKERS]) as process:
        try:
            until(admin_socket(tmp_path, process.pid).exists)
            until(lambda: [each["state"] for each in workers_of(process)] == ["serving", "serving"])
            yield process
        finally:
            process.kill()


def workers_of(process: "subprocess.Popen[bytes]") -> list[dict[str, Any]]:
    found = ask(admin_socket(Path(os.environ["DRAIN_RUNTIME_DIR"]), process.pid), "status")[0]["workers"]
    assert isinstance(found, list)
    return found


def test_a_parent_speaks_for_its_workers(parent: "subprocess.Popen[bytes]") -> None:
    lines = drain("status").stdout.splitlines()
    assert lines[0].startswith(f"parent {parent.pid}  ")
    assert [line.split()[:2] for line in lines[1:3]] == [["worker", "0"], ["worker", "1"]]
    assert len([line for line in lines if line.startswith("worker ")]) == 2  # and they speak for themselves
    found = drain("pause")
    assert (found.returncode, found.stdout) == (0, f"[{parent.pid}] paused, 0 connections told to go elsewhere\n")
    before = {each["pid"] for each in workers_of(parent)}
    found = drain("rotate", "--workers")
    assert (found.returncode, found.stdout.splitlines()[-1]) == (0, f"[{parent.pid}] workers replaced")
    assert not before & {each["pid"] for each in workers_of(parent)}
    found = drain("drain", "--no-hold")
    assert found.returncode == 0
    for number in (0, 1):
        assert f"[{parent.pid}] worker {number}: announcing" in found.stdout
        assert f"[{parent.pid}] worker {number}: drained in " in found.stdout
    assert parent.wait(20) == 0


def test_wrong_words(running: ServerProcess) -> None:
    assert drain("drain", "--until", "never").returncode == 2
    found = drain("drain", "--reason", "two\nlines")
    assert (found.returncode, "printable text" in found.stderr) == (1, True)
    assert state_of(running) == "serving"


# Watching.


@pytest.fixture
def watch() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    made: list[subprocess.Popen[str]] = []

    def start(*words: str, **named: Any) -> "subprocess.Popen[str]":
        made.append(subprocess.Popen([*PROGRAM, "status", "--watch", *words], text=True, **named))
        return made[-1]

    yield start
    for each in made:
        each.kill()
        each.wait()
        for stream in (each.stdout, each.stderr):
            if stream is not None:
                stream.close()


def test_watch_prints_lines_until_all_have_stopped(running: ServerProcess, watch: Callable[..., Any]) -> None:
    watching = watch("--interval", "60", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first = watching.stdout.readline()
    assert re.fullmatch(
        rf"\d\d:\d\d:\d\d \[{running.pid}\] 127\.0\.0\.1:{running.ports[0]} serving, 0 in flight, 0 connections\n",
        first,
    )
    running.order("pause")
    assert " paused, 0 in flight" in watching.stdout.readline()
    assert drain("drain").returncode == 0
    rest, errors = watching.communicate(timeout=20)
    assert (watching.returncode, errors) == (0, "")
    assert " announcing, at most " in rest.splitlines()[0]
    assert " stopped, 0 in flight" in rest.splitlines()[-1]


def test_watch_as_json(running: ServerProcess, watch: Callable[..., Any]) -> None:
    watching = watch("--json", "--interval", "0.1", stdout=subprocess.PIPE)
    for _ in range(3):
        assert json.loads(watching.stdout.readline())["servers"][0]["state"] == "serving"


def test_watch_ends_with_the_process(running: ServerProcess, watch: Callable[..., Any]) -> None:
    watching = watch(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    watching.stdout.readline()
    running.signal(signal.SIGKILL)
    _, errors = watching.communicate(timeout=20)
    assert (watching.returncode, errors) == (0, "")


def test_watch_sees_who_comes_later(running: ServerProcess, spawn: Spawn, watch: Callable[..., Any]) -> None:
    watching = watch("--json", "--interval", "0.1", stdout=subprocess.PIPE)
    later = spawn().ready()
    seen: set[int] = set()
    began = time.monotonic()
    while later.pid not in seen:
        assert time.monotonic() - began < 20
        seen.add(json.loads(watching.stdout.readline())["pid"])


def test_ctrl_c_ends_it_quietly(running: ServerProcess, watch: Callable[..., Any]) -> None:
    watching = watch(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    _, errors = watching.communicate(timeout=20)
    assert (watching.returncode, errors) == (130, "")


def test_watch_redraws_on_a_terminal(running: ServerProcess, watch: Callable[..., Any]) -> None:
    ours, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm", "NO_COLOR": "1"}
    watching = watch("--interval", "0.1", stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    shown = ""
    began = time.monotonic()
    while shown.count("serving for") < 3:
        assert time.monotonic() - began < 20, shown
        ready, _, _ = select.select([ours], [], [], 1)
        shown += os.read(ours, 65536).decode() if ready else ""
    watching.send_signal(signal.SIGINT)
    assert watching.wait(20) == 130
    os.close(ours)
    assert "\x1b[2K" in shown  # lines are drawn anew, in place
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", shown)  # NO_COLOR
    assert max(len(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line)) for line in re.split(r"[\r\n]+", shown)) <= 80
