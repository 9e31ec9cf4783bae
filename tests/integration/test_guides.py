"""docs/guides as they stand: programs run and leave in good order, manifests pass the doctor, commands and settings are those that there are."""

import importlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

import drain as drain_package
from drain._cli.root import COMMANDS, drain
from drain._doctor.rule import RULES
from drain._doctor.words import VARIABLES
from drain._prestop.options import _parser
from tests.unit.doctor.planted import judged

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS.parent / "README.md", *sorted([*(DOCS / "guides").glob("*.md"), *DOCS.glob("*.md")])]
GUIDES = sorted((DOCS / "guides").glob("*.md"))


def blocks(language: str) -> list[object]:
    found: list[object] = []
    for page in (*GUIDES, DOCS / "metrics.md"):
        texts = re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)
        found += [pytest.param(text, id=f"{page.stem}-{number}") for number, text in enumerate(texts, 1)]
    return found


@pytest.mark.parametrize("program", blocks("python"))
def test_programs_run(program: str, tmp_path: Path) -> None:
    """Servers leave on SIGTERM and tell what it cost; the others end by themselves. Ports are the machine's to choose."""
    file = tmp_path / "program.py"
    file.write_text(program.replace(":50051", ":0").replace("9464", "0"))
    environ = {
        **os.environ,
        "DRAIN_RUNTIME_DIR": str(tmp_path / "run"),
        "DRAIN_ANNOUNCE_MIN": "0",
        "PYTHONUNBUFFERED": "1",
    }
    process = subprocess.Popen(
        [sys.executable, str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
    )
    try:
        if ".run()" in program:
            assert process.stderr is not None
            deadline = time.monotonic() + 60
            for line in process.stderr:
                if "serving" in line or time.monotonic() > deadline:
                    break
            process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert ("drained in" in out + err) == (".run()" in program), out + err


@pytest.mark.parametrize("manifest", blocks("yaml"))
def test_manifests_pass_the_doctor(manifest: str) -> None:
    examined = judged(manifest, "guide")
    assert (examined.findings, examined.unreadable) == ((), ())
    assert examined.judged


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_are_those_that_there_are(page: Path) -> None:
    """Commands with their options, variables, links to other pages, and rules by their anchors."""
    text = page.read_text()
    for command, rest in re.findall(rf"\bdrain ({'|'.join(COMMANDS)})\b([^`\n]*)", text):
        known = _options(command)
        for option in re.findall(r"(?<![\w-])--[a-z-]+", _bare(rest)):
            assert option in known, (command, option)
    for option in re.findall(r"drain-prestop`? (--[a-z-]+)", text):
        assert option in _parser()._option_string_actions
    for variable in re.findall(r"\bDRAIN_[A-Z_]*[A-Z]\b", text):
        assert variable in VARIABLES or variable == "DRAIN_RUNTIME_DIR", variable
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert link.startswith("https://") or (page.parent / link).exists(), link
    for anchor in re.findall(r"doctor\.md#([a-z0-9-]+)", text):
        assert anchor in RULES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_called_is_there(page: Path) -> None:
    """`drain.something(`, wherever it is written."""
    for path in set(re.findall(r"(?<![\w.])drain((?:\.\w+)+)\(", page.read_text())):
        found: object = drain_package
        for name in path[1:].split("."):
            found = getattr(found, name, None) or importlib.import_module(f"{found.__name__}.{name}")  # type: ignore[attr-defined]
        assert callable(found), path


def _bare(words: str) -> str:
    """Without comments, table cells behind, and what another program is told."""
    return re.sub(r"'[^']*'", "", words.partition("#")[0].partition("|")[0]).partition(" -- ")[0]


def _options(command: str) -> set[str]:
    assert command in COMMANDS
    context = click.Context(drain)
    found = drain.get_command(context, command)
    assert found is not None
    return {option for each in found.params for option in each.opts} | {"--help"}
