"""Virtual environments with one grpcio version each, in `.versions/`, made once."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".versions"


@pytest.fixture(scope="session")
def interpreter():
    """A function: grpcio version -> the interpreter of an environment that has it, and what drain needs at run time."""
    return _interpreter


def _interpreter(version: str) -> Path:
    python = HOME / version / "bin" / "python"
    stamp = HOME / version / ".installed"
    if not stamp.exists():
        print(f"installing grpcio {version} into {HOME / version} ...", file=sys.stderr, flush=True)
        venv.create(HOME / version, with_pip=True, clear=True)
        wanted = [f"grpcio=={version}", f"grpcio-health-checking<={version}", "structlog", "durationpy"]
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
        subprocess.run(command, check=True, timeout=300)
        stamp.touch()
    return python
