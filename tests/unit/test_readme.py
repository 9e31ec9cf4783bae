"""README and docs/settings.md say what the code does."""

import re
from pathlib import Path

from drain._cli.root import COMMANDS
from drain.config import settings_markdown, settings_table

SETTINGS = tuple(settings_table())
ROOT = Path(__file__).parents[2]
README, SETTINGS_PAGE = (ROOT / "README.md").read_text(), (ROOT / "docs" / "settings.md").read_text()


def test_the_table_of_settings_is_the_code() -> None:
    """Every setting, its variable, default and meaning: `settings_markdown()` makes the table."""
    assert settings_markdown() in SETTINGS_PAGE


def test_what_the_readme_says_of_settings_is_there() -> None:
    """Its own table is a choice of them."""
    table = README.split("## Settings")[1].split("## ")[0]
    variables = re.findall(r"`(DRAIN_[A-Z_]+)`", table)
    assert len(variables) > 5
    assert set(variables) <= {each.variable for each in SETTINGS}
    for owner, name in re.findall(r"`(\w+Policy|ServerKeepalive)\.(\w+)`", README):
        assert name in {each.name for each in SETTINGS if each.owner == owner}, (owner, name)


def test_its_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", README):
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_every_command_is_told_of() -> None:
    assert [name for name in COMMANDS if f"drain {name}" not in README] == []
