"""`drain resume`: the end of a pause."""

import click

from drain._cli.asking import json_option, simply, socket_option


@click.command("resume", short_help="The end of `drain pause`.")
@json_option
@socket_option
def command(given: tuple[str, ...], *, as_json: bool) -> None:
    """Servers say what they said before `drain pause`.

    Exit code 0: all did; 1: some refused or failed; 69: nobody is there to ask; 77: the run-time directory is not ours.
    """
    simply("resume", given, lambda _: "serving", as_json=as_json)
