"""Timeouts by method, as a service config has them, kept in Python: grpc's own are too short by 1 to 2 s.

C-core adds a service config's timeout (and xDS's max_stream_duration, which becomes one) to a call's start, which it takes
from the cycle counter, and compares the sum with a clock that runs 1 s and the fraction of the process's first second ahead
(client_channel_filter.cc, ResetDeadline; time.cc, InitTime and FromCycleCounterRoundUp). So "0.5s" fails at once, and "2.5s" ends
after 0.5 - 1.5 s; measured on 1.76.0 and 1.85.1, guarded by tests/integration/test_client_policy.py. A timeout that the caller
gives goes another way and is exact: these interceptors give it for him.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import grpc.aio


class _Bound:
    """Immutable, so safe to share between channels and threads."""

    def __init__(self, timeouts: Mapping[str, float | None]) -> None:
        self._timeouts = timeouts

    def _bounded(self, details: Any) -> Any:
        method = details.method.decode() if isinstance(details.method, bytes) else details.method
        # The most particular counts, even if it has no timeout.
        for path in (method, method[: method.rfind("/") + 1], ""):
            if path in self._timeouts:
                timeout = self._timeouts[path]
                if timeout is not None and (details.timeout is None or details.timeout > timeout):
                    return details._replace(timeout=timeout)
                break
        return details


class _Sync(
    _Bound,
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(self._bounded(client_call_details), request)

    intercept_unary_stream = intercept_unary_unary
    intercept_stream_unary = intercept_unary_unary
    intercept_stream_stream = intercept_unary_unary


# grpc.aio takes an interceptor for one kind of method only.
class _UnaryUnary(_Bound, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self._bounded(client_call_details), request)


class _UnaryStream(_Bound, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self._bounded(client_call_details), request)


class _StreamUnary(_Bound, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(self._bounded(client_call_details), request_iterator)


class _StreamStream(_Bound, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(self._bounded(client_call_details), request_iterator)


def with_timeouts(channel: grpc.Channel, timeouts: Mapping[str, float | None]) -> grpc.Channel:
    """The channel, whose calls end after the timeout of their method, or their own if that is shorter.

    `timeouts`: seconds by path, "/pkg.Service/Method", "/pkg.Service/" or ""; None: no timeout. Empty: the channel itself.
    """
    return grpc.intercept_channel(channel, _Sync(timeouts)) if timeouts else channel


def async_timeouts(timeouts: Mapping[str, float | None]) -> Sequence[grpc.aio.ClientInterceptor]:
    """The same as interceptors for grpc.aio, which a channel takes when it is made."""
    return [kind(timeouts) for kind in (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream)] if timeouts else []
