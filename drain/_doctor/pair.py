"""Keepalive settings of a server and of a client, in whatever language they are written.

A file may be YAML, JSON, an .env file, or lines of a program: `Time: 10 * time.Second,`, `("grpc.keepalive_time_ms", 10000)`,
`.keepAliveTime(30, TimeUnit.SECONDS)`. What other languages leave out is grpc's own default, the same in all of them (grpc's
doc/keepalive.md); drain's own names bring drain's defaults.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from drain._doctor.container import Container
from drain._doctor.fields import Path, mappings, text
from drain._doctor.model import Surroundings, Thing
from drain._doctor.reading import Document, Map, documents
from drain._settings import INT_MAX, Settings, seconds_from
from drain.config import ClientKeepalive, ServerKeepalive
from drain.errors import ConfigurationError

# By a name's letters and digits alone, without "grpc" and "http2" before it: the field, by side. One that ends in "ms" is in
# milliseconds. Go: keepalive.ClientParameters, ServerParameters, EnforcementPolicy; Java: NettyChannelBuilder,
# NettyServerBuilder; .NET: SocketsHttpHandler; Envoy: connection_keepalive; C++, Python, Ruby, PHP, Node: channel arguments.
_SHARED = {
    "keepalivetime": "keepalive_time",
    "time": "keepalive_time",
    "keepalivetimeout": "keepalive_timeout",
    "timeout": "keepalive_timeout",
    "keepalivepermitwithoutcalls": "permit_without_calls",
    "permitwithoutcalls": "permit_without_calls",
    "permitwithoutstream": "permit_without_calls",
}
_CLIENT = _SHARED | {
    "keepalivewithoutcalls": "permit_without_calls",
    "keepalivepingdelay": "keepalive_time",
    "keepalivepingtimeout": "keepalive_timeout",
    "keepalivepingpolicy": "permit_without_calls",
    "interval": "keepalive_time",
    "maxpingswithoutdata": "max_pings_without_data",
}
_SERVER = _SHARED | {
    "permitkeepalivewithoutcalls": "permit_without_calls",
    "maxconnectionage": "max_connection_age",
    "maxconnectionagegrace": "max_connection_age_grace",
    "maxconnectionidle": "max_connection_idle",
    "minpingintervalwithoutdata": "min_recv_ping_interval_without_data",
    "minrecvpingintervalwithoutdata": "min_recv_ping_interval_without_data",
    "mintime": "min_recv_ping_interval_without_data",
    "permitkeepalivetime": "min_recv_ping_interval_without_data",
    "maxpingstrikes": "max_ping_strikes",
}
_LINE = re.compile(
    r"""^\W*(?:[\w.]+[.(])?["']?((?:grpc\.)?[A-Za-z_][\w.-]*?)["']?\s*(?:[:=,(]=?)\s*(.+?)[\s,;)}\]]*(?:(?://|\#).*)?$"""
)
_UNIT = re.compile(r"(nano|micro|milli)?(second|minute|hour)", re.IGNORECASE)
_SCALE = {"nano": 1e-9, "micro": 1e-6, "milli": 1e-3, "": 1.0}
_SPAN = {"second": 1.0, "minute": 60.0, "hour": 3600.0}
_NEVER = INT_MAX / 1000  # seconds: what C-core takes for "never"
_FOREVER = re.compile(r"int_?max|maxint|maxvalue|max_value|infinit|^inf$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Side:
    """A server's or a client's settings.

    Attributes:
        thing: what has them.
        keepalive: as drain's own class, which judges.
        paths: of each field that is said, where.
        names: and by which name.
    """

    thing: Thing
    keepalive: Any
    paths: Mapping[str, Path] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    def path(self, name: str, default: Path = ()) -> Path:
        """Where a field is said; else where such fields are."""
        return self.paths.get(name) or next(iter(self.paths.values()), default)[:-1] or default


@dataclass(frozen=True, slots=True)
class Pair:
    """A server and a client that calls it."""

    server: Side
    client: Side


class PairError(Exception):
    """A file that cannot be read as keepalive settings. Its text says what to do."""


def server_side(source: str, written: str) -> Side:
    """A server's settings. Raises PairError."""
    return _side(source, written, ServerKeepalive, _SERVER, {"max_connection_age": None})


def client_side(source: str, written: str) -> Side:
    """A client's. Raises PairError."""
    return _side(source, written, ClientKeepalive, _CLIENT, {"keepalive_time": None, "keepalive_timeout": None})


def _side(
    source: str, written: str, kind: type[Settings], names: Mapping[str, str], others: Mapping[str, None]
) -> Side:
    document = _document(source, written)
    values: dict[str, Any] = {}
    paths: dict[str, Path] = {}
    said: dict[str, str] = {}
    own = {each.name: each.name for each in kind.settings()} | {each.variable: each.name for each in kind.settings()}
    ours = False
    for path, name, value in _leaves(document.body, ()):
        found, milliseconds = _field(name, own, names)
        if found is None:
            continue
        ours = ours or name in own
        try:
            values[found] = _value(found, value, milliseconds)
        except ValueError:
            raise PairError(
                f"{source}: {name}: {str(value)[:60]!r} cannot be read as {'a number' if _counts(found) else 'a duration'}"
            ) from None
        paths[found], said[found] = path, name
    if not values:
        raise PairError(
            f"{source}: no keepalive setting in it. Write them as grpc's channel arguments, or as drain, Go, Java, .NET or Envoy "
            "call them, such as `keepalive_time: 30s`, `grpc.keepalive_time_ms: 30000`, `MinTime: 10s`."
        )
    if kind is ClientKeepalive and not ours and values.get("keepalive_time") is None:
        values = {
            name: value for name, value in values.items() if name in ("keepalive_time", "keepalive_timeout")
        }  # the others never act
    try:
        keepalive = kind(**({} if ours else dict(others)) | values)
    except ConfigurationError as error:
        raise PairError(f"{source}: {error}") from None
    return Side(Thing(document), keepalive, paths, said)


def _document(source: str, written: str) -> Document:
    found, bad = documents(written, source)
    if len(found) == 1 and not bad:
        return found[0]
    body = Map()
    for number, line in enumerate(written.splitlines(), 1):
        if (match := _LINE.match(line)) is not None:
            body[match[1]] = match[2].strip("\"'")
            body.lines[match[1]] = number
    return Document(body, source)


def _leaves(value: Any, path: Path, depth: int = 0) -> Iterator[tuple[Path, str, Any]]:
    """Scalars with their names. A list of [name, value] is one, too: grpc's options in Python, as JSON."""
    if depth > 8:
        return
    if isinstance(value, dict):
        for key, each in value.items():
            if isinstance(each, dict | list):
                yield from _leaves(each, (*path, key), depth + 1)
            else:
                yield (*path, key), key, each
    elif isinstance(value, list):
        if len(value) == 2 and isinstance(value[0], str) and not isinstance(value[1], dict | list):
            yield path, value[0], value[1]
            return
        for index, each in enumerate(value[:200]):
            yield from _leaves(each, (*path, index), depth + 1)


def _field(name: str, own: Mapping[str, str], names: Mapping[str, str]) -> tuple[str | None, bool]:
    """Which field a name is, and whether it is in milliseconds."""
    if name in own:
        return own[name], False
    letters = re.sub(r"[^a-z0-9]", "", name.lower().rpartition(".")[2])
    letters = re.sub(r"^(grpc|http2)+", "", letters)
    if letters in names:
        return names[letters], False
    return (names[letters[:-2]], True) if letters.endswith("ms") and letters[:-2] in names else (None, False)


def _counts(name: str) -> bool:
    return name in ("max_ping_strikes", "max_pings_without_data")


def _value(name: str, value: Any, milliseconds: bool) -> Any:
    """In seconds, as a number, or as a flag. Raises ValueError."""
    said = re.sub(r"(?<=\d)_(?=\d)", "", text({"": value}, "").strip())
    if name == "permit_without_calls":
        return _flag(said)
    if value is None or said.lower() in ("none", "null") or _FOREVER.search(said):
        return None
    return int(said) if _counts(name) else _duration(said, milliseconds)


def _flag(said: str) -> bool:
    if said.lower() in ("true", "1", "yes", "on") or said.endswith("Always"):
        return True
    if said.lower() in ("false", "0", "no", "off", "none", "null", "") or said.endswith("WithActiveRequests"):
        return False
    raise ValueError(said)


def _duration(said: str, milliseconds: bool) -> float | None:
    if re.fullmatch(r"\d+(\.\d+)?", said):
        number = float(said) / (1000 if milliseconds else 1)
        return None if number >= _NEVER else number
    if (clock := re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", said)) is not None:  # a TimeSpan of .NET
        return int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3])
    if (seconds := seconds_from(said)) is not None:
        return seconds
    unit, count = _UNIT.search(said), re.search(r"\d+(?:\.\d+)?", said)
    if unit is None:
        raise ValueError(said)
    return float(count[0] if count else 1) * _SCALE[(unit[1] or "").lower()] * _SPAN[unit[2].lower()]


def pairs(around: Surroundings) -> Iterator[Pair]:
    """Servers and the clients that follow them, both made with drain, of one set of manifests."""
    clients = [container for each in around.workloads for container in each.containers if container.follows]
    for workload in around.workloads:
        names = {each.name for each in workload.services}
        for server in workload.servers if names else ():
            for client in clients:
                if server.drains and any(_service(target) in names for target in client.targets):
                    sides = _from_container(server, ServerKeepalive), _from_container(client, ClientKeepalive)
                    if sides[0] is not None and sides[1] is not None:
                        yield Pair(sides[0], sides[1])


def server_sides(around: Surroundings) -> Iterator[Side]:
    """Servers made with drain, whose clients are not among the manifests."""
    for workload in around.workloads:
        for server in workload.servers:
            if server.drains and (side := _from_container(server, ServerKeepalive)) is not None:
                yield side


def _service(target: str) -> str:
    return re.split(r"[.:]", target.partition(":")[2].lstrip("/").rpartition("/")[2])[0]


def _from_container(container: Container, kind: type[Settings]) -> Side | None:
    try:
        keepalive = kind().overridden_by(container.environ)
    except ConfigurationError:  # another rule's affair
        return None
    fields = {each.variable: each.name for each in kind.settings()}
    paths = {
        fields[name]: (*container.path, "env", index, "value")
        for index, each in mappings(container.body, "env")
        if (name := text(each, "name")) in fields
    }
    names = {each: name for name, each in fields.items()}
    return Side(container.workload.thing, keepalive, paths or {"": (*container.path, "env")}, names)
