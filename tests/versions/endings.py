"""Fire every ending of a call at a live drain server, then drain it. A program: `endings.py sync|aio [grpc-first]`.

Prints one JSON line: how the server says goodbye, and how each call ended. Where grpc's core aborts, there is no line.
"""

import asyncio
import json
import sys
import threading
import time
from concurrent import futures

# Which of the two is imported first is what this program is about.
if "grpc-first" in sys.argv:
    import grpc
import drain
import drain.aio
import grpc

SERVICE = "test.Endings"
PATIENCE = 10.0
POLICY = drain.DrainPolicy(announce_timeout=0)


def ok(request, context):
    time.sleep(float(request or b"0"))
    return request


def abort(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "on purpose")


def fail(request, context):
    raise LookupError("on purpose")


def stream(request, context):
    for _ in range(3):
        yield request
        time.sleep(float(request or b"0"))


def abort_stream(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "on purpose")
    yield b""


def abort_later(request, context):
    yield b""
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "on purpose")


def fail_stream(request, context):
    raise LookupError("on purpose")
    yield b""


async def aio_ok(request, context):
    await asyncio.sleep(float(request or b"0"))
    return request


async def aio_abort(request, context):
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "on purpose")


async def aio_fail(request, context):
    raise LookupError("on purpose")


async def aio_stream(request, context):
    for _ in range(3):
        yield request
        await asyncio.sleep(float(request or b"0"))


async def aio_abort_stream(request, context):
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "on purpose")
    yield b""


async def aio_abort_later(request, context):
    yield b""
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "on purpose")


async def aio_fail_stream(request, context):
    raise LookupError("on purpose")
    yield b""


def handlers(prefix):
    unary, streaming = ("ok", "abort", "fail"), ("stream", "abort_stream", "abort_later", "fail_stream")
    methods = {name: grpc.unary_unary_rpc_method_handler(globals()[prefix + name]) for name in unary}
    methods |= {name: grpc.unary_stream_rpc_method_handler(globals()[prefix + name]) for name in streaming}
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def code(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name
    except grpc.FutureCancelledError:
        return "CANCELLED"
    return "OK"


def fire(port):
    """Every ending, twice: what a first one has broken shows in the second."""
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def unary(name, request=b"0", timeout=PATIENCE):
        return channel.unary_unary(f"/{SERVICE}/{name}")(request, timeout=timeout)

    def streaming(name, request=b"0", timeout=PATIENCE):
        return list(channel.unary_stream(f"/{SERVICE}/{name}")(request, timeout=timeout))

    def cancel_unary():
        call = channel.unary_unary(f"/{SERVICE}/ok").future(b"5", timeout=PATIENCE)
        time.sleep(0.05)
        call.cancel()
        call.result()

    def cancel_stream():
        call = channel.unary_stream(f"/{SERVICE}/stream")(b"5", timeout=PATIENCE)
        next(call)
        call.cancel()
        next(call)

    def too_many():
        method = channel.unary_unary(f"/{SERVICE}/ok")
        calls = [method.future(b"0.3", timeout=PATIENCE) for _ in range(12)]
        codes = [code(call.result) for call in calls]
        return "RESOURCE_EXHAUSTED" if "RESOURCE_EXHAUSTED" in codes and "OK" in codes else str(codes)

    ended = {}
    for _ in range(2):
        ended = {
            "ok": code(lambda: unary("ok")),
            "unknown method": code(lambda: unary("nothing")),
            "unknown method, streaming": code(lambda: streaming("nothing")),
            "abort": code(lambda: unary("abort")),
            "exception": code(lambda: unary("fail")),
            "stream": code(lambda: streaming("stream")),
            "abort before the first message": code(lambda: streaming("abort_stream")),
            "abort after the first message": code(lambda: streaming("abort_later")),
            "exception before the first message": code(lambda: streaming("fail_stream")),
            "deadline": code(lambda: unary("ok", b"1", 0.1)),
            "deadline, streaming": code(lambda: streaming("stream", b"1", 0.1)),
            "client cancels": code(cancel_unary),
            "client cancels, streaming": code(cancel_stream),
        }
        time.sleep(1.1)  # the handlers of abandoned calls sleep on, and count as concurrent
    ended["maximum_concurrent_rpcs"] = too_many()
    time.sleep(0.5)
    code(lambda: unary("ok"))  # plain grpc.aio up to 1.83 rejects the call after the last rejection, too
    in_flight = channel.unary_unary(f"/{SERVICE}/ok").future(b"0.3", timeout=PATIENCE)
    time.sleep(0.1)
    return ended, in_flight


def run_sync():
    server = drain.server(futures.ThreadPoolExecutor(16), [handlers("")], maximum_concurrent_rpcs=8, policy=POLICY)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    ended, in_flight = fire(port)
    report = server.drain().result(30)
    return server, report, ended, in_flight


async def run_aio():
    server = drain.aio.server(None, [handlers("aio_")], maximum_concurrent_rpcs=8, policy=POLICY)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    ended, in_flight = await asyncio.to_thread(fire, port)
    report = await asyncio.wait_for(server.drain(), 30)
    return server, report, ended, in_flight


if __name__ == "__main__":
    guard = threading.Timer(60, lambda: __import__("os")._exit(70))
    guard.daemon = True
    guard.start()
    server, report, ended, in_flight = run_sync() if sys.argv[1] == "sync" else asyncio.run(run_aio())
    ended["in flight at GOAWAY"] = code(in_flight.result)
    result = {"grpcio": grpc.__version__, "goaway": server.goaway, "reason": server.goaway_reason, "ended": ended}
    print(json.dumps({**result, "report": report.as_dict()}), flush=True)
