"""`drain exec` and the root of the command: the program gets its environment, and nothing of ours stays in between."""

import os
import subprocess
import sys
from collections.abc import Sequence

import grpc
import pytest

MAIN = "import sys; from drain._cli import main; sys.exit(main())"
CURE = "-xds_server_filter_chain_per_route"


def drain(*words: str, before: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """`drain words`, after running the Python in `before`, with GRPC_EXPERIMENTS only if it is given."""
    inherited = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    command = [sys.executable, "-c", before + MAIN, *words]
    return subprocess.run(
        command, env={**inherited, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, CURE),
        ({"GRPC_EXPERIMENTS": "tcp_frame_size_tuning"}, f"tcp_frame_size_tuning,{CURE}"),
        ({"GRPC_EXPERIMENTS": CURE}, CURE),
    ],
)
def test_the_program_gets_the_variable(before: dict[str, str], after: str) -> None:
    """Set, or appended to what is there, and only once."""
    assert drain("exec", "--", "printenv", "GRPC_EXPERIMENTS", **before).stdout == after + "\n"


def test_the_program_takes_our_place() -> None:
    """Same process id, so signals reach it; its exit code is ours; its options are its own."""
    done = drain("exec", "--", "sh", "-c", 'echo $$; echo "$@"; exit 7', "sh", "--help", "--")
    pid, words = done.stdout.splitlines()
    assert (done.returncode, words) == (7, "--help --")
    script = f"import subprocess as s; print(s.Popen([{sys.executable!r}, '-c', {MAIN!r}, 'exec', 'sh', '-c', 'echo $$']).pid)"
    both = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert len(set(both.stdout.split())) == 1, pid


def test_the_program_can_be_ended_by_a_broken_pipe() -> None:
    """Python ignores SIGPIPE; the program must not inherit that."""
    ignored = drain("exec", "grep", "SigIgn", "/proc/self/status").stdout.split()[1]
    assert not int(ignored, 16) & 1 << 12


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 64, "COMMAND is missing"),
        (["--"], 64, "COMMAND is missing"),
        (["--fast", "true"], 64, "unknown option --fast"),
        (["--", "no-such-program"], 127, "no-such-program: No such file"),
        (["--", "/no/such/program"], 127, "/no/such/program: No such file"),
        (["--", "/etc/hostname/x"], 127, "Not a directory"),
        (["--", "/etc"], 126, "/etc: Permission denied"),
        (["--", "/etc/os-release"], 126, "/etc/os-release: Permission denied"),
        (["--help"], 0, ""),
    ],
)
def test_what_cannot_be_run(words: Sequence[str], code: int, said: str) -> None:
    """Exit codes as a shell has them, and one line that names the program."""
    done = drain("exec", *words)
    assert done.returncode == code
    assert said in done.stderr


def test_exec_needs_and_loads_nothing() -> None:
    """It works without click, rich and grpc, since none of them is imported."""
    without = "import sys; sys.modules.update(click=None, rich=None, grpc=None, asyncio=None); "
    assert drain("exec", "--", "echo", "ran", before=without).stdout == "ran\n"


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_the_other_commands_say_what_is_missing(missing: str) -> None:
    """Without the extra: one clear line and exit code 69."""
    done = drain("demo", before=f"import sys; sys.modules[{missing!r}] = None; ")
    assert (done.returncode, done.stderr) == (69, f"drain: {missing} is not installed: pip install 'grpc-drain[cli]'\n")


def test_help_and_version() -> None:
    """The list of commands, exec included; the version, also without click."""
    assert {"demo", "exec"} <= set(drain("--help").stdout.split())
    shown = drain("--version").stdout.splitlines()
    assert shown[0].startswith("drain ")
    assert shown[1].startswith(f"grpcio {grpc.__version__}, Python 3.")
    assert [line.partition(":")[0] for line in shown[2:4]] == ["lossless GOAWAY, sync", "lossless GOAWAY, aio"]
    assert drain("--version", before="import sys; sys.modules['click'] = None; ").returncode == 0
    assert drain("no-such-command").returncode == 2
