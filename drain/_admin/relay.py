"""What all servers around here tell, as lines on stdout: `drain top` runs this in containers, whose images may lack the `cli`.

    python -m drain._admin.relay SECONDS

Standard library only. Ends when nobody reads any more, or after an hour.
"""

import json
import sys
import time

from drain._admin.client import Call, sockets, talk
from drain._prestop.directory import directory
from drain._prestop.exits import ExitError

LONGEST = 3600.0  # seconds: whoever asked has long gone
_AFRESH = 3.0  # seconds after which other processes may have come


def main(arguments: list[str]) -> int:
    """The exit code."""
    interval, until = float(arguments[0]) if arguments else 1.0, time.monotonic() + LONGEST
    try:
        where = directory()
        while time.monotonic() < until:
            began = time.monotonic()
            request = {"command": "watch", "interval": interval, "details": True}
            for call, line in talk([Call(path, request) for path in sockets(where)], began + _AFRESH):
                print(json.dumps({**line, "socket": call.path}), flush=True)
            time.sleep(max(0.0, began + interval - time.monotonic()))  # nobody there, or all have stopped
    except ExitError as error:
        print(json.dumps({"kind": "failed", "error": str(error)}), flush=True)
        return error.code
    except BrokenPipeError:
        sys.stderr.close()  # nothing more to say, and nobody to say it to
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
