"""`drain pause`: the servers of this machine say NOT_SERVING and send GOAWAY, and go on serving whoever comes."""

import click

from drain._cli.asking import connections, json_option, simply, socket_option


@click.command("pause", short_help="Say NOT_SERVING and send GOAWAY, until `drain resume`.")
@json_option
@socket_option
def command(given: tuple[str, ...], *, as_json: bool) -> None:
    """Drain without dying: servers say NOT_SERVING and send one GOAWAY on every connection (lossless only), and still accept.

    Exit code 0: all did; 1: some refused or failed; 69: nobody is there to ask; 77: the run-time directory is not ours.
    """
    simply(
        "pause",
        given,
        lambda end: f"paused, {connections(end.get('connections', 0))} told to go elsewhere",
        as_json=as_json,
    )
