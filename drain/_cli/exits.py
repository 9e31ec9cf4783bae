"""How commands end: one meaning for each exit code, and one form for what they say of it."""

import sys
from typing import NoReturn

import click

DONE = 0
FOUND = 1  # calls were lost, or would be; some did not do it: what the command is about
MISUSED = 2  # the command line is wrong; click's own
UNDECIDED = 3  # no answer, or not over in time; doctor: calls will be lost
UNREADABLE = 65  # EX_DATAERR of sysexits.h
UNREACHABLE = 69  # EX_UNAVAILABLE: nobody is there to ask
FORBIDDEN = 77  # EX_NOPERM
INTERRUPTED = 130  # 128 + SIGINT


def end(command: str, text: str, code: int) -> NoReturn:
    """Say why on stderr, after the command's name, and exit."""
    click.echo(f"drain {command}: {text}", err=True)
    sys.exit(code)
