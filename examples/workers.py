"""Several processes on one port: the way out of Python's GIL, with an orderly end.

Run it as it stands; it serves with two workers, calls them, replaces them one by one (SIGHUP), and drains them (SIGTERM):

    python examples/workers.py

The kernel spreads connections (not calls) over the workers, so a client with one connection meets one of them.
"""

import drain  # before grpc  # isort: skip
import os
import signal
import subprocess
import sys
import time
from concurrent import futures

import grpc

METHOD = "/example.Who/Who"
ADDRESS = "127.0.0.1:50099"


def serve(address: str) -> None:
    """One worker: a server as ever, on the address that all of them share."""
    who = grpc.unary_unary_rpc_method_handler(lambda request, context: b"%d" % os.getpid())
    server = drain.server(futures.ThreadPoolExecutor(4), policy=drain.DrainPolicy(announce_min=0))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("example.Who", {"Who": who}),))
    server.add_insecure_port(address)
    server.run()


def ask() -> str:
    """One call on a connection of its own: which worker answers?"""
    own = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(ADDRESS, options=own) as channel:
        return channel.unary_unary(METHOD)(b"", timeout=10, wait_for_ready=True).decode()


def meet(strangers: int, known: set[str]) -> set[str]:
    """Ask until so many workers have answered that were not known, a minute at most."""
    met: set[str] = set()
    until = time.monotonic() + 60
    while len(met) < strangers and time.monotonic() < until:
        met |= {ask()} - known
    return met


def main() -> None:
    """Start the workers as a program of their own, and be their client, and their Kubernetes."""
    workers = subprocess.Popen([sys.executable, __file__, "serve"])
    first = meet(2, set())
    print(f"{len(first)} workers answered", flush=True)
    workers.send_signal(signal.SIGHUP)
    second = meet(2, first)
    print(f"{len(second)} others answered after SIGHUP", flush=True)
    workers.terminate()
    print(f"exit code {workers.wait(60)}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        drain.run_workers(serve, workers=2, address=ADDRESS)
    else:
        main()
