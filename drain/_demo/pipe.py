"""How a process of the demo talks to the one that started it: JSON lines out, orders in, and end of input means: die.

The parent holds the other end of stdin and never writes to it but to give an order. However the parent dies, `kill -9`
included, the kernel closes that end, and the child is gone a moment later.
"""

import json
import os
import sys
import threading
from collections.abc import Callable

PARENT_GONE = 70
_writing = threading.Lock()


def emit(event: str, **values: object) -> None:
    """Print one event as a line of JSON. Thread-safe. Never call it from a signal handler: it takes a lock."""
    line = json.dumps({"event": event, **values}, default=str)
    with _writing:
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            os._exit(PARENT_GONE)


def obey(order: Callable[[str], None] = lambda line: None) -> None:
    """Read orders from stdin on a daemon thread, one a line, and end this process at once when stdin ends."""
    threading.Thread(target=_read, args=(order,), name="orders", daemon=True).start()


def _read(order: Callable[[str], None]) -> None:
    rest = b""
    # os.read, because a thread blocked in sys.stdin holds a lock that interpreter exit wants.
    while chunk := os.read(0, 4096):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            order(line.decode())
    os._exit(PARENT_GONE)
