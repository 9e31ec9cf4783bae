"""Which server a call belongs to, for code that has nothing but the call's context.

Each call passes here on its way to its handler (handlers.py), so it must cost next to nothing. grpc.server's contexts take an
attribute (4 ns); those of grpc.aio take none, but each call is a task, or on the migration thread pool a thread, and a context
variable finds it there (50 ns).
"""

import asyncio
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from drain._grpc.ages import Ages

ATTRIBUTE = "_drain_home"
_DEPTH = 4  # wrappers of a context within one another


class Home:
    """What handlers may know of their server. Knows nothing of the server itself, so it keeps none alive."""

    def __init__(self, flavour: str, ages: Ages | None = None) -> None:
        self.draining = threading.Event()
        self.aio_draining = asyncio.Event() if flavour == "aio" else None
        self.ages = ages


CURRENT: ContextVar[Home] = ContextVar("drain-home")


def enter(context: Any, home: Home) -> None:
    """A call begins, on the thread of its handler."""
    try:
        context._drain_home = home
    except AttributeError:  # grpc.aio's own, or an interceptor's with slots
        CURRENT.set(home)


def home_of(context: Any) -> Home | None:
    """Where the call belongs; None for a call of another server's, or none.

    An attribute first: it is right on any thread. Then what wraps it: an interceptor's or a decorator's context. Then the task or
    thread that asks.
    """
    return _marked(context) or CURRENT.get(None)


def _marked(context: Any) -> Home | None:
    for each in layers(context):
        found = getattr(each, ATTRIBUTE, None)  # most wrappers pass on what they do not know
        if isinstance(found, Home):
            return found
    return None


def layers(context: Any, depth: int = _DEPTH) -> Iterator[Any]:
    """The context, and those that it wraps."""
    yield context
    if depth:
        for inner in list(getattr(context, "__dict__", {}).values()):
            if callable(getattr(inner, "invocation_metadata", None)):
                yield from layers(inner, depth - 1)
