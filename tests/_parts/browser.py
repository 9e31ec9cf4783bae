"""Chromium, for pictures of pages: Debian's."""

from pathlib import Path

from tests._parts import debian
from tests._parts.making import Say


def ready(say: Say) -> Path:
    """Raises PartMissingError."""
    return debian.ready({"chromium": "chromium"}, say)["chromium"]
