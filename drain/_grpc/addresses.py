"""Reserving a listening address before grpc binds it.

A server that follows a Listener binds late, and a bind that fails then aborts the whole process; it hides the number
behind port 0, too. So the address is had first, here, where failing is an ordinary error: resolved, found free, and
held by sockets that never listen, until grpc does (`Reservation.release`).

One socket both checks that nobody else is there and holds the port, without a gap (measured on Linux 6.18; each line
is a test in tests/integration/test_addresses.py):

- It is bound without SO_REUSEPORT, so it fails where anybody is bound, sharing or not. Setting SO_REUSEPORT *after*
  the bind lets grpc's socket (SO_REUSEPORT, same user) in beside it. At no moment is the port free.
- It stays without SO_REUSEADDR: beside a holder that has it and does not listen, the kernel lets a stranger with
  SO_REUSEADDR bind *and listen*, and grpc's own bind would fail then.
- Connections in TIME_WAIT, which a server leaves behind when it closed first, refuse a bind without SO_REUSEADDR. Only
  then the bind is repeated with it, and it is taken back at once. For these few microseconds a stranger that uses
  SO_REUSEADDR could bind as well: the one gap that is left.
- Strangers of the same user that set SO_REUSEPORT are let in by the kernel beside a holder, as they are beside grpc
  itself.
- Unix paths cannot be shared, so they cannot be held: they are only tried. grpc replaces any socket file, even one
  that a living server listens on; we refuse that one.

The forms are those that grpc's servers take. It takes no `ipv4:`, `ipv6:` or `dns:` there (the client's forms), no
port without a host, and the wheels of grpcio no `vsock:`. 0.0.0.0 and [::] are the same to grpc: all addresses of both
families.
Over 300 lines, because each form has its own way of being busy.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import re
import socket
import stat
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self
from urllib.parse import unquote

from drain.errors import BindError

Kind = Literal["tcp", "unix", "unix-abstract"]

_DEFAULT_PORT = 443  # grpc's, for an address without one ("https")
_UNIX_PORT = 1  # what grpc's add_insecure_port returns for Unix addresses
_LONGEST_UNIX_NAME = 107  # sockaddr_un has 108 bytes: a path ends with a zero byte, an abstract name begins with one
_ATTEMPTS = 32  # to find one number that is free on all addresses of a name; more than one is rare
_CLIENTS_FORMS = ("ipv4:", "ipv6:", "dns:", "xds:", "passthrough:", "http:", "https:")
_NO_SUCH_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})

_REMEDIES = {
    errno.EADDRINUSE: (
        "Another process has it (see: ss -ltnp). Stop that one or choose another port; if both are to share it, both "
        'need the option ("grpc.so_reuseport", 1) and the same user.'
    ),
    errno.EACCES: "This user may not bind ports so low: choose one from 1024 up, or grant CAP_NET_BIND_SERVICE.",
    errno.EADDRNOTAVAIL: "This machine has no such address: use [::] to listen on all that it has.",
}


@dataclass(frozen=True, slots=True)
class Reservation:
    """An address that grpc can bind now. Release it when grpc listens, or when the server will not start.

    A context manager; `release` may be called any number of times, from any thread. The sockets are not inherited by
    programs that this process executes.
    """

    address: str
    """As the user wrote it, with the real number in place of port 0."""
    addresses: tuple[str, ...]
    """What to give to grpc, one by one: numeric, so that grpc does not resolve a name again and get another answer."""
    port: int
    """The number; 1 for Unix addresses, as grpc has it."""
    kind: Kind
    path: str | None = None
    """The Unix path, or the abstract name after a zero byte: what `getsockname` of the listening socket says."""
    _sockets: tuple[socket.socket, ...] = field(default=(), repr=False, compare=False)

    def release(self) -> None:
        """Stop holding the port. Not before grpc listens: in between it would be anybody's."""
        for holder in self._sockets:
            holder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def reserve(address: str, *, shared: bool = False) -> Reservation:
    """Make sure that `address` can be bound, and hold it for grpc.

    Takes `host:port`, `[::1]:port`, `0.0.0.0:port`, `[::]:port` (port 0: any free one, the same for all addresses of a
    name), `host` alone (port 443, grpc's default), `unix:path`, `unix-abstract:name`. `shared`: others with
    SO_REUSEPORT may be there already; without it anybody else is an error. Raises `BindError`, which is a
    `RuntimeError` as grpc's own is.
    """
    if address.startswith("unix-abstract:"):
        return _reserve_abstract(address)
    if address.startswith("unix:"):
        return _reserve_path(address)
    host, port = _split(address)
    targets = _resolve(address, host, port)
    sockets = _hold_all(address, targets, shared=shared)
    number: int = sockets[0][1].getsockname()[1]
    return Reservation(
        address=f"[{host}]:{number}" if ":" in host else f"{host}:{number}",
        addresses=tuple(_numeric(target, number) for target, _ in sockets),
        port=number,
        kind="tcp",
        _sockets=tuple(holder for _, holder in sockets),
    )


