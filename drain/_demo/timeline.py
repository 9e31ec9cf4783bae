"""From events to spans: which server was in which phase when, and when the balancer gave it new connections."""

from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from operator import itemgetter
from typing import cast

from drain._demo.results import Span

Event = dict[str, object]
Step = tuple[float, str]
# "leaving": it was told to, and no more is known.
_LEAVING = ("leaving", "stopping", "announcing", "closing", "finishing")


def steps_of(events: Iterable[Event], started: float) -> Iterator[Step]:
    """When one server process entered which phase; "restarting" is the way from its end to the next one's readiness."""
    yield started, "restarting"
    for event in events:
        at = cast(float, event.get("at", 0.0))
        if event["event"] == "serving":
            yield at, "serving"
        elif event["event"] == "phase" and event["phase"] in _LEAVING:
            yield at, str(event["phase"])
        elif event["event"] == "phase" and event["phase"] == "stopped":
            yield at, "restarting"


def server_spans(server: str, steps: Iterable[Step], began: float, ended: float) -> Iterator[Span]:
    """The phases of one server, process after process, counted from `began`."""
    joined = (next(group) for _, group in groupby([*steps, (ended, "")], key=itemgetter(1)))
    for (start, phase), (end, _) in pairwise(joined):
        if phase and min(end, ended) > max(start, began):
            yield Span(server, phase, max(start, began) - began, min(end, ended) - began)


def listed_spans(server: str, address: str, events: Iterable[Event], began: float, ended: float) -> Iterator[Span]:
    """The stretches in which the balancer gave that address new connections."""
    learned = [event for event in events if event["event"] == "learned" and event["backend"] == address]
    steps: list[Step] = [(cast(float, event["at"]), "listed" if event["listed"] else "") for event in learned]
    return server_spans(server, steps, began, ended)
