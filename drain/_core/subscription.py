"""One ADS stream's bookkeeping: who asked for what, what must be told, which answer was taken. Pure; xDS v3, state of the world.

The protocol in short (https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol): a client names the resources of a type
that it wants; every response carries a nonce, which the next request of that type quotes: without an error that is an ACK, with
one a NACK. A request that quotes an older nonce is stale, it crossed a newer response on the way: its names do not count, because
the answer to the newer response brings them again. But it still answers the response that it quotes, and all before that one.

The client is the clock: while it has not answered a response, the next of that type waits (`due`), so that a flood of changes
becomes as many responses as the client takes. It never waits longer than `PATIENCE`, for an answer may never come.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

# The names that one stream may ask for, of all types. A channel asks for a handful, a server for one per address.
MOST_NAMES = 10_000
# xDS has fewer types than this that grpc asks for; each that a stream mentions is remembered.
MOST_TYPES = 32
# Responses of one type without an answer. grpc answers each; one that leaves so many has stopped to listen.
MOST_UNANSWERED = 100
# Seconds. grpc answers within milliseconds, but takes its time with a large resource.
PATIENCE = 0.25


class StreamError(ValueError):
    """The stream asks for more than anybody needs, or answers nothing: it must end. The text is for the client."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What one request meant.

    Attributes:
        respond: the client wants to be told the resources of this type (it is new to the type, or has added names).
        answered: it answers the response with this number, and with it all older ones of this type; None: no answer, or one
            that is known already. refused: the answer is a NACK, and this is the reason given.
        added, removed: names it asks for now and did not before; names it asks for no more.
        stale: it quotes another response than the last: its names do not count.
    """

    respond: bool = False
    answered: int | None = None
    refused: str | None = None
    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    stale: bool = False


@dataclass(slots=True)
class _Type:
    names: frozenset[str] = frozenset()
    owed: bool = False
    sent: int = 0  # number of the last response, 0: none yet
    sent_at: float = 0.0
    unanswered: list[int] = field(default_factory=list)

    def answer(self, nonce: str) -> int | None:
        """Strike the response with this nonce, and all before it, from the unanswered."""
        number = next((number for number in self.unanswered if str(number) == nonce), None)
        if number is not None:
            self.unanswered = [later for later in self.unanswered if later > number]
        return number

    @property
    def free_at(self) -> float:
        """When the next response may go out."""
        return self.sent_at + PATIENCE if self.unanswered else float("-inf")


@dataclass(slots=True)
class Subscription:
    """One stream. `numbers` run through all types, so that a nonce is never used twice."""

    _types: dict[str, _Type] = field(default_factory=dict)
    _last: int = 0

    def hear(self, type_url: str, names: Collection[str], nonce: str, error: str | None) -> Heard:
        """A request came in; `error` is the text of a NACK. Raises StreamError, and changes nothing then."""
        wanted = frozenset(names)
        self._check(type_url, wanted)
        known = self._types.setdefault(type_url, _Type())
        answered = known.answer(nonce)
        refused = error if answered is not None else None
        if nonce and nonce != str(known.sent):
            return Heard(answered=answered, refused=refused, stale=True)
        added, removed = wanted - known.names, known.names - wanted
        respond = bool(added) or known.sent == 0
        known.names = wanted
        known.owed = known.owed or respond
        return Heard(respond=respond, answered=answered, refused=refused, added=added, removed=removed)

    def _check(self, type_url: str, wanted: frozenset[str]) -> None:
        if type_url not in self._types and len(self._types) >= MOST_TYPES:
            raise StreamError(f"{type_url}: one resource type more than {MOST_TYPES}")
        total = len(wanted) + sum(len(known.names) for other, known in self._types.items() if other != type_url)
        if total > MOST_NAMES:
            raise StreamError(f"{total} resource names: more than {MOST_NAMES}")

    def names(self, type_url: str) -> frozenset[str]:
        """What the stream asks for."""
        known = self._types.get(type_url)
        return known.names if known is not None else frozenset()

    def owe(self, type_url: str) -> None:
        """Resources of this type have changed: the stream must be told, if it asks for any."""
        if (known := self._types.get(type_url)) is not None and known.names:
            known.owed = True

    def due(self, now: float) -> list[str]:
        """The types to be told now. For each, call `responded` or `passed`."""
        return [url for url, known in self._types.items() if known.owed and known.free_at <= now]

    @property
    def due_at(self) -> float | None:
        """When `due` has something, unless an answer brings it earlier. None: nothing is owed."""
        return min((known.free_at for known in self._types.values() if known.owed), default=None)

    def responded(self, type_url: str, now: float) -> int:
        """A response of this type goes out: its number, which is its nonce. Raises StreamError if nobody answers."""
        known = self._types[type_url]
        if len(known.unanswered) >= MOST_UNANSWERED:
            raise StreamError(f"{MOST_UNANSWERED} responses of {type_url} are unanswered")
        self._last += 1
        known.owed, known.sent, known.sent_at = False, self._last, now
        known.unanswered.append(self._last)
        return self._last

    def passed(self, type_url: str) -> None:
        """There is nothing to tell of this type after all."""
        self._types[type_url].owed = False

    @property
    def everything(self) -> list[tuple[str, frozenset[str]]]:
        """All types and names: what ends when the stream ends."""
        return [(type_url, known.names) for type_url, known in self._types.items()]
