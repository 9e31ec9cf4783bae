"""`drain top` in a real terminal, with real servers that serve and leave; and what it prints where there is none."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from rich.console import Console

from drain._cli import gathering, top_text
from drain._cli.gathering import Shown
from tests._parts import terminal
from tests._parts.making import PartMissingError
from tests._parts.terminal import Terminal
from tests.integration._servers.admin import admin_socket
from tests.integration._servers.process import ServerProcess
from tests.integration._servers.service import path
from tests.integration._servers.waiting import until

Spawn = Callable[..., ServerProcess]
PROGRAM = [sys.executable, "-c", "import sys; from drain._cli import main; sys.exit(main())", "top"]


@pytest.fixture(scope="module")
def tmux() -> Path:
    try:
        return terminal.ready(lambda line: print(line, file=sys.stderr, flush=True))
    except PartMissingError as error:
        pytest.fail(f"test_cli_top needs tmux: {error}", pytrace=False)


@pytest.fixture
def running(spawn: Spawn) -> ServerProcess:
    process = spawn(policy={"announce_min": 1.5}).ready()
    until(admin_socket(Path(os.environ["DRAIN_RUNTIME_DIR"]), process.pid).exists)
    return process


@pytest.fixture
def top(tmux: Path, tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def start(*words: str, **size: int) -> Terminal:
        environ = {name: os.environ[name] for name in ("DRAIN_RUNTIME_DIR", "PATH")} | {"TERM": "xterm-256color"}
        made.append(Terminal(tmux, tmp_path, [*PROGRAM, "--interval", "0.2", *words], environ, **size))
        return made[-1]

    yield start
    for each in made:
        each.close()


def once(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*PROGRAM, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "120"},
    )


@pytest.mark.parametrize("flavour", ["sync"])
def test_a_server_serves_and_leaves(running: ServerProcess, top: Callable[..., Terminal], flavour: str) -> None:
    """Everything that the view is for: state, time left, calls by method, connections by peer, the last events."""
    seen = top()
    seen.until(lambda screen: "1 serving" in screen and f"127.0.0.1:{running.ports[0]}" in screen)
    with grpc.insecure_channel(f"127.0.0.1:{running.ports[0]}") as channel:
        call = channel.unary_unary(path("Wait")).future(b"x")
        running.until("begun", method="Wait")
        screen = seen.until(lambda screen: f"{path('Wait')}  " in screen)
        (row,) = [line.split() for line in screen.splitlines() if path("Wait") in line]
        assert row[:2] == [path("Wait"), "1"]
        assert row[2:] == ["127.0.0.1", "1"]
        running.signal(signal.SIGTERM)
        # The state is there a moment before its event is.
        screen = seen.until(lambda screen: "announcing" in screen and "reason=SIGTERM" in screen)
        (row,) = [
            line.split() for line in screen.splitlines() if line.startswith(f" {running.pid}") and "127.0.0.1:" in line
        ]
        assert row[2] == "announcing"
        assert row[5].replace(".", "").isdigit(), row  # time left
        assert "state changed" in screen
        assert "reason=SIGTERM" in screen
        seen.until(lambda screen: "rotated" in screen)
        running.order("release")
        assert call.result(20) == b"x"
    seen.until(lambda screen: "ended" in screen or "0 processes" in screen)
    seen.press("C-c")
    assert seen.exit_code() == 130


@pytest.mark.parametrize("flavour", ["sync"])
def test_a_small_terminal(running: ServerProcess, top: Callable[..., Terminal], flavour: str) -> None:
    """What does not fit is cut at the right and at the bottom, and nothing wraps."""
    seen = top(width=80, height=12)
    screen = seen.until(lambda screen: "serving" in screen and "conns" in screen)
    assert max(map(len, screen.splitlines())) <= 80
    assert len([line for line in screen.splitlines() if f"127.0.0.1:{running.ports[0]}" in line]) == 1


def test_without_a_terminal(running: ServerProcess) -> None:
    """One look, and JSON for scripts."""
    done = once()
    assert done.returncode == 0, done.stderr
    assert f"127.0.0.1:{running.ports[0]}" in done.stdout
    assert "\x1b" not in done.stdout
    told = json.loads(once("--json").stdout)
    (process,) = told["processes"]
    assert (process["pid"], process["servers"][0]["state"]) == (running.pid, "serving")
    assert [each["event"] for each in process["events"]][-1] == "drain.state_changed"


def test_nobody_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAIN_RUNTIME_DIR", str(tmp_path / "none"))
    done = once()
    assert (done.returncode, done.stdout) == (69, "")
    assert "no admin socket here" in done.stderr


def test_what_cannot_be_both() -> None:
    done = once("-n", "shop", "--socket", "/tmp/x")
    assert done.returncode == 2
    assert "--socket is for servers here" in done.stderr


def test_a_workload_that_is_misspelt() -> None:
    done = once("-n", "shop", "orders")
    assert done.returncode == 2
    assert "KIND/NAME" in done.stderr


# The frame, of what strangers may tell.


def drawn(shown: list[Shown], width: int = 120) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as captured:
        console.print(top_text.frame(shown, (), "12:00:00"))
    return captured.get()


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"servers": None, "targets": 3, "events": ["x"]},
        {"servers": [{}], "targets": [{}], "events": [{}], "workers": [{}]},
        {
            "servers": [
                {
                    "addresses": ["\x1b[2J"],
                    "state": "\x1b]0;x\x07",
                    "peers": ["ipv6:%5B::1%5D:1", "unix:"],
                    "time_left": "soon",
                }
            ]
        },
    ],
)
def test_lines_of_another_version(line: dict[str, Any]) -> None:
    """Nothing breaks, and nothing that they say reaches the terminal as a command."""
    text = drawn([Shown("7", line)])
    assert "\x1b" not in text
    assert "\x07" not in text


def test_targets_of_clients() -> None:
    good = {
        "target": "kubernetes:///geoipd:9200",
        "ready": 3,
        "endpoints": 4,
        "age": 0.2,
        "failure": None,
        "stale": False,
    }
    bad = {
        "target": "kubernetes:///users:1",
        "ready": None,
        "endpoints": None,
        "age": None,
        "failure": "may not list",
        "stale": False,
    }
    stale = good | {"target": "kubernetes:///old:1", "failure": "cannot reach", "stale": True}
    rows = {
        line.split()[1]: line.split()
        for line in drawn([Shown("7", {"targets": [good, bad, stale]})]).splitlines()
        if "kubernetes" in line
    }
    assert rows["kubernetes:///geoipd:9200"][2:] == ["3", "4", "0.2", "s"]
    assert rows["kubernetes:///users:1"][2:] == ["-", "-", "may", "not", "list"]
    assert rows["kubernetes:///old:1"][-3:] == ["stale:", "cannot", "reach"]


def test_one_that_ended_is_shown_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    board = gathering.Board()
    board.put("a", "7", {"servers": []})
    board.put("b", "8", {"servers": []})
    board.keep(["b"])
    assert [(key, each.gone) for key, each in board.shown()] == [("a", True), ("b", False)]
    monkeypatch.setattr(gathering, "GONE", 0.0)
    assert [key for key, _ in board.shown()] == ["b"]
