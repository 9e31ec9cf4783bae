"""Each example runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_resolver_plugin() -> None:
    found = subprocess.run(
        [sys.executable, EXAMPLES / "resolver_plugin.py"], capture_output=True, text=True, timeout=60, check=False
    )
    assert found.returncode == 0, found.stderr
    two, one = found.stdout.splitlines()
    assert re.fullmatch(r"two servers: a answered \d+, b answered \d+", two)
    assert re.fullmatch(r"one server: a answered \d+(, b answered \d)?", one)


def test_workers() -> None:
    found = subprocess.run(
        [sys.executable, EXAMPLES / "workers.py"], capture_output=True, text=True, timeout=120, check=False
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == [
        "2 workers answered",
        "2 others answered after SIGHUP",
        "exit code 0",
    ], found.stderr


def test_every_example_is_here() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")
    assert [each.name for each in EXAMPLES.glob("*.py") if each.name not in tested] == []
