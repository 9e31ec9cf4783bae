"""Can this grpcio send GOAWAY without loss, and live through every bad ending of a call? Run as a process of its own.

    python -m drain._grpc.probe sync|aio

It prints one JSON line, {"lossless": bool, "reason": str}. Where grpc's core aborts there is no line, which is an answer too.
Used by capability.py for a grpcio that nobody has measured. Which imports grpc first decides whether the guard is in force:
capability.py sees to it that the answer is about a process like the one that asks.
"""

import asyncio
import json
import os
import sys
import threading
import time
from concurrent import futures
from typing import Any

import grpc
import grpc.aio

from drain._grpc.addresses import reserve
from drain._grpc.lossless import Listener, fetcher_option
from drain._xds.ads import ControlPlane

_SERVICE = "drain.Probe"
_PATIENCE = 5.0


def _ok(request: bytes, context: Any) -> bytes:
    time.sleep(float(request or b"0"))
    return request


def _abort(request: bytes, context: Any) -> bytes:
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "on purpose")
    return b""


def _raise(request: bytes, context: Any) -> bytes:
    raise LookupError("on purpose")


def _raise_later(request: bytes, context: Any) -> Any:
    yield b""
    raise LookupError("on purpose")


def _abort_stream(request: bytes, context: Any) -> Any:
    # A generator: grpc.aio would call a plain function on its loop, where abort() waits for that very loop.
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "on purpose")
    yield b""


def _handlers() -> grpc.GenericRpcHandler:
    """Plain functions: grpc.aio runs them on its migration pool, so that both flavours are asked the same."""
    methods = {
        name: grpc.unary_unary_rpc_method_handler(f) for name, f in (("Ok", _ok), ("Abort", _abort), ("Raise", _raise))
    }
    methods["RaiseLater"] = grpc.unary_stream_rpc_method_handler(_raise_later)
    methods["AbortStream"] = grpc.unary_stream_rpc_method_handler(_abort_stream)
    return grpc.method_handlers_generic_handler(_SERVICE, methods)


def _check(address: str, listener: Listener) -> str | None:
    """Fire the bad endings, rotate and remove under a call in flight. Returns what is wrong, or None."""
    with grpc.insecure_channel(address) as channel:
        unary = {name: channel.unary_unary(f"/{_SERVICE}/{name}") for name in ("Ok", "Abort", "Raise", "Unknown")}
        unary["Ok"](b"0", timeout=_PATIENCE, wait_for_ready=True)
        endings = {"Abort": "FAILED_PRECONDITION", "Raise": "UNKNOWN", "Unknown": "UNIMPLEMENTED"}
        for name, expected in endings.items():
            if (code := _code(lambda: unary[name](b"", timeout=_PATIENCE))) != expected:  # noqa: B023  # called at once
                return f"{name} ended {code}"
        for name in ("RaiseLater", "AbortStream"):
            stream = channel.unary_stream(f"/{_SERVICE}/{name}")
            _code(lambda: list(stream(b"", timeout=_PATIENCE)))  # noqa: B023
        _code(lambda: unary["Ok"](b"1", timeout=0.05))  # the deadline passes
        unary["Ok"].future(b"1").cancel()
        for act, what in ((listener.rotate, "a rotation"), (listener.remove, "GOAWAY")):
            in_flight = unary["Ok"].future(b"0.2", timeout=_PATIENCE)
            time.sleep(0.05)
            if not act().wait(_PATIENCE):
                return f"{what} was not taken: {listener.refusal}"
            if (code := _code(in_flight.result)) != "OK":
                return f"a call in flight ended {code} at {what}"
            if what == "a rotation" and (code := _code(lambda: unary["Ok"](b"0", timeout=_PATIENCE))) != "OK":
                return f"a call after a rotation ended {code}"
    return None


def _code(call: Any) -> str:
    try:
        call()
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def _sync(pool: futures.ThreadPoolExecutor, listener: Listener, address: str) -> str | None:
    server = grpc.server(pool, options=listener.options, xds=True)
    server.add_generic_rpc_handlers((_handlers(),))
    server.add_insecure_port(address)
    server.start()
    wrong = _check(address, listener)
    server.stop(0).wait(_PATIENCE)
    return wrong


async def _aio(pool: futures.ThreadPoolExecutor, listener: Listener, address: str) -> str | None:
    _holder, option = fetcher_option(listener.options)
    if option is None:
        return "the config fetcher cannot be found"
    server = grpc.aio.server(pool, options=[*listener.options, option])
    server.add_generic_rpc_handlers((_handlers(),))
    server.add_insecure_port(address)
    await server.start()
    wrong = await asyncio.to_thread(_check, address, listener)
    await server.stop(0)
    return wrong


def _wrong(flavour: str) -> str | None:
    pool = futures.ThreadPoolExecutor(8)
    with reserve("127.0.0.1:0") as held:
        listener = Listener(ControlPlane.shared())
        if flavour == "sync":
            return _sync(pool, listener, held.address)
        return asyncio.run(_aio(pool, listener, held.address))


def main(flavour: str) -> None:
    """Probe and print."""
    threading.Timer(20.0, os._exit, (70,)).start()  # whatever hangs in there, this ends
    try:
        wrong = _wrong(flavour)
    except Exception as error:  # the root of the process: what broke is an answer, and nobody need wait for the timer
        wrong = f"{type(error).__name__}: {error}"
    print(json.dumps({"lossless": wrong is None, "reason": wrong or "passed"}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
