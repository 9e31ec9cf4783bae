"""Two servers and a registry that knows them; then it forgets one of them.

python -m examples.custom_resolver.demo
"""

import drain  # before grpc  # isort: skip
import http.server
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from examples.custom_resolver.registry import Registry
from examples.greeter import greeter_pb2, greeter_pb2_grpc
from examples.processes import LONGEST, await_ready, free_address, running


@contextmanager
def registry(addresses: list[str]) -> Iterator[int]:
    """Answers with a JSON list of the addresses there are at the moment. Yields its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(addresses).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def answers(greeter: greeter_pb2_grpc.GreeterStub, servers: int) -> str:
    """Twenty calls, again and again until so many servers answer them: how many calls each has answered."""
    hello, until = greeter_pb2.HelloRequest(name="you"), time.monotonic() + LONGEST
    while time.monotonic() < until:
        answered = Counter(greeter.SayHello(hello, timeout=5, wait_for_ready=True).pod for _ in range(20))
        if len(answered) == servers:
            return ", ".join(f"{pod} answered {calls}" for pod, calls in sorted(answered.items()))
    sys.exit(f"the channel knows no {servers}")


def main() -> None:
    """Register the scheme, call, and see the channel follow."""
    drain.resolver.register("registry", Registry)
    addresses = [free_address(), free_address()]
    with ExitStack() as stack:
        for pod, address in zip("ab", addresses, strict=True):
            stack.enter_context(running("examples.greeter.server", "--address", address, pod=pod))
            await_ready(address)
        target = f"registry://127.0.0.1:{stack.enter_context(registry(addresses))}/greeter"
        greeter = greeter_pb2_grpc.GreeterStub(stack.enter_context(drain.insecure_channel(target)))
        print(f"two servers: {answers(greeter, 2)}", flush=True)
        addresses.pop()  # both still serve, but the registry knows one of them only
        print(f"one server: {answers(greeter, 1)}", flush=True)


if __name__ == "__main__":
    main()
