"""README's way from an installed package to a rehearsed rollout, as it stands there: what is shown is run."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from drain._doctor.finding import Severity
from tests.unit.doctor.planted import judged

README = (Path(__file__).parents[2] / "README.md").read_text()
TWO_MINUTES = README.split("## Two minutes to 0 failed calls")[1].split("\n## ")[0]


WHOLE = [
    each
    for each in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    if "import drain" in each and ("server.run()" in each or "_channel(" in each) and "sys.argv" not in each
]


@pytest.mark.parametrize("program", WHOLE, ids=range(len(WHOLE)))
def test_programs_run(program: str, tmp_path: Path) -> None:
    """Those that are whole: servers until SIGTERM, clients to their end."""
    file = tmp_path / "program.py"
    file.write_text(program.replace(":50051", ":0"))
    environ = {**os.environ, "DRAIN_RUNTIME_DIR": str(tmp_path / "run"), "DRAIN_ANNOUNCE_MIN": "0"}
    process = subprocess.Popen(
        [sys.executable, str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
    )
    try:
        if ".run()" in program:
            assert process.stderr is not None
            next(line for line in process.stderr if "serving" in line)  # grpc itself says so
            process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, out + err


def test_there_are_some() -> None:
    assert len(WHOLE) >= 3


def test_the_pod_that_is_shown_passes_the_doctor() -> None:
    """In a Deployment around it, with the Role beside it."""
    (pod,) = re.findall(r"```yaml\n# in the Deployment's template\n(.*?)```", README, re.DOTALL)
    (access,) = (
        each for each in re.findall(r"```yaml\n(apiVersion.*?)```", README, re.DOTALL) if "shop-server," in each
    )
    labels = {"app": "shop"}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "shop", "namespace": "shop"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, **yaml.safe_load(pod)},
        },
    }
    examined = judged(f"{yaml.safe_dump(deployment)}---\n{access}", "README.md")
    assert (examined.judged, examined.unreadable) == (("Deployment shop/shop",), ())
    assert [each for each in examined.findings if each.severity is not Severity.ADVICE] == []


def test_the_server_that_is_shown_is_rehearsed(tmp_path: Path) -> None:
    """The file, and the command behind it; shorter than by default."""
    (program,) = re.findall(r"```python\n(# server\.py\n.*?)```", TWO_MINUTES, re.DOTALL)
    (tmp_path / "server.py").write_text(program)
    (line,) = re.findall(r"^drain (rehearse --command .*)$", TWO_MINUTES, re.MULTILINE)
    words = [word.replace("python server.py", f"{sys.executable} server.py") for word in shlex.split(line)]
    run = [
        sys.executable,
        "-c",
        "import sys; from drain._cli import main; sys.exit(main())",
        *words,
        "--processes",
        "2",
    ]
    environ = {**os.environ, "DRAIN_RUNTIME_DIR": str(tmp_path / "run")}
    done = subprocess.run(run, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"0 of [\d,]+ calls failed", done.stdout), done.stdout
    assert (tmp_path / "drain-rehearsal.html").exists()
    assert "drain-rehearsal.html" in TWO_MINUTES
