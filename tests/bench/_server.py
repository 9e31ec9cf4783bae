"""One server of the bench, a real process: plain grpc with `stop(grace)`, or drain with `run()`; sync or aio.

    python -m tests.bench._server --library drain --flavour sync --name a --port 50051 [--announce-timeout 0]

It prints JSON lines (`drain._demo.pipe`) and takes orders from stdin: "cpu TAG" (process time so far), "memory TAG"
(resident bytes), "rotate TAG TIMES EVERY" (seconds).
"""

import argparse
import asyncio
import gc
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

import drain
from drain._demo import pipe
from drain._demo.server import GRACE, THREADS, tell
from drain._grpc.options import server_options
from tests.bench import _service

# The plain servers have the same arguments and the same services, so that like is compared with like.
KEEPALIVE = server_options(drain.ServerKeepalive(), None, lossless=False).arguments
SERVING = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING).status


def plain(name: str, address: str) -> None:
    """Plain grpc.server: on SIGTERM `stop(grace)`, as in grpc's own example."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # before any thread is there, so that sigwait gets it
    server = grpc.server(futures.ThreadPoolExecutor(THREADS), options=KEEPALIVE)
    _service.add_to_server(_service.handlers(name), server)
    servicer = health.HealthServicer()
    servicer.set("", SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port(address)
    server.start()
    pipe.obey(Orders().take)
    pipe.emit("serving", port=port, at=time.monotonic())
    signal.sigwait({signal.SIGTERM})
    server.stop(GRACE).wait()


async def plain_aio(name: str, address: str) -> None:
    """The same on grpc.aio."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    server = grpc.aio.server(options=KEEPALIVE)
    _service.add_to_server(_service.aio_handlers(name), server)
    servicer = health.aio.HealthServicer()
    await servicer.set("", SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port(address)
    await server.start()
    pipe.obey(Orders().take)
    pipe.emit("serving", port=port, at=time.monotonic())
    await told.wait()
    await server.stop(GRACE)


def drained(name: str, address: str, policy: drain.DrainPolicy) -> None:
    """drain.server, with everything else at its default."""
    server = drain.server(futures.ThreadPoolExecutor(THREADS), policy=policy)
    _service.add_to_server(_service.handlers(name), server)
    port = server.add_insecure_port(address)
    pipe.obey(Orders(server.rotate).take)
    server.subscribe(lambda event: tell(event, port))
    server.run()


async def drained_aio(name: str, address: str, policy: drain.DrainPolicy) -> None:
    """drain.aio.server, the same."""
    loop = asyncio.get_running_loop()
    server = drain.aio.server(policy=policy)
    _service.add_to_server(_service.aio_handlers(name), server)
    port = server.add_insecure_port(address)
    pipe.obey(Orders(lambda: asyncio.run_coroutine_threadsafe(server.rotate(), loop).result()).take)
    server.subscribe(lambda event: tell(event, port))
    await server.run()


class Orders:
    """What the bench may ask of a server process while it serves."""

    def __init__(self, rotate: Callable[[], int] | None = None) -> None:
        self._rotate = rotate

    def take(self, line: str) -> None:
        """Carry out one order."""
        order, tag, *numbers = line.split()
        if order == "cpu":
            pipe.emit("cpu", tag=int(tag), seconds=time.process_time())
        elif order == "memory":
            gc.collect()
            pipe.emit("memory", tag=int(tag), bytes=resident())
        elif order == "rotate":  # on a thread of its own: this one has to notice the end of stdin
            arguments = int(tag), int(numbers[0]), float(numbers[1])
            threading.Thread(target=self._rotations, args=arguments, daemon=True).start()

    def _rotations(self, tag: int, times: int, every: float) -> None:
        assert self._rotate is not None
        began = time.monotonic()
        told = []
        for number in range(1, times + 1):
            told.append(self._rotate())
            time.sleep(max(0.0, began + number * every - time.monotonic()))
        seconds = time.monotonic() - began
        pipe.emit("rotate", tag=tag, seconds=seconds, connections=statistics.median(told), least=min(told))


def resident() -> int:
    """Bytes of this process in memory (VmRSS)."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Serve until SIGTERM, or until the parent is gone."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench._server")
    parser.add_argument("--library", choices=("plain", "drain", "metrics"), required=True)
    parser.add_argument("--flavour", choices=("sync", "aio"), required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--announce-timeout", type=float)
    asked = parser.parse_args()
    address = f"127.0.0.1:{asked.port}"
    settings: dict[str, Any] = {} if asked.announce_timeout is None else {"announce_timeout": asked.announce_timeout}
    policy = drain.DrainPolicy(goaway="require", **settings)  # without lossless GOAWAY there is nothing to measure
    if asked.library == "metrics":  # drain, and its metrics
        drain.metrics.serve(0, "127.0.0.1")
    if asked.library == "plain":
        asyncio.run(plain_aio(asked.name, address)) if asked.flavour == "aio" else plain(asked.name, address)
    elif asked.flavour == "aio":
        asyncio.run(drained_aio(asked.name, address, policy))
    else:
        drained(asked.name, address, policy)


if __name__ == "__main__":
    main()
