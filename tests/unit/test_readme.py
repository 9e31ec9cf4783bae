"""README says what the code does."""

from pathlib import Path

from drain.config import settings_markdown

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_table_of_settings_is_the_code():
    """Every setting, its variable, default and meaning: `settings_markdown()` makes the table."""
    assert settings_markdown() in README
