"""`drain rotate`: GOAWAY on every connection while serving, or, with --workers, new worker processes one by one."""

import click

from drain._admin.client import Outcome
from drain._cli.asking import (
    ask,
    conclude,
    connections,
    ended_json,
    json_option,
    named,
    paths,
    simply,
    socket_option,
    statuses,
)
from drain._cli.exits import UNREACHABLE, end


@click.command("rotate", short_help="Have clients connect anew, and so spread anew.")
@click.option("--workers", is_flag=True, help="Replace the workers of drain.run_workers() one by one instead.")
@click.option(
    "--timeout",
    type=click.FloatRange(1, 86400),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="With --workers: how long to wait for all of them.",
)
@json_option
@socket_option
def command(given: tuple[str, ...], *, workers: bool, timeout: float, as_json: bool) -> None:
    """Send GOAWAY on every connection, while serving: clients connect anew. Needs lossless GOAWAY.

    Exit code 0: all did; 1: some refused or failed; 69: nobody is there to ask; 77: the run-time directory is not ours.
    """
    if workers:
        _replace(given, timeout, as_json=as_json)
    simply(
        "rotate",
        given,
        lambda end: f"rotated, {connections(end.get('connections', 0))} told to connect anew",
        as_json=as_json,
    )


def _replace(given: tuple[str, ...], timeout: float, *, as_json: bool) -> None:
    told, silent = statuses(paths("rotate", given))
    parents = [call.path for call, line in told if line.get("role") == "parent"]
    if not parents:
        among = f"{len(told)} processes" + (f" ({len(silent)} did not answer)" if silent else "")
        end("rotate", f"no parent of workers among {among}. It is one that calls drain.run_workers().", UNREACHABLE)
    request = {"command": "replace", "reason": "drain rotate --workers"}
    calls, lines = ask("rotate", parents, request, within=timeout, given=True)
    for call, line in lines:
        if line["kind"] == "phase" and not as_json:
            click.echo(f"{named(call)} worker {line.get('server')}: {line.get('state')}")
    for call in calls:
        if as_json:
            click.echo(ended_json(call))
        elif call.outcome is Outcome.DONE:
            click.echo(f"{named(call)} workers replaced")
    conclude("rotate", calls, given=True)
