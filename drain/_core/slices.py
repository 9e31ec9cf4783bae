"""The EndpointSlices of one service, joined into one set (discovery.k8s.io/v1, KEP-752, KEP-1672, KEP-5504).

A slice is not an answer: a service with 250 endpoints has three, and a pod may be in two of them for a moment while the
controller moves it. So what counts is always all slices together. Each is parsed once, however often the others change.
Pure, immutable but for caches, safe to share between threads.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeAlias

from drain._core.endpoints import Endpoint, EndpointSet
from drain.errors import ResolutionError

Json: TypeAlias = Mapping[str, Any]
_Version: TypeAlias = tuple[int, str]
_Order: TypeAlias = tuple[int, bytes, int]  # see EndpointSet: by length of the address, address, port

_TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"
_FAMILIES = {"ipv4": "IPv4", "ipv6": "IPv6"}  # of a target, and of an EndpointSlice
_ALL_PORTS = None  # "port: null" of a slice: any port will do


def version_order(version: object) -> _Version:
    """Sorts resource versions as what they are: decimal numbers of any length (KEP-5504). What is not one comes first."""
    text = str(version or "")
    if not (text.isascii() and text.isdecimal()):
        return 0, ""
    digits = text.lstrip("0")
    return len(digits), digits


@dataclass(frozen=True, slots=True)
class _Found:
    """An endpoint in a slice, before a port makes it one that can be called. `pod` tells it from others."""

    pod: object
    like: Endpoint
    order: tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class _Part:
    """What one slice gives to a set."""

    pods: tuple[object, ...]
    orders: tuple[_Order, ...]
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class _Slice:
    """One EndpointSlice, trimmed to what is used."""

    name: str
    version: _Version
    family: str  # its addressType
    ports: tuple[tuple[str, int | None], ...]  # those of TCP: gRPC knows no other
    portless: bool  # it declares none, as the slices of a headless service without ports do
    found: tuple[_Found, ...]
    skipped: tuple[str, ...]  # addresses and ports that are none
    parts: dict[int, _Part] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, raw: Json) -> "_Slice":
        meta = raw.get("metadata") or {}
        skipped: list[str] = []
        family = str(raw.get("addressType") or "IPv4")
        found = () if family == "FQDN" else tuple(_found(raw.get("endpoints") or (), skipped, meta))
        declared = raw.get("ports") or ()
        ports = tuple(
            (str(port.get("name") or ""), port.get("port"))
            for port in declared
            if (port.get("protocol") or "TCP") == "TCP" and _is_port(port.get("port"), skipped)
        )
        version = version_order(meta.get("resourceVersion"))
        return cls(str(meta.get("name") or ""), version, family, ports, not declared, found, tuple(skipped))

    def numbers(self, port: int | str) -> list[int]:
        """The port numbers that `port` stands for in this slice. None: it does not have it."""
        if isinstance(port, str):
            return [number for name, number in self.ports if name == port and number is not None]
        given = self.portless or any(number in (port, _ALL_PORTS) for _, number in self.ports)
        return [port] if given else []

    def part(self, number: int) -> _Part:
        """Its endpoints with a port."""
        part = self.parts.get(number)
        if part is None:
            endpoints = tuple(replace(each.like, port=number) for each in self.found)
            orders = tuple((*each.order, number) for each in self.found)
            part = self.parts[number] = _Part(tuple(each.pod for each in self.found), orders, endpoints)
        return part


@dataclass(frozen=True, slots=True)
class Slices:
    """All EndpointSlices of a service at one moment. `service` is "namespace/name", for messages."""

    service: str
    slices: Mapping[str, _Slice] = field(default_factory=dict)

    def replaced(self, items: Iterable[Json]) -> "Slices":
        """What a list request answered: nothing else exists."""
        parsed = (_Slice.of(raw) for raw in items)
        return Slices(self.service, {each.name: each for each in parsed})

    def applied(self, kind: str, raw: Json) -> "Slices":
        """After a watch event of this kind: ADDED, MODIFIED or DELETED. The last one said of a slice counts."""
        slices = dict(self.slices)
        if kind == "DELETED":
            slices.pop(str((raw.get("metadata") or {}).get("name") or ""), None)
        else:
            changed = _Slice.of(raw)
            slices[changed.name] = changed
        return Slices(self.service, slices)

    def __len__(self) -> int:
        return len(self.slices)

    @property
    def skipped(self) -> tuple[str, ...]:
        """What cannot be used whoever asks, to be told once: slices of host names, addresses that are none."""
        fqdn = tuple(f"{each.name} (addressType FQDN)" for each in self._ordered() if each.family == "FQDN")
        return fqdn + tuple(f"{each.name} ({bad})" for each in self._ordered() for bad in each.skipped)

    def endpoints(self, port: int | str | None, family: str | None = None) -> EndpointSet:
        """The endpoints of one port, joined; of one family.

        A service that has no endpoint gives an empty set. Raises ResolutionError, which tells what there is instead, if there
        is no such port, no slice of this family, or nothing but slices of host names.

        Args:
            port: a number is the endpoint's, text a port's name; None: the only one there is.
            family: "ipv4" or "ipv6"; None: IPv4 if any of its endpoints can be used, else IPv6.
        """
        slices = self._of_family(family)
        wanted = _only_port(self.service, slices) if port is None else port
        if wanted is None:
            return EndpointSet()
        # One with neither ports nor endpoints is what an emptied service keeps. It says nothing about ports.
        given = [(each, each.numbers(wanted)) for each in slices if each.found or not each.portless]
        if given and not any(numbers for _, numbers in given):
            raise ResolutionError(f"port {_quoted(wanted)} of {self.service}: no such port; {_there_are(slices)}")
        joined = _joined((each, number) for each, numbers in given for number in numbers)
        return EndpointSet(joined if family else _one_family(joined))

    def ready(self) -> frozenset[tuple[str, str]]:
        """Who is ready, whatever the port: (name, address), the name empty where there is none."""
        parts = ((each, 1) for each in self._ordered() if each.family != "FQDN")
        return frozenset((each.name or "", each.address) for each in _joined(parts) if each.ready)

    def _ordered(self) -> list[_Slice]:
        """The newest first: it wins. The name decides between equals, so that the order of events does not."""
        by_name = sorted(self.slices.values(), key=lambda each: each.name)
        return sorted(by_name, key=lambda each: each.version, reverse=True)

    def _of_family(self, family: str | None) -> list[_Slice]:
        ordered = self._ordered()
        slices = [each for each in ordered if each.family != "FQDN"]
        if ordered and not slices:
            names = ", ".join(sorted(f'"{each.name}"' for each in ordered))
            raise ResolutionError(
                f"EndpointSlice {names} of {self.service} has addressType FQDN, host names, which are not resolved here: "
                "use dns+poll:///HOST:PORT"
            )
        if family is None:
            return slices
        chosen = [each for each in slices if each.family == _FAMILIES[family]]
        if slices and not chosen:
            others = ", ".join(sorted({each.family for each in slices}))
            raise ResolutionError(f"{self.service} has no {_FAMILIES[family]} EndpointSlice, only {others}")
        return chosen


def _triggered(meta: Json) -> float | None:
    """When the controller last saw a reason to change the slice; seconds since the epoch."""
    return _moment((meta.get("annotations") or {}).get(_TRIGGER))


def _moment(written: object) -> float | None:
    try:
        return datetime.fromisoformat(str(written)).timestamp()
    except (TypeError, ValueError):
        return None


def _found(endpoints: Iterable[Json], skipped: list[str], meta: Json) -> Iterator[_Found]:
    triggered = _triggered(meta)
    since = triggered if triggered is not None else _moment(meta.get("creationTimestamp"))
    for raw in endpoints:
        conditions = raw.get("conditions") or {}
        ready = conditions.get("ready") is not False  # null: ready
        serving = conditions.get("serving")
        terminating = bool(conditions.get("terminating"))
        reference = raw.get("targetRef") or {}
        hints = (raw.get("hints") or {}).get("forZones") or ()
        called = None
        if reference.get("name"):
            kind, namespace = str(reference.get("kind") or "").lower(), reference.get("namespace") or ""
            called = f"{kind}/{namespace}/{reference['name']}"
        for address in raw.get("addresses") or ():
            try:
                like = Endpoint(
                    address=address,
                    port=1,  # until a port is asked for
                    ready=ready and not terminating,  # publishNotReadyAddresses says ready of those, too
                    serving=ready if serving is None else bool(serving),
                    terminating=terminating,
                    zone=raw.get("zone") or None,
                    hints=frozenset(str(each["name"]) for each in hints if each.get("name")),
                    node=raw.get("nodeName") or None,
                    name=called,
                    since=since,
                    triggered=triggered,
                )
            except ValueError:
                skipped.append(f"address {address}")
            else:
                packed = ipaddress.ip_address(address).packed
                yield _Found(reference.get("uid") or called or address, like, (len(packed), packed))


def _is_port(number: object, skipped: list[str]) -> bool:
    if number is None or (isinstance(number, int) and 1 <= number <= 65535):
        return True
    skipped.append(f"port {number}")
    return False


def _joined(parts: Iterable[tuple[_Slice, int]]) -> tuple[Endpoint, ...]:
    """Each pod from the newest slice that has it (one may be in several, in each family and port); each address once."""
    owners: dict[tuple[object, str], str] = {}
    best: dict[_Order, Endpoint] = {}
    for each, number in parts:
        part, name, family = each.part(number), each.name, each.family
        for pod, order, endpoint in zip(part.pods, part.orders, part.endpoints, strict=True):
            if owners.setdefault((pod, family), name) != name:
                continue
            other = best.setdefault(order, endpoint)
            if other is not endpoint and (endpoint.ready, endpoint.serving) > (other.ready, other.serving):
                best[order] = endpoint
    return tuple(best[order] for order in sorted(best))


def _one_family(endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """IPv4 if any can be used, else IPv6. Both at once would be each pod twice."""
    fours = [each for each in endpoints if not each.ipv6]
    if not fours or len(fours) == len(endpoints):
        return endpoints
    sixes = [each for each in endpoints if each.ipv6]
    return tuple(max(fours, sixes, key=_usable))  # of equals the first


def _usable(endpoints: Iterable[Endpoint]) -> int:
    """2: some are ready. 1: some serve while they terminate. 0: none can be used."""
    return max(2 if each.ready else int(each.serving and each.terminating) for each in endpoints)


def _only_port(service: str, slices: list[_Slice]) -> int | str | None:
    """The port where none was asked for. None: there is neither a port nor an endpoint."""
    names = {name for each in slices for name, _ in each.ports}
    if len(names) > 1:
        raise ResolutionError(f"{service} has several ports and the target names none; {_there_are(slices)}")
    for name in names:
        if any(number is not None for each in slices for _, number in each.ports):
            return name
    if any(each.found for each in slices):
        raise ResolutionError(f"{service} does not say which port it has: the target must give a number")
    return None


def _there_are(slices: list[_Slice]) -> str:
    numbers: dict[str, set[int]] = {}
    for each in slices:
        for name, number in each.ports:
            numbers.setdefault(name, set()).update(() if number is None else (number,))
    if not numbers:
        return "there are none (of TCP)"
    listed = {name: ", ".join(map(str, sorted(found))) or "any number" for name, found in numbers.items()}
    return "there are: " + ", ".join(f"{name} ({each})" if name else each for name, each in sorted(listed.items()))


def _quoted(port: int | str) -> str:
    return f'"{port}"' if isinstance(port, str) else str(port)
