"""What the demonstrations share: the examples' programs as processes, and addresses for them."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

LONGEST = 60.0  # seconds that any of them may take to start or to end


def free_address() -> str:
    """An address of this machine where nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


@contextmanager
def running(
    module: str, *arguments: str, pod: str = "", stdout: int | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """`python -m MODULE ARGUMENTS`, in a pod of this name, so to speak. Ends it by SIGTERM, as Kubernetes would."""
    environment = {**os.environ, "DRAIN_POD_NAME": pod} if pod else None
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], env=environment, stdout=stdout, text=True)
    try:
        yield process
        process.terminate()  # harmless if it has ended already
        process.wait(LONGEST)
    finally:
        process.kill()
        process.wait()


def await_ready(address: str) -> None:
    """Return when a server listens there."""
    await_connected(grpc.insecure_channel(address))


def await_connected(channel: grpc.Channel) -> None:
    """The same, for a channel of one's own, which is closed."""
    with channel:
        grpc.channel_ready_future(channel).result(LONGEST)
