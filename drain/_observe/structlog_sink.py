"""Each event as one structlog event, through the standard library's logger `drain`.

The library never configures logging: a bare structlog would print to stdout, so events go through `logging`, rendered as
key=value, unless the program has configured structlog itself: then its processors see them.
"""

import logging
import re
from dataclasses import fields
from typing import Any

from drain import events

_LEVEL = {
    events.StepFailed: "error",
    events.CallsCancelled: "warning",
    events.PeersCut: "warning",
    events.FallbackTaken: "warning",
    events.OptionOverridden: "warning",
    events.WatchFailed: "warning",  # once for each reason: what is followed is not followed now
    events.UpdateRefused: "error",
    events.UpdateTaken: "debug",  # one more line for each change would say little
}
_QUIET = frozenset({"at"})


def name_of(event: events.Event) -> str:
    """`StateChanged` is logged as "drain.state_changed"."""
    return "drain." + re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()


def keys_of(event: events.Event) -> dict[str, Any]:
    """The event's fields as log keys; a report as its dict."""
    if isinstance(event, events.Drained):
        return event.report.as_dict()
    values = {f.name: getattr(event, f.name) for f in fields(event) if f.name not in _QUIET}
    return {key: value.value if isinstance(value, events.State) else value for key, value in values.items()}


def log(event: events.Event) -> None:
    """Log one event. Thread safe."""
    logger = logging.getLogger("drain")
    level = _LEVEL.get(type(event), "info")
    if not logger.isEnabledFor(getattr(logging, level.upper())):
        return
    import structlog  # noqa: PLC0415  # 100 ms, with what it imports: only where somebody listens

    processors = None if structlog.is_configured() else [structlog.processors.KeyValueRenderer(key_order=["event"])]
    bound = structlog.wrap_logger(logger, processors=processors, wrapper_class=structlog.stdlib.BoundLogger)
    getattr(bound, level)(name_of(event), **keys_of(event))
