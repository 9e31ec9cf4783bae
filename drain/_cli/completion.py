"""`drain completion`: what a shell must read to complete commands, options and their choices. click's own."""

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command("completion", short_help="Print what makes a shell complete drain's commands and options.")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the script for a shell.

    \b
    eval "$(drain completion bash)"      in ~/.bashrc
    eval "$(drain completion zsh)"       in ~/.zshrc
    drain completion fish | source       in ~/.config/fish/config.fish

    Exit code 0; 2: that shell is not known.
    """  # noqa: D301 - \b is click's
    from drain._cli.root import drain  # noqa: PLC0415 - it imports its commands by name

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(drain, {}, "drain", "_DRAIN_COMPLETE").source())