def _refused(address: str, what: str, remedy: str) -> BindError:
    return BindError(f"Failed to bind to address {address}: {what}. {remedy}")


def _failed(address: str, error: OSError, where: str = "") -> BindError:
    number = error.errno or 0
    what = f"{os.strerror(number)} ({errno.errorcode.get(number, number)}){where}"
    return _refused(address, what, _REMEDIES.get(number, "See errno(3)."))


# -- host and port ---------------------------------------------------------------------------------------------------


def _split(address: str) -> tuple[str, int]:
    """Host, without brackets, and port number."""
    if address.startswith(_CLIENTS_FORMS):
        raise _refused(
            address, "this form is for clients", 'Write host:port, such as "[::]:50051" or "127.0.0.1:50051".'
        )
    if address.startswith("vsock:"):
        raise _refused(address, "grpcio is built without vsock", 'Write host:port or "unix:/path".')
    if found := re.fullmatch(r"\[([^\[\]]*)\](?::(.*))?", address):
        host, port = found[1], found[2]
    elif address.count(":") == 1:
        host, port = address.split(":")
    else:
        host, port = address, None  # a name, or an IPv6 address without brackets and port
    if not host or (re.fullmatch(r"[\d.]+", host) and not _is_literal(host)):
        raise _refused(address, "it has no host", f'Write "[::]:{port or host or 50051}" to listen on all addresses.')
    return host, _port(address, port) if port else _DEFAULT_PORT


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _port(address: str, text: str) -> int:
    if re.fullmatch(r"[0-9]{1,9}", text):
        if (number := int(text)) <= 65535:  # grpc itself would take 70000 for 4464
            return number
    else:
        with contextlib.suppress(OSError):
            return socket.getservbyname(text, "tcp")
    raise _refused(address, f"{text!r} is no port", "Write a number from 0 (any free one) to 65535.")


@dataclass(frozen=True, slots=True)
class _Target:
    """One resolved address."""

    family: int
    sockaddr: tuple[str, int] | tuple[str, int, int, int]

    @property
    def is_wildcard(self) -> bool:
        return self.sockaddr[0] in ("::", "0.0.0.0")  # noqa: S104  # compared, not bound

    def at(self, port: int) -> _Target:
        return _Target(self.family, (self.sockaddr[0], port, *self.sockaddr[2:]))


def _resolve(address: str, host: str, port: int) -> list[_Target]:
    if re.fullmatch(r"(.+\.)?localhost", host, re.IGNORECASE):
        # grpc's resolver (c-ares, 1.83 and later) follows RFC 6761: both loopbacks, whatever /etc/hosts says.
        return [_Target(socket.AF_INET6, ("::1", port, 0, 0)), _Target(socket.AF_INET, ("127.0.0.1", port))]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else str(error)
        raise _refused(
            address, f"{host!r} cannot be resolved ({reason})", "Use an address of this machine, or [::] for all."
        ) from error
    targets = (_Target(family, sockaddr) for family, _, _, _, sockaddr in found)  # type: ignore[arg-type]
    return list(dict.fromkeys(targets))


