"""Finding and closing our own listening sockets, behind grpc's back.

grpc offers no way to stop listening without shutting the server down, and a server whose Listener was removed goes on accepting
connections, only to drop them at once: callers fail. On Linux our own sockets can be found among `/proc/self/fd`, and
`shutdown()` on a duplicate closes the acceptor: new connections are refused (or go to the other members of a SO_REUSEPORT
group), open ones live on, and C-core says once on stderr "Closing acceptor. Failed accept4". It is final: a later `listen()`
does not bring the acceptor back. Fact guarded by tests/integration/test_listening.py. Where there is no /proc, nothing is
found, and closing rests on the Listener alone.
"""

import os
import socket
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager

_FDS = "/proc/self/fd"


@contextmanager
def _duplicate(fd: int) -> Iterator[socket.socket | None]:
    """A socket object over a duplicate of `fd`, or None if it is no socket. Never touches the original."""
    # Looked at before the dup: socket.socket() on anything else fails and would leave the duplicate open.
    if not stat.S_ISSOCK(os.stat(fd).st_mode):
        yield None
        return
    with socket.socket(fileno=os.dup(fd)) as duplicate:
        yield duplicate


def _is_listening(candidate: socket.socket, ports: Collection[int], paths: Collection[str]) -> bool:
    if candidate.type != socket.SOCK_STREAM or not candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return False
    name = candidate.getsockname()
    if candidate.family == socket.AF_UNIX:
        return os.fsdecode(name) in paths
    return candidate.family in (socket.AF_INET, socket.AF_INET6) and name[1] in ports


def _each_listening(ports: Collection[int], paths: Collection[str]) -> Iterator[socket.socket]:
    try:
        fds = [int(name) for name in os.listdir(_FDS)]
    except OSError:
        return
    for fd in fds:
        try:
            with _duplicate(fd) as candidate:
                if candidate is not None and _is_listening(candidate, ports, paths):
                    yield candidate
        except OSError:  # closed by another thread since it was listed
            continue


def can_see() -> bool:
    """Whether this platform lets us look at our own sockets."""
    return os.path.isdir(_FDS)


def listening(ports: Collection[int], paths: Collection[str] = ()) -> set[int | str]:
    """Which of the ports and Unix paths this very process listens on (another member of a SO_REUSEPORT group does not count)."""
    found: set[int | str] = set()
    for candidate in _each_listening(ports, paths):
        name = candidate.getsockname()
        found.add(os.fsdecode(name) if candidate.family == socket.AF_UNIX else name[1])
    return found


def stop_listening(ports: Collection[int], paths: Collection[str] = ()) -> int:
    """Refuse new connections on these ports and Unix paths for ever. Returns how many sockets were closed to newcomers."""
    stopped = 0
    for candidate in _each_listening(ports, paths):
        try:
            candidate.shutdown(socket.SHUT_RDWR)
            stopped += 1
        except OSError:  # listed twice under two descriptors: the second shutdown finds it already done (ENOTCONN)
            continue
    return stopped


def connected(ports: Collection[int]) -> int | None:
    """How many TCP connections to these ports the kernel holds, accepted by grpc or not yet. None where it cannot be asked.

    What channelz does not list of them is still in its handshake. Counts the connections of every process in this network
    namespace, so with other members of a SO_REUSEPORT group it is too high.
    """
    wanted = {f"{port:04X}" for port in ports}
    found = 0
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as lines:
                next(lines)
                found += sum(1 for line in lines if _is_established(line.split(None, 4), wanted))
        except OSError:  # no IPv6; without the first table there is nothing to know
            if table == "/proc/net/tcp":
                return None
    return found


def _is_established(columns: list[str], ports: Collection[str]) -> bool:
    return columns[3] == "01" and columns[1].rpartition(":")[2] in ports
