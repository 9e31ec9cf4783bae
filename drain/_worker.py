"""Whether this process is one of several workers on one port (`drain.run_workers`), and what follows from it.

Set once by the worker's own start, before the user's code runs; everything else only looks: servers share their port,
`run()` leaves SIGINT to the parent, and each server tells the parent what becomes of it.
"""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from drain import events
from drain.report import DrainReport

_MOST_TOLD = 20  # entries of a report's lists that are kept where the whole of it does not fit into one message


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker knows of itself. Thread safe.

    Attributes:
        number: from 0 on; a replacement keeps the number of whom it replaces.
        control: the connection to the parent, which speaks the admin protocol on it. End of file: the parent is gone.
        port: the number that all workers share.
        news: tells the parent what happens, one JSON object a message (SOCK_SEQPACKET). Never blocks: a parent that does not
            read must not hold up a worker.
    """

    number: int
    control: socket.socket
    port: int
    news: socket.socket
    _servers: list[int] = field(default_factory=list)
    _served: list[bool] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def first(self) -> bool:
        """True once: the first server has the control connection served."""
        with self._lock:
            first = not self._served
            self._served.append(True)
        return first

    def opened(
        self, ports: frozenset[int], longest: float | None, reserve: float, time_left: Callable[[], float | None]
    ) -> Callable[[events.Event], None]:
        """A server listens. Returns what is to be told its events.

        ports: those it listens on. longest: seconds that its drain may take at most. reserve: seconds its pod has then.
        time_left: seconds until the drain that is under way is over; asked when a phase begins.
        """
        with self._lock:
            server = len(self._servers)
            self._servers.append(server)
        shares = self.port in ports
        self.tell(kind="opened", server=server, shares=shares, ports=sorted(ports), longest=longest, reserve=reserve)

        def tell(event: events.Event) -> None:
            if isinstance(event, events.StateChanged):
                left = None
                with contextlib.suppress(ReferenceError):  # the server was dropped
                    left = time_left()
                self.tell(kind="state", server=server, state=event.state.value, time_left=left)
            elif isinstance(event, events.Drained):
                self._report(server, event.report)

        return tell

    def _report(self, server: int, report: DrainReport) -> None:
        if not self.tell(kind="report", server=server, report=report.as_dict()):
            # Too long for one message: the numbers matter more than the names.
            short = replace(
                report,
                peers_left=report.peers_left[:_MOST_TOLD],
                errors=report.errors[:_MOST_TOLD],
                finished_by_method=_few(report.finished_by_method),
                cancelled_by_method=_few(report.cancelled_by_method),
            )
            self.tell(kind="report", server=server, report=short.as_dict())

    def tell(self, **news: object) -> bool:
        """Tell the parent. False if it could not be told: it is gone, or has stopped to read."""
        with contextlib.suppress(OSError):
            self.news.send(json.dumps(news).encode())
            return True
        return False


def _few(counts: Mapping[str, int]) -> Mapping[str, int]:
    return dict(list(counts.items())[:_MOST_TOLD])


current: Worker | None = None
