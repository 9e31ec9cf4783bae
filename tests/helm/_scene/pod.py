"""A program as it might run in a pod: a server, and a client of the whole service, with metrics.

    python -m tests.helm._scene.pod PORT METRICS_PORT ENDPOINTS_FILE LINGER

When it has drained it lives on for LINGER seconds, so that a last scrape sees what the drain cost.
"""

import contextlib
import sys
import threading
import time
from concurrent import futures
from typing import Any

import grpc

import drain

METHOD = "/shop.Orders/Get"
CALLERS = 4
WORK = 0.03  # seconds


def main(port: str, metrics_port: str, endpoints: str, linger: str) -> None:
    drain.metrics.serve(int(metrics_port), "127.0.0.1")
    server = drain.server(
        futures.ThreadPoolExecutor(32), policy=drain.DrainPolicy(drain_timeout=3, quiet_period=0.1, announce_timeout=4)
    )

    def get(request: bytes, context: Any) -> bytes:
        time.sleep(WORK)
        return request

    handlers = {"Get": grpc.unary_unary_rpc_method_handler(get)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Orders", handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    over = threading.Event()
    channel = drain.insecure_channel(f"file://{endpoints}")

    def call() -> None:
        method = channel.unary_unary(METHOD)
        while not over.wait(0.02):
            with contextlib.suppress(grpc.RpcError):
                method(b"x", timeout=5, wait_for_ready=True)

    for _ in range(CALLERS):
        threading.Thread(target=call, daemon=True).start()
    server.run()
    time.sleep(float(linger))
    over.set()
    channel.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
