"""Reading grpc's service config: what every part of it needs. Pure."""

import json
import re
from collections.abc import Mapping
from typing import Any

from drain.errors import ConfigurationError

_DURATION = re.compile(r"(\d{1,12})(\.\d{1,9})?s")


def wrong(where: str, value: object, what: str) -> ConfigurationError:
    """The error that names a value by where it stands."""
    return ConfigurationError(f"service_config: {where}={json.dumps(value)}: {what}.")


def known(found: Any, where: str, names: set[str], remedies: Mapping[str, str] | None = None) -> None:
    """Refuse by name whatever xDS has no word for."""
    if not isinstance(found, Mapping):
        raise wrong(where, found, "must be an object")
    for name in found:
        if name not in names:
            path = f"{where}.{name}" if where else name
            remedy = (remedies or {}).get(name, "Leave it out")
            raise ConfigurationError(
                f"service_config: {path} cannot be said in xDS, which drain's targets use. {remedy}."
            )


def seconds(found: Any, where: str) -> float:
    """A duration above 0."""
    if not isinstance(found, str) or not _DURATION.fullmatch(found) or not float(found[:-1]):
        raise wrong(where, found, 'must be a duration above 0 in grpc\'s JSON, such as "1.5s"')
    return float(found[:-1])
