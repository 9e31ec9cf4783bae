"""From events to spans: which server was in which phase when, and when the balancer gave it new connections."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import cast

from drain._demo.results import Span

Event = dict[str, object]
Step = tuple[float, str]


def steps_of(events: Iterable[Event], started: float) -> Iterator[Step]:
    """When one server process entered which phase: "starting", "serving", then what its leaving went through."""
    yield started, "starting"
    for event in events:
        at = cast(float, event.get("at", 0.0))
        if event["event"] == "serving":
            yield at, "serving"
        elif event["event"] == "phase" and event["phase"] in ("stopping", "announcing", "closing", "finishing"):
            yield at, str(event["phase"])


def server_spans(server: str, steps: Iterable[Step], began: float, ended: float) -> Iterator[Span]:
    """The phases of one server, process after process, counted from `began`."""
    for (start, phase), (end, _) in pairwise([*steps, (ended, "")]):
        if phase and min(end, ended) > max(start, began):
            yield Span(server, phase, max(start, began) - began, min(end, ended) - began)


def listed_spans(server: str, address: str, events: Iterable[Event], began: float, ended: float) -> Iterator[Span]:
    """The stretches in which the balancer gave that address new connections."""
    learned = [event for event in events if event["event"] == "learned" and event["backend"] == address]
    steps: list[Step] = [(cast(float, event["at"]), "listed" if event["listed"] else "") for event in learned]
    return server_spans(server, steps, began, ended)
