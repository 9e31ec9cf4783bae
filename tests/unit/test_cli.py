"""One voice: every command's help, options and exit codes are written and meant alike."""

import ast
import re
from pathlib import Path

import click
import pytest

from drain._cli import exits
from drain._cli.root import COMMANDS, drain

CLI = Path(exits.__file__).parent
CODES = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
WITHOUT_JSON = {"completion"}
# The same option says the same everywhere, but for these, which are about the command's own matter.
OWN_WORDS = {
    "--namespace",
    "--socket",
    "--json",
    "--html",
    "--timeout",
    "--interval",
    "--watch",
    "--client",
    "--server",
    "--rounds",
    "--lag",
    "--callers",
}


def command(name: str) -> click.Command:
    found = drain.get_command(click.Context(drain), name)
    assert found is not None
    return found


def options(name: str) -> list[click.Option]:
    return [each for each in command(name).params if isinstance(each, click.Option)]


names = pytest.mark.parametrize("name", COMMANDS)


@names
def test_help(name: str) -> None:
    """A sentence for the list, a sentence to begin with, and what the exit codes mean, each of which is one of ours."""
    made = command(name)
    assert made.short_help is not None
    assert re.fullmatch(r"[A-Z].*\.", made.short_help), made.short_help
    text = " ".join((made.help or "").replace("\b", "").split())
    assert re.match(r"[A-Z][^.]*[.:]", text), text
    told = text.partition("Exit code 0")
    assert told[1], f"drain {name} does not say how it ends"
    codes = {int(code) for code in re.findall(r"(?:; |\()(\d+)(?=[:)])", told[2])}
    assert codes <= CODES, codes - CODES


@names
def test_options(name: str) -> None:
    """Each says what it is for, in a sentence; short forms mean the same everywhere."""
    for each in options(name):
        assert each.help, (name, each.opts)
        assert re.match(r"[A-Z\[]", each.help), (name, each.opts, each.help)
        assert re.search(r"[.\]]$", each.help), (name, each.opts, each.help)
    short = {opt: each.opts for each in options(name) for opt in each.opts if re.fullmatch("-[a-z]", opt)}
    known = {"-n": "--namespace", "-f": "--file", "-v": "--verbose", "-c": "--container"}
    assert all(known[opt] in opts for opt, opts in short.items()), short


def test_an_option_means_the_same_in_every_command() -> None:
    said: dict[str, dict[str, str]] = {}
    for name in COMMANDS:
        for each in options(name):
            said.setdefault(each.opts[-1], {})[name] = each.help or ""
    different = {opt: texts for opt, texts in said.items() if opt not in OWN_WORDS and len(set(texts.values())) > 1}
    assert different == {}


@names
def test_json(name: str) -> None:
    """Whatever tells something tells it to programs, too."""
    assert ("--json" in {opt for each in options(name) for opt in each.opts}) == (name not in WITHOUT_JSON)


@pytest.mark.parametrize(
    "module", sorted(each.stem for each in CLI.glob("*.py") if each.stem not in ("exits", "exec", "__init__", "root"))
)
def test_exit_codes_have_names(module: str) -> None:
    """A number that is given to sys.exit or `end` is nobody's invention."""
    for node in ast.walk(ast.parse((CLI / f"{module}.py").read_text())):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("exit", "end"):
                assert not any(isinstance(each, ast.Constant) and isinstance(each.value, int) for each in node.args), (
                    ast.unparse(node)
                )
