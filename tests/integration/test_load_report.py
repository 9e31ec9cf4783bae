"""Load reports: what `load_report=True` adds to every kind of call, and what it leaves alone.

grpc's clients read the report and hide it from the application (call_utils.h, PublishToAppEncoder), so here it is looked at from
both sides of that: by an interceptor of the server, which sees what grpc is told, and by a client that reads plain HTTP/2.

Over 300 lines: every kind of call and of ending, in both flavours.
"""

import asyncio
import contextlib
import functools
import inspect
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from drain._grpc import load_report
from drain._grpc.load_report import INTERVAL, KEY, LoadMeter, LoadReport, cores
from drain._xds.xds_pb2 import OrcaLoadReport
from drain.config import DrainPolicy
from tests.integration._servers.hosted import FAST, Hosted
from tests.integration._servers.http2 import PREFACE, SETTINGS, frame
from tests.integration._servers.waiting import until

BOUND = 10.0
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
MAKERS = {kind: getattr(grpc, f"{kind}_rpc_method_handler") for kind in KINDS}
Serve = Callable[..., Hosted]


# -- the meter -------------------------------------------------------------------------------------------------------


def read(report: bytes | None) -> OrcaLoadReport:
    assert report is not None
    return OrcaLoadReport.FromString(report)


def test_a_report_covers_the_last_interval() -> None:
    now, cpu = [0.0], [0.0]
    meter = LoadMeter(lambda: now[0], lambda: cpu[0], width=2.0)
    assert [meter.ended(failed=False) for _ in range(9)] == [None] * 9, "too early to tell"
    now[0], cpu[0] = 1.0, 0.5
    first = read(meter.ended(failed=True))
    assert (first.cpu_utilization, first.rps_fractional, first.eps) == (0.25, 10.0, 1.0)
    now[0] += INTERVAL / 2
    cpu[0] += 10
    assert read(meter.ended(failed=False)) == first, "not recomputed before the interval is over"
    now[0] += INTERVAL / 2
    again = read(meter.ended(failed=False))
    assert (again.rps_fractional, again.eps) == (2 / INTERVAL, 0)
    assert read(meter.report) == again


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "50000 100000\n"}, 0.5),
        ({"cpu.max": "rubbish"}, None),
        ({"cpu/cpu.cfs_quota_us": "25000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.25),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
    ],
)
def test_cores_are_those_that_the_container_may_use(files: dict[str, str], limit: float | None, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    everything = cores(tmp_path / "nowhere")
    assert everything >= 1
    assert cores(tmp_path) == (limit if limit is not None else everything)


# -- real servers, seen from within ----------------------------------------------------------------------------------


def do(request: bytes, context: Any) -> None:
    if request == b"trailer":
        context.set_trailing_metadata((("mine", "kept"), ("mine-bin", b"\0")))
    if request == b"code":
        context.set_code(grpc.StatusCode.NOT_FOUND)
    if request == b"raise":
        raise ValueError("on purpose")


ABORT = (grpc.StatusCode.NOT_FOUND, "on purpose")


def sync_unary(request: Any, context: Any) -> bytes:
    request = request if isinstance(request, bytes) else next(request)
    do(request, context)
    if request == b"abort":
        context.abort(*ABORT)
    return b"answer"


def sync_stream(request: Any, context: Any) -> Any:
    request = request if isinstance(request, bytes) else next(request)
    if request == b"abort":  # later, grpc.aio would still be sending what such a generator yielded, and fail by itself
        context.abort(*ABORT)
    yield b"one"
    do(request, context)
    yield b"two"


async def aio_unary(request: Any, context: Any) -> bytes:
    request = request if isinstance(request, bytes) else await anext(aiter(request))
    do(request, context)
    if request == b"abort":
        await context.abort(*ABORT)
    return b"answer"


async def aio_stream(request: Any, context: Any) -> Any:
    request = request if isinstance(request, bytes) else await anext(aiter(request))
    yield b"one"
    do(request, context)
    if request == b"abort":
        await context.abort(*ABORT)
    yield b"two"


async def writing_stream(request: Any, context: Any) -> None:
    request = request if isinstance(request, bytes) else await anext(aiter(request))
    await context.write(b"one")
    do(request, context)
    if request == b"abort":
        await context.abort(*ABORT)
    await context.write(b"two")


# How a handler can be written: (its server, for one answer, for many).
WAYS = {
    "sync": ("sync", sync_unary, sync_stream),
    "aio": ("aio", aio_unary, aio_stream),
    "aio-writing": ("aio", aio_unary, writing_stream),
    "aio-sync": ("aio", sync_unary, sync_stream),
}


class Spy:
    """A context that remembers what grpc was told by the time it sent the status."""

    def __init__(self, context: Any, sends_at_abort: bool) -> None:
        self._context, self._sends_at_abort = context, sends_at_abort
        self._told: Any = ()
        self._sent: Any = None

    def set_trailing_metadata(self, metadata: Any) -> None:
        self._told = tuple(metadata)
        self._context.set_trailing_metadata(metadata)

    def trailing_metadata(self) -> Any:
        return self._told

    def abort(self, *arguments: Any) -> Any:
        if self._sends_at_abort:
            self._sent = self._told
        return self._context.abort(*arguments)

    @property
    def sent(self) -> Any:
        return self._told if self._sent is None else self._sent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


class Watcher:
    """What an interceptor of the server saw of each call's trailing metadata."""

    def __init__(self, flavour: str) -> None:
        self.seen: list[Any] = []
        self._flavour = flavour

    def interceptor(self) -> Any:
        watcher = self

        class Sync(grpc.ServerInterceptor):
            def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
                return watcher.spied(continuation(handler_call_details))

        class Async(grpc.aio.ServerInterceptor):
            async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
                return watcher.spied(await continuation(handler_call_details))

        return Sync() if self._flavour == "sync" else Async()

    def spied(self, handler: Any) -> Any:
        ((kind, behavior),) = [(each, getattr(handler, each)) for each in KINDS if getattr(handler, each)]

        def spy(context: Any) -> Spy:
            return Spy(context, self._flavour == "aio")

        if inspect.isasyncgenfunction(behavior):

            async def twin(argument: Any, context: Any) -> Any:
                context = spy(context)
                try:
                    async for each in behavior(argument, context):
                        yield each
                finally:
                    self.seen.append(context.sent)

        elif inspect.iscoroutinefunction(behavior):

            async def twin(argument: Any, context: Any) -> Any:
                context = spy(context)
                try:
                    return await behavior(argument, context)
                finally:
                    self.seen.append(context.sent)

        elif kind.endswith("stream"):

            def twin(argument: Any, context: Any) -> Any:
                context = spy(context)
                try:
                    yield from behavior(argument, context)
                finally:
                    self.seen.append(context.sent)

        else:

            def twin(argument: Any, context: Any) -> Any:
                context = spy(context)
                try:
                    return behavior(argument, context)
                finally:
                    self.seen.append(context.sent)

        return MAKERS[kind](twin)


class Calls:
    """Calls of one server, and what came of them."""

    def __init__(self, hosted: Hosted, watcher: Watcher) -> None:
        self._watcher = watcher
        self._channel = grpc.insecure_channel(f"127.0.0.1:{hosted.port}", [("grpc.use_local_subchannel_pool", 1)])
        self.close = self._channel.close

    def make(self, kind: str, request: bytes = b"") -> tuple[Any, dict[str, Any], dict[str, Any], list[bytes]]:
        """Its code, the trailing metadata that grpc was given and those that the client got, the answers."""
        before = len(self._watcher.seen)
        method = getattr(self._channel, kind)(f"/test.Load/{kind}")
        argument = iter([request]) if kind.startswith("stream") else request
        answers: list[bytes] = []
        call = method(argument, timeout=BOUND) if kind.endswith("stream") else method.future(argument, timeout=BOUND)
        with contextlib.suppress(grpc.RpcError):
            answers += call if kind.endswith("stream") else [call.result()]
        code, got = call.code(), dict(call.trailing_metadata() or ())
        until(lambda: len(self._watcher.seen) > before)
        given = self._watcher.seen[-1]
        assert len({key for key, _ in given}) == len(given), "nothing is there twice"
        return code, dict(given), got, answers

    def until_reported(self, kind: str, request: bytes = b"") -> OrcaLoadReport:
        return read(until(lambda: self.make(kind, request)[1].get(KEY), every=0.02))


@pytest.fixture(params=WAYS)
def calls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    monkeypatch.setattr(load_report, "INTERVAL", 0.05)
    flavour, unary, stream = WAYS[request.param]
    methods = {kind: MAKERS[kind](stream if kind.endswith("stream") else unary) for kind in KINDS}
    handlers = [grpc.method_handlers_generic_handler("test.Load", methods)]
    watcher = Watcher(flavour)
    hosted = Hosted(flavour, handlers=handlers, load_report=True, interceptors=[watcher.interceptor()]).start()
    made = Calls(hosted, watcher)
    yield made
    made.close()
    hosted.close()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_call_reports(kind: str, calls: Calls) -> None:
    report = calls.until_reported(kind)
    assert 0 < report.cpu_utilization < 1.5
    assert report.rps_fractional > 1
    assert report.eps == 0
    code, _, _, answers = calls.make(kind)
    assert code is grpc.StatusCode.OK
    assert answers == ([b"one", b"two"] if kind.endswith("stream") else [b"answer"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_handlers_own_trailing_metadata_stay(kind: str, calls: Calls) -> None:
    calls.until_reported(kind)
    code, given, got, _ = calls.make(kind, b"trailer")
    assert code is grpc.StatusCode.OK
    assert KEY in given
    assert (got["mine"], got["mine-bin"]) == ("kept", b"\0")


@pytest.mark.parametrize("kind", ["unary_unary", "stream_stream"])
@pytest.mark.parametrize("ending", ["raise", "abort", "code"])
def test_failures_report_and_are_counted(ending: str, kind: str, calls: Calls) -> None:
    calls.until_reported(kind)
    code, given, _, _ = calls.make(kind, ending.encode())
    assert code is (grpc.StatusCode.UNKNOWN if ending == "raise" else grpc.StatusCode.NOT_FOUND)
    assert KEY in given
    until(lambda: calls.until_reported(kind, ending.encode()).eps > 0, every=0.02)


def test_a_stream_that_is_ended_for_draining_reports_as_well(flavour: str, serve: Serve) -> None:
    """And the guard's own trailer still comes."""
    policy = DrainPolicy(**{**{each.name: getattr(FAST, each.name) for each in FAST.settings()}, "stream_grace": 0})

    def sync_ticks(request: bytes, context: Any) -> Any:
        while True:
            yield b"tick"
            time.sleep(0.005)

    async def aio_ticks(request: bytes, context: Any) -> Any:
        while True:
            yield b"tick"
            await asyncio.sleep(0.005)

    ticks = grpc.unary_stream_rpc_method_handler(sync_ticks if flavour == "sync" else aio_ticks)
    handlers = [grpc.method_handlers_generic_handler("test.Load", {"ticks": ticks})]
    hosted = serve(handlers=handlers, policy=policy, load_report=True)
    with grpc.insecure_channel(f"127.0.0.1:{hosted.port}") as channel:
        stream = channel.unary_stream("/test.Load/ticks")(b"", timeout=BOUND)
        next(stream)
        report = hosted.drain()
        with pytest.raises(grpc.RpcError) as caught:
            list(stream)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "drain-reason" in dict(stream.trailing_metadata())
    report.result(BOUND)


# -- and from without ------------------------------------------------------------------------------------------------


def literal(name: bytes, value: bytes) -> bytes:
    """A header field that says everything itself (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def headers_of_a_call(port: int, path: bytes) -> bytes:
    """Everything that a server sends in HEADERS frames for one unary call."""
    fields = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": path,
        b":authority": b"test",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
    }
    block = b"".join(literal(name, value) for name, value in fields.items())

    def on_stream(kind: int, flags: int, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", 1) + payload

    with socket.create_connection(("127.0.0.1", port), timeout=BOUND) as peer:
        peer.sendall(PREFACE + frame(SETTINGS) + on_stream(1, 4, block) + on_stream(0, 1, bytes(5)))
        with peer.makefile("rb") as stream:
            found = b""
            while header := stream.read(9):
                payload = stream.read(int.from_bytes(header[:3]))
                if header[3] == 1:
                    found += payload
                    if header[4] & 1:
                        return found
    raise AssertionError("the connection ended before the call did")


@pytest.mark.parametrize("asked", [True, False])
def test_it_is_on_the_wire_if_it_is_asked_for(asked: bool, flavour: str, serve: Serve) -> None:
    path = b"/drain.test.Scenes/Echo"
    hosted = serve(load_report=asked)
    deadline = time.monotonic() + 4 * INTERVAL

    def reported() -> bool:
        return KEY.encode() in headers_of_a_call(hosted.port, path)

    assert b"grpc-status" in headers_of_a_call(hosted.port, path)
    if asked:
        until(reported, every=0.02)
    else:
        assert hosted.server._blueprint._watched._report is None, "nothing is wrapped"
        while time.monotonic() < deadline:
            assert not reported()
            time.sleep(0.02)


def test_what_a_call_pays() -> None:
    """A bound far above what was measured (2 microseconds), and far below that of a report for each call."""

    class Context:
        def trailing_metadata(self) -> Any:
            return ()

        def set_trailing_metadata(self, metadata: Any) -> None: ...

        def code(self) -> None: ...

    def behavior(request: bytes, context: Any) -> bytes:
        return request

    call = functools.partial(LoadReport("sync")(behavior, "unary_unary"), b"", Context())
    started = time.process_time()
    for _ in range(10_000):
        call()
    assert (time.process_time() - started) / 10_000 < 50e-6
