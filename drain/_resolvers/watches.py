"""One watch for each target and process, however many channels use it.

A `Watch` is the listener of one resolver. It holds the last good set and what is wrong now, tells events, and calls whoever uses
it when something is different. The resolver runs while somebody does.
"""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from drain import _clock, events
from drain._core.endpoints import Endpoint, EndpointSet
from drain._core.snapshot import TargetSnapshot
from drain._core.target import Target
from drain._resolvers.protocol import Factory, Resolver

_log = logging.getLogger("drain")

Tell = Callable[[events.ClientEvent], object]
Key = tuple[str, str, str, tuple[tuple[str, str], ...]]


class Watch:
    """What is known of one target. Thread safe. Made by `Watches`."""

    def __init__(self, target: Target, factory: Factory, tell: Tell) -> None:
        self.target = target
        self._factory = factory
        self._tell = tell
        self._lock = threading.Lock()
        self._users: list[Callable[[], None]] = []
        self._run: _Run | None = None
        self._known: EndpointSet | None = None
        self._heard_at: float | None = None  # the last news
        self._failure: str | None = None
        self._failed_at: float | None = None
        self._version = 0

    def use(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Follow the target. `changed()` is called after each difference, on the resolver's thread: it must not block.

        Returns what ends it, any number of times, and does not block either.
        """
        with self._lock:
            self._users.append(changed)
            if self._run is None:
                self._run = _Run(self, self._factory)
                self._run.start()

        def leave() -> None:
            with self._lock:
                if changed not in self._users:
                    return
                self._users.remove(changed)
                if self._users:
                    return
                run, self._run = self._run, None
                # What is known now will be wrong when somebody comes again.
                self._known = self._heard_at = self._failure = self._failed_at = None
                self._version += 1
            if run is not None:
                run.stop()

        return leave

    def snapshot(self) -> TargetSnapshot:
        """What is known at this moment."""
        with self._lock:
            now = _clock.now()
            return TargetSnapshot(
                target=str(self.target),
                version=self._version,
                endpoints=self._known,
                age=None if self._heard_at is None else now - self._heard_at,
                failure=self._failure,
                failing_for=None if self._failed_at is None else now - self._failed_at,
                users=len(self._users),
            )

    # From the run, on any thread.

    def heard(self, run: "_Run", endpoints: EndpointSet) -> None:
        with self._lock:
            if run is not self._run:
                return
            now = _clock.now()
            before, failed_at = self._known, self._failed_at
            self._known, self._heard_at, self._failure, self._failed_at = endpoints, now, None, None
            if before == endpoints and failed_at is None:
                return
            self._version += 1
            users = list(self._users)
        # The calls come first: who is told of an event may take his time.
        self._call(users)
        if failed_at is not None:
            self._tell(events.WatchRecovered(str(self.target), now - failed_at, now))
        for event in _differences(str(self.target), before, endpoints, now):
            self._tell(event)

    def failed(self, run: "_Run", message: str) -> None:
        with self._lock:
            if run is not self._run or self._failure == message:
                return
            now = _clock.now()
            self._failure = message
            self._failed_at = now if self._failed_at is None else self._failed_at
            self._version += 1
            users, known, heard_at = list(self._users), self._known, self._heard_at
        self._call(users)
        self._tell(events.WatchFailed(str(self.target), message, len(known or ()), now))
        if known and heard_at is not None:
            self._tell(events.EndpointsStale(str(self.target), now - heard_at, message, now))

    def _call(self, users: Iterable[Callable[[], None]]) -> None:
        for changed in users:
            try:
                changed()
            except Exception:  # one user's fault is not another's
                _log.exception("drain.watch_user_failed target=%s", self.target)


def _differences(
    target: str, before: EndpointSet | None, now: EndpointSet, at: float
) -> Iterator[events.EndpointAdded | events.EndpointRemoved | events.EndpointsChanged]:
    old, new = before.by_where() if before is not None else {}, now.by_where()
    added = [each for where, each in new.items() if old.get(where) != each]
    removed = [each for where, each in old.items() if where not in new]
    if before is not None and not (added or removed):
        return
    if before is not None:  # of a first set, thousands of lines would say less than one
        for each in added:
            yield events.EndpointAdded(target, str(each), each.ready, at)
        for each in removed:
            yield events.EndpointRemoved(target, str(each), at)
    ready = sum(each.ready for each in now.endpoints)
    triggers = [each.triggered for each in added if each.triggered is not None and before is not None]
    behind = max(0.0, time.time() - max(triggers)) if triggers else None
    yield events.EndpointsChanged(target, len(added), len(removed), len(now), ready, at, behind)


class _Run:
    """One life of a resolver: started and stopped on threads of its own, since somebody else's code may take a while."""

    def __init__(self, watch: Watch, factory: Factory) -> None:
        self._watch = watch
        self._factory = factory
        self._resolver: Resolver | None = None
        self._starting = threading.Thread(target=self._start, name="drain-resolver-start", daemon=True)

    def start(self) -> None:
        self._starting.start()

    def stop(self) -> None:
        if sys.is_finalizing():  # a thread would never begin, and its start would wait for that; all of it ends anyway
            return
        with contextlib.suppress(RuntimeError):  # the same, from Python 3.12 on, a little earlier
            threading.Thread(target=self._stop, name="drain-resolver-stop", daemon=True).start()

    def _start(self) -> None:
        try:
            self._resolver = self._factory(self._watch.target)
            self._resolver.start(self)
        except Exception as error:  # the edge to a plugin
            _log.debug("drain.resolver_failed target=%s", self._watch.target, exc_info=error)
            self.failed(str(error) or type(error).__name__)

    def _stop(self) -> None:
        self._starting.join()
        try:
            if self._resolver is not None:
                self._resolver.stop()
        except Exception:  # the edge to a plugin
            _log.exception("drain.resolver_stop_failed target=%s", self._watch.target)

    # The resolver's listener.

    def endpoints(self, endpoints: Iterable[Endpoint]) -> None:
        known = endpoints if isinstance(endpoints, EndpointSet) else EndpointSet.of(endpoints)
        self._watch.heard(self, known)

    def failed(self, message: str) -> None:
        self._watch.failed(self, " ".join(str(message).split()))  # it becomes part of one line


class Watches:
    """All watches of this process, and the schemes they are made for. Thread safe. A forked child begins with none."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._factories: dict[str, Factory] = {}
        self._watches: dict[Key, Watch] = {}
        os.register_at_fork(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        self._lock, self._watches = threading.Lock(), {}

    def register(self, scheme: str, factory: Factory, *, replace: bool) -> None:
        """`factory` resolves targets of this scheme from now on. ValueError: it is taken, and not to be replaced."""
        with self._lock:
            if scheme in self._factories and not replace:
                raise ValueError(scheme)
            self._factories[scheme] = factory

    def schemes(self) -> frozenset[str]:
        """Those that are registered."""
        return frozenset(self._factories)

    def factory(self, scheme: str) -> Factory:
        """Who resolves it."""
        return self._factories[scheme]

    def of(self, target: Target) -> Watch:
        """The one watch of this target."""
        key = target.scheme, target.authority, target.endpoint, target.query
        with self._lock:
            if key not in self._watches:
                self._watches[key] = Watch(target, self._factories[target.scheme], self._tell)
            return self._watches[key]

    def snapshots(self) -> tuple[TargetSnapshot, ...]:
        """Those in use, in the order of their targets."""
        with self._lock:
            watches = list(self._watches.values())
        found = [watch.snapshot() for watch in watches]
        return tuple(sorted((each for each in found if each.users), key=lambda each: each.target))
