"""docs/api.md, made of docstrings: `python -m tests.unit._api` writes it. The whole reference is `make docs`."""

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
MODULES = (
    "drain", "drain.aio", "drain.config", "drain.resolver", "drain.events", "drain.report", "drain.status", "drain.errors", "drain.workers",
    "drain.metrics", "drain.otel", "drain.testing", "drain.prestop",
)  # fmt: skip
HEAD = """# API reference

Every public name and what it is for, from the docstrings. `make docs` makes the whole reference in `site/`, with arguments, units, defaults, what None means, what is
raised, and thread safety; `help(drain.server)` tells the same. What begins with an underscore is not public, and may change at any time.
"""


def names(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Those that are public, in alphabetical order; modules of their own apart."""
    public = getattr(module, "__all__", None)
    if public is None:
        public = [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
        ]
    for name in sorted(public, key=str.lower):
        value = getattr(module, name)
        if not isinstance(value, ModuleType):
            yield name, value


def sentence(value: object) -> str:
    """The first of its docstring; empty: it has none of its own."""
    text = inspect.getdoc(value) or ""
    if not inspect.isclass(value) and not inspect.isroutine(
        value
    ):  # a constant or an alias: what is there is its type's
        return ""
    first = " ".join(text.split("\n\n")[0].split())
    end = first.find(". ")
    return first if end < 0 else first[: end + 1]


def made() -> str:
    """The page, as it should be."""
    parts = [HEAD]
    for each in MODULES:
        module = importlib.import_module(each)
        about = " ".join((inspect.getdoc(module) or "").split("\n\n")[0].split())
        rows = [(name, sentence(value)) for name, value in names(module)]
        table = [f"| `{name}` | {text.replace('|', chr(92) + '|')} |" for name, text in rows if text]
        parts.append(f"## `{each}`\n\n{about}\n\n| name | |\n| --- | --- |\n" + "\n".join(table) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(made())
