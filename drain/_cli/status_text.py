"""A status line of the admin protocol as a person reads it. Values of another version that are not there are left out."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from drain._cli.asking import connections, printable
from drain._cli.drain import report_text

STYLES = {
    "starting": "cyan",
    "serving": "green",
    "paused": "yellow",
    "announcing": "yellow",
    "closing": "yellow",
    "finishing": "yellow",
    "stopped": "dim",
}


def picture(line: Mapping[str, Any], path: str, *, verbose: bool) -> RenderableType:
    """One process: who it is, then each of its servers."""
    head = Text.assemble(
        (f"{printable(line.get('role', 'server'))} {printable(line.get('pid'))}", "bold"),
        ("  " + printable(path), "dim"),
    )
    parts: list[RenderableType] = [head]
    if line.get("role") == "parent":
        parts.append(_workers(line))
    elif "worker" in line:
        head.append(f"  worker {printable(line['worker'])}", "dim")
    servers = [each for each in line.get("servers") or () if isinstance(each, dict)]
    for server in servers:
        parts += [Padding(_headline(server), (0, 0, 0, 2)), Padding(_details(server, verbose=verbose), (0, 0, 0, 4))]
    return Group(*parts)


def one_line(line: Mapping[str, Any]) -> str:
    """One process on one line: for a log."""
    about = [_brief(server) for server in line.get("servers") or () if isinstance(server, dict)]
    about += [
        f"worker {each.get('number')} (pid {each.get('pid')}) {each.get('state')}"
        for each in line.get("workers") or ()
        if isinstance(each, dict)
    ]
    return printable("; ".join(about) or "no server")


def _brief(server: Mapping[str, Any]) -> str:
    left = seconds(server.get("time_left"))
    words = [", ".join(server.get("addresses") or ()), str(server.get("state"))]
    tail = [f"at most {left} left"] if left else []
    tail += [f"{server.get('in_flight', 0)} in flight", connections(len(server.get("peers") or ()))]
    return f"{' '.join(words)}, {', '.join(tail)}"


def _headline(server: Mapping[str, Any]) -> Text:
    state = printable(server.get("state"))
    text = Text(printable(", ".join(server.get("addresses") or ())) + "  ")
    text.append(state, STYLES.get(state, ""))
    if since := seconds(server.get("since")):
        text.append(f" for {since}")
    if left := seconds(server.get("time_left")):
        text.append(f", at most {left} left")
    if server.get("held"):
        text.append(", waits for SIGTERM")
    if server.get("reason"):
        text.append(f"  ({printable(server['reason'])})", "dim")
    return text


def _details(server: Mapping[str, Any], *, verbose: bool) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    peers = [printable(peer) for peer in server.get("peers") or ()]
    table.add_row("in flight", _in_flight(server))
    table.add_row("connections", Text("\n".join([str(len(peers)), *peers] if verbose else [str(len(peers))])))
    goaway = [str(server[name]) for name in ("goaway", "goaway_reason") if server.get(name)]
    table.add_row("goaway", Text(printable(": ".join(goaway))))
    if server.get("rotations"):
        table.add_row("rotations", Text(printable(server["rotations"])))
    if server.get("endpoint"):
        table.add_row("endpoint", Text(printable(server["endpoint"])))
    if isinstance(server.get("report"), dict):
        text = report_text(server["report"])
        table.add_row("report", Text(text if verbose else text.split("\n", 1)[0]))
    return table


def _in_flight(server: Mapping[str, Any]) -> Text:
    by_method = server.get("in_flight_by_method") or {}
    lines = [str(server.get("in_flight", 0))]
    lines += [f"{count} {printable(method)}" for method, count in sorted(by_method.items())]
    return Text("\n".join(lines))


def _workers(line: Mapping[str, Any]) -> Padding:
    table = Table.grid(padding=(0, 2))
    for each in line.get("workers") or ():
        if not isinstance(each, dict):
            continue
        left = seconds(each.get("time_left"))
        state = printable(each.get("state"))
        table.add_row(
            Text(f"worker {printable(each.get('number'))}"),
            Text(f"pid {printable(each.get('pid'))}", "dim"),
            Text(state + (f", at most {left} left" if left else ""), STYLES.get(state, "")),
            Text(f"{printable(each.get('restarts', 0))} restarts", "dim"),
        )
    return Padding(table, (0, 0, 0, 2))


def seconds(value: object) -> str:
    """A duration, short; empty: there is none."""
    if not isinstance(value, (int, float)):
        return ""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if value >= 2 * size:
            return f"{value / size:.0f} {unit}"
    return f"{value:.1f} s"
