"""The asyncio twin of client.py.

python -m examples.tls.aio_client [TARGET] --certificates /etc/tls [--authority NAME]
"""

import drain  # before grpc  # isort: skip
import argparse
import asyncio
import os
import sys
from pathlib import Path

import grpc.aio

from examples.greeter import greeter_pb2, greeter_pb2_grpc
from examples.tls.certificates import channel_credentials

CALLS = 10


async def main() -> None:
    """A few calls."""
    parser = argparse.ArgumentParser(prog="python -m examples.tls.aio_client")
    parser.add_argument("target", nargs="?", default=os.environ.get("TARGET", "kubernetes:///greeter:50051"))
    parser.add_argument("--certificates", type=Path, default=os.environ.get("CERTIFICATES", "/etc/tls"))
    parser.add_argument("--authority", help="the name in the servers' certificates")
    arguments = parser.parse_args()
    credentials = channel_credentials(arguments.certificates)
    policy = drain.ClientPolicy(authority=arguments.authority)
    async with drain.aio.secure_channel(arguments.target, credentials, policy=policy) as channel:
        greeter = greeter_pb2_grpc.GreeterStub(channel)
        try:
            for _ in range(CALLS):
                reply = await greeter.SayHello(greeter_pb2.HelloRequest(name="you"), timeout=5)
                print(f"{reply.message} From {reply.pod}.", flush=True)
        except grpc.aio.AioRpcError as error:
            sys.exit(f"{error.code().name}: {error.details()}")


if __name__ == "__main__":
    asyncio.run(main())
