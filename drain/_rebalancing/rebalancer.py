"""Rebalancing from the server's side: when its service has grown, a server rotates its connections once (`RebalancePolicy`).

One thread for each server with such a policy, asleep until the endpoints change. What decides is `_core/rebalancing.py`; here are
the watch, the clock and the rotation. It knows its server weakly, and ends with it or with the beginning of its drain.
"""

import queue
import random
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from typing import Protocol, TypeAlias

from drain import events
from drain._core.lifecycle import Input
from drain._core.rebalancing import Rebalancing
from drain._rebalancing.sources import Source, Sources, Tell, sources
from drain.config import RebalancePolicy

ROTATION = 10.0  # seconds that a rotation may take: far more than the driver's own bounds
_OFF = "connections stay until max_connection_age"
PAUSE = 5.0  # seconds at least between a rotation that failed and the next attempt


Subscribe: TypeAlias = Callable[[Callable[[events.Event], object]], Callable[[], None]]


class Rotatable(Protocol):
    """The server: `drain._subject.Subject`."""

    def request(self, what: Input, reason: str) -> "Future[int]": ...


class _News:
    """The endpoints of a source have changed, or there is another source."""


def check(policy: RebalancePolicy) -> None:
    """Raise TargetError for a policy whose target can never work: when the server is made, not when it serves."""
    if policy.target is not None:
        from drain._channels import resolvers  # noqa: PLC0415 - who does not rebalance loads nothing of it

        resolvers.watch(policy.target)


def start(
    policy: RebalancePolicy,
    subject: Rotatable,
    subscribe: Subscribe,
    tell: Tell,
    goaway: str,
    goaway_reason: str,
) -> Callable[[], None]:
    """Rebalance from now on, as `policy` says.

    Needs lossless GOAWAY: in the classic way a rotation would cut calls, so nothing is done, and that is said once.

    Args:
        subject: rotates; raises ReferenceError when the server is gone.
        subscribe: the server's: tells of rotations by others, and of the drain. tell: its subscribers, from any thread.

    Returns what ends it: any number of times, from any thread, at once.
    """
    if goaway != "lossless":
        tell(events.FallbackTaken("rebalancing", _OFF, goaway_reason, "lossless GOAWAY"))
        return _nothing
    try:
        return Rebalancer(policy, subject, subscribe, tell).stop
    except RuntimeError as error:  # no more threads: a server must run that would run without it
        tell(events.FallbackTaken("rebalancing", _OFF, str(error), "let the process have more threads"))
        return _nothing


def _nothing() -> None: ...


class Rebalancer:
    """Runs from its making to `stop`. Thread safe."""

    def __init__(self, policy: RebalancePolicy, subject: Rotatable, subscribe: Subscribe, tell: Tell) -> None:
        self._policy, self._subject, self._tell = policy, subject, tell
        # Reentrant: a finalizer may put.
        self._inbox: queue.SimpleQueue[_News | events.Rotated | None] = queue.SimpleQueue()
        self._machines: dict[Source, Rebalancing] = {}
        self._rotated_at = 0.0
        self._unsubscribe = subscribe(self._happened)
        self._thread = threading.Thread(target=self._run, name="drain-rebalance", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it; its thread is gone within a second or so."""
        self._unsubscribe()
        self._inbox.put(None)

    def _happened(self, event: events.Event) -> None:
        if isinstance(event, events.StateChanged) and event.state.draining:
            self.stop()
        elif isinstance(event, events.Rotated):
            self._inbox.put(event)

    # On its own thread from here on.

    def _run(self) -> None:
        try:
            found = sources(self._policy.target, lambda: self._inbox.put(_News()), self._tell)
            try:
                self._follow(found)
            finally:
                found.stop()
        except ReferenceError:  # the server was dropped
            return
        except Exception as error:  # the root of the thread: it must not end without a word
            self._unsubscribe()
            self._tell(
                events.StepFailed("rebalancing, which ends", f"{type(error).__name__}: {error}", time.monotonic())
            )

    def _follow(self, found: Sources) -> None:
        while True:
            due = self._due()
            try:
                news = self._inbox.get(timeout=None if due is None else max(0.0, due - time.monotonic()))
            except queue.Empty:
                self._rotate()
                continue
            if news is None:
                return
            if isinstance(news, events.Rotated):
                self._rotated(news.at)
            else:
                self._look(found.known())

    def _look(self, known: Iterable[tuple[Source, frozenset[Hashable]]]) -> None:
        now = time.monotonic()
        for source, endpoints in known:
            machine = self._machines.get(source)
            if machine is None:
                policy = self._policy
                machine = Rebalancing(spread=policy.spread, still=policy.still, min_interval=policy.min_interval)
                self._machines[source] = machine
            machine.told(endpoints, now, random.random())  # noqa: S311 - spreads load

    def _due(self) -> float | None:
        return min((due for each in self._machines.values() if (due := each.due) is not None), default=None)

    def _rotate(self) -> None:
        grown = [each for each in self._machines.values() if each.added]
        added, total = max((len(each.added), each.total) for each in grown)
        try:
            connections = self._subject.request(Input.ROTATE, "rebalancing").result(ROTATION)
        except ReferenceError:
            raise
        except Exception as error:  # the server's state forbids it now, or its driver is stuck: it is tried again
            now = time.monotonic()
            self._tell(events.StepFailed("rebalancing", f"{type(error).__name__}: {error}", now))
            for each in self._machines.values():
                each.failed(now, PAUSE)
            return
        now = time.monotonic()
        self._rotated(now)
        self._tell(events.Rebalanced(added, total, connections, now))

    def _rotated(self, at: float) -> None:
        if at <= self._rotated_at:  # the event of our own rotation
            return
        self._rotated_at = at
        for each in self._machines.values():
            each.rotated(at)
