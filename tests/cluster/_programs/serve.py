"""A server whose one method takes a while and answers with its pod's name: made with drain, or as grpc's own documentation has it.

python -m programs.serve drain sync --work 0.01
python -m programs.serve plain aio             # SIGTERM: server.stop(10)
python -m programs.serve drain sync --load 8   # listens 8 seconds after its start
"""

import drain  # before grpc  # isort: skip
import argparse
import asyncio
import os
import signal
import time
from concurrent import futures
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

import drain.aio

SERVICE, METHOD = "drain.load.Load", "Call"
POD = (os.environ.get("DRAIN_POD_NAME") or os.uname().nodename).encode()
GRACE = 10.0


def handlers(call: Any) -> tuple[grpc.GenericRpcHandler, ...]:
    """One unary method; its messages are bytes."""
    return (grpc.method_handlers_generic_handler(SERVICE, {METHOD: grpc.unary_unary_rpc_method_handler(call)}),)


def policy(asked: argparse.Namespace) -> drain.DrainPolicy:
    return drain.DrainPolicy(rebalance=drain.RebalancePolicy() if asked.rebalance else None)


def serve_sync(asked: argparse.Namespace) -> None:
    def call(request: bytes, context: grpc.ServicerContext) -> bytes:
        time.sleep(asked.work)
        return POD

    pool = futures.ThreadPoolExecutor(asked.threads)
    if asked.kind == "drain":
        server = drain.server(pool, handlers=handlers(call), policy=policy(asked))
        server.add_insecure_port(asked.address)
        print(server.run().text(), flush=True)
        return
    # In all threads to come. A signal just before an Event's wait() would not be looked at until that is over.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    plain = grpc.server(pool, handlers=handlers(call), options=asked.options)
    health_pb2_grpc.add_HealthServicer_to_server(healthy := health.HealthServicer(), plain)
    for name in ("", "liveness"):
        healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    plain.add_insecure_port(asked.address)
    plain.start()
    signal.sigwait({signal.SIGTERM})
    plain.stop(GRACE).wait()


async def serve_aio(asked: argparse.Namespace) -> None:
    async def call(request: bytes, context: Any) -> bytes:
        await asyncio.sleep(asked.work)
        return POD

    if asked.kind == "drain":
        server = drain.aio.server(handlers=handlers(call), policy=policy(asked))
        server.add_insecure_port(asked.address)
        print((await server.run()).text(), flush=True)
        return
    plain = grpc.aio.server(handlers=handlers(call), options=asked.options)
    health_pb2_grpc.add_HealthServicer_to_server(healthy := health.aio.HealthServicer(), plain)
    for name in ("", "liveness"):
        await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    plain.add_insecure_port(asked.address)
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    await plain.start()
    await told.wait()
    await plain.stop(GRACE)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("drain", "plain"))
    parser.add_argument("flavour", choices=("sync", "aio"))
    parser.add_argument("--address", default="[::]:50051")
    parser.add_argument("--work", type=float, default=0.01, help="seconds that a call takes")
    parser.add_argument("--load", type=float, default=0.0, help="seconds until it listens, as with a model to read")
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--max-connection-age", type=float, help="seconds, for plain servers")
    parser.add_argument("--rebalance", action="store_true", help="for drain's servers")
    asked = parser.parse_args()
    time.sleep(asked.load)
    age = asked.max_connection_age
    asked.options = [] if age is None else [("grpc.max_connection_age_ms", int(age * 1000))]
    if asked.flavour == "sync":
        serve_sync(asked)
    else:
        asyncio.run(serve_aio(asked))


if __name__ == "__main__":
    main()
