"""The preStop hook: `python -m drain.prestop`, or the script `drain-prestop`. Standard library only; no shell is needed.

    lifecycle: {preStop: {exec: {command: [python, -m, drain.prestop]}}}

Begins the drain of every server in this container through its admin socket, tells on stderr how it goes, and returns when all are
drained: 0, or an exit code of sysexits.h (`--help` has them). It never takes longer than `--timeout`, whatever the servers do.
`--standalone` asks no server: it takes the place of `sleep 15` in front of any server.
"""

import gc
import signal
import sys
import time
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the hook; returns its exit code.

    Args:
        arguments: the command line without the program's name; None: this process's own.

    For the main thread of a process of its own: SIGTERM and SIGINT get their default action, which ends it at once; garbage
    collection is switched off.
    """
    began = time.monotonic()
    gc.disable()  # a short life with many imports: collecting would take a tenth of it, and find nothing
    for number in (signal.SIGTERM, signal.SIGINT):  # not a traceback, and not "when the next line of Python runs"
        signal.signal(number, signal.SIG_DFL)
    from drain._prestop.exits import ExitError  # noqa: PLC0415 - after the signals, which may come at any moment
    from drain._prestop.options import parsed  # noqa: PLC0415
    from drain._prestop.stderr import Stderr  # noqa: PLC0415

    stderr = Stderr(quiet=False, began=began)
    try:
        options, warnings = parsed(arguments)
        stderr = Stderr(quiet=options.quiet, began=began)
        for warning in warnings:
            stderr.error(warning)
        if options.standalone:
            from drain._prestop import standalone  # noqa: PLC0415 - each only where it is called for

            return standalone.wait(options, stderr, began)
        from drain._prestop import hook  # noqa: PLC0415

        return hook.drain(options, stderr, began)
    except ExitError as error:
        stderr.error(str(error))
        return error.code


if __name__ == "__main__":
    sys.exit(main())
