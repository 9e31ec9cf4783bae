"""What a status tells besides servers, where it is asked for details: the targets that channels follow, and the last events."""

import sys
from typing import Any

from drain import _clock, events
from drain._observe import structlog_sink, watched

_MOST_TEXT = 300  # characters of an event


def details() -> dict[str, Any]:
    """Fields of a status line."""
    now = _clock.now()
    told = [
        {"age": now - at, "event": structlog_sink.name_of(event), "text": _text(event)}
        for at, event in watched.recent()
    ]
    return {"targets": _targets(), "events": told}


def _targets() -> list[dict[str, Any]]:
    """Their endpoints are counted: there may be thousands. A process without channels of ours loads nothing for it."""
    resolver = sys.modules.get("drain.resolver")
    found = []
    for each in resolver.snapshot() if resolver is not None else ():
        about: dict[str, Any] = each.as_dict()
        endpoints = about.pop("endpoints")
        found.append(about | {"endpoints": None if endpoints is None else len(endpoints)})
    return found


def _text(event: events.Event) -> str:
    if isinstance(event, events.Drained):
        text = str(event.report)
    else:
        text = " ".join(f"{key}={value}" for key, value in structlog_sink.keys_of(event).items() if value is not None)
    return text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"
