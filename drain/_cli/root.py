"""The root of the commands that need click. Importing it without the extra `cli` fails; `drain._cli.main` says so."""

import sys
from collections.abc import Sequence
from importlib import import_module

import click
import rich  # noqa: F401 - here, so that its absence is told before a command runs half way

from drain._demo.about import version

_NAMES = (
    "completion", "demo", "doctor", "drain", "pause", "rehearse", "report", "resolve", "resume", "rotate", "status", "top",
)  # fmt: skip
COMMANDS = {name: f"drain._cli.{name}" for name in _NAMES}
EXEC = "Run a program with the environment that lossless GOAWAY needs."


class Lazy(click.Group):
    """Commands by name; each module is imported when its command is called for."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Their names."""
        return sorted([*COMMANDS, "exec"])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command of that name. `exec` is here only to be listed: `drain._cli.main` runs it without click."""
        if name == "exec":
            return click.Command("exec", help=EXEC)
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[name]).command
        return command


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    version("grpc-drain"), message="drain %(version)s", help="Show what is installed, and what it can do."
)
def drain() -> None:
    """Graceful drain for gRPC servers, which leave without failing one call, and clients that follow them."""


def run(words: Sequence[str]) -> int:
    """Run the command; its exit code."""
    try:
        drain.main(args=list(words), prog_name="drain")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    return 0
