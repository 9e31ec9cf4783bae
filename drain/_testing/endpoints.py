"""A target whose endpoints a test decides, and the resolver behind it."""

import itertools
import threading

import drain
from drain._core.endpoints import Endpoint, EndpointSet
from drain.resolver import Listener, Target

SCHEME = "drain-testing"
_lock, _numbers = threading.Lock(), itertools.count(1)
_all: "dict[str, Endpoints]" = {}


class Endpoints:
    """A target whose endpoints a test decides: `drain.insecure_channel(endpoints.target)`. Thread safe.

    Args:
        addresses: as in `set`. Before the first of them, calls wait, as for a service that is not known yet.
    """

    def __init__(self, *addresses: str | Endpoint) -> None:
        self._own = threading.Lock()
        self._listeners: list[Listener] = []
        self._now: EndpointSet | str | None = None
        with _lock:
            name = f"endpoints-{next(_numbers)}"
            _all[name] = self
            drain.resolver.register(SCHEME, _Following, replace=True)
        self.target = f"{SCHEME}:///{name}"
        if addresses:
            self.set(*addresses)

    def set(self, *endpoints: str | Endpoint) -> None:
        """These, and no others: "127.0.0.1:50051", or an `Endpoint` with conditions. None: there is nobody."""
        self._tell(EndpointSet.of(_endpoint(each) for each in endpoints))

    def fail(self, reason: str) -> None:
        """The target cannot be followed now; what was known stays in use."""
        self._tell(reason)

    def _tell(self, now: EndpointSet | str) -> None:
        with self._own:
            self._now = now
            for each in self._listeners:
                _hand(each, now)

    def _follow(self, listener: Listener) -> None:
        with self._own:
            self._listeners.append(listener)
            if self._now is not None:
                _hand(listener, self._now)

    def _leave(self, listener: Listener) -> None:
        with self._own:
            self._listeners.remove(listener)


class _Following:
    """The resolver behind a target of ours."""

    def __init__(self, target: Target) -> None:
        name = str(target).rpartition("/")[2]
        if name not in _all:
            raise drain.TargetError(f"{target}: no Endpoints() of this process has that target.")
        self._endpoints = _all[name]
        self._listener: Listener | None = None

    def start(self, listener: Listener) -> None:
        self._listener = listener
        self._endpoints._follow(listener)

    def stop(self) -> None:
        if self._listener is not None:
            self._endpoints._leave(self._listener)


def _hand(listener: Listener, now: EndpointSet | str) -> None:
    if isinstance(now, str):
        listener.failed(now)
    else:
        listener.endpoints(now.endpoints)


def _endpoint(each: str | Endpoint) -> Endpoint:
    if isinstance(each, Endpoint):
        return each
    host, _, port = each.rpartition(":")
    if not host or not port.isdecimal():
        raise drain.ConfigurationError(f"endpoint {each!r}: must be HOST:PORT, or an Endpoint.")
    return Endpoint(address=host.strip("[]"), port=int(port))
