"""`drain status`: how the servers of this machine stand: states and phases, calls in flight, connections, endpoints.

For a person who waits for a rollout, and with --json for scripts. Nothing is asked of the servers but to look.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live

from drain._admin.client import Call, Outcome, talk
from drain._cli.asking import (
    STATUS_BOUND,
    ask,
    conclude,
    interval_option,
    json_option,
    named,
    paths,
    socket_option,
    there,
)
from drain._cli.exits import DONE, INTERRUPTED
from drain._cli.status_text import one_line, picture

_AFRESH = 3.0  # seconds after which a watch looks whether other processes have come


@click.command("status", short_help="Show how servers stand: state, calls, connections, endpoints.")
@click.option("--watch", is_flag=True, help="Go on, until Ctrl-C or until all have stopped.")
@json_option
@click.option("--verbose", "-v", is_flag=True, help="Show the peers of all connections, and whole reports.")
@interval_option("With --watch: at each change of state, and this often.")
@socket_option
def command(given: tuple[str, ...], *, watch: bool, as_json: bool, verbose: bool, interval: float) -> None:
    """Show how the servers of this machine stand: those whose admin sockets are in the run-time directory.

    Exit code 0: all answered; 1: some did not; 69: nobody is there to ask; 77: the run-time directory is not ours.
    """
    try:
        if watch:
            _watch(given, interval, as_json=as_json, verbose=verbose)
        _show(given, as_json=as_json, verbose=verbose)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _show(given: Sequence[str], *, as_json: bool, verbose: bool) -> None:
    calls, lines = ask("status", paths("status", given), {"command": "status"}, within=STATUS_BOUND, given=True)
    told = sorted(lines, key=lambda each: (each[1].get("role") != "parent", each[1].get("worker", 0), each[0].path))
    console = Console()
    for call, line in told:
        if as_json:
            click.echo(_json(call, line))
        elif console.is_terminal:
            console.print(picture(line, call.path, verbose=verbose))
        else:
            click.echo(_plain(picture(line, call.path, verbose=verbose)))
    # Whose process has just ended, or has long ended and left its file, is passed over: `given` says who was meant.
    conclude("status", calls, given=bool(given))


def _watch(given: Sequence[str], interval: float, *, as_json: bool, verbose: bool) -> None:
    console = Console()
    request = {"command": "watch", "interval": interval}
    if as_json or not console.is_terminal:
        shown: dict[str, tuple[object, float]] = {}
        for call, line in _lines(given, request):
            summary, now = one_line(line), time.monotonic()
            state, since = shown.get(call.path, (None, 0.0))
            if states(line) == state and now - since < 0.9 * interval:  # said already: it was asked afresh
                continue
            shown[call.path] = (states(line), now)
            click.echo(_json(call, line) if as_json else f"{time.strftime('%H:%M:%S')} {named(call, line)} {summary}")
            sys.stdout.flush()
        return
    seen: dict[str, Any] = {}
    with Live(console=console, auto_refresh=False) as live:
        for call, line in _lines(given, request):
            seen[call.path] = picture(line, call.path, verbose=verbose)
            live.update(Group(*seen.values()), refresh=True)


def _lines(given: Sequence[str], request: dict[str, object]) -> Iterator[tuple[Call, dict[str, Any]]]:
    """What all of them tell, until all have stopped. Exits."""
    found, hung = paths("status", given), set[str]()
    while True:
        calls = [Call(path, request, anywhere=True) for path in found]
        yield from talk(calls, time.monotonic() + _AFRESH)
        for call in calls:
            if call.outcome is Outcome.GONE and call.answered:
                call.outcome = Outcome.DONE  # the process ended as it was watched: that is how a watch ends
            elif call.outcome is Outcome.LATE and not call.answered and call.path not in hung:
                hung.add(call.path)
                click.echo(f"drain status: {named(call)} does not answer: {call.path}", err=True)
        if all(call.outcome is not Outcome.LATE for call in calls):
            conclude("status", calls, given=bool(given))
        if not (found := list(given) or there()):
            sys.exit(DONE)


def states(line: dict[str, Any]) -> object:
    """What must differ for a line to be news."""
    return [server.get("state") for server in line.get("servers") or ()], line.get("workers")


def _json(call: Call, line: dict[str, Any]) -> str:
    return json.dumps({**{name: value for name, value in line.items() if name != "kind"}, "socket": call.path})


def _plain(shown: RenderableType) -> str:
    """For a file or a pipe: whole lines, and no blanks at their ends."""
    console = Console(width=1000)
    with console.capture() as captured:
        console.print(shown)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
