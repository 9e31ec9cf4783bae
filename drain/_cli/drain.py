"""`drain drain`: the servers of this machine leave; what they go through is printed as it happens, then what it cost."""

import sys
from dataclasses import fields
from typing import Any

import click

from drain._cli.asking import (
    ask,
    conclude,
    ended_json,
    json_option,
    named,
    paths,
    printable,
    socket_option,
    without_led,
)
from drain._cli.exits import INTERRUPTED
from drain.report import DrainReport, RotationReport


@click.command("drain", short_help="Leave without losing a call.")
@click.option(
    "--until",
    type=click.Choice(["drained", "closing"]),
    default="drained",
    show_default=True,
    help="How far to wait: until all is over, or until no new connection is accepted.",
)
@click.option("--reason", default="drain drain", show_default=True, metavar="TEXT", help="For the log and the report.")
@click.option("--no-hold", is_flag=True, help="Let the process end when it has drained, without waiting for SIGTERM.")
@click.option(
    "--timeout",
    type=click.FloatRange(1, 86400),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait; the drain itself goes on.",
)
@json_option
@socket_option
def command(given: tuple[str, ...], *, until: str, reason: str, no_hold: bool, timeout: float, as_json: bool) -> None:
    """Have servers leave: announcing, closing, finishing. When drained their process waits for SIGTERM, unless --no-hold.

    Exit code 0: all did; 1: some refused, failed, or were not done in time; 69: nobody is there to ask; 77: the run-time
    directory is not ours. Ctrl-C ends the waiting, not the drain (130).
    """
    found = paths("drain", given)
    found = found if given else without_led(found)
    request = {"command": "drain", "until": until, "reason": reason, "hold": not no_hold}
    calls, lines = ask("drain", found, request, within=timeout, given=bool(given))
    reports: dict[str, list[object]] = {}
    try:
        parents = set[str]()
        for call, line in lines:
            if as_json:
                if line["kind"] == "report":
                    reports.setdefault(call.path, []).append(line.get("report"))
                continue
            if "pid" in line:  # whose: only a parent speaks for other processes
                parents.add(call.path)
            who = "worker" if call.path in parents else "server"
            click.echo(f"{named(call)} {who} {printed(line)}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    for call in calls if as_json else ():
        click.echo(ended_json(call, reports=reports.get(call.path, [])))
    conclude("drain", calls, given=bool(given))


def printed(line: dict[str, Any]) -> str:
    """A line of the answer, for people."""
    if line["kind"] == "report" and isinstance(line.get("report"), dict):
        return f"{line.get('server')}: {report_text(line['report'])}"
    left = line.get("time_left")
    bound = f", at most {left:.1f} s left" if isinstance(left, (int, float)) else ""
    return f"{line.get('server')}: {printable(line.get('state', line['kind']))}{bound}"


def report_text(raw: dict[str, Any]) -> str:
    """A report as its own process would write it. Fields of another version are passed over."""
    known = {field.name for field in fields(DrainReport)}
    rotation = {field.name for field in fields(RotationReport)}
    try:
        rounds = tuple(
            RotationReport(**{name: value for name, value in each.items() if name in rotation})
            for each in raw.get("rotations") or ()
        )
        given = {name: value for name, value in raw.items() if name in known}
        text = DrainReport(**{**given, "rotations": rounds}).text()
    except (TypeError, ValueError, AttributeError):  # one that we do not know
        return printable(raw)
    return "\n".join(map(printable, text.splitlines()))
