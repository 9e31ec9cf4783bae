"""One server of the demo, a real process: plain grpc as people write it (`--mode baseline`), or drain (`--mode drain`; with
`--mode paired` it announces nothing, since callers on drain's own channels stand behind no balancer that learns late).

    python -m drain._demo.server --mode drain --name server-1 --port 50051 [--aio]

It prints JSON lines: "serving" with its port, "phase" whenever its leaving goes a step on, drain's other events, and
drain's report. Times (`at`) are `time.monotonic()`, one clock for all processes of a machine.
"""

import argparse
import asyncio
import signal
import time
from concurrent import futures
from dataclasses import asdict

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

import drain
from drain._demo import echo, pipe
from drain.events import Drained, Event, State, StateChanged

GRACE = 5.0  # what grpc's own example of graceful shutdown gives
THREADS = 32


def baseline(name: str, address: str) -> None:
    """A server on plain grpc: on SIGTERM `stop(grace)`, and wait for it."""
    server = grpc.server(futures.ThreadPoolExecutor(THREADS))
    server.add_generic_rpc_handlers((echo.handler(name),))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port(address)
    server.start()
    pipe.emit("serving", port=port, at=time.monotonic())
    signal.sigwait({signal.SIGTERM})
    pipe.emit("phase", phase="stopping", at=time.monotonic())
    server.stop(GRACE).wait()
    pipe.emit("phase", phase="stopped", at=time.monotonic())


async def baseline_aio(name: str, address: str) -> None:
    """The same on grpc.aio."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((echo.aio_handler(name),))
    servicer = health.aio.HealthServicer()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port(address)
    await server.start()
    pipe.emit("serving", port=port, at=time.monotonic())
    await told.wait()
    pipe.emit("phase", phase="stopping", at=time.monotonic())
    await server.stop(GRACE)
    pipe.emit("phase", phase="stopped", at=time.monotonic())


def drained(name: str, address: str, policy: drain.DrainPolicy) -> None:
    """A server made with drain: `run()` does the rest."""
    server = drain.server(futures.ThreadPoolExecutor(THREADS), policy=policy)
    server.add_generic_rpc_handlers((echo.handler(name),))
    port = server.add_insecure_port(address)
    server.subscribe(lambda event: tell(event, port))
    server.run()


async def drained_aio(name: str, address: str, policy: drain.DrainPolicy) -> None:
    """The same with drain.aio."""
    server = drain.aio.server(policy=policy)
    server.add_generic_rpc_handlers((echo.aio_handler(name),))
    port = server.add_insecure_port(address)
    server.subscribe(lambda event: tell(event, port))
    await server.run()


def tell(event: Event, port: int) -> None:
    """Print an event of drain's."""
    match event:
        case StateChanged(state=State.SERVING):
            pipe.emit("serving", port=port, at=event.at)
        case StateChanged():
            pipe.emit("phase", phase=event.state.value, reason=event.reason, at=event.at)
        case Drained():
            pipe.emit("report", report=event.report.as_dict())
        case _:
            pipe.emit(type(event).__name__, **asdict(event))


def main() -> None:
    """Serve until SIGTERM, or until the parent is gone."""
    parser = argparse.ArgumentParser(prog="python -m drain._demo.server")
    parser.add_argument("--mode", choices=("baseline", "drain", "paired"), required=True)
    parser.add_argument("--name", default="server")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--aio", action="store_true")
    arguments = parser.parse_args()
    if arguments.mode == "baseline" and not arguments.aio:
        # Before any thread is there, so that only sigwait gets it. (An Event set by a handler could deadlock.)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    pipe.obey()
    address = f"127.0.0.1:{arguments.port}"
    if arguments.mode == "baseline":
        asyncio.run(baseline_aio(arguments.name, address)) if arguments.aio else baseline(arguments.name, address)
        return
    policy = drain.DrainPolicy(announce_timeout=0) if arguments.mode == "paired" else drain.DrainPolicy()
    if arguments.aio:
        asyncio.run(drained_aio(arguments.name, address, policy))
    else:
        drained(arguments.name, address, policy)


if __name__ == "__main__":
    main()
