"""`dns+poll:///HOST:PORT?interval=2s`: every address that DNS has for a name, looked up again and again.

For headless services, where the endpoints may not be watched. grpc's own `dns:` looks again only when a connection is lost, and
at most every 30 s: a new pod gets no call for a minute and more.
"""

import socket
from functools import partial

from drain._core.endpoints import Endpoint
from drain._core.target import Target, host_port, literal
from drain._resolvers.polled import Polled
from drain._settings import seconds_from
from drain.errors import ResolutionError

_INTERVAL = 2.0
_SHORTEST = 0.1
_FAMILIES = {None: socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
# The name exists, and has no address: a headless service with no ready pod.
_EMPTY = frozenset({getattr(socket, "EAI_NODATA", None), getattr(socket, "EAI_ADDRFAMILY", None)}) - {None}


def factory(target: Target) -> Polled:
    """A resolver for a `dns+poll:` target."""
    if target.authority:
        raise target.error(f"{target.authority!r}: the system's resolver is asked, no other server can be named")
    host, port = host_port(target, target.endpoint)
    parameters = target.parameters("interval", "family")
    family = parameters.get("family")
    if family not in _FAMILIES:
        raise target.error(f"?family={family}: must be ipv4 or ipv6")
    text = parameters.get("interval")
    interval = _INTERVAL if text is None else seconds_from(text)
    if interval is None or not _SHORTEST <= interval <= 3600:
        raise target.error(f"?interval={text}: must be a duration from 100ms to 1h, such as 2s")
    return Polled(partial(lookup, host, port, family), interval, authority=target.endpoint)


def lookup(host: str, port: int, family: str | None = None) -> list[Endpoint]:
    """The addresses of a host, of one family: IPv4 where there is any, unless `family` says which. Raises ResolutionError.

    Both families at once would call a dual-stack pod twice as often as another.
    """
    if literal(host) is not None:
        return [Endpoint(address=host, port=port)]
    try:
        found = socket.getaddrinfo(host, port, _FAMILIES[family], socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in _EMPTY:
            return []
        raise ResolutionError(f"DNS: {host}: {error.strerror}") from None
    except (OSError, UnicodeError) as error:
        raise ResolutionError(f"DNS: {host}: {error}") from None
    addresses = {str(where[0]).partition("%")[0] for *_, where in found}
    four = {each for each in addresses if ":" not in each}
    return [Endpoint(address=each, port=port) for each in four or addresses]
