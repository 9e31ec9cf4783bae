"""`drain exec -- COMMAND`: run a program with the environment that lossless GOAWAY needs, for programs that import grpc
first.

Standard library only, and this process becomes the program: same pid, same signals, nothing left in between.
"""

import os
import signal
import sys
from collections.abc import Sequence

from drain import _guard

USAGE = """usage: drain exec [--] COMMAND [ARGUMENT ...]

Sets GRPC_EXPERIMENTS so that drain's lossless GOAWAY works on every grpcio, whichever module imports grpc first,
and becomes COMMAND."""
MISUSED, NOT_EXECUTABLE, NOT_FOUND = 64, 126, 127  # sysexits.h, and what a shell returns


def main(arguments: Sequence[str]) -> int:
    """Does not return where it succeeds; otherwise the exit code."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    command = list(arguments[1:] if arguments[:1] == ["--"] else arguments)
    if not command or (arguments[0] != "--" and command[0].startswith("-")):
        wrong = f"unknown option {command[0]}" if command else "COMMAND is missing"
        print(f"drain exec: {wrong}\n{USAGE}", file=sys.stderr)
        return MISUSED
    os.environ[_guard.VARIABLE] = _guard.with_cure(os.environ.get(_guard.VARIABLE))
    _restore_signals()
    try:
        os.execvp(command[0], command)  # noqa: S606 - that is the point
    except (FileNotFoundError, NotADirectoryError) as error:
        return _failed(command[0], error, NOT_FOUND)
    except (OSError, ValueError) as error:
        return _failed(command[0], error, NOT_EXECUTABLE)


def _restore_signals() -> None:
    # Python ignores these two at start, and what is ignored stays ignored through exec: `yes | head` would never end.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)


def _failed(command: str, error: Exception, code: int) -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    print(f"drain exec: {command}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
    return code
