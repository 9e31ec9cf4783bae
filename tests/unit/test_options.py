"""Channel arguments: what ServerKeepalive becomes, who wins, what is refused; and C-core's own rules behind it."""

import socket
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from drain._grpc.options import OptionClash, server_options
from drain.config import ServerKeepalive
from drain.errors import ConfigurationError

BOOTSTRAP = "grpc.TEST_ONLY_DO_NOT_USE_IN_PROD.xds_bootstrap_config"
EVERY = ServerKeepalive(
    max_connection_age=300,
    max_connection_age_grace="30s",
    max_connection_idle=60,
    keepalive_time=0.0015,
    keepalive_timeout=20,
    permit_without_calls=True,
    min_recv_ping_interval_without_data="10s",
    max_ping_strikes=3,
)


def test_every_field_becomes_its_argument() -> None:
    made = server_options(EVERY, None, lossless=False)
    assert dict(made.arguments) == {
        "grpc.max_connection_age_ms": 300_000,
        "grpc.max_connection_age_grace_ms": 30_000,
        "grpc.max_connection_idle_ms": 60_000,
        "grpc.keepalive_time_ms": 2,
        "grpc.keepalive_timeout_ms": 20_000,
        "grpc.http2.ping_timeout_ms": 20_000,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.min_ping_interval_without_data_ms": 10_000,
        "grpc.http2.max_ping_strikes": 3,
    }
    assert {type(value) for _, value in made.arguments} == {int}
    assert (made.clashes, made.shared, made.channelz) == ((), False, True)


def test_a_field_that_is_none_sets_nothing() -> None:
    assert server_options(ServerKeepalive(max_connection_age=None), None, lossless=False).arguments == ()
    assert server_options(None, None, lossless=False).arguments == ()


def test_false_and_zero_are_set() -> None:
    keepalive = ServerKeepalive(max_connection_age=None, permit_without_calls=False, max_ping_strikes=0)
    arguments = dict(server_options(keepalive, None, lossless=False).arguments)
    assert arguments == {"grpc.keepalive_permit_without_calls": 0, "grpc.http2.max_ping_strikes": 0}


def test_the_users_options_win_and_the_clash_is_told() -> None:
    users = [("grpc.max_connection_age_ms", 1000), ("grpc.max_send_message_length", -1)]
    made = server_options(ServerKeepalive(keepalive_time=60), users, lossless=False)
    assert made.arguments == (("grpc.keepalive_time_ms", 60_000), *users)
    assert made.clashes == (
        OptionClash("grpc.max_connection_age_ms", 300_000, 1000, 1000, "the user's own options win"),
    )


def test_the_same_value_from_both_is_no_clash_and_is_passed_once() -> None:
    made = server_options(ServerKeepalive(), [("grpc.max_connection_age_ms", 300_000)], lossless=False)
    assert made.clashes == ()
    assert made.arguments == (("grpc.max_connection_age_ms", 300_000),)


def test_the_first_of_several_counts_as_it_does_for_grpc() -> None:
    users = [("grpc.enable_channelz", 0), ("grpc.enable_channelz", 1), ("grpc.max_connection_age_ms", 300_000)]
    made = server_options(ServerKeepalive(), [*users, ("grpc.max_connection_age_ms", 5)], lossless=False)
    assert not made.channelz
    assert made.clashes == ()


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize(
    "name", ["grpc.server_config_fetcher", BOOTSTRAP, "grpc.experimental.server_config_change_drain_grace_time_ms"]
)
def test_what_lossless_goaway_rests_on_is_refused_in_every_mode(name: str, lossless: bool) -> None:
    with pytest.raises(ConfigurationError) as caught:
        server_options(None, [("grpc.max_send_message_length", 1), (name, 1)], lossless=lossless)
    assert name in str(caught.value)
    assert "because" in str(caught.value)


