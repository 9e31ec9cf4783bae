"""What is said of a grpcio that nobody has measured, where it cannot be asked."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from drain._grpc import capability


def test_without_a_run_time_directory_there_is_no_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory is what is wrong, and so it is what is named; the server's start does not wait for a probe."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d").chmod(0o755)
    monkeypatch.setenv("DRAIN_RUNTIME_DIR", str(tmp_path / "d"))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("there is nothing to be learned"))
    found = capability._probe("sync", "99.0.0")
    assert not found.lossless
    assert str(tmp_path / "d") in found.reason
    assert "DRAIN_RUNTIME_DIR" in found.remedy


def test_a_probe_that_breaks_says_so_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAIN_RUNTIME_DIR", str(tmp_path / "d"))
    broken = (
        "from drain._grpc import probe; import sys\nprobe.ControlPlane.shared = lambda: 1 / 0\nprobe.main(sys.argv[1])"
    )
    began = time.monotonic()
    command = [sys.executable, "-c", broken, "sync"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert "ZeroDivisionError" in done.stdout, done.stderr
    assert time.monotonic() - began < 15, "it waited for the timer of what hangs"
