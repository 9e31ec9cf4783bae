"""What drains have left behind in a cluster, as rows: from Events on pods, and from termination messages. Pure.

A pod's object, and with it the termination message, goes when the pod has gone; its Events stay for an hour (kube-apiserver's
--event-ttl). So most of what is told comes from Events, and the message tells of containers that were restarted.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from drain._farewell import BEGUN, CUT, DRAINED

# `DrainReport.__str__`, behind who was drained.
_LINE = re.compile(
    r"(?P<server>.*?) ?(?:drained|drained with losses) in (?P<duration>\d+\.\d+) s "
    r"\((?P<reason>.*), (?P<goaway>lossless|classic)\): "
    r"(?P<finished>\d+) calls finished, (?P<cancelled>\d+) cancelled, (?P<peers_left>\d+) peers left"
    r"(?:; cancelled: (?P<methods>.*))?"
)
# What `Farewell.begin` tells.
_BEGINNING = re.compile(
    r"(?P<server>.*?) leaves \((?P<reason>.*)\): \d+ calls in flight, (?P<longest>[\d.e+]+|inf) s at most"
)
_SLACK = 10.0  # seconds: the pod's clock is not ours, and its word takes a moment
# How the pods of a workload are called; the object's own name comes before it.
_ENDINGS = {
    "Deployment": r"-[a-z0-9]{1,10}-[a-z0-9]{5}",
    "StatefulSet": r"-\d+",
    "DaemonSet": r"-[a-z0-9]{5}",
    "Pod": "",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One drain of one server.

    Attributes:
        at: when that was told; None: nobody says. pod: its name. where: "Event", or "termination message".
        over: whether it is; clean: whether no call was cut; None: it is not over.
        untold: it must be over, and nobody has told its end, as whoever is killed (SIGKILL) cannot; so it counts as not clean.
        longest: seconds that it was to take at most, where its beginning is all that was told; None: that cannot be read.
        line: what was told. The other fields are read from it, as far as they are there.
    """

    pod: str
    where: str
    line: str
    at: datetime | None = None
    over: bool = False
    clean: bool | None = None
    untold: bool = False
    longest: float | None = None
    server: str = ""
    duration: float | None = None
    reason: str = ""
    goaway: str = ""
    finished: int | None = None
    cancelled: int | None = None
    methods: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        named = {name: getattr(self, name) for name in self.__slots__}
        return {**named, "at": self.at.isoformat() if self.at is not None else None}


def belongs(pod: str, kind: str, name: str) -> bool:
    """Whether a pod of this name is of that workload: told by the name, since its object may be gone."""
    return re.fullmatch(re.escape(name) + _ENDINGS[kind], pod) is not None


def rows(
    events: Iterable[Mapping[str, Any]],
    pods: Collection[Mapping[str, Any]] | None,
    now: datetime | None = None,
) -> list[Row]:
    """All drains, the latest first. A drain's end hides its beginning; an Event hides the same line in a message.

    `pods`: as they were before the events were read; None: nobody may see them. `now`: None: by this clock.
    """
    found = [row for event in events if (row := _of_event(event)) is not None]
    known = {(row.pod, row.line) for row in found}
    found += [row for pod in pods or () for row in _of_pod(pod) if (row.pod, row.line) not in known]
    there = None if pods is None else {_name(pod) for pod in pods}
    return _judged(found, there, (now or datetime.now(UTC)).timestamp())[::-1]


def _judged(found: Iterable[Row], there: Collection[str] | None, now: float) -> list[Row]:
    """The earliest first; each beginning goes with the end that follows it, or is under way, or its end was not told."""
    begun: dict[tuple[str, str], Row] = {}
    kept: list[Row] = []
    for row in sorted(found, key=_told_at):
        before = begun.pop((row.pod, row.server), None)
        if row.over:
            kept.append(row)
        else:
            begun[row.pod, row.server] = row
            kept += [_untold(before)] if before is not None else []
    for row in begun.values():
        gone = there is not None and row.pod not in there
        late = row.longest is not None and now > _told_at(row) + row.longest + _SLACK
        kept.append(_untold(row) if gone or late else row)
    return sorted(kept, key=_told_at)


def _untold(row: Row) -> Row:
    return replace(row, over=True, clean=False, untold=True)


def _told_at(row: Row) -> float:
    return 0.0 if row.at is None else row.at.timestamp()


def _of_event(event: Mapping[str, Any]) -> Row | None:
    about, reason = event.get("involvedObject"), event.get("reason")
    if not isinstance(about, Mapping) or about.get("kind") != "Pod" or reason not in (BEGUN, DRAINED, CUT):
        return None
    line = str(event.get("message") or "")
    at = _moment(event.get("eventTime") or event.get("lastTimestamp"))
    pod = str(about.get("name") or "")
    if reason == BEGUN:
        row = Row(pod, "Event", line, at, server=line.partition(" leaves (")[0])
        if (match := _BEGINNING.fullmatch(line)) is None:
            return row
        return replace(row, server=match["server"], reason=match["reason"], longest=float(match["longest"]))
    if (told := read(line, pod, "Event", at)) is not None:
        return told
    return Row(pod, "Event", line, at, over=True, clean=reason == DRAINED, server=line.partition(" drained ")[0])


def _of_pod(pod: Mapping[str, Any]) -> Iterable[Row]:
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or ():
        for state in (container.get("state"), container.get("lastState")):
            ended = (state or {}).get("terminated") or {}
            for line in str(ended.get("message") or "").splitlines():
                at = _moment(ended.get("finishedAt"))
                if (row := read(line, _name(pod), "termination message", at)) is not None:
                    yield row


def _name(pod: Mapping[str, Any]) -> str:
    return str((pod.get("metadata") or {}).get("name") or "")


def read(line: str, pod: str, where: str, at: datetime | None = None) -> Row | None:
    """A report's line; None: it is none, for others write there, too."""
    if (match := _LINE.fullmatch(line)) is None:
        return None
    told = match.groupdict()
    cancelled = int(told["cancelled"])
    return Row(
        pod,
        where,
        line,
        at,
        over=True,
        clean=cancelled == 0,
        server=told["server"],
        duration=float(told["duration"]),
        reason=told["reason"],
        goaway=told["goaway"],
        finished=int(told["finished"]),
        cancelled=cancelled,
        methods=told["methods"] or "",
    )


def _moment(written: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(written))
    except ValueError:
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
