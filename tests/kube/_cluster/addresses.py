"""Addresses for endpoints: EndpointSlices refuse loopback ones. A block of the benchmarking range (RFC 2544) goes on `lo`."""

import contextlib
import ipaddress
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator

# 198.19.252.0 and above are service addresses.
_BLOCKS = tuple(ipaddress.IPv4Network("198.19.0.0/17").subnets(new_prefix=19))


class Addresses:
    """A block of 8,190 addresses that are this machine's, each handed out once."""

    def __init__(self, block: ipaddress.IPv4Network) -> None:
        self._hosts = block.hosts()

    def __call__(self) -> str:
        """The next one."""
        return str(next(self._hosts))

    def take(self, count: int) -> list[str]:
        """The next ones."""
        return [self() for _ in range(count)]


@contextlib.contextmanager
def on_lo() -> Iterator[Addresses]:
    """A block on `lo` while this lasts. Several test runs at once have a block each."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise RuntimeError(
            "tests/kube puts addresses of 198.19.0.0/17 on lo, as endpoints: run it as root, with iproute2 (ip) installed"
        )
    for block in _BLOCKS:
        with socket.socket(socket.AF_UNIX) as lock:
            try:
                lock.bind(f"\0grpc-drain-tests-{block}")  # an abstract name: it goes with the process
            except OSError:
                continue  # another run has it
            where = f"{block.network_address}/{block.prefixlen}"
            subprocess.run(["ip", "address", "replace", where, "dev", "lo"], check=True, timeout=10)
            try:
                yield Addresses(block)
            finally:
                subprocess.run(["ip", "address", "del", where, "dev", "lo"], check=True, timeout=10)
            return
    raise RuntimeError(f"all of {len(_BLOCKS)} address blocks are in use by other test runs")
