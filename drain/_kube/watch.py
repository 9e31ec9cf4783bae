"""An open watch of the Kubernetes API: events, as they come."""

import json
import time
from typing import Any

import urllib3

from drain._core.watching import Input
from drain._kube import failure
from drain._kube.failure import ApiError
from drain._kube.wire import Body, Interrupt

# An API server sends bookmarks every minute, but only if it has heard from etcd: on an idle cluster whose etcd sends no progress
# notifications none ever comes (seen on 1.37 with etcd 3.4). Until the first, a silent watch is borne so many times longer.
UNPROMISED = 3
_LONGEST_BATCH = 0.05  # seconds of a flood after which it is told in parts
_LONGEST_EVENT = 64 * 1024 * 1024  # bytes; etcd takes 1.5 MiB

Json = dict[str, Any]


class Watch:
    """An open watch. Belongs to one thread; its interrupt ends it from any."""

    def __init__(self, response: Any, server: str, namespace: str, interrupt: Interrupt, silence: float) -> None:
        self._response = response
        self._body = Body(response)
        self._server = server
        self._namespace = namespace
        self._interrupt = interrupt
        self._silence = silence
        self._patience = UNPROMISED * silence
        self._pieces: list[bytes] = []  # of an event that has not come as a whole
        self._end: ApiError | None = None

    def events(self, wait: float | None = None) -> list[Json]:
        """At least one event, and all that have come with it: a flood is one answer. Waits for the first.

        Raises ApiError when the watch has ended, in whatever way; after the events that came before that.

        Args:
            wait: seconds after which to return none. None: a silent watch is broken.
        """
        events: list[Json] = []
        deadline = 0.0
        seconds = self._patience if wait is None else wait
        while self._end is None:
            try:
                data = self._body.read(seconds)
                if data is None:
                    if events or wait is not None:
                        break
                    raise ApiError(
                        Input.BROKEN,
                        f"no byte from the API server at {self._server} for {self._patience:g} s: dead connection",
                    )
                self._take(data, events)
            except ApiError as error:
                self._end = error
            except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                self._end = failure.from_exception(error, self._server)
            if events:
                deadline = deadline or time.monotonic() + _LONGEST_BATCH
                if time.monotonic() > deadline:
                    break
                seconds = 0.0
        if events or self._end is None:
            return events
        raise self._end

    def close(self) -> None:
        """Hang up."""
        self._interrupt.release()
        self._response.close()

    def _take(self, data: bytes, events: list[Json]) -> None:
        if not data:
            if any(self._pieces):
                raise ApiError(Input.BROKEN, f"the API server at {self._server} ended a watch amid an event")
            raise ApiError(Input.CLOSED, f"the API server at {self._server} closed the watch")
        self._pieces.append(data)
        if b"\n" not in data:
            if sum(map(len, self._pieces)) > _LONGEST_EVENT:
                raise ApiError(Input.BROKEN, f"an event of over {_LONGEST_EVENT} bytes from {self._server}")
            return
        *lines, rest = b"".join(self._pieces).split(b"\n")
        self._pieces = [rest] if rest else []
        for line in filter(None, lines):
            events.append(self._event(line))  # noqa: PERF401 - what came before a bad one stays

    def _event(self, line: bytes) -> Json:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        raw = event.get("object") if isinstance(event, dict) else None
        kind = event.get("type") if isinstance(event, dict) else None
        if not isinstance(raw, dict) or kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"):
            raise ApiError(Input.BROKEN, f"the API server at {self._server} sent an event that is none: {line[:80]!r}")
        if kind == "ERROR":
            raise failure.from_event(raw, self._server, self._namespace)
        if kind == "BOOKMARK":
            self._patience = self._silence
        return {"type": kind, "object": raw}
