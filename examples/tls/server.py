"""The greeter with mutual TLS. Only the port differs.

    python -m examples.tls.server --certificates /etc/tls [--address 127.0.0.1:50051]

aio_server.py is the same for asyncio.
"""

import drain  # before grpc  # isort: skip
import argparse
import logging
import os
from concurrent import futures
from pathlib import Path

from examples.greeter import greeter_pb2_grpc
from examples.greeter.server import Greeter
from examples.tls.certificates import server_credentials


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m examples.tls.server")
    parser.add_argument("--certificates", type=Path, default=os.environ.get("CERTIFICATES", "/etc/tls"))
    parser.add_argument("--address", default=os.environ.get("ADDRESS", "[::]:50051"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    server = drain.server(futures.ThreadPoolExecutor(32))
    greeter_pb2_grpc.add_GreeterServicer_to_server(Greeter(work=0), server)
    server.add_secure_port(arguments.address, server_credentials(arguments.certificates))
    print(server.run(), flush=True)


if __name__ == "__main__":
    main()
