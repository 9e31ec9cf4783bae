"""Reserving addresses, on real sockets and with the real grpc; the kernel's and C-core's rules have their own tests.

Over 300 lines: one list of the ways an address can be written, taken or lost.
"""

import contextlib
import errno
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from drain._grpc import addresses
from drain._grpc.addresses import Reservation, reserve
from drain.errors import BindError, ConfigurationError

TCP_FORMS = ("127.0.0.1", "[::1]", "localhost", "[::]", "0.0.0.0")
each_form = pytest.mark.parametrize("host", TCP_FORMS)


@contextlib.contextmanager
def grpc_server(*options: tuple[str, Any]) -> Iterator[grpc.Server]:
    server = grpc.server(futures.ThreadPoolExecutor(1), options=options)
    try:
        yield server
    finally:
        server.stop(None).wait()


@contextlib.contextmanager
def stranger(
    family: int = socket.AF_INET, *, address: bool = False, port: bool = False, v6_only: bool = False
) -> Iterator[socket.socket]:
    """A socket of somebody else; `address` and `port`: with SO_REUSEADDR, SO_REUSEPORT."""
    with socket.socket(family, socket.SOCK_STREAM) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, address)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, port)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6_only)
        yield made


def errno_of(act: Callable[[], object]) -> int | None:
    try:
        act()
    except OSError as error:
        return error.errno
    return None


def connect(host: str, port: int) -> None:
    socket.create_connection((host, port), timeout=10).close()


# -- a reservation and grpc ------------------------------------------------------------------------------------------


@each_form
@pytest.mark.parametrize("shared", [False, True])
def test_grpc_binds_what_is_reserved_while_it_is_held(host: str, shared: bool) -> None:
    with reserve(f"{host}:0", shared=shared) as reservation, grpc_server() as server:
        assert reservation.address == f"{host}:{reservation.port}"
        assert reservation.port > 0
        assert (reservation.kind, reservation.path) == ("tcp", None)
        for address in reservation.addresses:
            assert server.add_insecure_port(address) == reservation.port
        server.start()
        reservation.release()
        connect({"localhost": "127.0.0.1"}.get(host, host.strip("[]")), reservation.port)


@each_form
def test_a_port_that_is_wanted_by_number_is_the_one_reserved(host: str) -> None:
    with reserve(f"{host}:0") as first:
        pass
    with reserve(first.address) as again:
        assert again == first


def test_localhost_is_both_loopbacks_with_one_number_as_for_grpc() -> None:
    """The resolver of grpcio 1.83 and later does not ask /etc/hosts for it (RFC 6761); that of 1.76 does."""
    with reserve("localhost:0") as reservation, grpc_server() as server:
        assert reservation.addresses == (f"[::1]:{reservation.port}", f"127.0.0.1:{reservation.port}")
        for address in reservation.addresses:
            assert server.add_insecure_port(address) == reservation.port
        server.start()
        reservation.release()
        connect("::1", reservation.port)
        connect("127.0.0.1", reservation.port)


@pytest.mark.parametrize("host", ["[::]", "0.0.0.0"])
def test_a_wildcard_is_both_families_as_for_grpc(host: str) -> None:
    with reserve(f"{host}:0") as reservation, grpc_server() as server:
        server.add_insecure_port(*reservation.addresses)
        server.start()
        reservation.release()
        connect("::1", reservation.port)
        connect("127.0.0.1", reservation.port)


def test_the_holder_does_not_accept_connections() -> None:
    with reserve("127.0.0.1:0") as reservation, pytest.raises(ConnectionRefusedError):
        connect("127.0.0.1", reservation.port)


def test_every_connection_goes_to_grpc_while_the_holder_is_still_there() -> None:
    with reserve("127.0.0.1:0") as reservation, grpc_server() as server:
        server.add_insecure_port(reservation.address)
        server.start()
        for _ in range(50):
            connect("127.0.0.1", reservation.port)


