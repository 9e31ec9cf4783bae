"""Finding and closing our own listening sockets, behind grpc's back.

grpc offers no way to stop listening without shutting the server down, and a server whose Listener was removed goes on accepting
connections, only to drop them at once: callers fail. On Linux our own sockets can be found among `/proc/self/fd`, and
`shutdown()` on a duplicate closes the acceptor: new connections are refused (or go to the other members of a SO_REUSEPORT
group), open ones live on, and C-core says once on stderr "Closing acceptor. Failed accept4". It is final: a later `listen()`
does not bring the acceptor back. Fact guarded by tests/integration/test_listening.py. Where there is no /proc, nothing is
found, and closing rests on the Listener alone.
"""

import contextlib
import ctypes
import os
import socket
import stat
import struct
import time
from collections.abc import Collection, Iterator
from typing import TypeAlias

# Host and port, or the name of a Unix socket. Not the port alone: another server of this process may have it on another address.
Where: TypeAlias = tuple[str, int] | str

_FDS = "/proc/self/fd"
_SO_ATTACH_FILTER = 26
# load the byte with the flags; keep SYN and ACK; SYN alone? then drop; else pass.
_PROGRAM = b"".join(
    struct.pack("=HBBI", *line)
    for line in ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
)
_PROGRAM_BUFFER = ctypes.create_string_buffer(_PROGRAM, len(_PROGRAM))
_STILL = 0.005  # seconds without anybody waiting: a handshake takes a round trip
_STILL_MOST = 0.2  # seconds to wait for that
_LOOK = 0.001
_ANY = ("::", "0.0.0.0")  # noqa: S104  # compared, not bound


def where(address: str) -> Where:
    """A numeric "host:port", spelled as here."""
    host, _, port = address.rpartition(":")
    return _spelled(host.strip("[]")), int(port)


def written(at: Where) -> str:
    """The other way round: as people write it."""
    if isinstance(at, str):
        return at.replace("\0", "@")
    host, port = at
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _spelled(host: str) -> str:
    """One spelling for what grpc may bind for the same address: IPv4 on its own or mapped, all addresses of either family."""
    host = host.partition("%")[0].removeprefix("::ffff:")
    return "*" if host in _ANY else host


@contextlib.contextmanager
def _duplicate(fd: int) -> Iterator[socket.socket | None]:
    """A socket object over a duplicate of `fd`, or None if it is no socket. Never touches the original."""
    # Looked at before the dup: socket.socket() on anything else fails and would leave the duplicate open.
    if not stat.S_ISSOCK(os.stat(fd).st_mode):
        yield None
        return
    with socket.socket(fileno=os.dup(fd)) as duplicate:
        yield duplicate


def _listens_at(candidate: socket.socket) -> Where | None:
    if candidate.type != socket.SOCK_STREAM or not candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return None
    name = candidate.getsockname()
    if candidate.family == socket.AF_UNIX:
        return os.fsdecode(name)
    return (_spelled(name[0]), name[1]) if candidate.family in (socket.AF_INET, socket.AF_INET6) else None


def _each_listening(wanted: Collection[Where]) -> Iterator[tuple[socket.socket, Where]]:
    try:
        fds = [int(name) for name in os.listdir(_FDS)]
    except OSError:
        return
    for fd in fds:
        try:
            with _duplicate(fd) as candidate:
                if candidate is not None and (at := _listens_at(candidate)) is not None and at in wanted:
                    yield candidate, at
        except OSError:  # closed by another thread since it was listed
            continue


def can_see() -> bool:
    """Whether this platform lets us look at our own sockets."""
    return os.path.isdir(_FDS)


def listening(wanted: Collection[Where]) -> set[Where]:
    """Where of these this very process listens (another member of a SO_REUSEPORT group does not count)."""
    return {at for _, at in _each_listening(wanted)}


def stop_listening(wanted: Collection[Where], *, hand_over: bool = False) -> int:
    """Refuse new connections there for ever. Returns how many sockets were closed to newcomers.

    `hand_over`: others listen on the same port (SO_REUSEPORT). Connections that wait to be accepted would be reset with the
    socket, although the others could have had them. So newcomers are made to knock again first (their first SYN is dropped; the
    second comes after a second, and finds another socket), and those that are here already are let in, for a moment.
    """
    if hand_over:
        _turn_away(wanted)
    stopped = 0
    for candidate, _ in _each_listening(wanted):
        try:
            candidate.shutdown(socket.SHUT_RDWR)
            stopped += 1
        except OSError:  # listed twice under two descriptors: the second shutdown finds it already done (ENOTCONN)
            continue
    return stopped


def _turn_away(wanted: Collection[Where]) -> None:
    """Drop what would open a connection, and wait until grpc has accepted the others. Blocks for `_STILL` to `_STILL_MOST`."""
    turned = False
    for candidate, at in _each_listening(wanted):
        if not isinstance(at, str):
            with contextlib.suppress(OSError):  # forbidden: then they take their chance
                candidate.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _no_newcomers())
                turned = True
    until = time.monotonic() + _STILL_MOST
    still_since = time.monotonic()
    while turned and (now := time.monotonic()) < until and now - still_since < _STILL:
        if any(_waiting(candidate) for candidate, at in _each_listening(wanted) if not isinstance(at, str)):
            still_since = now
        time.sleep(_LOOK)


def _no_newcomers() -> bytes:
    """A classic BPF program (filter.h) for a listening socket: drops a SYN without ACK, passes all else."""
    return struct.pack("@HP", len(_PROGRAM) // 8, ctypes.addressof(_PROGRAM_BUFFER))


def _waiting(listener: socket.socket) -> int:
    """Connections that are not accepted yet (tcp_info.tcpi_unacked, which for a listening socket is its queue)."""
    return int.from_bytes(listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)[24:28], "little")


def connected(wanted: Collection[Where], *, shared: bool = False) -> int | None:
    """How many TCP connections to these ports the kernel holds, accepted by grpc or not yet. None where it cannot be asked.

    What channelz does not list of them is still in its handshake. `shared`: other processes listen on the same ports; then
    connections count that are ours, or nobody's yet.
    """
    ports = {f"{at[1]:04X}" for at in wanted if not isinstance(at, str)}
    mine = _inodes() | {"0"} if shared else None
    found = 0
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as lines:
                next(lines)
                found += sum(1 for line in lines if _is_established(line.split(None, 10), ports, mine))
        except OSError:  # no IPv6; without the first table there is nothing to know
            if table == "/proc/net/tcp":
                return None
    return found


def _is_established(columns: list[str], ports: Collection[str], inodes: Collection[str] | None) -> bool:
    of_these = columns[3] == "01" and columns[1].rpartition(":")[2] in ports
    return of_these and (inodes is None or columns[9] in inodes)


def _inodes() -> set[str]:
    """Of the sockets of this process."""
    found = set()
    for fd in os.listdir(_FDS):
        with contextlib.suppress(OSError):  # closed since it was listed
            name = os.readlink(f"{_FDS}/{fd}")
            if name.startswith("socket:["):
                found.add(name[len("socket:[") : -1])
    return found
