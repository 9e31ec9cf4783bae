"""One ADS stream's bookkeeping: who asked for what, which answer was taken. Pure; xDS v3, state of the world.

The protocol in short (https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol): a client names the resources of a type
that it wants; every response carries a nonce, which the next request of that type quotes: without an error that is an ACK, with
one a NACK. A request that quotes an older nonce is stale, it crossed a newer response on the way.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

# The names that one stream may ask for. A channel asks for a handful, a server for one per address.
MOST_NAMES = 10_000


@dataclass(frozen=True, slots=True)
class Heard:
    """What one request meant.

    Attributes:
        respond: the client wants to be told the resources of this type (it is new to the type, or has changed its names).
        acked: it has taken the response with this number. refused: it has not, and why.
        added, removed: names it asks for now and did not before; names it asks for no more.
        stale: it answers an older response than the last: nothing else of it counts.
    """

    respond: bool = False
    acked: int | None = None
    refused: str | None = None
    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    stale: bool = False


@dataclass(slots=True)
class _Type:
    names: frozenset[str] = frozenset()
    sent: int = 0  # number of the last response, 0: none yet
    answered: int = 0


@dataclass(slots=True)
class Subscription:
    """One stream. `numbers` run through all types, so that a nonce is never used twice."""

    _types: dict[str, _Type] = field(default_factory=dict)
    _last: int = 0

    def hear(self, type_url: str, names: Collection[str], nonce: str, error: str | None) -> Heard:
        """A request came in. Raises ValueError for more names than anybody needs."""
        if len(names) > MOST_NAMES:
            raise ValueError(f"{len(names)} resource names of {type_url}: more than {MOST_NAMES}")
        known = self._types.setdefault(type_url, _Type())
        if nonce and nonce != str(known.sent):
            return Heard(stale=True)
        wanted = frozenset(names)
        added, removed = wanted - known.names, known.names - wanted
        first = known.sent == 0 and not nonce
        known.names = wanted
        acked = refused = None
        if nonce and known.answered != known.sent:
            known.answered = known.sent
            acked, refused = (known.sent, None) if error is None else (None, error)
        return Heard(respond=bool(added) or first, acked=acked, refused=refused, added=added, removed=removed)

    def names(self, type_url: str) -> frozenset[str]:
        """What the stream asks for."""
        known = self._types.get(type_url)
        return known.names if known is not None else frozenset()

    def responded(self, type_url: str) -> int:
        """A response of this type goes out: its number, which is its nonce."""
        self._last += 1
        self._types.setdefault(type_url, _Type()).sent = self._last
        return self._last

    @property
    def everything(self) -> list[tuple[str, frozenset[str]]]:
        """All types and names: what ends when the stream ends."""
        return [(type_url, known.names) for type_url, known in self._types.items()]
