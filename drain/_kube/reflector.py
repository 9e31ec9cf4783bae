"""Mirrors the EndpointSlices of a service, or a namespace: the thread that drives `drain._core.watching`, and knows the time."""

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from drain._core.slices import version_order
from drain._core.watching import SILENCE, Effect, Input, Outcome, Watching, watch_seconds
from drain._kube.api import Api
from drain._kube.failure import ApiError
from drain._kube.watch import Watch
from drain._kube.wire import Interrupt

_STOP_TIMEOUT = 1.0
# Seconds for which a service that has lost its last slice is held on to. Whoever deletes a slice by mistake has it back from its
# controller within some ten milliseconds; calls need not fail for that. A service that scales to zero keeps an empty slice, and
# is told at once.
HOLD = 0.3

_log = logging.getLogger("drain")


class Mirror(Protocol):
    """What slices are kept in; immutable. False: there is none of them."""

    @property
    def service(self) -> str: ...  # for messages
    @property
    def skipped(self) -> tuple[str, ...]: ...
    def replaced(self, items: Iterable[Mapping[str, Any]]) -> Any: ...
    def applied(self, kind: str, raw: Mapping[str, Any]) -> Any: ...


M = TypeVar("M", bound=Mirror)


@dataclass(frozen=True, slots=True)
class _Happened:
    """An input for the machine, and what came with it."""

    what: Input
    message: str = ""
    retry_after: float = 0.0
    away: bool = False
    slices: Any = None
    version: str = ""


