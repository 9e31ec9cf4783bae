"""What a handler, or any code with nothing but a call's context, may ask of the server that the call belongs to.

`drain.draining` and `drain.connection_age_left`; _aio_draining.py has the twin. Safe from any thread; no cost but for who asks.
"""

import asyncio
import threading
from typing import Any

from drain._grpc.home import Home, home_of
from drain.errors import DrainError


def draining(context: Any) -> threading.Event:
    """The `draining` event of the server that this call belongs to: set when its drain begins.

    For code without the server at hand: a long handler looks at it, and ends in its own time within `drain_timeout`.

        def Subscribe(request, context):
            draining = drain.draining(context)
            while not draining.wait(1.0):
                yield news()
            yield goodbye()

    Args:
        context: the handler's context, also one that an interceptor has wrapped.

    Raises DrainError outside of a call of a drain server, and on the event loop of an asyncio one, where waiting for it would
    hold up everything: `drain.aio.draining` is for that.
    """
    home = belonging(context, "draining")
    if home.aio_draining is not None and _on_a_loop():
        raise DrainError(
            "drain.draining(context) in a coroutine: its wait() would hold up the loop. Use drain.aio.draining."
        )
    return home.draining


def connection_age_left(context: Any) -> float | None:
    """Seconds until this call's connection reaches `max_connection_age`, and its client is told to go (gRFC A9, grpc/grpc#26703).

    After that the call has `max_connection_age_grace` to finish, which is without limit by default: so this matters to servers
    that set one, and to streams that would rather end by themselves. grpc varies the age by +-10 %; this counts from the least,
    and is up to a second or so too low, never too high, never below 0. None: the connection has no limit, or its beginning is not
    known (a Unix socket, channelz switched off).

    Raises DrainError outside of a call of a drain server, and where the server was made without `connection_ages=True`.
    """
    ages = belonging(context, "connection_age_left").ages
    if ages is None:
        raise DrainError(
            "drain.connection_age_left(context): nobody notes when connections begin. "
            "Pass connection_ages=True to drain.server(...)."
        )
    return ages.left(context.peer())


def belonging(context: Any, name: str) -> Home:
    """Where the call belongs. `name`: of what is asked for. Raises DrainError where that is not known."""
    if (home := home_of(context)) is None:
        raise DrainError(
            f"drain.{name}({type(context).__name__}): this is no call of a server made with drain.server(...) or "
            "drain.aio.server(...), or not on its task or thread. Ask in the handler, with its own context, and pass the answer "
            "on; or use server.draining."
        )
    return home


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