@pytest.mark.parametrize(
    ("users", "told"),
    [
        ("grpc.so_reuseport", "sequence of pairs"),
        ({"grpc.so_reuseport": 1}, "sequence of pairs"),
        (7, "sequence of pairs"),
        (["ab"], "options[0]"),
        ([("a", 1), ("b",)], "options[1]"),
        ([("a", 1, 2)], "options[0]"),
        ([None], "options[0]"),
        ([("a", 1), (2, 1)], "options[1]"),
        ([("", 1)], "options[0]"),
    ],
)
def test_malformed_options_get_one_clear_error(users: Any, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        server_options(None, users, lossless=True)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_forms_that_grpc_takes_are_taken() -> None:
    """Lists for pairs, bytes for names, any iterable, values of any kind."""
    users: Any = iter([["grpc.a", b"x"], (b"grpc.so_reuseport", 1)])
    made = server_options(None, users, lossless=False)
    assert made.arguments == (("grpc.a", b"x"), ("grpc.so_reuseport", 1))
    assert made.shared


@pytest.mark.parametrize(
    ("users", "shared", "clashes"),
    [([], False, 0), ([1], True, 0), ([True], True, 0), ([0], False, 1), ([0, 1], False, 1)],
)
def test_lossless_keeps_so_reuseport_on_because_a_socket_of_ours_holds_the_port(
    users: list[int], shared: bool, clashes: int
) -> None:
    made = server_options(None, [("grpc.so_reuseport", value) for value in users], lossless=True)
    assert made.arguments == (("grpc.so_reuseport", 1),)
    assert made.shared is shared
    assert [(c.name, c.applied) for c in made.clashes] == [("grpc.so_reuseport", 1)] * clashes


@pytest.mark.parametrize("value", [0, 1])
def test_classic_leaves_so_reuseport_to_the_user(value: int) -> None:
    made = server_options(None, [("grpc.so_reuseport", value)], lossless=False)
    assert made.arguments == (("grpc.so_reuseport", value),)
    assert made.shared is bool(value)
    assert not made.clashes


def test_channelz_may_be_switched_off() -> None:
    made = server_options(None, [("grpc.enable_channelz", 0), ("grpc.enable_retries", 0)], lossless=True)
    assert not made.channelz
    assert made.clashes == ()


def test_minimal_stack_is_reported_as_switching_connection_ages_off() -> None:
    made = server_options(ServerKeepalive(), [("grpc.minimal_stack", 1)], lossless=False)
    assert [c.name for c in made.clashes] == ["grpc.minimal_stack"]
    assert "grpc.max_connection_age_ms" in made.clashes[0].reason
    assert not server_options(
        ServerKeepalive(max_connection_age=None), [("grpc.minimal_stack", 1)], lossless=False
    ).clashes


# -- C-core's own rules ----------------------------------------------------------------------------------------------


@contextmanager
def _connected(*options: tuple[str, Any]) -> Iterator[socket.socket]:
    """A raw HTTP/2 connection to a server with these options."""
    server = grpc.server(futures.ThreadPoolExecutor(1), options=options)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        yield client
    server.stop(None)


_PING, _GOAWAY = 6, 7


def _frame(client: socket.socket, kind: int) -> bytes | None:
    """The payload of the first frame of this kind that is no answer; None: time over, or the peer closed."""
    stream = client.makefile("rb")
    try:
        while head := stream.read(9):
            payload = stream.read(int.from_bytes(head[:3], "big"))
            if head[3] == kind and not (kind == _PING and head[4] & 1):
                return payload
    except TimeoutError:
        pass
    return None


def _goaway(client: socket.socket) -> bytes | None:
    return _frame(client, _GOAWAY)


def _ping(client: socket.socket, times: int) -> None:
    client.sendall((b"\0\0\x08\x06\0\0\0\0\0" + b"12345678") * times)


def test_grpc_sends_a_graceful_goaway_at_max_connection_age() -> None:
    """`round`, milliseconds and the name of the argument: grpc acts on what we make of a ServerKeepalive."""
    made = server_options(ServerKeepalive(max_connection_age=0.2), None, lossless=False)
    with _connected(*made.arguments) as client:
        assert _goaway(client) == b"\x7f\xff\xff\xff" + b"\0\0\0\0" + b"max_age"


def test_grpc_closes_an_idle_connection_without_a_graceful_goaway() -> None:
    """The reason why max_connection_idle is off by default: last stream 0 and an error code, at once."""
    made = server_options(ServerKeepalive(max_connection_idle=0.2), None, lossless=False)
    with _connected(*made.arguments) as client:
        assert _goaway(client) == b"\0\0\0\0" + b"\0\0\0\2" + b"connection idle"


def test_grpc_takes_the_first_of_several() -> None:
    with _connected(("grpc.max_connection_age_ms", 200), ("grpc.max_connection_age_ms", 100_000)) as client:
        assert _goaway(client) is not None
    with _connected(("grpc.max_connection_age_ms", 100_000), ("grpc.max_connection_age_ms", 200)) as client:
        client.settimeout(0.6)
        assert _goaway(client) is None


def test_grpcs_minimal_stack_has_no_connection_age() -> None:
    with _connected(("grpc.minimal_stack", 1), ("grpc.max_connection_age_ms", 200)) as client:
        client.settimeout(0.6)
        assert _goaway(client) is None


def test_grpc_pings_a_connection_without_calls_only_where_that_is_permitted() -> None:
    keepalive = ServerKeepalive(keepalive_time=0.2, keepalive_timeout=0.2, permit_without_calls=True)
    with _connected(*server_options(keepalive, None, lossless=False).arguments) as client:
        assert _frame(client, _PING) is not None
    keepalive = ServerKeepalive(keepalive_time=0.2, keepalive_timeout=0.2)
    with _connected(*server_options(keepalive, None, lossless=False).arguments) as client:
        client.settimeout(0.6)
        assert _frame(client, _PING) is None


def test_grpc_closes_a_connection_whose_peer_does_not_answer_within_keepalive_timeout() -> None:
    keepalive = ServerKeepalive(keepalive_time=0.2, keepalive_timeout=0.2, permit_without_calls=True)
    with _connected(*server_options(keepalive, None, lossless=False).arguments) as client:
        assert (_goaway(client) or b"").endswith(b"ping_timeout")


def test_grpc_itself_does_not_obey_its_keepalive_timeout() -> None:
    """Why keepalive_timeout becomes two arguments. When this fails, one is enough from that grpcio on."""
    names = ("grpc.keepalive_time_ms", "grpc.keepalive_timeout_ms")
    with _connected(*((name, 200) for name in names), ("grpc.keepalive_permit_without_calls", 1)) as client:
        client.settimeout(0.8)
        assert _goaway(client) is None


def test_grpc_calls_more_strikes_than_max_ping_strikes_too_many_pings() -> None:
    keepalive = ServerKeepalive(max_ping_strikes=3)
    with _connected(*server_options(keepalive, None, lossless=False).arguments) as client:
        _ping(client, 1 + 3)  # the first is no strike
        client.settimeout(0.3)
        assert _goaway(client) is None
    with _connected(*server_options(keepalive, None, lossless=False).arguments) as client:
        _ping(client, 1 + 3 + 1)
        assert _goaway(client) == b"\0\0\0\0" + b"\0\0\0\x0b" + b"too_many_pings"


@pytest.mark.parametrize(
    "keepalive",
    [
        ServerKeepalive(max_ping_strikes=0),
        ServerKeepalive(permit_without_calls=True, min_recv_ping_interval_without_data=0),
    ],
)
def test_grpc_tolerates_any_ping_when_told_to(keepalive: ServerKeepalive) -> None:
    """Without permit_without_calls the interval on a connection without calls is two hours, whatever is set."""
    with _connected(*server_options(keepalive, None, lossless=False).arguments) as client:
        _ping(client, 20)
        client.settimeout(0.3)
        assert _goaway(client) is None


def test_grpc_does_not_look_at_the_ping_interval_on_connections_without_calls() -> None:
    keepalive = ServerKeepalive(min_recv_ping_interval_without_data=0)
    with _connected(*server_options(keepalive, None, lossless=False).arguments) as client:
        _ping(client, 20)
        assert (_goaway(client) or b"").endswith(b"too_many_pings")
