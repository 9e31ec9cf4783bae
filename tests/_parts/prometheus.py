"""promtool: of Debian's Prometheus, which is not started."""

from pathlib import Path

from tests._parts import debian
from tests._parts.making import Say


def promtool(say: Say) -> Path:
    """Raises PartMissingError."""
    return debian.ready({"promtool": "prometheus"}, say)["promtool"]
