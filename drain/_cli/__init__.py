"""The `drain` command. Its commands need the extra `cli` (click and rich); `exec` and `--version` need nothing.

One file a command, imported when it is called for: `drain exec` must cost nothing, and one command's needs are no
other's.
"""

import sys
from collections.abc import Sequence

UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["exec"]:
        from drain._cli import exec as exec_  # noqa: PLC0415 - each only where it is called for

        return exec_.main(words[1:])
    if words == ["--version"]:
        from drain._cli import version  # noqa: PLC0415

        print(version.text())
        return 0
    try:
        from drain._cli import root  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        print(f"drain: {error.name} is not installed: pip install 'grpc-drain[cli]'", file=sys.stderr)
        return UNAVAILABLE
    return root.run(words)