class Reflector(Generic[M]):
    """Follows one service from `start` to `stop`. `start` and `stop` may be called from any thread.

    Args:
        api: whom to ask.
        namespace, service: whose slices; service None: those of all services.
        changed: called with all slices when they are different, and again when a failure is over.
        failed: called with what is wrong, once for each thing that is. What was told before stays as good as it was.
            Both are called on the reflector's thread, one at a time, and not after `stop` has been called.
        mirror: what they are kept in.
        ended: called each time that a list or watch ended, with why, in a word or two; None: nobody counts. It must not block.
        silence: seconds without a byte after which a watch is given up, three times as many until its first bookmark.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        service: str | None,
        changed: Callable[[M], None],
        failed: Callable[[str], None],
        *,
        mirror: M,
        ended: Callable[[str], None] | None = None,
        silence: float = SILENCE,
    ) -> None:
        self._api = api
        self._ended = ended
        self._namespace = namespace
        self._service = service
        self._changed = changed
        self._failed = failed
        self._silence = silence
        self._machine = Watching()
        self._interrupt = Interrupt()
        self._slices = mirror
        self._version = ""
        self._watch: Watch | None = None
        self._failure: str | None = None
        self.denied = False  # the last failure: we may not ask, or are not known; nothing is wrong with the server
        self._skipped: tuple[str, ...] = ()
        self._thread = threading.Thread(target=self._run, name=f"drain-kube-{service or namespace}", daemon=True)

    def start(self) -> None:
        """Begin. Does not block."""
        self._thread.start()

    def stop(self, *, wait: bool = True) -> None:
        """End, within a second; without `wait` it ends by itself. A connection that is being made goes on for its time-out."""
        self._interrupt.set()
        if wait and self._thread is not threading.current_thread():
            self._thread.join(_STOP_TIMEOUT)

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    @property
    def version(self) -> str:
        """The resourceVersion up to which everything is known; empty before the first list."""
        return self._version

    # On its own thread from here on.

    def _run(self) -> None:
        happened: _Happened | None = _Happened(Input.START)
        while happened is not None:
            if self._interrupt:
                happened = _Happened(Input.STOP)
            outcome = self._machine.handle(
                happened.what,
                time.monotonic(),
                random.random(),  # noqa: S311 - spreads load
                retry_after=happened.retry_after,
                away=happened.away,
            )
            if outcome.ended is not None and self._ended is not None:
                self._ended(outcome.ended.value)
            following = None
            for effect in outcome.effects:
                following = self._carry_out(effect, outcome, happened)
            happened = following

    def _carry_out(self, effect: Effect, outcome: Outcome, happened: _Happened) -> _Happened | None:
        """What it leads to; None for what leads to nothing: another effect comes behind it, or none ever."""
        try:
            return self._do(effect, outcome, happened)
        except ApiError as error:
            self.denied = error.status in (401, 403)
            return _Happened(error.what, str(error), error.retry_after)
        except Exception as error:  # an answer of a shape that nobody foresaw: the thread must live
            self.denied = False
            _log.exception("drain.kubernetes_watch_failed service=%s", self._slices.service)
            return _Happened(Input.BROKEN, f"{self._slices.service}: {type(error).__name__}: {error}")

    def _do(self, effect: Effect, outcome: Outcome, happened: _Happened) -> _Happened | None:
        match effect:
            case Effect.REPLACE | Effect.APPLY:
                self._take(happened)
            case Effect.TELL_FAILURE:
                self._tell_failure(happened.message)
            case Effect.TELL_RECOVERY if self._failure is not None:
                self._tell()
            case Effect.LIST:
                return self._list()
            case Effect.WATCH:
                return self._open()
            case Effect.READ:
                return self._read()
            case Effect.REST:
                return self._rest(happened, outcome.rest)
            case Effect.SEEK:
                self._hang_up()
                return _Happened(Input.REACHABLE, away=self._api.door.wait(self._interrupt))
            case Effect.HANG_UP:
                self._hang_up()
        return None

    def _rest(self, happened: _Happened, seconds: float) -> _Happened:
        self._hang_up()
        if happened.what is not Input.BROKEN:
            self._interrupt.wait(seconds)
        elif (why := self._api.door.rest(self._interrupt, seconds)) is not None:
            return _Happened(Input.AWAY, f"cannot reach the API server at {self._api.server}: {why}")
        return _Happened(Input.DUE)

    def _list(self) -> _Happened:
        self._hang_up()
        answer = self._api.list(self._namespace, self._service, self._interrupt)
        slices = self._slices.replaced(answer.get("items") or ())
        return _Happened(Input.LISTED, slices=slices, version=str(_version(answer) or ""))

    def _open(self) -> _Happened:
        self._hang_up()
        seconds = watch_seconds(random.random())  # noqa: S311
        self._watch = self._api.watch(
            self._namespace, self._service, self._version, seconds, self._interrupt, silence=self._silence
        )
        return _Happened(Input.OPENED)

    def _read(self) -> _Happened:
        assert self._watch is not None  # open, as long as there is anything to read
        events = self._watch.events()
        slices, version = self._applied(self._slices, events)
        if self._slices and not slices:
            with contextlib.suppress(ApiError):  # comes again, behind these
                deadline = time.monotonic() + HOLD
                while not slices and (left := deadline - time.monotonic()) > 0:
                    more = self._watch.events(left)
                    slices, later = self._applied(slices, more)
                    version = later or version
        if version_order(version or self._version) < version_order(self._version):
            message = f"resource versions went back, from {self._version} to {version}: was etcd restored?"
            return _Happened(Input.GONE, message)
        return _Happened(Input.EVENTS, slices=slices, version=version or self._version)

    def _applied(self, slices: M, events: list[dict[str, Any]]) -> tuple[M, str]:
        version = ""
        for event in events:
            version = _version(event["object"]) or version
            if event["type"] != "BOOKMARK":
                slices = slices.applied(event["type"], event["object"])
        return slices, version

    def _take(self, happened: _Happened) -> None:
        assert happened.slices is not None
        same = happened.slices is self._slices  # nothing but bookmarks
        self._slices, self._version = happened.slices, happened.version
        if not same:
            self._tell()

    def _tell(self) -> None:
        self._failure = None
        if not self._interrupt:
            self._changed(self._slices)
        if self._slices.skipped != self._skipped:
            self._skipped = self._slices.skipped
            for each in self._skipped:
                _log.warning("drain.endpoint_slice_skipped service=%s slice=%s", self._slices.service, each)

    def _tell_failure(self, message: str) -> None:
        if message != self._failure and not self._interrupt:
            self._failure = message
            self._failed(message)

    def _hang_up(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None


def _version(raw: dict[str, Any]) -> str:
    return str((raw.get("metadata") or {}).get("resourceVersion") or "")
