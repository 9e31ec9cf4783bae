"""Whose endpoints a rebalancing server follows: one target's, or those of the services that have its pod.

A source is a name; what is known of it is a set of ready endpoints, our own left out as far as anybody says who we are.
"""

import os
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Protocol, TypeAlias

from drain import events
from drain._core.endpoints import Endpoint

Source: TypeAlias = str
Known: TypeAlias = Iterable[tuple[Source, frozenset[Hashable]]]
Tell: TypeAlias = Callable[[events.Event], object]


class Sources(Protocol):
    """Followed from its making to `stop`. One thread uses it."""

    def known(self) -> Known:
        """What is known by now. A source without an answer is left out; one that fails keeps its last."""

    def stop(self) -> None:
        """End, within a second or so."""


def sources(target: str | None, changed: Callable[[], None], tell: Tell) -> Sources:
    """Follow `target`, or None: the services that have this pod. `changed()` is called on any thread when there is news."""
    if target is not None:
        return _Target(target, changed)
    from drain._rebalancing.services import Services  # noqa: PLC0415 - nothing of Kubernetes is loaded without need

    return Services(changed, tell)


class _Target:
    """A target, as channels and `drain.resolver.watch` have it: one watch of it in this process, whoever else follows it."""

    def __init__(self, target: str, changed: Callable[[], None]) -> None:
        from drain._channels import resolvers  # noqa: PLC0415 - who does not rebalance loads nothing of it

        self._target = target
        self._own = own_names()
        self._watch = resolvers.watch(target)
        self._leave = self._watch.use(changed)
        changed()  # somebody else may follow it already, and it may never change again

    def known(self) -> Iterator[tuple[Source, frozenset[Hashable]]]:
        endpoints = self._watch.snapshot().endpoints
        if endpoints is not None:
            yield self._target, frozenset(_key(each) for each in endpoints if each.ready and not self._is_ours(each))

    def stop(self) -> None:
        self._leave()

    def _is_ours(self, endpoint: Endpoint) -> bool:
        named = (endpoint.name or "").rpartition("/")[2]
        return endpoint.address in self._own or (endpoint.name is not None and named in self._own)


def _key(endpoint: Endpoint) -> Hashable:
    # With its name: an address may have gone to another pod.
    return endpoint.name, endpoint.address, endpoint.port


def own_names() -> frozenset[str]:
    """What this pod is called and where it is, as far as its environment says. Without that its own coming costs a rotation."""
    names = ("DRAIN_POD_NAME", "POD_NAME", "DRAIN_POD_IP", "POD_IP", "HOSTNAME")
    said = (os.environ.get(name) for name in names)
    return frozenset(filter(None, said))
