"""`drain doctor` beside real servers: what it finds in its own process's environment, and on their admin sockets."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.integration._servers.admin import admin_socket
from tests.integration._servers.process import ServerProcess
from tests.integration._servers.service import path
from tests.integration._servers.waiting import until

Spawn = Callable[..., ServerProcess]
PROGRAM = [sys.executable, "-c", "import sys; from drain._cli import main; sys.exit(main())", "doctor"]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers of other tests, which run at the same time, are not looked at."""
    monkeypatch.setenv("DRAIN_RUNTIME_DIR", str(tmp_path / "alone"))


def doctor(*words: str, **named: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*PROGRAM, *words], capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **named}
    )


def found(*words: str, **named: Any) -> tuple[int, list[str], str]:
    done = doctor("--json", *words, **named)
    assert done.stderr == ""
    told = json.loads(done.stdout)
    return done.returncode, [each["rule"] for each in told["findings"]], " ".join(told["notes"])


def running(spawn: Spawn, *arguments: str) -> ServerProcess:
    process = spawn(*arguments).ready()
    until(admin_socket(Path(os.environ["DRAIN_RUNTIME_DIR"]), process.pid).exists)
    return process


def test_all_is_well(spawn: Spawn) -> None:
    running(spawn)
    code, rules, notes = found()
    assert (code, rules) == (0, [])
    assert f"grpcio {grpc.__version__}, 1 running server" in notes


def test_every_thread_is_busy(spawn: Spawn, flavour: str) -> None:
    """As the server itself tells it. One on asyncio has none to be busy."""
    process = running(spawn)
    told = json.loads(_status())["servers"][0]["threads"]
    assert (told is None) == (flavour == "aio")
    threads = told or 12
    with grpc.insecure_channel(f"127.0.0.1:{process.ports[0]}") as channel:
        calls = [channel.unary_unary(path("Wait")).future(b"x") for _ in range(threads)]
        until(lambda: json.loads(_status())["servers"][0]["in_flight"] == threads)
        code, rules, _ = found()
        process.order("release")
        assert all(call.result(20) == b"x" for call in calls)
    assert (code, rules) == ((1, ["too-few-threads"]) if flavour == "sync" else (0, []))


def _status() -> str:
    program = [*PROGRAM[:-1], "status", "--json"]
    return subprocess.run(program, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()[0]


@pytest.mark.parametrize(
    ("variables", "rule", "code"),
    [
        ({"DRAIN_DRAIN_TIMEOUT": "soon"}, "environment-refused", 3),
        ({"DRAIN_TERMINATION_GRACE_PERIOD": "5"}, "environment-refused", 3),
        ({"DRAIN_RUNTIME_DIR": "/proc/none"}, "no-place-for-sockets", 3),
    ],
)
def test_an_environment_that_cannot_be(variables: dict[str, str], rule: str, code: int) -> None:
    assert found(**variables)[:2] == (code, [rule])


def test_a_pod_whose_api_server_is_away(tmp_path: Path) -> None:
    """It is said, and the rest is judged."""
    code, rules, notes = found(KUBERNETES_SERVICE_HOST="127.0.0.1", DRAIN_SERVICE_ACCOUNT_DIR=str(tmp_path))
    assert (code, rules) in ((0, []), (3, ["pid1-ignores-sigterm"]))  # PID 1 is this machine's here
    assert "not looked at: KUBERNETES_SERVICE_HOST is set, but there is no usable ServiceAccount" in notes


def test_a_cluster_that_is_away(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\n"
        "clusters: [{name: a, cluster: {server: 'https://127.0.0.1:1'}}]\n"
        "contexts: [{name: a, context: {cluster: a, user: a}}]\nusers: [{name: a, user: {token: x}}]\n"
    )
    done = doctor("-n", "shop", "deploy/web", KUBECONFIG=str(tmp_path / "config"))
    assert done.returncode == 69
    assert "cannot reach the API server at https://127.0.0.1:1" in done.stderr


def test_a_file_that_is_too_large_is_not_read_half(tmp_path: Path) -> None:
    """What stands behind its end would be passed over without a word."""
    large = tmp_path / "large.yaml"
    with large.open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    done = doctor("-f", str(large))
    assert done.returncode == 65
    assert "larger than 64 MiB" in done.stderr


def test_manifests_need_no_grpc() -> None:
    """A linter in a pipeline: it costs what YAML costs."""
    program = (
        "import sys; from click.testing import CliRunner; from drain._cli.doctor import command; "
        "done = CliRunner().invoke(command, ['-f', 'examples/manifests']); assert done.exit_code == 0, done.output; "
        "print([name for name in ('grpc', 'kubernetes', 'urllib3') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


AS_FIRST = """
import os, signal, subprocess, sys
if sys.argv[1:] == ["caught"]:
    signal.signal(signal.SIGTERM, lambda *_: None)
done = subprocess.run([sys.executable, "-c", "import sys; from drain._cli import main; sys.exit(main())", "doctor", "--json"],
                      capture_output=True, text=True, timeout=60)
print(done.stdout)
"""


@pytest.mark.parametrize(
    ("line", "rules"),
    [
        ("exec {python} {program} caught", []),
        ("exec {python} {program} plain", ["pid1-ignores-sigterm"]),
        ("{python} {program} caught; true", ["pid1-is-a-shell"]),
    ],
)
def test_the_first_process_of_a_container(tmp_path: Path, line: str, rules: list[str]) -> None:
    """A real PID namespace, so that PID 1 is what it is in a pod: a server with a handler, one without, a shell."""
    program = tmp_path / "program.py"
    program.write_text(AS_FIRST)
    (tmp_path / "none").mkdir()
    alone = [
        "unshare",
        *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]),
        "--pid",
        "--fork",
        "--mount-proc",
    ]
    command = [*alone, "sh", "-c", line.format(python=sys.executable, program=program)]
    environ = {
        **os.environ,
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "DRAIN_SERVICE_ACCOUNT_DIR": str(tmp_path / "none"),
    }
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, env=environ)
    assert done.stdout, done.stderr
    assert [each["rule"] for each in json.loads(done.stdout)["findings"]] == rules
