"""The asyncio twin of _draining.py."""

import asyncio
from typing import Any

from drain._draining import belonging
from drain.errors import DrainError


def draining(context: Any) -> asyncio.Event:
    """The `draining` event of the asyncio server that this call belongs to: set when its drain begins.

        async def Subscribe(self, request, context):
            draining = drain.aio.draining(context)
            while not draining.is_set():
                yield await news()

    To be looked at, or awaited. Ask for it in the handler's own task, or one that it has made: elsewhere grpc.aio's contexts say
    nothing of where they belong.

    Args:
        context: the handler's context, also one that an interceptor has wrapped.

    Raises DrainError outside of a call of a drain server, and in a call of a synchronous one.
    """
    home = belonging(context, "aio.draining")
    if home.aio_draining is None:
        raise DrainError("drain.aio.draining(context) in a call of a synchronous server: use drain.draining(context).")
    return home.aio_draining
