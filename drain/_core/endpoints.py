"""Endpoints of a service as a resolver reports them, and which of them a channel uses (KEP-1669, KEP-2433, gRFC A68).

Pure, immutable, safe to share between threads.
"""

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One address that may be called. Names and conditions are those of an EndpointSlice's endpoint.

    Args:
        address: an IP literal, without brackets ("10.0.0.1", "fd00::1"). ValueError for anything else.
        port: 1 - 65535. ValueError for anything else.
        ready, serving, terminating: the endpoint's conditions. A terminating one is never ready.
        zone: topology zone; None: not known.
        hints: zones that are asked to use it (topology aware routing); empty: no hint.
        node, name: where it runs and what it is called ("pod/ns/geoipd-0"); None: not known. For people.
        weight: share of the calls within its locality, at least 1.
        since: when what is said of it was last changed, in seconds since the epoch; None: not known. For people.
        triggered: when the cluster saw the change that led to it, in the same way; None: not known. For measuring.
    """

    address: str
    port: int
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zone: str | None = None
    hints: frozenset[str] = frozenset()
    node: str | None = field(default=None, compare=False)
    name: str | None = field(default=None, compare=False)
    weight: int = 1
    since: float | None = field(default=None, compare=False)
    triggered: float | None = field(default=None, compare=False)
    order: tuple[int, bytes, int] = field(init=False, repr=False, compare=False)
    """By family, address and port. Kept: thousands of endpoints are sorted at each change of one."""

    def __post_init__(self) -> None:
        literal = ipaddress.ip_address(self.address)
        object.__setattr__(self, "address", str(literal))  # one spelling: "FD00::0001" is "fd00::1"
        object.__setattr__(self, "order", (literal.version, literal.packed, self.port))
        if isinstance(self.port, bool) or not isinstance(self.port, int) or not 1 <= self.port <= 65535:
            raise ValueError(f"port {self.port!r} of {self.address}: must be a whole number from 1 to 65535")
        if not 1 <= self.weight <= 2**32 - 1:
            raise ValueError(f"weight {self.weight!r} of {self}: must be at least 1")

    @property
    def where(self) -> tuple[str, int]:
        """Address and port: what makes it this endpoint and no other."""
        return self.address, self.port

    @property
    def ipv6(self) -> bool:
        """Of which family it is."""
        return ":" in self.address

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.ipv6 else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class EndpointSet:
    """All endpoints of a target at one moment, each address and port once, in the order of their addresses. See `of`."""

    endpoints: tuple[Endpoint, ...] = ()

    @classmethod
    def of(cls, endpoints: Iterable[Endpoint]) -> "EndpointSet":
        """Sorted and joined: of several with one address and port the ready one wins, then the serving one, then the first.

        grpc refuses a whole update in which an address is there twice.
        """
        best: dict[tuple[str, int], Endpoint] = {}
        for each in endpoints:
            other = best.get(each.where)
            if other is None or _standing(each) > _standing(other):
                best[each.where] = each
        return cls(tuple(sorted(best.values(), key=lambda each: each.order)))

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self.endpoints)

    def __len__(self) -> int:
        return len(self.endpoints)

    def by_where(self) -> dict[tuple[str, int], Endpoint]:
        """The endpoints by address and port."""
        return {each.where: each for each in self.endpoints}


def _standing(endpoint: Endpoint) -> tuple[bool, bool]:
    return endpoint.ready, endpoint.serving


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """What a channel wants of a set: see the fields of the same names in `drain.ClientPolicy`.

    `subset_key` tells this client from others: each key chooses another subset, and the same one every time.
    """

    zone: str | None = None
    prefer_same_zone: bool = False
    subset_size: int | None = None
    subset_key: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """One endpoint's part in a channel: `priority` 0 gets the calls, 1 while none of 0 can be had; None: not used. And why."""

    endpoint: Endpoint
    priority: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Locality:
    """Endpoints of one zone and priority, as grpc gets them."""

    zone: str
    priority: int
    endpoints: tuple[Endpoint, ...]


def place(endpoints: EndpointSet, preference: Preference) -> tuple[Place, ...]:
    """Which endpoints a channel uses, and why. One place for each endpoint, in the set's order.

    Ready ones are used; where there is none, those that terminate but still serve (KEP-1669: the last resort). Then, where
    the own zone is known: hints select, if every usable endpoint has one; without hints the own zone comes first if that is
    asked for. All others are the failover. At last the subset, the own zone first.
    """
    usable = [each for each in endpoints.endpoints if each.ready]
    why = "ready"
    if not usable:
        usable = [each for each in endpoints.endpoints if each.serving and each.terminating]
        why = "terminating, but none is ready"
    places = {
        each.where: Place(each, priority, _because(why, note)) for each, priority, note in _by_zone(usable, preference)
    }
    places |= _left_out(list(places.values()), preference)
    return tuple(places.get(each.where) or Place(each, None, _unusable(each)) for each in endpoints.endpoints)


def _because(why: str, note: str) -> str:
    return f"{why}, {note}" if note else why


def _unusable(endpoint: Endpoint) -> str:
    if not endpoint.terminating:
        return "not ready"
    return "terminating" if endpoint.serving else "terminating, no longer serving"


def _by_zone(usable: list[Endpoint], preference: Preference) -> Iterable[tuple[Endpoint, int, str]]:
    zone = preference.zone
    if zone is not None and usable and all(each.hints for each in usable):
        near, yes, no = (
            [zone in each.hints for each in usable],
            f"hinted for zone {zone}",
            "failover: hinted for other zones",
        )
    elif zone is not None and preference.prefer_same_zone:
        near, yes, no = [each.zone == zone for each in usable], f"own zone {zone}", "failover: other zone"
    else:
        return [(each, 0, "") for each in usable]
    if not any(near):
        return [(each, 0, f"no endpoint for zone {zone}") for each in usable]
    return [(each, 0 if is_near else 1, yes if is_near else no) for each, is_near in zip(usable, near, strict=True)]


def _left_out(places: list[Place], preference: Preference) -> Mapping[tuple[str, int], Place]:
    """Random subsetting by rendezvous hashing (gRFC A68): a change of one endpoint changes at most one member of the subset."""
    size = preference.subset_size
    if size is None or len(places) <= size:
        return {}

    def rank(each: Place) -> tuple[int, bytes]:
        return each.priority or 0, _drawn(preference.subset_key, *each.endpoint.where)

    left_out = sorted(places, key=rank)[size:]
    return {each.endpoint.where: Place(each.endpoint, None, f"not in the subset of {size}") for each in left_out}


@lru_cache(1 << 16)
def _drawn(key: str, address: str, port: int) -> bytes:
    """An endpoint's lot. Kept: thousands are drawn at each change of one."""
    return hashlib.blake2b(f"{key}/{address}/{port}".encode(), digest_size=8).digest()


def localities(places: Iterable[Place]) -> tuple[Locality, ...]:
    """The endpoints that are used, by priority and zone. Priorities have no gap, as grpc demands."""
    used = [each for each in places if each.priority is not None]
    ranks = {priority: rank for rank, priority in enumerate(sorted({each.priority or 0 for each in used}))}

    def key(each: Place) -> tuple[int, str]:
        return ranks[each.priority or 0], each.endpoint.zone or ""

    groups = groupby(sorted(used, key=key), key)  # stable: within a group the set's order
    return tuple(Locality(zone, priority, tuple(p.endpoint for p in group)) for (priority, zone), group in groups)
