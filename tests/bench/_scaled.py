"""One server of the bench `scale`, a real process: drain, with or without a RebalancePolicy, and how many connections it has.

    python -m tests.bench._scaled --flavour sync --name a --port 50051 [--target file:///... --spread 10 --still 2]

Besides drain's events it prints "connections" whenever their number is another.
"""

import argparse
import asyncio
import threading
import time
from concurrent import futures
from typing import Any

import drain
from drain._demo import pipe
from drain._demo.server import THREADS, tell
from tests.bench import _service

EVERY = 0.05  # seconds between two looks


def watch(server: Any, stopped: threading.Event) -> None:
    """Print the number of connections as it changes."""
    known = -1
    while not stopped.wait(EVERY):
        connections = len(server.status().peers)
        if connections != known:
            known = connections
            pipe.emit("connections", number=connections, at=time.monotonic())


def prepare(server: Any, port: int, stopped: threading.Event) -> None:
    """Have it tell what happens."""
    pipe.obey()
    server.subscribe(lambda event: tell(event, port))
    threading.Thread(target=watch, args=(server, stopped), daemon=True).start()


def serve(name: str, address: str, policy: drain.DrainPolicy) -> None:
    """Until SIGTERM."""
    server = drain.server(futures.ThreadPoolExecutor(THREADS), policy=policy)
    _service.add_to_server(_service.handlers(name), server)
    stopped = threading.Event()
    prepare(server, server.add_insecure_port(address), stopped)
    server.run()
    stopped.set()


async def serve_aio(name: str, address: str, policy: drain.DrainPolicy) -> None:
    """The same with asyncio."""
    server = drain.aio.server(policy=policy)
    _service.add_to_server(_service.aio_handlers(name), server)
    stopped = threading.Event()
    prepare(server, server.add_insecure_port(address), stopped)
    await server.run()
    stopped.set()


def main() -> None:
    """Serve until SIGTERM, or until the parent is gone."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench._scaled")
    parser.add_argument("--flavour", choices=("sync", "aio"), required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--target")
    parser.add_argument("--spread", type=float, default=10.0)
    parser.add_argument("--still", type=float, default=2.0)
    asked = parser.parse_args()
    rebalance = asked.target and drain.RebalancePolicy(target=asked.target, spread=asked.spread, still=asked.still)
    policy = drain.DrainPolicy(goaway="require", rebalance=rebalance or None)
    address = f"127.0.0.1:{asked.port}"
    if asked.flavour == "aio":
        asyncio.run(serve_aio(asked.name, address, policy))
    else:
        serve(asked.name, address, policy)


if __name__ == "__main__":
    main()
