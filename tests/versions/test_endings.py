"""No ending of a call brings a server down, on any supported grpcio, and each version leaves as README's table says.

In grpcio 1.84.0 - 1.85.3 an xDS server aborts the process (pipe.h, "Check failed: has_value()") on any call that ends without
initial metadata, unless the environment guard was in time. A new grpcio that breaks a fact drain rests on fails here, by name.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).parent / "endings.py"
VERSIONS = ("1.76.0", "1.83.2", "1.84.2", "1.85.3")
EXPECTED = {
    "ok": "OK",
    "unknown method": "UNIMPLEMENTED",
    "unknown method, streaming": "UNIMPLEMENTED",
    "abort": "FAILED_PRECONDITION",
    "exception": "UNKNOWN",
    "stream": "OK",
    "abort before the first message": "FAILED_PRECONDITION",
    "abort after the first message": "FAILED_PRECONDITION",
    "exception before the first message": "UNKNOWN",
    "deadline": "DEADLINE_EXCEEDED",
    "deadline, streaming": "DEADLINE_EXCEEDED",
    "client cancels": "CANCELLED",
    "client cancels, streaming": "CANCELLED",
    "maximum_concurrent_rpcs": "RESOURCE_EXHAUSTED",
    "in flight at GOAWAY": "OK",
}


def readme_table() -> dict[tuple[str, str, str], str]:
    """README's rows "| grpcio 1.84 - 1.85 | sync, ... |" as (minor version, flavour, condition) -> goaway."""
    text = (ROOT / "README.md").read_text()
    table: dict[tuple[str, str, str], str] = {}
    for first, last, *cells in re.findall(
        r"^\| (1\.\d+)(?: - (1\.\d+))? \| (\w+) \| (\w+) \| (\w+) \| (\w+) \|", text, re.MULTILINE
    ):
        for minor in range(int(first[2:]), int((last or first)[2:]) + 1):
            keys = [("sync", "drain-first"), ("aio", "drain-first"), ("sync", "grpc-first"), ("aio", "grpc-first")]
            table |= {(f"1.{minor}", *key): cell for key, cell in zip(keys, cells, strict=True)}
    return table


def fire(python: Path, flavour: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the program on this interpreter, in a clean environment."""
    clean = {key: value for key, value in os.environ.items() if key != "GRPC_EXPERIMENTS"}
    command = [python, PROGRAM, flavour, *arguments]
    return subprocess.run(
        command,
        env={**clean, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("condition", ["drain-first", "grpc-first", "at-birth"])
@pytest.mark.parametrize("flavour", ["sync", "aio"])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_ending_leaves_the_server_alive(interpreter, version, flavour, condition):
    """Each bad ending ends with its own status, the process lives, and `goaway` is what README promises."""
    cure = {"GRPC_EXPERIMENTS": "-xds_server_filter_chain_per_route"} if condition == "at-birth" else {}
    arguments = [] if condition == "drain-first" else ["grpc-first"]
    done = fire(interpreter(version), flavour, *arguments, **cure)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr[-4000:]}"
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["grpcio"] == version
    assert result["ended"] == EXPECTED
    assert result["report"]["cancelled"] == 0
    promised = "drain-first" if condition == "at-birth" else condition
    assert result["goaway"] == readme_table()[version.rpartition(".")[0], flavour, promised], result["reason"]


@pytest.mark.parametrize("version", ["1.84.2", "1.85.3"])
def test_the_danger_is_real(interpreter, version):
    """Without the cure, lossless GOAWAY would abort this process: the reason why the guard and the capability check exist."""
    program = (
        "import grpc, drain._guard; drain._guard.cured = True\n"  # lie to the check: as if the guard had been in time
        "import sys, runpy; sys.argv = ['endings.py', 'sync']\n"
        f"runpy.run_path({str(PROGRAM)!r}, run_name='__main__')\n"
    )
    clean = {key: value for key, value in os.environ.items() if key != "GRPC_EXPERIMENTS"}
    done = subprocess.run(
        [interpreter(version), "-c", "import sys; from grpc._cython import cygrpc\n" + program],
        env={**clean, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -6, (
        f"grpcio {version} lives without the cure now: look at capability.KNOWN\n{done.stderr}"
    )
    assert "Check failed" in done.stderr


@pytest.mark.parametrize("flavour", ["sync", "aio"])
@pytest.mark.parametrize(("first", "lossless"), [("drain", True), ("grpc", False)])
def test_an_unknown_grpcio_is_probed(interpreter, flavour, first, lossless):
    """A version that the table does not know is asked in a subprocess, as cured as we are: the newest one shows both answers."""
    program = (
        f"import {first}, drain, grpc\n"
        "from drain._grpc import capability\n"
        f"capability.KNOWN[{flavour!r}].clear()\n"
        f"verdict = capability.capability({flavour!r})\n"
        "import json; print(json.dumps([verdict.lossless, verdict.reason, verdict.remedy]))\n"
    )
    done = subprocess.run(
        [interpreter("1.85.3"), "-c", program],
        env={**{k: v for k, v in os.environ.items() if k != "GRPC_EXPERIMENTS"}, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    able, reason, remedy = json.loads(done.stdout.splitlines()[-1])
    assert able is lossless, reason
    assert "probe" in reason
    assert lossless or "import drain before grpc" in remedy
