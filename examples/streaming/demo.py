"""Two servers are restarted in turn, for as long as two clients have something to say.

    python -m examples.streaming.demo [--aio]

The first client talks all the time: the handler ends its stream between two messages. The second one falls silent: its stream is
ended by `stream_grace`, and it says its next message elsewhere.
"""

import itertools
import subprocess
import sys
from contextlib import ExitStack

from examples.processes import LONGEST, await_ready, free_address, running

MOST_RESTARTS = 12


def main() -> None:
    """Servers, clients, restarts; then what the clients tell."""
    flavour = "aio_" if "--aio" in sys.argv[1:] else ""
    addresses = {pod: free_address() for pod in ("a", "b")}
    target = "static:///" + ",".join(addresses.values())
    serving: dict[str, subprocess.Popen[str]] = {}
    with ExitStack() as stack:

        def start(pod: str) -> None:
            server = f"examples.streaming.{flavour}server"
            serving[pod] = stack.enter_context(running(server, "--address", addresses[pod], pod=pod))
            await_ready(addresses[pod])

        def chat(*options: str) -> subprocess.Popen[str]:
            client = f"examples.streaming.{flavour}client"
            return stack.enter_context(running(client, target, *options, stdout=subprocess.PIPE))

        for pod in addresses:
            start(pod)
        clients = {
            "talks": chat("--messages", "300", "--pause", "0.05"),
            "is silent": chat("--messages", "3", "--pause", "600"),
        }
        told = {name: client.stdout.readline() for name, client in clients.items()}  # "a answers": it has begun
        for pod in itertools.islice(itertools.cycle(addresses), MOST_RESTARTS):
            if all(client.poll() is not None for client in clients.values()):
                break
            print(f"{pod} is restarted", flush=True)
            serving[pod].terminate()
            serving[pod].wait(LONGEST)
            start(pod)
        else:
            sys.exit("the clients have not ended")
        for name, client in clients.items():
            print(f"the client that {name}:\n{told[name]}{client.stdout.read()}", end="", flush=True)
    sys.exit(max(client.returncode for client in clients.values()))


if __name__ == "__main__":
    main()
