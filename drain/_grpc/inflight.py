"""How many calls a server has in flight, and which.

Two sources, because neither knows all. **channelz**, which C-core keeps anyway at no cost per call, knows every call from the
moment its headers arrived until its status was sent, and every connection, but no method. **The ledger** counts calls by
method where handlers are registered, at the cost of two additions; it does not know calls that wait for a worker thread.
Where the user has switched channelz off, the ledger alone decides.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from grpc._cython import (
    cygrpc,
)  # channelz has no public Python API but a servicer; guarded by tests/integration/test_inflight.py

# Probes and tools call these whether or not anybody still sends work: they must not look like returning callers.
IGNORED_SERVICES = ("/grpc.health.", "/grpc.reflection.", "/grpc.channelz.")


# A generic handler may take any name that a client sends: beyond this many they are counted together.
MOST_METHODS = 1000
OTHERS = "(others)"


class Entry:
    """One method's line in the ledger. `begin` and `end` are on the path of every call: a lock and an addition."""

    __slots__ = ("_lock", "begun", "ended", "streams")

    def __init__(self, lock: threading.Lock, streams: bool) -> None:
        self._lock, self.streams = lock, streams
        self.begun = 0
        self.ended = 0

    def begin(self) -> None:
        """A handler of this method is called."""
        with self._lock:
            self.begun += 1

    def end(self, *_: object) -> None:
        """It has returned, or its call has ended."""
        with self._lock:
            self.ended += 1


class Ledger:
    """Calls by method: begun, open, ended. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._ended_before: dict[str, int] = {}

    def entry(self, method: str, *, streams: bool = False) -> Entry:
        """The line of a method. `streams`: it has a stream of requests, or of responses."""
        with self._lock:
            if method not in self._entries and len(self._entries) >= MOST_METHODS:
                method = OTHERS
            return self._entries.setdefault(method, Entry(self._lock, streams))

    def follow_endings(self) -> None:
        """`ended_by_method` counts from now on."""
        with self._lock:
            self._ended_before = {method: entry.ended for method, entry in self._counted()}

    @property
    def open_by_method(self) -> dict[str, int]:
        """Calls whose handler is at work, by method."""
        with self._lock:
            return {m: e.begun - e.ended for m, e in self._counted() if e.begun > e.ended}

    @property
    def open_streams(self) -> int:
        """Streams whose handler is at work."""
        with self._lock:
            return sum(entry.begun - entry.ended for _, entry in self._counted() if entry.streams)

    @property
    def ended_by_method(self) -> dict[str, int]:
        """Calls ended since `follow_endings()`."""
        with self._lock:
            ended = {m: e.ended - self._ended_before.get(m, 0) for m, e in self._counted()}
        return {method: calls for method, calls in ended.items() if calls}

    def counts(self) -> tuple[int, int, int, int]:
        """(begun, open, ignored begun, ignored open)."""
        with self._lock:
            mine = [entry for _, entry in self._counted()]
            ignored = [e for m, e in self._entries.items() if m.startswith(IGNORED_SERVICES)]
            return *_sums(mine), *_sums(ignored)

    def _counted(self) -> list[tuple[str, Entry]]:
        return [(m, e) for m, e in self._entries.items() if not m.startswith(IGNORED_SERVICES)]


def _sums(entries: list[Entry]) -> tuple[int, int]:
    begun = sum(entry.begun for entry in entries)
    return begun, begun - sum(entry.ended for entry in entries)


@dataclass(frozen=True, slots=True)
class Flow:
    """One reading. Health and reflection are left out.

    `begun` counts calls as they arrive, but may be too high for a moment: a health call that has not reached its handler yet
    looks like any other. `reached` counts those whose handler was called, and is exact. `in_flight` is never negative. `ended`
    may be too low for a moment: a health call that has left its handler and is yet to be answered.
    """

    begun: int
    in_flight: int
    reached: int = 0

    @property
    def ended(self) -> int:
        """Calls that have ended."""
        return self.begun - self.in_flight


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
            return Flow(begun, in_flight, begun)
        started, ended = (
            int(data.get("callsStarted", 0)),
            int(data.get("callsSucceeded", 0)) + int(data.get("callsFailed", 0)),
        )
        return Flow(started - ignored_begun, max(0, started - ended - ignored_open), begun)

    def settled_flow(self) -> Flow:
        """A reading in which a health call on its way to its handler has most likely arrived. Takes 10 ms."""
        readings = [self.flow()]
        for _ in range(2):
            time.sleep(0.005)
            readings.append(self.flow())
        begun = min(reading.begun for reading in readings)
        ended = max(reading.ended for reading in readings)
        return Flow(begun, max(0, begun - ended), readings[-1].reached)

    def peers(self, limit: int = 1000) -> tuple[str, ...]:
        """Addresses of open connections, at most `limit`; empty where channelz is off."""
        if self._server_id is None:
            return ()
        names: list[str] = []
        for page in server_sockets(self._server_id, 0, limit):
            names += [name for _, name in page]
        return tuple(names)

    def connections(self) -> dict[int, str]:
        """Peers of open connections by their channelz ids, which are never used twice; empty where channelz is off."""
        if self._server_id is None:
            return {}
        return {number: name for page in server_sockets(self._server_id, 0) for number, name in page}

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


def server_sockets(server_id: int, start: int, limit: int = 1_000_000) -> Iterator[list[tuple[int, str]]]:
    """Open connections of a server whose channelz ids are `start` or more, as (id, peer), at most `limit`, page by page."""
    while limit > 0:
        page = _ask(cygrpc.channelz_get_server_sockets, server_id, start, min(500, limit)) or {}
        found = [
            (int(ref["socketId"]), ref.get("name", "?").removeprefix("chttp2 ")) for ref in page.get("socketRef", ())
        ]
        yield found
        if not found or page.get("end"):
            return
        start = max(number for number, _ in found) + 1
        limit -= len(found)


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
