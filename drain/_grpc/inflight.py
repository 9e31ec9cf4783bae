"""How many calls a server has in flight, and which.

Two sources, because neither knows all. **channelz**, which C-core keeps anyway at no cost per call, knows every call from the
moment its headers arrived until its status was sent, and every connection, but no method. **The ledger** counts calls by
method where handlers are registered, one lock and one list entry a call; it does not know calls that wait for a worker thread.
Where the user has switched channelz off, the ledger alone decides.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from grpc._cython import (
    cygrpc,
)  # channelz has no public Python API but a servicer; guarded by tests/integration/test_inflight.py

# Probes and tools call these whether or not anybody still sends work: they must not look like returning callers.
IGNORED_SERVICES = ("/grpc.health.", "/grpc.reflection.", "/grpc.channelz.")


class Ledger:
    """Calls by method: begun, open, ended. Thread safe; `begin` and `end` are on the path of every call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()
        self._ended: Counter[str] | None = None
        self._begun = 0
        self._ignored_begun = 0
        self._ignored_open = 0

    def entry(self, method: str) -> tuple[Callable[[], None], Callable[..., None]]:
        """What to call when a call of this method begins, and when it has ended (extra arguments are passed over)."""
        if method.startswith(IGNORED_SERVICES):
            return self._begin_ignored, self._end_ignored
        return partial(self._begin, method), partial(self._end, method)

    def _begin(self, method: str) -> None:
        with self._lock:
            self._begun += 1
            self._open[method] += 1

    def _end(self, method: str, *_: object) -> None:
        with self._lock:
            self._open[method] -= 1
            if self._ended is not None:
                self._ended[method] += 1

    def _begin_ignored(self) -> None:
        with self._lock:
            self._ignored_begun += 1
            self._ignored_open += 1

    def _end_ignored(self, *_: object) -> None:
        with self._lock:
            self._ignored_open -= 1

    def follow_endings(self) -> None:
        """From now on count ended calls by method too: only a drain asks for them."""
        with self._lock:
            self._ended = Counter()

    @property
    def open_by_method(self) -> dict[str, int]:
        """Calls whose handler has begun and whose status is not yet sent, by method."""
        with self._lock:
            return {method: calls for method, calls in self._open.items() if calls > 0}

    @property
    def ended_by_method(self) -> dict[str, int]:
        """Calls ended since `follow_endings()`."""
        with self._lock:
            return dict(self._ended or {})

    def counts(self) -> tuple[int, int, int, int]:
        """(begun, open, ignored begun, ignored open)."""
        with self._lock:
            return self._begun, sum(self._open.values()), self._ignored_begun, self._ignored_open


@dataclass(frozen=True, slots=True)
class Flow:
    """One reading. `begun` and `in_flight` leave out health and reflection; `in_flight` is never negative."""

    begun: int
    in_flight: int


class Gauge:
    """Reads one server's flow of calls and its connections."""

    def __init__(self, ledger: Ledger, server_id: int | None) -> None:
        self._ledger = ledger
        self._server_id = server_id

    def flow(self) -> Flow:
        """Calls begun and in flight, now. About 0.1 ms."""
        # The ledger first: a health call that begins between the two readings then shows in channelz only, which errs on
        # the side of waiting; the other way round it would hide a real call.
        begun, in_flight, ignored_begun, ignored_open = self._ledger.counts()
        data = self._data()
        if data is None:
            return Flow(begun, in_flight)
        started, ended = (
            int(data.get("callsStarted", 0)),
            int(data.get("callsSucceeded", 0)) + int(data.get("callsFailed", 0)),
        )
        return Flow(started - ignored_begun, max(0, started - ended - ignored_open))

    def peers(self, limit: int = 1000) -> tuple[str, ...]:
        """Addresses of open connections, at most `limit`; empty where channelz is off."""
        if self._server_id is None:
            return ()
        names: list[str] = []
        next_id = 0
        while len(names) < limit:
            page = _ask(cygrpc.channelz_get_server_sockets, self._server_id, next_id, min(500, limit - len(names)))
            refs = (page or {}).get("socketRef", ())
            names += [ref.get("name", "?").removeprefix("chttp2 ") for ref in refs]
            if not refs or page is None or page.get("end"):
                break
            next_id = max(int(ref["socketId"]) for ref in refs) + 1
        return tuple(names)

    def any_peer(self) -> bool:
        """Whether any connection is open, or may be: where channelz is off nobody knows. Cheap however many there are."""
        return self._server_id is None or bool(self.peers(limit=1))

    def _data(self) -> Mapping[str, Any] | None:
        if self._server_id is None:
            return None
        answer = _ask(cygrpc.channelz_get_server, self._server_id)
        data: Mapping[str, Any] | None = (answer or {}).get("server", {}).get("data")
        return data


def _ask(question: Callable[..., bytes], *arguments: int) -> dict[str, Any] | None:
    """One channelz answer, or None if there is none (the server is gone, or channelz is off)."""
    try:
        answer = json.loads(question(*arguments))
    except (ValueError, KeyError):
        return None
    return answer if isinstance(answer, dict) else None


def server_ids() -> set[int]:
    """Channelz ids of all grpc servers of this process."""
    found: set[int] = set()
    start = 0
    while True:
        page = _ask(cygrpc.channelz_get_servers, start) or {}
        ids = {int(server["ref"]["serverId"]) for server in page.get("server", ())}
        found |= ids
        if not ids or page.get("end"):
            return found
        start = max(ids) + 1


_construction = threading.Lock()


class Identify:
    """Find out which channelz server a block of code constructs: `with Identify() as new: grpc.server(...)`, then `new.id`.

    Ids are given in order, so the new one is what was not there before. Servers built at the same moment by code other than
    ours could blur that: then `id` is None, and the ledger alone counts.
    """

    id: int | None = None

    def __enter__(self) -> "Identify":
        _construction.acquire()
        self._before = server_ids()
        return self

    def __exit__(self, *_: object) -> None:
        new = server_ids() - self._before
        _construction.release()
        self.id = new.pop() if len(new) == 1 else None