def test_release_frees_the_port_and_may_be_called_again() -> None:
    reservation = reserve("127.0.0.1:0")
    reservation.release()
    reservation.release()
    with stranger() as other:
        other.bind(("127.0.0.1", reservation.port))


def test_a_program_that_is_executed_does_not_inherit_the_holder() -> None:
    with reserve("[::1]:0") as reservation:
        assert not any(os.get_inheritable(holder.fileno()) for holder in reservation._sockets)


def test_an_error_leaves_no_socket_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []

    class Recorded(socket.socket):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            made.append(self)

    with stranger() as other:
        other.bind(("127.0.0.1", 0))
        monkeypatch.setattr(socket, "socket", Recorded)
        for host in ("127.0.0.1", "localhost", "0.0.0.0"):
            with pytest.raises(BindError):
                reserve(f"{host}:{other.getsockname()[1]}")
    assert made
    assert all(each.fileno() == -1 for each in made)


# -- busy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("listening", [True, False])
@pytest.mark.parametrize("sharing", [True, False])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::]", "0.0.0.0"])
def test_anybody_else_on_the_port_is_an_error_that_grpc_would_raise_too(
    host: str, sharing: bool, listening: bool
) -> None:
    with stranger(port=sharing) as other:
        other.bind(("127.0.0.1", 0))
        if listening:
            other.listen()
        with pytest.raises(BindError) as caught:
            reserve(f"{host}:{other.getsockname()[1]}")
    text = str(caught.value)
    assert text.startswith(f"Failed to bind to address {host}:")
    assert host in text
    assert "EADDRINUSE" in text
    assert "grpc.so_reuseport" in text
    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value, ConfigurationError)


def test_another_grpc_server_on_the_port_is_noticed_although_grpc_shares_silently() -> None:
    with grpc_server() as one, grpc_server() as two:
        port = one.add_insecure_port("127.0.0.1:0")
        one.start()
        assert two.add_insecure_port(f"127.0.0.1:{port}") == port, "grpc alone says nothing"
        with pytest.raises(BindError):
            reserve(f"127.0.0.1:{port}")


def test_a_second_reservation_of_the_same_port_is_refused() -> None:
    """Two servers starting at once: neither listens yet."""
    with reserve("127.0.0.1:0") as first, pytest.raises(BindError):
        reserve(first.address)


def test_sharing_joins_those_that_share_and_no_others() -> None:
    with stranger(port=True) as sharing, stranger() as alone:
        for other in (sharing, alone):
            other.bind(("127.0.0.1", 0))
            other.listen()
        with reserve(f"127.0.0.1:{sharing.getsockname()[1]}", shared=True) as reservation, grpc_server() as server:
            assert server.add_insecure_port(reservation.address) == reservation.port
        with pytest.raises(BindError):
            reserve(f"127.0.0.1:{alone.getsockname()[1]}", shared=True)


def test_several_reservations_share_one_port() -> None:
    with reserve("127.0.0.1:0", shared=True) as one, reserve(one.address, shared=True) as two:
        assert one.port == two.port


def test_0_0_0_0_is_taken_where_only_ipv6_is_busy_as_by_grpc() -> None:
    with stranger(socket.AF_INET6, v6_only=True) as other:
        other.bind(("::1", 0))
        other.listen()
        address = f"0.0.0.0:{other.getsockname()[1]}"
        with reserve(address) as reservation, grpc_server() as server:
            assert server.add_insecure_port(reservation.address) == reservation.port
        with pytest.raises(BindError):
            reserve(f"[::]:{other.getsockname()[1]}")


