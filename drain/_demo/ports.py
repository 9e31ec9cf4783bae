"""Ports that stay ours while a server restarts."""

import random
import socket
from pathlib import Path

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """Free TCP ports on loopback, below the range from which the kernel takes the local ports of outgoing connections.

    A port inside that range could be taken by any connection while its server restarts; and a connect to a dead port of
    this machine can even meet itself (RFC 9293, simultaneous open).
    """
    below = int(EPHEMERAL.read_text().split()[0]) if EPHEMERAL.exists() else 32_768
    candidates = random.sample(range(max(1_024, below - 10_000), below), 500)
    free = [port for port in candidates[: 50 * count] if _is_free(port)][:count]
    if len(free) < count:
        raise OSError(f"no {count} free ports on 127.0.0.1 below {below}")
    return free


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