def _numeric(target: _Target, port: int) -> str:
    host, _ = socket.getnameinfo(target.at(port).sockaddr, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _hold_all(address: str, targets: list[_Target], *, shared: bool) -> list[tuple[_Target, socket.socket]]:
    """A holder on each address that this machine has, all with one number."""
    for attempt in range(_ATTEMPTS):
        held: list[tuple[_Target, socket.socket]] = []
        absent: tuple[_Target, OSError] | None = None
        try:
            for target in targets:
                # The number that the kernel chose for the first counts for the others as well.
                wanted = target.at(held[0][1].getsockname()[1]) if held else target
                try:
                    held.append((target, _hold(wanted, shared=shared)))
                except OSError as error:
                    if error.errno not in _NO_SUCH_FAMILY:
                        raise
                    absent = absent or (target, error)  # as grpc: those that are there suffice
        except OSError as error:
            _close(held)
            chosen_by_us = held and target.sockaddr[1] == 0
            if not (chosen_by_us and error.errno == errno.EADDRINUSE and attempt < _ATTEMPTS - 1):
                raise _failed(address, error, _where(target, targets)) from error
            continue
        if not held:
            assert absent is not None, "getaddrinfo succeeded without an address"
            raise _failed(address, absent[1], _where(absent[0], targets)) from absent[1]
        return held
    raise AssertionError("the last attempt returns or raises")


def _where(target: _Target, targets: list[_Target]) -> str:
    return f" at {target.sockaddr[0]}" if len(targets) > 1 else ""


def _close(held: list[tuple[_Target, socket.socket]]) -> None:
    for _, holder in held:
        holder.close()


def _hold(target: _Target, *, shared: bool) -> socket.socket:
    if not target.is_wildcard:
        return _bound(target, shared=shared)
    # grpc listens on [::] for 0.0.0.0 as well, and takes IPv4 alone where it cannot have IPv6.
    port = target.sockaddr[1]
    both = _Target(socket.AF_INET6, ("::", port, 0, 0))
    try:
        return _bound(both, shared=shared)
    except OSError as error:
        taken_on_ipv6_only = error.errno == errno.EADDRINUSE and target.family == socket.AF_INET
        if error.errno not in _NO_SUCH_FAMILY and not taken_on_ipv6_only:
            raise
        ipv4 = _Target(socket.AF_INET, ("0.0.0.0", port))  # noqa: S104  # what the user asked for
        return _bound(ipv4, shared=shared)


def _bound(target: _Target, *, shared: bool) -> socket.socket:
    """A bound socket that lets grpc's in beside it; for each step see the module's docstring."""
    holder = socket.socket(target.family, socket.SOCK_STREAM)
    try:
        if target.family == socket.AF_INET6 and target.is_wildcard:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if shared:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            holder.bind(target.sockaddr)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # because of TIME_WAIT, perhaps
            holder.bind(target.sockaddr)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except BaseException:
        holder.close()
        raise
    return holder


# -- Unix sockets ----------------------------------------------------------------------------------------------------


def _reserve_path(address: str) -> Reservation:
    path = _unix_name(address, "unix:")
    try:
        _remove_stale(address, path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
            trial.bind(path)  # tells of missing directories and permissions now, and not when grpc binds
        os.unlink(path)
    except OSError as error:
        raise _refused(
            address,
            f"{os.strerror(error.errno or 0)} ({errno.errorcode.get(error.errno or 0)})",
            "Its directory must exist and be writable, and the path must be free or a socket that nobody listens on.",
        ) from error
    return Reservation(address=address, addresses=(address,), port=_UNIX_PORT, kind="unix", path=path)


def _reserve_abstract(address: str) -> Reservation:
    name = "\0" + _unix_name(address, "unix-abstract:")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
            trial.bind(name)
    except OSError as error:
        raise _failed(address, error) from error
    return Reservation(address=address, addresses=(address,), port=_UNIX_PORT, kind="unix-abstract", path=name)


def _unix_name(address: str, scheme: str) -> str:
    name = unquote(address.removeprefix(scheme))  # grpc reads it as a URI: "%20" is a space
    if not name or "\0" in name:
        raise _refused(address, "it has no name", f'Write "{scheme}" and a name, such as "unix:/run/app/grpc.sock".')
    if (length := len(os.fsencode(name))) > _LONGEST_UNIX_NAME:
        raise _refused(
            address, f"{length} bytes are too long for a Unix socket", f"It has {_LONGEST_UNIX_NAME} at most."
        )
    return name


def _remove_stale(address: str, path: str) -> None:
    """Remove the socket file of a server that is gone, as grpc does; refuse a living one's, as grpc does not."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return  # the bind that follows says so
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            client.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:  # its queue is full: somebody listens
            pass
        except OSError as error:
            if error.errno != errno.EPROTOTYPE:  # EPROTOTYPE: a living datagram socket
                raise
    raise _refused(address, "another process listens there", "Stop it first, or choose another path.")
