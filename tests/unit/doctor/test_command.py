"""Which process gets SIGTERM, and what a hook does. What shells do was measured, and is again here with those of this machine."""

import shutil
import signal
import subprocess
import time

import pytest

from drain._doctor import command
from drain._doctor.command import PreStop

SWALLOWED = [
    ["sh", "-c", "python app.py"],
    ["/bin/sh", "-c", "python app.py"],
    ["sh", "-ec", "cd /app && python app.py"],
    ["/bin/sh", "-e", "-c", "python app.py"],
    ["bash", "-c", "python app.py | tee log"],
    ["bash", "-c", "python app.py & wait"],
    ["sh", "-c", "exec 3>/dev/null; python app.py"],
    ["sh", "-euo", "pipefail", "-c", "python app.py"],
    ["tini", "--", "sh", "-c", "python app.py"],
    ["dumb-init", "--single-child", "sh", "-c", "python app.py"],
    ["sh", "-c", "echo 'exec'; python app.py"],
    ["ash", "-c", "export A=1\npython app.py"],
]
PASSED_ON = [
    [],
    ["python", "app.py"],
    ["sh", "-c", "exec python app.py"],
    ["sh", "-c", "cd /app && exec python app.py"],
    ["sh", "-c", "cd /app; exec env A=1 python app.py"],
    ["bash", "-c", "cd /app && python app.py"],
    ["bash", "-c", "python app.py 2>&1"],
    ["bash", "-ec", "echo 'a | b'; python app.py"],
    ["dumb-init", "sh", "-c", "python app.py"],
    ["tini", "-g", "--", "sh", "-c", "python app.py"],
    ["tini", "--", "python", "app.py"],
    ["sh", "entrypoint.sh"],  # who knows what is in it
    ["sh"],
    ["sh", "-c"],
    ["sh", "-c", ""],
    ["sh", "-c", "trap 'kill $pid' TERM; python app.py & pid=$!; wait"],
    ["sh", "-c", "echo 'unclosed; exec python app.py"],
]


@pytest.mark.parametrize("words", SWALLOWED, ids=" ".join)
def test_sigterm_stays_in_a_shell(words: list[str]) -> None:
    assert command.swallows_sigterm(words)


@pytest.mark.parametrize("words", PASSED_ON, ids=" ".join)
def test_sigterm_reaches_the_server(words: list[str]) -> None:
    assert command.swallows_sigterm(words) is None


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize(
    "line",
    ["sleep 30", "true && sleep 30", "true; sleep 30", "exec sleep 30", "true && exec sleep 30", "sleep 30 | cat"],
)
def test_it_is_so(shell: str, line: str) -> None:
    """A real shell of this machine: whether its own process becomes the last command."""
    program = shutil.which(shell)
    assert program is not None, f"{shell} is in every Debian"
    process = subprocess.Popen([program, "-c", line])
    try:
        deadline = time.monotonic() + 10
        while not (children := _names(process.pid)) or "sleep" not in children:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        replaced = children[0] == "sleep"
    finally:
        for pid in [process.pid, *_children(process.pid)]:
            subprocess.run(["kill", f"-{signal.SIGKILL.value}", str(pid)], check=False)
        process.wait(10)
    assert replaced is (command.swallows_sigterm([shell, "-c", line]) is None)


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(each) for each in file.read().split()]


def _names(pid: int) -> list[str]:
    """Of the process itself, and of its children."""
    try:
        return [open(f"/proc/{each}/comm").read().strip() for each in (pid, *_children(pid))]
    except (FileNotFoundError, ProcessLookupError):
        return []


@pytest.mark.parametrize(
    ("line", "better"),
    [
        ("python app.py", "exec python app.py"),
        ("cd /app && python app.py", "cd /app && exec python app.py"),
        ("a; b ; python app.py 'x;y'", "a; b ; exec python app.py 'x;y'"),
        ("python app.py | tee log", None),
        ("python app.py & wait", None),
        ("a || python app.py", None),
        ("if x; then y; fi", None),
        ("python app.py 2>&1", "exec python app.py 2>&1"),
    ],
)
def test_with_exec(line: str, better: str | None) -> None:
    assert command.with_exec(line) == better
    if better is not None:
        assert command.swallows_sigterm(["sh", "-c", better]) is None


def execs(*words: str) -> dict[str, object]:
    return {"exec": {"command": list(words)}}


@pytest.mark.parametrize(
    ("hook", "is_"),
    [
        (None, None),
        ({}, None),
        ("x", None),
        ({"sleep": {"seconds": 5}}, PreStop("sleep", 5.0)),
        (execs("sleep", "15"), PreStop("sleep", 15.0)),
        (execs("/bin/sleep", "1m"), PreStop("sleep", 60.0)),
        (execs("sh", "-c", "sleep 10; echo x; sleep 5"), PreStop("sleep", 15.0)),
        (execs("sh", "-c", "sleep $DELAY"), PreStop("other")),
        (execs("drain-prestop"), PreStop("drain")),
        (execs("python", "-m", "drain.prestop", "--timeout=20s"), PreStop("drain", 20.0)),
        (execs("/venv/bin/drain-prestop", "--standalone", "--timeout", "9"), PreStop("standalone", 9.0)),
        (execs("sh", "-c", "drain-prestop --standalone"), PreStop("standalone")),
        (execs("python3", "/hook", "--standalone"), PreStop("standalone")),
        (execs("nginx", "-s", "quit"), PreStop("other")),
        ({"httpGet": {"path": "/x", "port": 1}}, PreStop("http")),
        ({"exec": {"command": "sleep 5"}}, PreStop("other")),
    ],
    ids=str,
)
def test_hooks(hook: object, is_: PreStop | None) -> None:
    assert command.prestop(hook) == is_
