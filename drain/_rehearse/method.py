"""The method that is called, and with what: found by the server's own reflection, or given as raw bytes."""

import binascii
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from drain._rehearse.errors import RehearsalError

BOUND = 10.0  # seconds for reflection to answer


class MethodError(RehearsalError):
    """The method cannot be called. Its text says what to do."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method and its request.

    Attributes:
        path: "/shop.Orders/Get". request: the message's bytes. streams: whether it answers with a stream.
        metadata: sent with each call. timeout: seconds that a call may take.
        lasts: seconds after which the caller itself ends a stream, as it does with one that has no end of its own.
    """

    path: str
    request: bytes = b""
    streams: bool = False
    metadata: tuple[tuple[str, str], ...] = ()
    timeout: float = 10.0
    lasts: float = 5.0


def path_of(written: str) -> str:
    """`shop.Orders/Get` as a path. Raises MethodError."""
    service, slash, name = written.removeprefix("/").partition("/")
    if not slash or not service or not name or "/" in name or not written.isascii() or not written.isprintable():
        raise MethodError(
            f"{written!r} is no method: write SERVICE/METHOD with the service's full name, such as shop.Orders/Get"
        )
    return f"/{service}/{name}"


def raw(written: str) -> bytes:
    """A request in hexadecimal. Raises MethodError."""
    try:
        return binascii.unhexlify("".join(written.split()))
    except (binascii.Error, ValueError):
        raise MethodError(f"{written[:60]!r} is not hexadecimal") from None


def by_reflection(channel: grpc.Channel, path: str, message: str | None) -> tuple[bytes, bool]:
    """The request (JSON as protobuf has it; None: empty) as bytes, and whether the method answers with a stream.

    Raises MethodError: there is no reflection, no such method, it takes a stream, or the JSON does not fit.
    """
    try:
        from google.protobuf import descriptor_pool, json_format, message_factory  # noqa: PLC0415
        from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (  # noqa: PLC0415 - an extra
            ProtoReflectionDescriptorDatabase,
        )
    except ModuleNotFoundError as error:
        raise MethodError(f"{error.name} is not installed: pip install 'grpc-drain[cli]', or give --raw") from None
    service, _, name = path.removeprefix("/").partition("/")
    over = threading.Event()

    def give_up() -> None:
        over.set()
        channel.close()

    late = threading.Timer(BOUND, give_up)  # reflection has no deadline of its own
    late.daemon = True
    late.start()
    try:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = descriptor_pool.DescriptorPool(database)
        methods = pool.FindServiceByName(service).methods_by_name
    except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed
        why = _told(error) if not over.is_set() else f"no answer within {BOUND:g} s"
        raise MethodError(
            f"the server cannot be asked about {service}: {why}. Give --raw HEX (`--raw ''` is the empty message)"
        ) from None
    except KeyError:
        known = ", ".join(sorted(database.get_services())[:8])
        raise MethodError(f"the server's reflection knows no service {service!r}; it knows {known}") from None
    finally:
        late.cancel()
    if name not in methods:
        raise MethodError(f"{service} has no method {name!r}; it has {', '.join(sorted(methods))}")
    method = methods[name]
    if method.client_streaming:
        raise MethodError(f"{service}/{name} takes a stream of requests, which cannot be rehearsed with")
    request = message_factory.GetMessageClass(method.input_type)()
    try:
        json_format.Parse(message or "{}", request)
    except (json_format.ParseError, ValueError, RecursionError) as error:
        raise MethodError(f"--data is no {method.input_type.full_name}: {error}") from None
    return request.SerializeToString(), bool(method.server_streaming)


def metadata(given: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """`key=value`s. Raises MethodError."""
    pairs = [each.partition("=") for each in given]
    for (key, equals, _), each in zip(pairs, given, strict=True):
        if not equals or not key or key != key.lower() or key.endswith("-bin"):
            raise MethodError(f"--metadata {each!r}: write key=value, the key in lower case")
    return tuple((key, value) for key, _, value in pairs)


def _told(error: Exception) -> str:
    if not isinstance(error, grpc.Call):
        return str(error)[:300]
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return "it has no reflection"
    return f"{error.code().name}: {error.details()}"[:300]
