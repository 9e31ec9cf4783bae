"""`static:///10.0.0.1:50051,host:50051`: the endpoints that the target names. For tests, and for what never changes."""

from drain._core.endpoints import Endpoint
from drain._core.target import Target, host_port, literal
from drain._resolvers.dns import lookup
from drain._resolvers.polled import Polled
from drain._resolvers.protocol import Listener, Resolver

_AGAIN = 30.0  # seconds between two looks at DNS, where names are named


class _Fixed:
    """Addresses only: nothing to watch."""

    def __init__(self, endpoints: list[Endpoint], authority: str) -> None:
        self.authority = authority
        self._endpoints = endpoints

    def start(self, listener: Listener) -> None:
        listener.endpoints(self._endpoints)

    def stop(self) -> None:
        pass


def factory(target: Target) -> Resolver:
    """A resolver for a `static:` target."""
    if target.authority:
        raise target.error(f"it has two slashes where three are needed before {target.authority!r}")
    target.parameters()
    named = [host_port(target, each) for each in target.endpoint.split(",") if each.strip()]
    if not named:
        raise target.error("no endpoint is named")
    authority = target.endpoint.partition(",")[0].strip()
    if all(literal(host) is not None for host, _ in named):
        return _Fixed([Endpoint(address=host, port=port) for host, port in named], authority)
    return Polled(lambda: [each for host, port in named for each in lookup(host, port)], _AGAIN, authority=authority)
