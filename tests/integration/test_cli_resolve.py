"""`drain resolve`: exit codes, what is shown, and to whom."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from drain import resolver
from drain._cli import resolve
from tests.integration._servers.waiting import until


def drain(*words: str, **named: Any) -> "subprocess.CompletedProcess[str]":
    program = "import sys; from drain._cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, "resolve", *words],
        capture_output=True, text=True, timeout=60, check=False, **named,
    )  # fmt: skip


@pytest.fixture
def endpoints(tmp_path: Path) -> Path:
    path = tmp_path / "endpoints.yaml"
    path.write_text(
        "- {address: 10.0.0.1, port: 1, zone: a, name: pod/shop/one}\n"
        "- {address: 10.0.0.2, port: 1, zone: b}\n"
        "- {address: 10.0.0.3, port: 1, zone: b, ready: false, serving: true, terminating: true}\n"
    )
    return path


def test_a_table(endpoints: Path) -> None:
    found = drain(f"file://{endpoints}")
    assert (found.returncode, found.stderr) == (0, "")
    head, columns, _, *rows = (line.rstrip() for line in found.stdout.splitlines() if line.strip())
    assert head == f"file://{endpoints}: 2 of 3 endpoints used"
    assert columns.split() == ["endpoint", "state", "zone", "name", "used", "why"]
    assert [row.split() for row in rows] == [
        ["10.0.0.1:1", "ready", "a", "pod/shop/one", "yes", "ready"],
        ["10.0.0.2:1", "ready", "b", "yes", "ready"],
        ["10.0.0.3:1", "terminating", "b", "no", "terminating"],
    ]


def test_json_and_the_own_zone(endpoints: Path) -> None:
    found = drain(f"file://{endpoints}", "--json", "--prefer-same-zone", env={"DRAIN_ZONE": "b", "PATH": ""})
    shown = json.loads(found.stdout)
    assert (found.returncode, shown["used"], shown["failure"], shown["stale"]) == (0, 2, None, False)
    assert [(each["address"], each["priority"], each["why"]) for each in shown["endpoints"]] == [
        ("10.0.0.1", 1, "ready, failover: other zone"),
        ("10.0.0.2", 0, "ready, own zone b"),
        ("10.0.0.3", None, "terminating"),
    ]


def test_none_to_call(endpoints: Path) -> None:
    endpoints.write_text("- {address: 10.0.0.1, port: 1, ready: false}")
    found = drain(f"file://{endpoints}")
    assert found.returncode == 1
    assert "0 of 1 endpoint used" in found.stdout
    assert "not ready" in found.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["kubernets:///a"], 2, "scheme 'kubernets' is unknown"),
        (["dns:///a:1"], 2, "grpc itself resolves it"),
        (["static:///a"], 2, "must be HOST:PORT"),
        ([], 2, "Missing argument"),
        (["file:///no/such/file"], 3, "/no/such/file: No such file or directory"),
        (["dns+poll:///no-such-host.invalid:1"], 3, "DNS: no-such-host.invalid"),
        (["kubernetes:///geoipd", "--kubeconfig=/no/such/file"], 3, "/no/such/file"),
    ],
)
def test_what_cannot_be(words: list[str], code: int, said: str) -> None:
    found = drain(*words)
    assert found.returncode == code, found.stderr
    assert said in found.stderr
    assert found.stdout == ""


def test_json_of_a_failure() -> None:
    found = drain("file:///no/such/file", "--json")
    assert found.returncode == 3
    assert "No such file" in json.loads(found.stdout)["failure"]


def test_watch(endpoints: Path) -> None:
    program = "import sys; from drain._cli import main; sys.exit(main())"
    words = [sys.executable, "-u", "-c", program, "resolve", f"file://{endpoints}", "--watch", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        killer = threading.Timer(60, process.kill)
        killer.start()
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["used"] == 2
            endpoints.write_text("- 10.0.0.9:1\n")
            changed = json.loads(process.stdout.readline())
            assert [each["address"] for each in changed["endpoints"]] == ["10.0.0.9"]
            endpoints.write_text("{")
            broken = json.loads(process.stdout.readline())
            assert (broken["stale"], broken["used"]) == (True, 1)
            assert "not YAML" in broken["failure"]
            process.send_signal(2)
            assert process.wait(20) == 130
            assert process.stderr is not None
            assert process.stderr.read() == ""
        finally:
            killer.cancel()
            process.kill()
    until(lambda: process.returncode is not None)


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (0.2, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (864000, "10d")]
)
def test_ages(seconds: float | None, text: str) -> None:
    assert resolve.age(seconds) == text


def test_states() -> None:
    def state(**more: Any) -> str:
        return resolve.state_of(resolver.Endpoint(address="10.0.0.1", port=1, **more))

    assert state() == "ready"
    assert state(ready=False, serving=False) == "not ready"
    assert state(ready=False, terminating=True) == "terminating"
    assert state(ready=False, serving=False, terminating=True) == "terminating, not serving"
