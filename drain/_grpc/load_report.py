"""Load reports (ORCA, gRFC A51): each call's trailing metadata says how busy the server is, for clients' weighted_round_robin.

Computed when a call ends and the last report is old, so no thread is needed; between two computations it costs each call a lock,
an addition and a metadatum. The handler's own trailing metadata stays: ours is added to it.
"""

import functools
import inspect
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc

from drain._xds.xds_pb2 import OrcaLoadReport

KEY = "endpoint-load-metrics-bin"
INTERVAL = 0.5  # seconds that one report covers, at least
_OK = (None, 0, grpc.StatusCode.OK)
_CGROUP = Path("/sys/fs/cgroup")


def cores(cgroup: Path = _CGROUP) -> float:
    """How many cores this process may use: by its affinity and, where that is less, by its container's limit."""
    allowed = float(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else float(os.cpu_count() or 1)
    for quota, period in (_words(cgroup / "cpu.max"), _words(cgroup / "cpu/cpu.cfs_quota_us", "cpu.cfs_period_us")):
        if quota.isdecimal() and period.isdecimal() and int(quota) and int(period):  # "max" and -1: no limit
            allowed = min(allowed, int(quota) / int(period))
    return allowed


def _words(path: Path, beside: str | None = None) -> tuple[str, str]:
    try:
        words = path.read_text().split() + (path.with_name(beside).read_text().split() if beside is not None else [])
    except OSError:  # no such cgroup, or not readable
        return "", ""
    return (words[0], words[1]) if len(words) == 2 else ("", "")


class LoadMeter:
    """Counts one server's calls, and makes its reports. Thread safe.

    `clock` and `cpu` give seconds: time that passes, and that this process has computed. None: no report yet, before the first
    `INTERVAL` is over; clients take the server for an average one so long.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
        width: float | None = None,
    ) -> None:
        self._clock, self._cpu = clock, cpu
        self._width = width if width is not None else cores()
        self._lock = threading.Lock()
        self._since, self._cpu_then = clock(), cpu()
        self._calls = self._errors = 0
        self._report: bytes | None = None

    @property
    def report(self) -> bytes | None:
        """The last one."""
        return self._report

    def ended(self, *, failed: bool) -> bytes | None:
        """A call is about to end; what to tell its client."""
        with self._lock:
            self._calls += 1
            self._errors += failed
            now = self._clock()
            passed = now - self._since
            if passed >= INTERVAL:
                used, self._cpu_then = self._cpu_then, self._cpu()
                self._report = OrcaLoadReport(
                    cpu_utilization=(self._cpu_then - used) / passed / self._width,
                    rps_fractional=self._calls / passed,
                    eps=self._errors / passed,
                ).SerializeToString()
                self._since, self._calls, self._errors = now, 0, 0
            return self._report


def _tell(context: Any, report: bytes | None) -> None:
    """Add the report to the call's trailing metadata, in the place of an older one."""
    if report is not None:
        others = [pair for pair in context.trailing_metadata() or () if pair[0] != KEY]
        context.set_trailing_metadata((*others, (KEY, report)))


class _Remembering:
    """The context that grpc.aio gives to a synchronous handler, on its migration thread pool: it can be told, but not asked."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._metadata: Any = ()
        self._code: Any = None

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        self._metadata = trailing_metadata
        self._context.set_trailing_metadata(trailing_metadata)

    def trailing_metadata(self) -> Any:
        return self._metadata

    def set_code(self, code: Any) -> None:
        self._code = code
        self._context.set_code(code)

    def code(self) -> Any:
        return self._code

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


class _Reporting:
    """A call's end is counted and told, whether the handler returns, raises or aborts. A cancelled call is no failure."""

    def __init__(self, meter: LoadMeter, context: Any) -> None:
        self._meter, self._context = meter, context

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        failed = isinstance(error, Exception) or (error is None and self._context.code() not in _OK)
        _tell(self._context, self._meter.ended(failed=failed))


class LoadReport:
    """Wraps behaviours so that their calls report. One per server; `flavour` is "sync" or "aio"."""

    def __init__(self, flavour: str, meter: LoadMeter | None = None) -> None:
        self._meter = meter if meter is not None else LoadMeter()
        self._wrap = self._async if flavour == "aio" else self._sync

    def __call__(self, behavior: Callable[..., Any], attribute: str) -> Callable[..., Any]:
        """The behaviour's reporting twin, of the same kind. `attribute` is "unary_unary" and so on."""
        return self._wrap(behavior, attribute.endswith("stream"))

    def _sync(self, behavior: Callable[..., Any], streams: bool) -> Callable[..., Any]:
        meter = self._meter

        @functools.wraps(behavior)
        def returned(argument: Any, context: Any) -> Any:
            with _Reporting(meter, context):
                return behavior(argument, context)

        @functools.wraps(behavior)
        def streamed(argument: Any, context: Any, *rest: Any) -> Any:
            if rest:  # experimental_non_blocking: it answers through a callback, and nobody knows when it ends
                return behavior(argument, context, *rest)
            return _reported(behavior, argument, context, meter)

        return streamed if streams else returned

    def _async(self, behavior: Callable[..., Any], streams: bool) -> Callable[..., Any]:
        meter = self._meter
        if inspect.isasyncgenfunction(behavior):

            @functools.wraps(behavior)
            async def generated(argument: Any, context: Any) -> Any:
                _tell(context, meter.report)  # context.abort() of grpc.aio sends at once what is there by then
                responses = behavior(argument, context)
                try:
                    with _Reporting(meter, context):
                        async for response in responses:
                            yield response
                finally:
                    await responses.aclose()

            return generated
        if inspect.iscoroutinefunction(behavior):

            @functools.wraps(behavior)
            async def awaited(argument: Any, context: Any) -> Any:
                _tell(context, meter.report)
                with _Reporting(meter, context):
                    return await behavior(argument, context)

            return awaited
        # Synchronous handlers, on the migration thread pool. Aborting goes through grpc.aio there, too.

        @functools.wraps(behavior)
        def yielded(argument: Any, context: Any) -> Any:
            context = _Remembering(context)
            _tell(context, meter.report)
            yield from _reported(behavior, argument, context, meter)

        @functools.wraps(behavior)
        def returned(argument: Any, context: Any) -> Any:
            context = _Remembering(context)
            _tell(context, meter.report)
            with _Reporting(meter, context):
                return behavior(argument, context)

        return yielded if streams else returned


def _reported(behavior: Callable[..., Any], argument: Any, context: Any, meter: LoadMeter) -> Iterator[Any]:
    with _Reporting(meter, context):
        yield from behavior(argument, context)
