"""The public names: each is documented, and docs/api.md has them all."""

import importlib
import inspect

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
