"""What a resolver is: the plugin API (`drain.resolver`), which drain's own resolvers use too."""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias

from drain._core.endpoints import Endpoint
from drain._core.target import Target


class Listener(Protocol):
    """Whom a resolver tells. Both methods may be called from any thread, never block for long, and raise nothing.

    After `stop()` has returned nothing more should be told; what is told all the same is passed over.
    """

    def endpoints(self, endpoints: Iterable[Endpoint]) -> None:
        """The whole set as it is now: not a difference. An empty one is an answer too: the service has no endpoint.

        Addresses that are there twice are joined. Ends a failure that was told before.
        """

    def failed(self, message: str) -> None:
        """There is no answer now; `message` says why, for the person who reads the failed call's details.

        The last set, if there was one, stays in use. Tell it once for each failure; the resolver goes on trying by itself.
        """


class Resolver(Protocol):
    """Watches one target. Made by a factory when the first channel (or `watch`) needs the target, stopped after the last.

    It may have an attribute `authority`: the name that the servers' certificates have, unless `ClientPolicy.authority` says one.
    """

    def start(self, listener: Listener) -> None:
        """Begin to watch. Called once. Must not block: use a thread, or callbacks. What it raises is a failure."""

    def stop(self) -> None:
        """Stop watching, for good, within a second; free threads and sockets. Called once, if `start` was; raises nothing."""


Factory: TypeAlias = Callable[[Target], Resolver]
"""Makes a resolver for a target. Raises TargetError if the target makes no sense for it: the channel is then not made."""
