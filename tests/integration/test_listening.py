"""Facts about stopping to listen behind grpc's back (drain/_grpc/listening.py): final, complete, cheap, and nobody else's.

Each is a fact of Linux or of grpc's C-core that drain rests on, and fails here by name if a new version breaks it.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import pytest

from drain._grpc.listening import can_see, connected, listening, stop_listening, where
from tests.integration._servers.calls import Client, code
from tests.integration._servers.service import Service
from tests.integration._servers.waiting import Told, listening_ports, until


class Plain:
    """A server of plain grpc: that is whose sockets these facts are about."""

    def __init__(self, *addresses: str) -> None:
        self.told = Told()
        self.service = Service(self.told)
        self.server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        self.server.add_generic_rpc_handlers(self.service.generic("sync"))
        self.ports = [self.server.add_insecure_port(address) for address in addresses]
        self.server.start()

    @property
    def port(self) -> int:
        """The first port."""
        return self.ports[0]


@pytest.fixture
def plain() -> Iterator[Plain]:
    """A plain server on loopback."""
    made = Plain("127.0.0.1:0")
    yield made
    made.service.release.set()
    made.server.stop(0).wait(10)


def refused(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a new connection is refused, which is what sends a caller elsewhere at once."""
    try:
        socket.create_connection((host, port), timeout=2).close()
    except ConnectionRefusedError:
        return True
    return False


def at(port: int, host: str = "127.0.0.1") -> frozenset[tuple[str, int] | str]:
    """One address."""
    return frozenset({where(f"{host}:{port}")})


def test_this_platform_lets_us_look() -> None:
    """Linux does."""
    assert can_see()


def test_new_connections_are_refused_and_open_ones_live(plain: Plain) -> None:
    """Calls in flight go on, and new calls on a connection that is open."""
    with Client(plain.port) as client:
        call = client.begin("Wait")
        plain.told.name("Wait")
        assert listening(at(plain.port)) == at(plain.port)
        assert stop_listening(at(plain.port)) == 1
        assert listening(at(plain.port)) == set()
        until(lambda: refused(plain.port))
        for _ in range(3):
            assert client.call("Echo") == b"hello"
        plain.service.release.set()
        assert code(call) == "OK"


def test_it_is_final(plain: Plain) -> None:
    """A second time does nothing, and `listen()` does not bring C-core's acceptor back: pausing must not stop listening."""
    stop_listening(at(plain.port))
    assert stop_listening(at(plain.port)) == 0
    for name in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as candidate:
                if candidate.family == socket.AF_INET and candidate.getsockname()[1] == plain.port:
                    candidate.listen()
        except OSError:
            continue
    with Client(plain.port) as client:
        assert client.code("Echo", timeout=1) in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


def test_no_cpu_is_burnt(plain: Plain) -> None:
    """C-core closes its acceptor instead of spinning on accept4."""
    with Client(plain.port) as client:
        client.call("Echo")
        stop_listening(at(plain.port))
        until(lambda: refused(plain.port))
        began, cpu = time.monotonic(), time.process_time()
        time.sleep(0.5)
        assert time.process_time() - cpu < 0.5 * (time.monotonic() - began)


def test_stopping_the_server_afterwards_is_as_ever(plain: Plain) -> None:
    """grpc does not stumble over a socket that was shut down; the port is free then."""
    stop_listening(at(plain.port))
    assert plain.server.stop(0).wait(5)
    until(lambda: plain.port not in listening_ports())
    socket.create_server(("127.0.0.1", plain.port)).close()


def test_what_is_not_ours_is_untouched(plain: Plain, tmp_path: Path) -> None:
    """Other ports, other addresses with the same number, connections, datagram sockets, Unix sockets, files and pipes."""
    with (
        socket.create_server(("127.0.0.1", 0)) as other_port,
        socket.create_server(("127.0.0.2", plain.port)) as same_number,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram,
        socket.socket(socket.AF_UNIX) as unix,
        (tmp_path / "file").open("w") as file,
        Client(plain.port) as client,
    ):
        datagram.bind(("127.0.0.1", plain.port))
        unix.bind(os.fspath(tmp_path / "s.sock"))
        unix.listen()
        client.call("Echo")
        assert stop_listening(at(plain.port)) == 1
        for untouched in (other_port, same_number):
            socket.create_connection(untouched.getsockname(), timeout=2).close()
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(unix.getsockname())
        datagram.sendto(b"x", datagram.getsockname())
        file.write("x")
        assert client.call("Echo") == b"hello"