def test_of_parallel_reservations_exactly_one_gets_the_port() -> None:
    """No moment between the check and the hold: whoever comes second is refused, at whatever moment he comes."""
    for _ in range(30):
        with reserve("127.0.0.1:0") as found:
            pass
        start, won = threading.Barrier(4), list[Reservation]()

        def contend(
            address: str = found.address, start: threading.Barrier = start, won: list[Reservation] = won
        ) -> None:
            start.wait()
            with contextlib.suppress(BindError):
                won.append(reserve(address))

        threads = [threading.Thread(target=contend) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for reservation in won:
            reservation.release()
        assert len(won) == 1


def test_a_name_whose_second_address_is_busy_gets_another_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Port 0 and several addresses: the number that the kernel chose for the first is busy on the second, so again."""
    bound, refusals = addresses._bound, [2]

    def busy_twice(target: Any, *, shared: bool) -> socket.socket:
        if target.family == socket.AF_INET and refusals[0]:
            refusals[0] -= 1
            raise OSError(errno.EADDRINUSE, "busy")
        return bound(target, shared=shared)

    monkeypatch.setattr(addresses, "_bound", busy_twice)
    with reserve("localhost:0") as reservation:
        assert len(reservation.addresses) == 2
        assert refusals == [0]


# -- restart after a crash -------------------------------------------------------------------------------------------


def _time_wait(sharing: bool) -> int:
    """A port whose only occupant is a connection in TIME_WAIT: the server closed first, and is gone."""
    with stranger(address=True, port=sharing) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port: int = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            accepted, _ = listener.accept()
            accepted.close()
            assert client.recv(1) == b""
    return port


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("sharing", [False, True])
def test_connections_in_time_wait_do_not_refuse_a_restart(sharing: bool, shared: bool) -> None:
    with reserve(f"127.0.0.1:{_time_wait(sharing)}", shared=shared) as reservation, grpc_server() as server:
        assert server.add_insecure_port(reservation.address) == reservation.port


def test_time_wait_refuses_a_bind_without_so_reuseaddr() -> None:
    """Why the bind is repeated with it."""
    port = _time_wait(sharing=False)
    with stranger() as plain, stranger(address=True) as reusing:
        assert errno_of(lambda: plain.bind(("127.0.0.1", port))) == errno.EADDRINUSE
        reusing.bind(("127.0.0.1", port))


def test_after_time_wait_the_port_is_held_as_firmly() -> None:
    with reserve(f"127.0.0.1:{_time_wait(sharing=True)}") as reservation:
        _assert_held(reservation.port)


def test_a_killed_server_leaves_nothing_that_stops_the_next(tmp_path: Path) -> None:
    """TCP and Unix: a process that is killed while it holds and listens."""
    code = (
        "import grpc, sys, time\n"
        "from concurrent import futures\n"
        "from drain._grpc.addresses import reserve\n"
        "server, held = grpc.server(futures.ThreadPoolExecutor(1)), [reserve(a) for a in sys.argv[1:]]\n"
        "for one in held: server.add_insecure_port(one.address)\n"
        "server.start()\n"
        "print(*(one.address for one in held), flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, "127.0.0.1:0", f"unix:{tmp_path}/s"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        tcp, unix = process.stdout.readline().split()
        with socket.create_connection(("127.0.0.1", int(tcp.rpartition(":")[2])), timeout=10):
            for address in (tcp, unix):
                with pytest.raises(BindError):
                    reserve(address)
            process.kill()
            process.wait(timeout=10)
            for address in (tcp, unix):
                reserve(address).release()


# -- facts about the kernel that the holder rests on -----------------------------------------------------------------


def _assert_held(port: int) -> None:
    """No stranger that does not share gets in; grpc, which does, gets in."""
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::")):
        for reuse_address in (False, True):
            with stranger(family, address=reuse_address) as other:
                assert errno_of(partial(other.bind, (host, port))) == errno.EADDRINUSE
    with stranger(address=True, port=True) as grpcs:
        grpcs.bind(("127.0.0.1", port))
        grpcs.listen()


def test_so_reuseport_set_after_the_bind_lets_grpc_in_and_nobody_else() -> None:
    with stranger() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        with stranger(address=True, port=True) as early:
            assert errno_of(lambda: early.bind(("127.0.0.1", port))) == errno.EADDRINUSE, "exclusive until it is set"
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _assert_held(port)


@each_form
def test_a_reserved_port_is_held(host: str) -> None:
    with reserve(f"{host}:0") as reservation:
        if host != "[::1]":
            _assert_held(reservation.port)
        with stranger(socket.AF_INET6, address=True) as other:
            assert errno_of(lambda: other.bind(("::", reservation.port))) == errno.EADDRINUSE


def test_beside_a_holder_with_so_reuseaddr_a_stranger_could_listen() -> None:
    """Why the holder must not have it: the stranger would get every connection, and grpc's bind would fail."""
    with stranger(address=True) as holder, stranger(address=True) as other, stranger(address=True, port=True) as grpcs:
        holder.bind(("127.0.0.1", 0))
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(holder.getsockname())
        other.listen()
        assert errno_of(lambda: grpcs.bind(holder.getsockname())) == errno.EADDRINUSE


def test_a_stranger_that_shares_gets_in_beside_a_holder_as_beside_grpc() -> None:
    """The kernel's rule for one user's sockets with SO_REUSEPORT; grpc's own default."""
    with reserve("127.0.0.1:0") as reservation, stranger(port=True) as other, grpc_server() as server:
        other.bind(("127.0.0.1", reservation.port))
        assert server.add_insecure_port(reservation.address) == reservation.port


# -- no IPv6 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_without_ipv6_the_wildcard_is_ipv4_alone(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    bound = addresses._bound

    def without_ipv6(target: Any, *, shared: bool) -> socket.socket:
        if target.family == socket.AF_INET6:
            raise OSError(number, "no IPv6")
        return bound(target, shared=shared)

    monkeypatch.setattr(addresses, "_bound", without_ipv6)
    for host in ("[::]", "0.0.0.0"):
        with reserve(f"{host}:0") as reservation:
            assert reservation.addresses == (f"{host}:{reservation.port}",)
            assert [holder.getsockname() for holder in reservation._sockets] == [("0.0.0.0", reservation.port)]
    with reserve("localhost:0") as reservation:
        assert reservation.addresses == (f"127.0.0.1:{reservation.port}",)
    with pytest.raises(BindError) as caught:
        reserve("[::1]:0")
    assert errno.errorcode[number] in str(caught.value)


# -- forms -----------------------------------------------------------------------------------------------------------

# What grpc refuses, we refuse with a reason.
REFUSED_BY_BOTH = (
    ("", "no host"),
    (":0", '"[::]:0"'),
    (":50051", '"[::]:50051"'),
    ("50051", '"[::]:50051"'),
    ("ipv4:127.0.0.1:0", "for clients"),
    ("ipv6:[::1]:0", "for clients"),
    ("dns:///127.0.0.1:0", "for clients"),
    ("vsock:1:5000", "without vsock"),
    ("127.0.0.1:nothing", "is no port"),
    ("foo:///bar", "is no port"),
    ("::1:0:x", "cannot be resolved"),
    ("no-such-host.invalid:0", "cannot be resolved"),
    ("192.0.2.1:0", "no such address"),
)


@pytest.mark.parametrize(("address", "reason"), REFUSED_BY_BOTH)
def test_what_grpc_refuses_is_refused_with_a_reason(address: str, reason: str) -> None:
    with pytest.raises(BindError) as caught:
        reserve(address)
    assert str(caught.value).startswith(f"Failed to bind to address {address}: ")
    assert reason in str(caught.value)
    with grpc_server() as server, pytest.raises(RuntimeError, match="Failed to bind to address"):
        server.add_insecure_port(address)


@pytest.mark.parametrize("address", ["0:0", "127.1:0"])
def test_abbreviated_addresses_are_refused(address: str) -> None:
    """As by grpcio 1.83 and later; 1.76 took them."""
    with pytest.raises(BindError, match="no host"):
        reserve(address)


def test_a_port_that_needs_a_privilege_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(target: Any, *, shared: bool) -> socket.socket:
        raise PermissionError(errno.EACCES, "forbidden")

    monkeypatch.setattr(addresses, "_bound", forbidden)
    with pytest.raises(BindError, match=r"EACCES.*1024"):
        reserve("[::]:80")


@pytest.mark.parametrize("address", ["127.0.0.1:70000", "127.0.0.1:-1", "127.0.0.1:65536"])
def test_port_numbers_that_grpc_would_wrap_round_are_refused(address: str) -> None:
    with pytest.raises(BindError, match="is no port"):
        reserve(address)


def test_an_address_without_a_port_has_grpcs_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("127.0.0.1", "127.0.0.1:", "127.0.0.1:https"):
        assert addresses._split(address) == ("127.0.0.1", 443)
    for address in ("::1", "[::1]", "[::1]:"):
        assert addresses._split(address) == ("::1", 443)


# -- Unix sockets ----------------------------------------------------------------------------------------------------


def test_a_unix_path_is_reserved_and_bound(tmp_path: Path) -> None:
    with reserve(f"unix:{tmp_path}/a%20b") as reservation, grpc_server() as server:
        assert (reservation.kind, reservation.port) == ("unix", 1)
        assert reservation.path == f"{tmp_path}/a b"
        assert not os.path.exists(reservation.path)
        assert server.add_insecure_port(*reservation.addresses) == 1
        assert stat.S_ISSOCK(os.stat(reservation.path).st_mode)


def test_a_stale_socket_file_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(f"{tmp_path}/s")
    with reserve(f"unix:{tmp_path}/s") as reservation, grpc_server() as server:
        assert server.add_insecure_port(reservation.address) == 1


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_living_unix_server_is_busy_although_grpc_would_take_its_path(tmp_path: Path, kind: int) -> None:
    with socket.socket(socket.AF_UNIX, kind) as living:
        living.bind(f"{tmp_path}/s")
        if kind == socket.SOCK_STREAM:
            living.listen()
        with pytest.raises(BindError, match="another process listens there"):
            reserve(f"unix:{tmp_path}/s")
        with grpc_server() as server:
            assert server.add_insecure_port(f"unix:{tmp_path}/s") == 1, "grpc alone replaces it silently"


def test_a_unix_server_with_a_full_queue_is_living(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as living, contextlib.ExitStack() as queue:
        living.bind(f"{tmp_path}/s")
        living.listen(0)
        while True:
            client = queue.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            if client.connect_ex(f"{tmp_path}/s"):
                break
        with pytest.raises(BindError, match="another process listens there"):
            reserve(f"unix:{tmp_path}/s")


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_socket_is_left_alone(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "s")
    with pytest.raises(BindError, match="EADDRINUSE"):
        reserve(f"unix:{tmp_path}/s")
    assert (tmp_path / "s").is_symlink() or (tmp_path / "s").exists()


def test_unix_names_that_cannot_be_bound_say_why(tmp_path: Path) -> None:
    longest = f"{tmp_path}/" + "x" * (107 - len(str(tmp_path)) - 1)
    reserve(f"unix:{longest}").release()
    for address, reason in (
        (f"unix:{longest}x", "108 bytes"),
        (f"unix:{tmp_path}/no/such", "ENOENT"),
        ("unix:", "no name"),
        ("unix:/a%00b", "no name"),
        ("unix-abstract:", "no name"),
        ("unix-abstract:" + "x" * 108, "108 bytes"),
    ):
        with pytest.raises(BindError) as caught:
            reserve(address)
        assert reason in str(caught.value)


def test_an_abstract_name_is_reserved_and_bound() -> None:
    name = f"drain-test-{os.getpid()}"
    with reserve(f"unix-abstract:{name}") as reservation, grpc_server() as server:
        assert (reservation.kind, reservation.port, reservation.path) == ("unix-abstract", 1, f"\0{name}")
        assert server.add_insecure_port(reservation.address) == 1
        with pytest.raises(BindError, match="EADDRINUSE"):
            reserve(reservation.address)
