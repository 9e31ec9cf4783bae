"""What drains have left behind in a cluster, as rows: from Events on pods, and from termination messages. Pure.

A pod's object, and with it the termination message, goes when the pod has gone; its Events stay for an hour (kube-apiserver's
--event-ttl). So most of what is told comes from Events, and the message tells of containers that were restarted.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from drain._farewell import BEGUN, CUT, DRAINED

# `DrainReport.__str__`, behind who was drained.
_LINE = re.compile(
    r"(?P<server>.*?) ?(?:drained|drained with losses) in (?P<duration>\d+\.\d+) s "
    r"\((?P<reason>.*), (?P<goaway>lossless|classic)\): "
    r"(?P<finished>\d+) calls finished, (?P<cancelled>\d+) cancelled, (?P<peers_left>\d+) peers left"
    r"(?:; cancelled: (?P<methods>.*))?"
)
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
        line: what was told. The other fields are read from it, as far as they are there.
    """

    pod: str
    where: str
    line: str
    at: datetime | None = None
    over: bool = False
    clean: bool | None = None
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


def rows(events: Iterable[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]]) -> list[Row]:
    """All drains, the latest first. A drain that is over hides that it has begun; an Event hides the same line in a message."""
    found = [row for event in events if (row := _of_event(event)) is not None]
    known = {(row.pod, row.line) for row in found}
    found += [row for pod in pods for row in _of_pod(pod) if (row.pod, row.line) not in known]
    over = {(row.pod, row.server) for row in found if row.over}
    kept = [row for row in found if row.over or (row.pod, row.server) not in over]
    return sorted(kept, key=lambda row: row.at.timestamp() if row.at is not None else 0.0, reverse=True)


def _of_event(event: Mapping[str, Any]) -> Row | None:
    about, reason = event.get("involvedObject"), event.get("reason")
    if not isinstance(about, Mapping) or about.get("kind") != "Pod" or reason not in (BEGUN, DRAINED, CUT):
        return None
    line = str(event.get("message") or "")
    at = _moment(event.get("eventTime") or event.get("lastTimestamp"))
    pod = str(about.get("name") or "")
    if reason == BEGUN:
        return Row(pod, "Event", line, at, server=line.partition(" leaves (")[0])
    return read(line, pod, "Event", at) or Row(pod, "Event", line, at, over=True, clean=reason == DRAINED)


def _of_pod(pod: Mapping[str, Any]) -> Iterable[Row]:
    meta, status = pod.get("metadata") or {}, pod.get("status") or {}
    for container in status.get("containerStatuses") or ():
        for state in (container.get("state"), container.get("lastState")):
            ended = (state or {}).get("terminated") or {}
            for line in str(ended.get("message") or "").splitlines():
                at = _moment(ended.get("finishedAt"))
                if (row := read(line, str(meta.get("name") or ""), "termination message", at)) is not None:
                    yield row


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
        return datetime.fromisoformat(str(written))
    except ValueError:
        return None
