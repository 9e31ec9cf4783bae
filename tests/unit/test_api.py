"""The public names: each is documented, and docs/api.md has them all."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit import _api


def test_the_page_is_made_of_the_docstrings() -> None:
    """Changed? python -m tests.unit._api"""
    assert _api.PAGE.read_text() == _api.made()


@pytest.mark.parametrize("name", _api.MODULES)
def test_every_name_is_documented(name: str) -> None:
    """And every public method and property of a public class, unless it is what a base class says."""
    module = importlib.import_module(name)
    missing = []
    for each, value in _api.names(module):
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        missing += [each] if not inspect.getdoc(value) else []
        for member, what in vars(value).items() if inspect.isclass(value) else ():
            if not member.startswith("_") and (inspect.isfunction(what) or isinstance(what, property)):
                missing += [f"{each}.{member}"] if not inspect.getdoc(getattr(value, member)) else []
    assert missing == []


def test_the_reference_is_made(tmp_path: Path) -> None:
    """By the command of `make docs`; a page for each module, with what it has."""
    (line,) = [line for line in (_api.PAGE.parents[1] / "Makefile").read_text().splitlines() if "$(BIN)/pdoc" in line]
    words = line.replace("$(BIN)/pdoc", "").replace("--output-directory site", "").split()
    done = subprocess.run(
        [sys.executable, "-m", "pdoc", *words, "--output-directory", str(tmp_path)],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = {".".join(each.relative_to(tmp_path).with_suffix("").parts) for each in tmp_path.rglob("*.html")} - {
        "index"
    }
    assert pages == set(_api.MODULES)
    assert "announce_timeout" in (tmp_path / "drain.html").read_text()
