"""Two workers are called, replaced one by one (SIGHUP), and drained (SIGTERM).

python -m examples.workers.demo
"""

import signal
import time

import grpc

from examples.greeter import greeter_pb2, greeter_pb2_grpc
from examples.processes import LONGEST, free_address, running

OF_ITS_OWN = [("grpc.use_local_subchannel_pool", 1)]


def ask(address: str) -> str:
    """One call on a connection of its own: which worker answers?"""
    with grpc.insecure_channel(address, options=OF_ITS_OWN) as channel:
        greeter = greeter_pb2_grpc.GreeterStub(channel)
        return greeter.SayHello(greeter_pb2.HelloRequest(name="you"), timeout=10, wait_for_ready=True).pod


def meet(strangers: int, known: set[str], address: str) -> set[str]:
    """Ask until so many workers have answered that were not known."""
    met: set[str] = set()
    until = time.monotonic() + LONGEST
    while len(met) < strangers and time.monotonic() < until:
        met |= {ask(address)} - known
    return met


def main() -> None:
    """Be the workers' client, and their Kubernetes."""
    address = free_address()
    with running("examples.workers.server", "--workers", "2", "--address", address) as workers:
        first = meet(2, set(), address)
        print(f"{len(first)} workers answered", flush=True)
        workers.send_signal(signal.SIGHUP)
        second = meet(2, first, address)
        print(f"{len(second)} others answered after SIGHUP", flush=True)
        workers.terminate()
        print(f"exit code {workers.wait(LONGEST)}", flush=True)


if __name__ == "__main__":
    main()
