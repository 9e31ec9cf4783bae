"""Debian's Prometheus: its promtool, and itself. The service that comes with it is not started."""

from pathlib import Path

from tests._parts import debian
from tests._parts.making import Say


def promtool(say: Say) -> Path:
    """Raises PartMissingError."""
    return debian.ready({"promtool": "prometheus"}, say)["promtool"]


def server(say: Say) -> Path:
    """Raises PartMissingError."""
    return debian.ready({"prometheus": "prometheus"}, say)["prometheus"]
