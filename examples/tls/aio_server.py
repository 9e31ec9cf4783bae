"""The asyncio twin of server.py.

python -m examples.tls.aio_server --certificates /etc/tls [--address 127.0.0.1:50051]
"""

import drain  # before grpc  # isort: skip
import argparse
import asyncio
import logging
import os
from pathlib import Path

from examples.greeter import greeter_pb2_grpc
from examples.greeter.aio_server import Greeter
from examples.tls.certificates import server_credentials


async def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m examples.tls.aio_server")
    parser.add_argument("--certificates", type=Path, default=os.environ.get("CERTIFICATES", "/etc/tls"))
    parser.add_argument("--address", default=os.environ.get("ADDRESS", "[::]:50051"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    server = drain.aio.server()
    greeter_pb2_grpc.add_GreeterServicer_to_server(Greeter(work=0), server)
    server.add_secure_port(arguments.address, server_credentials(arguments.certificates))
    print(await server.run(), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
