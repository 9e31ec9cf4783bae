"""Workers on one port: replaced one by one under callers, and what they are for: throughput of a CPU-bound handler.

    python -m tests.bench.workers '{"flavour": "sync", "workers": 4, "port": 50051}'

is the program that is measured. Its parent must have no thread when it forks, so it takes no orders: only signals.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from concurrent import futures
from dataclasses import asdict
from typing import Any

import grpc

import drain
from drain._demo import pipe
from drain._demo.children import Child, Family
from drain._demo.ports import free_ports
from drain.events import Event, StateChanged
from tests.bench import _service
from tests.bench._rows import FLAVOURS, Row
from tests.bench._stage import LEAVE, START, Calls

WORKERS, REPLACEMENTS, CALLERS = 4, 10, 32
BUSY = 20_000  # turns of a loop: about 1 ms of Python for each call
SECONDS = 8.0


async def measure(quick: bool) -> AsyncIterator[Row]:
    """Replacements in both flavours and ways to start; then throughput."""
    rounds = 1 if quick else REPLACEMENTS
    for flavour in FLAVOURS:
        for method in ("fork", "spawn"):
            yield await replacements(flavour, method, rounds)
    seconds = 1.0 if quick else SECONDS
    for flavour in FLAVOURS:
        one = await throughput(flavour, 1, seconds)
        several = await throughput(flavour, WORKERS, seconds)
        figure = f"{several:,.0f} calls/s against {one:,.0f}: {several / one:.2f} times ({os.cpu_count()} processors)"
        yield Row(f"{WORKERS} workers against 1 process, CPU-bound handler, {flavour}", figure)


async def replacements(flavour: str, method: str, rounds: int) -> Row:
    """All workers replaced one by one, so many times, under callers at full speed."""
    async with Family() as family:
        parent, port = await start(family, flavour, method, WORKERS)
        callers = await call(family, port, CALLERS, processes=2)
        began = time.monotonic()
        for number in range(rounds):
            os.kill(parent.pid, signal.SIGHUP)
            await stopped(parent, (number + 1) * WORKERS)
        took = time.monotonic() - began
        calls = await hang_up(callers)
        parent.terminate()
        code = await parent.ended(LEAVE)
    passed = calls.failed == 0 and calls.ok > 0 and code == 0
    what = f"{WORKERS} workers replaced one by one, {rounds} times, under {CALLERS} callers, {flavour}, {method}"
    return Row(what, f"{calls}; {took / rounds / WORKERS:.2f} s each", "0 failed", passed, {"calls": asdict(calls)})


async def throughput(flavour: str, workers: int, seconds: float) -> float:
    """Calls a second."""
    async with Family() as family:
        _, port = await start(family, flavour, "fork", workers, busy=BUSY)
        callers = await call(family, port, CALLERS, processes=2)
        await asyncio.sleep(seconds)
        return (await hang_up(callers)).ok / seconds


async def start(family: Family, flavour: str, method: str, workers: int, busy: int = 0) -> tuple[Child, int]:
    """A parent whose workers all serve, and their port."""
    (port,) = free_ports(1)
    asked = {"flavour": flavour, "method": method, "workers": workers, "port": port, "busy": busy}
    parent = await family.start("workers", "tests.bench.workers", json.dumps(asked))
    await seen(parent, "serving", workers)
    return parent, port


async def seen(parent: Child, state: str, times: int) -> None:
    """Wait until workers have entered that state so many times."""
    left = times

    def wanted(event: dict[str, object]) -> bool:
        nonlocal left
        left -= event["state"] == state
        return left == 0

    await parent.until("state", START + 2.0 * times, where=wanted)


async def stopped(parent: Child, times: int) -> None:
    """Wait until so many have been replaced, and the last successor serves."""
    await seen(parent, "stopped", times)


async def call(family: Family, port: int, callers: int, processes: int) -> list[Child]:
    """Callers, each with a connection of its own; returns when all have had an answer."""
    asked = (f"--target=127.0.0.1:{port}", f"--callers={callers // processes}")
    started = [await family.start("callers", "tests.bench._callers", *asked) for _ in range(processes)]
    for each in started:
        await each.until("met", START)
    return started


async def hang_up(callers: list[Child]) -> Calls:
    """What they saw."""
    calls = Calls()
    for each in callers:
        each.order("stop")
    for each in callers:
        calls.add(await each.until("result", START))
    return calls


def serve(address: str) -> None:
    """One worker. What it is to be it reads from the command line, as a spawned one can."""
    asked = json.loads(sys.argv[1])
    if asked["flavour"] == "sync":
        prepared(drain.server(futures.ThreadPoolExecutor(16)), address, asked).run()
    else:
        asyncio.run(serve_aio(address, asked))


async def serve_aio(address: str, asked: dict[str, Any]) -> None:
    """The twin."""
    await prepared(drain.aio.server(), address, asked).run()


def prepared(server: Any, address: str, asked: dict[str, Any]) -> Any:
    """With service, port, and a word for each state."""
    name = str(os.getpid())
    methods = _service.handlers(name) if asked["flavour"] == "sync" else _service.aio_handlers(name)
    if asked["busy"]:
        methods["Unary"] = busy(asked["flavour"], asked["busy"])
    _service.add_to_server(methods, server)
    server.add_insecure_port(address)

    def tell(event: Event) -> None:
        if isinstance(event, StateChanged):
            pipe.emit("state", state=event.state.value, pid=os.getpid(), at=event.at)

    server.subscribe(tell)
    return server


def busy(flavour: str, turns: int) -> grpc.RpcMethodHandler:
    """A handler that holds the GIL."""

    def work(request: bytes, context: Any) -> bytes:
        return b"%d" % sum(number * number for number in range(turns))

    async def work_aio(request: bytes, context: Any) -> bytes:
        return work(request, context)

    return grpc.unary_unary_rpc_method_handler(work if flavour == "sync" else work_aio)


def main() -> None:
    """The program that is measured."""
    asked = json.loads(sys.argv[1])
    drain.run_workers(serve, workers=asked["workers"], address=f"127.0.0.1:{asked['port']}", method=asked["method"])


if __name__ == "__main__":
    main()