def test_another_process_is_untouched(plain: Plain) -> None:
    """Only our own descriptors are looked at: a child that inherited nothing keeps its socket on the same port."""
    import subprocess
    import sys

    program = (
        "import socket, sys\n"
        "s = socket.create_server(('127.0.0.2', int(sys.argv[1])))\n"
        "print('ready', flush=True)\n"
        "s.accept()[0].sendall(b'here')\n"
    )
    command = [sys.executable, "-c", program, str(plain.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert stop_listening(at(plain.port, "127.0.0.2")) == 0
        with socket.create_connection(("127.0.0.2", plain.port), timeout=5) as caller:
            assert caller.recv(4) == b"here"


def test_no_descriptor_is_leaked(plain: Plain, tmp_path: Path) -> None:
    """Looking through the descriptors leaves none behind, whatever they are."""
    with (tmp_path / "file").open("w"), socket.create_server(("127.0.0.1", 0)):
        before = set(os.listdir("/proc/self/fd"))
        for _ in range(20):
            listening(at(plain.port))
            stop_listening(at(1))
        assert len(set(os.listdir("/proc/self/fd")) - before) <= 1  # that of listdir itself


@pytest.mark.parametrize(
    ("address", "same"),
    [
        ("127.0.0.1:80", "[::ffff:127.0.0.1]:80"),
        ("0.0.0.0:80", "[::]:80"),
        ("[fe80::1%lo]:80", "[fe80::1]:80"),
    ],
)
def test_one_spelling(address: str, same: str) -> None:
    """grpc binds IPv4 addresses as IPv6 ones where it can, and all addresses of both families at once."""
    assert where(address) == where(same)
    assert where(address) != where("[::1]:80")


@pytest.mark.parametrize("address", ["[::]:0", "0.0.0.0:0", "[::1]:0", "127.0.0.1:0"])
def test_what_grpc_binds_is_found(address: str) -> None:
    """Under the spelling of what it was asked for."""
    made = Plain(address)
    try:
        wanted = frozenset(
            {where(address.replace(":0", f":{made.port}") if address != "[::]:0" else f"[::]:{made.port}")}
        )
        assert listening(wanted) == wanted
        assert stop_listening(wanted) >= 1
        assert listening(wanted) == set()
    finally:
        made.server.stop(0).wait(5)


def test_unix_sockets(tmp_path: Path) -> None:
    """By path."""
    name = os.fspath(tmp_path / "s.sock")
    made = Plain(f"unix:{name}")
    try:
        with Client(f"unix:{name}") as client:
            assert client.call("Echo") == b"hello"
            assert listening([name]) == {name}
            assert stop_listening([name]) == 1
            with socket.socket(socket.AF_UNIX) as newcomer, pytest.raises(ConnectionRefusedError):
                newcomer.connect(name)  # though the kernel goes on to call it a listening socket
            assert client.call("Echo") == b"hello"
    finally:
        made.server.stop(0).wait(5)


def test_connected_counts_what_the_kernel_holds(plain: Plain) -> None:
    """Accepted by grpc or not: a connection that has not said a word yet counts as well."""
    before = connected(at(plain.port))
    assert before == 0
    with socket.create_connection(("127.0.0.1", plain.port)), Client(plain.port) as client:
        client.call("Echo")
        assert connected(at(plain.port)) == 2
        assert connected(at(1)) == 0
    until(lambda: connected(at(plain.port)) == 0)


SIBLING = """
import socket, sys
with socket.socket() as listener:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    listener.listen()
    print("listening", flush=True)
    accepted = []
    while True:
        accepted.append(listener.accept())
        print(len(accepted), flush=True)
"""


def test_those_of_a_sibling_on_the_same_port_are_told_apart() -> None:
    """Another process of a SO_REUSEPORT group has connections, too: a rotation of ours need not wait for their handshakes."""
    with socket.socket() as holder, ExitStack() as ended:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        sibling = subprocess.Popen([sys.executable, "-c", SIBLING, str(port)], stdout=subprocess.PIPE, text=True)
        ended.callback(sibling.wait)
        ended.callback(sibling.kill)
        assert sibling.stdout is not None
        assert sibling.stdout.readline() == "listening\n"
        ended.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert sibling.stdout.readline() == "1\n"
        assert connected(at(port)) == 1
        assert connected(at(port), shared=True) == 0
        holder.listen()
        mine = []
        while not mine:  # the kernel deals them out
            ended.enter_context(socket.create_connection(("127.0.0.1", port)))
            holder.settimeout(0.2)
            with suppress(TimeoutError):
                mine.append(ended.enter_context(holder.accept()[0]))
        until(lambda: connected(at(port), shared=True) == 1)
