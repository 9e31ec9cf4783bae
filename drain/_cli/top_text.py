"""What `drain top` looks like: one frame, of all that is known. Pure, but for rich."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from drain._cli.asking import printable
from drain._cli.gathering import Shown
from drain._cli.status_text import STYLES, seconds

_MOST_ROWS = 8  # of methods, peers, targets
_EVENTS = 10
_NUMBERS = ("left", "calls", "conns", "ready", "of", "ago", "number")
_WARNING = ("failed", "cut", "cancelled", "refused", "stale", "fallback")


def frame(shown: Sequence[Shown], notes: Sequence[str], clock: str, *, events: int = _EVENTS) -> RenderableType:
    """All of it. `clock`: the time of day."""
    servers = [(each, server) for each in shown for server in _dicts(each.line, "servers")]
    parts: list[RenderableType] = [_head(shown, servers, clock), *(Text(printable(note), "red") for note in notes)]
    if not shown:
        parts.append(Text("no server has answered yet", "dim"))
    parts.append(_servers(shown))
    sides = Table.grid(expand=True, padding=(0, 2))
    sides.add_column(ratio=1)
    sides.add_column(ratio=1)
    sides.add_row(_methods(servers), _peers(servers))
    parts += [sides, *_targets(shown), *_events(shown, events)]
    return Group(*parts)


def _head(shown: Sequence[Shown], servers: Sequence[tuple[Shown, Mapping[str, Any]]], clock: str) -> Text:
    states = Counter(printable(server.get("state")) for _, server in servers)
    text = Text.assemble(
        ("drain top", "bold"), f"  {_counted(len(shown), 'process', 'es')}, {_counted(len(servers), 'server')}"
    )
    for state, count in states.items():
        text.append(f"  {count} ", "dim").append(state, STYLES.get(state, ""))
    return text.append(f"  {clock}", "dim")


def _counted(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{plural * (number != 1)}"


def _servers(shown: Sequence[Shown]) -> Table:
    table = _table("process", "server", "state", "left", "calls", "conns", "goaway", "endpoint", wide="endpoint")
    for each in shown:
        name = Text(printable(each.name), "dim" if each.gone else "")
        found = _dicts(each.line, "servers")
        for server in found:
            state = printable(server.get("state"))
            since = seconds(server.get("since"))
            cells: list[RenderableType] = [
                name,
                printable(", ".join(map(str, server.get("addresses") or ()))),
                Text.assemble(
                    (state, STYLES.get(state, "")),
                    (f" {since}", "dim"),
                    (" held", "yellow") if server.get("held") else "",
                ),
                Text(seconds(server.get("time_left")), "yellow"),
                str(server.get("in_flight", "")),
                str(len(server.get("peers") or ())),
                printable(server.get("goaway", "")),
                printable(server.get("endpoint", "")),
            ]
            table.add_row(*cells, style="dim" if each.gone else None)
        for worker in _dicts(each.line, "workers"):
            state = printable(worker.get("state"))
            words = f"worker {printable(worker.get('number'))}, pid {printable(worker.get('pid'))}"
            table.add_row(
                name, Text(words, "dim"), Text(state, STYLES.get(state, "")), seconds(worker.get("time_left"))
            )
        if each.error or (each.gone and not found):
            table.add_row(name, Text(printable(each.error or "ended"), "red" if each.error else "dim"))
    return table


def _methods(servers: Sequence[tuple[Shown, Mapping[str, Any]]]) -> RenderableType:
    counted: Counter[str] = Counter()
    for _, server in servers:
        counted.update({str(k): int(v) for k, v in (server.get("in_flight_by_method") or {}).items()})
    return _counts("in flight by method", counted)


def _peers(servers: Sequence[tuple[Shown, Mapping[str, Any]]]) -> RenderableType:
    """By host: a peer has a port of its own for each connection."""
    return _counts(
        "connections by peer", Counter(_host(str(peer)) for _, server in servers for peer in server.get("peers") or ())
    )


def _host(peer: str) -> str:
    """Of grpc's "ipv4:10.0.0.1:50051" or "ipv6:%5B::1%5D:50051"."""
    scheme, _, rest = peer.replace("%5B", "[").replace("%5D", "]").partition(":")
    return rest.rpartition(":")[0].strip("[]") if scheme in ("ipv4", "ipv6") else peer


def _counts(title: str, counted: Counter[str]) -> RenderableType:
    table = _table(title, "number", wide=title)
    table.columns[1].header = ""
    for name, count in counted.most_common(_MOST_ROWS):
        table.add_row(printable(name), str(count))
    if (more := len(counted) - _MOST_ROWS) > 0:
        table.add_row(
            Text(f"and {more} more", "dim"), str(sum(count for _, count in counted.most_common()[_MOST_ROWS:]))
        )
    if not counted:
        table.add_row(Text("none", "dim"))
    return table


def _targets(shown: Sequence[Shown]) -> Iterator[RenderableType]:
    rows = [(each, target) for each in shown for target in _dicts(each.line, "targets")]
    if not rows:
        return
    table = _table("process", "target", "ready", "of", "last news", "what is wrong", wide="what is wrong")
    for each, target in rows[:_MOST_ROWS]:
        failure = printable(target.get("failure") or "")
        ready = target.get("ready")
        table.add_row(
            printable(each.name),
            printable(target.get("target")),
            Text("-" if ready is None else str(ready), "" if ready else "red"),
            "-" if target.get("endpoints") is None else str(target["endpoints"]),
            seconds(target.get("age")),
            Text(("stale: " if target.get("stale") else "") + failure, "red"),
        )
    yield table


def _events(shown: Sequence[Shown], most: int) -> Iterator[RenderableType]:
    """The last ones of all, the latest first."""
    rows = [(float(event.get("age") or 0.0), each, event) for each in shown for event in _dicts(each.line, "events")]
    rows = sorted(rows, key=lambda row: row[0])[:most]
    if not rows:
        return
    table = _table("ago", "process", "event", "details", wide="details")
    for age, each, event in rows:
        name = printable(event.get("event")).removeprefix("drain.").replace("_", " ")
        style = "red" if any(word in name for word in _WARNING) else ""
        table.add_row(seconds(age), printable(each.name), Text(name, style), Text(printable(event.get("text")), "dim"))
    yield table


def _table(*names: str, wide: str = "") -> Table:
    """Columns by their names; `wide` takes what is left of the line, and is cut there. Numbers stand at the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=bool(wide))
    for name in names:
        right = name in _NUMBERS
        if name == wide:
            table.add_column(name, header_style="bold dim", ratio=1, no_wrap=True, overflow="ellipsis")
        else:
            table.add_column(name, header_style="bold dim", no_wrap=True, justify="right" if right else "left")
    return table


def _dicts(line: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """A list of objects of a stranger's; what is none is left out."""
    found = line.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
