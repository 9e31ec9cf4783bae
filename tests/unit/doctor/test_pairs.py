"""Keepalive pairs, in the words of several languages."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from drain._cli.doctor import command
from drain._doctor import examine, pair
from drain._doctor.pair import Pair, PairError, client_side, server_side
from drain.config import ClientKeepalive, ServerKeepalive

GO_CLIENT = """
var kacp = keepalive.ClientParameters{
	Time:                10 * time.Second, // send pings every 10 seconds if there is no activity
	Timeout:             time.Second,      // wait 1 second for ping ack
	PermitWithoutStream: true,             // send pings even without active streams
}
"""
GO_SERVER = """
var kaep = keepalive.EnforcementPolicy{
	MinTime:             5 * time.Second, // If a client pings more than once every 5 seconds, terminate the connection
	PermitWithoutStream: true,            // Allow pings even when there are no active streams
}
var kasp = keepalive.ServerParameters{
	MaxConnectionAge:      30 * time.Minute,
	MaxConnectionAgeGrace: 5 * time.Second,
}
"""
JAVA_CLIENT = """
ManagedChannel channel = NettyChannelBuilder.forAddress(host, port)
    .keepAliveTime(30, TimeUnit.SECONDS)
    .keepAliveTimeout(5, TimeUnit.SECONDS)
    .keepAliveWithoutCalls(true)
    .build();
"""
JAVA_SERVER = """
    .permitKeepAliveTime(1, TimeUnit.MINUTES)
    .permitKeepAliveWithoutCalls(true)
    .maxConnectionAge(10, TimeUnit.MINUTES)
"""
PYTHON_CLIENT = 'options = [\n    ("grpc.keepalive_time_ms", 10000),\n    ("grpc.keepalive_timeout_ms", 5_000),\n    ("grpc.keepalive_permit_without_calls", 1),\n]\n'
NODE_CLIENT = '{"grpc.keepalive_time_ms": 20000, "grpc.keepalive_permit_without_calls": 0}'
DOTNET_CLIENT = "var handler = new SocketsHttpHandler\n{\n    KeepAlivePingDelay = TimeSpan.FromSeconds(60),\n    KeepAlivePingTimeout = TimeSpan.FromSeconds(30),\n    KeepAlivePingPolicy = HttpKeepAlivePingPolicy.Always,\n};\n"
ENVOY_CLIENT = "typed_extension_protocol_options:\n  http2_protocol_options:\n    connection_keepalive: {interval: 30s, timeout: 5s}\n"
ENV_SERVER = "DRAIN_MIN_RECV_PING_INTERVAL_WITHOUT_DATA=30s\nDRAIN_PERMIT_WITHOUT_CALLS=true\n"
DEFAULT_SERVER = "grpc.max_connection_idle_ms: 3600000\n"


def client(**values: Any) -> ClientKeepalive:
    return ClientKeepalive(**{"keepalive_time": None, "keepalive_timeout": None, **values})


@pytest.mark.parametrize(
    ("written", "is_"),
    [
        (GO_CLIENT, client(keepalive_time=10, keepalive_timeout=1, permit_without_calls=True)),
        (JAVA_CLIENT, client(keepalive_time=30, keepalive_timeout=5, permit_without_calls=True)),
        (PYTHON_CLIENT, client(keepalive_time=10, keepalive_timeout=5, permit_without_calls=True)),
        (NODE_CLIENT, client(keepalive_time=20, permit_without_calls=False)),
        ('[["grpc.keepalive_time_ms", 20000]]', client(keepalive_time=20)),
        ('{"options": [["grpc.keepalive_time_ms", 20000]]}', client(keepalive_time=20)),
        (DOTNET_CLIENT, client(keepalive_time=60, keepalive_timeout=30, permit_without_calls=True)),
        ("KeepAlivePingDelay: '00:01:30'", client(keepalive_time=90)),
        (ENVOY_CLIENT, client(keepalive_time=30, keepalive_timeout=5)),
        ("keepalive_time: 1m", ClientKeepalive(keepalive_time=60)),  # drain's own names bring its defaults
        ("DRAIN_CLIENT_KEEPALIVE_TIME=none\n", ClientKeepalive(keepalive_time=None)),
        ("grpc.keepalive_time_ms: 2147483647", client(keepalive_time=None)),
    ],
    ids=str,
)
def test_clients(written: str, is_: ClientKeepalive) -> None:
    assert client_side("x", written).keepalive == is_


@pytest.mark.parametrize(
    ("written", "is_"),
    [
        (
            GO_SERVER,
            ServerKeepalive(
                min_recv_ping_interval_without_data=5,
                permit_without_calls=True,
                max_connection_age=1800,
                max_connection_age_grace=5,
            ),
        ),
        (
            JAVA_SERVER,
            ServerKeepalive(min_recv_ping_interval_without_data=60, permit_without_calls=True, max_connection_age=600),
        ),
        (ENV_SERVER, ServerKeepalive(min_recv_ping_interval_without_data=30, permit_without_calls=True)),
        ("grpc.http2.min_ping_interval_without_data_ms: 10000\ngrpc.http2.max_ping_strikes: 0\n", None),
        (DEFAULT_SERVER, ServerKeepalive(max_connection_age=None, max_connection_idle=3600)),
        ("server:\n  keepalive:\n    max-connection-age: 5m\n", ServerKeepalive(max_connection_age=300)),
    ],
    ids=str,
)
def test_servers(written: str, is_: ServerKeepalive | None) -> None:
    if is_ is None:
        with pytest.raises(PairError, match="never acts"):
            server_side("x", written)
    else:
        assert server_side("x", written).keepalive == is_


@pytest.mark.parametrize(
    ("server", "caller", "rules"),
    [
        (GO_SERVER, GO_CLIENT, set()),
        (DEFAULT_SERVER, GO_CLIENT, {"too-many-pings"}),
        (DEFAULT_SERVER, JAVA_CLIENT, {"too-many-pings"}),
        (JAVA_SERVER, JAVA_CLIENT, {"too-many-pings"}),  # half a minute, where a minute is permitted
        (JAVA_SERVER, DOTNET_CLIENT, set()),
        (ENV_SERVER, PYTHON_CLIENT, {"too-many-pings"}),
        (ENV_SERVER, JAVA_CLIENT, set()),
        (DEFAULT_SERVER, NODE_CLIENT, {"too-many-pings"}),
        (DEFAULT_SERVER, ENVOY_CLIENT, {"too-many-pings"}),
        ("grpc.http2.max_ping_strikes: 0", GO_CLIENT, set()),
        ("MinTime: 1s\nPermitWithoutStream: true\n", "Time: 2s\n", {"keepalive-raised"}),
        ("MaxConnectionAge: 1m\n", "Time: 10m\n", {"keepalive-never-acts"}),
        ("MinTime: 10s\n", "PermitWithoutStream: false\n", {"no-keepalive"}),
    ],
)
def test_what_is_wrong_with_a_pair(server: str, caller: str, rules: set[str]) -> None:
    examined = examine.pair(Pair(server_side("server", server), client_side("client", caller)))
    assert {each.rule for each in examined.findings} == rules


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("", "no keepalive setting"),
        ("replicas: 3", "no keepalive setting"),
        ("keepalive_time: soon", "Time|keepalive_time: 'soon' cannot be read as a duration"),
        ("max_pings_without_data: many", "cannot be read as a number"),
        ("keepalive_time: 1000000h", "at most"),
        ("a: [b", "no keepalive setting"),
    ],
)
def test_files_that_say_nothing(written: str, told: str) -> None:
    with pytest.raises(PairError, match=told):
        client_side("x", written)


def test_the_command(tmp_path: Path) -> None:
    """The line of the client's file, in its own words."""
    (tmp_path / "s.yaml").write_text(DEFAULT_SERVER)
    (tmp_path / "c.json").write_text(NODE_CLIENT)
    done = CliRunner().invoke(command, ["--server", str(tmp_path / "s.yaml"), "--client", str(tmp_path / "c.json")])
    assert done.exit_code == 3
    assert "+ grpc.keepalive_time_ms: 300000" in done.output
    assert "c.json:1" in done.output
    (tmp_path / "c.json").write_text("{}")
    done = CliRunner().invoke(command, ["--server", str(tmp_path / "s.yaml"), "--client", str(tmp_path / "c.json")])
    assert done.exit_code == 65


def test_names_are_unlike() -> None:
    """No alias is of two fields of one side, and each leads to a field that there is."""
    for names, kind in ((pair._CLIENT, ClientKeepalive), (pair._SERVER, ServerKeepalive)):
        assert set(names.values()) <= {each.name for each in kind.settings()}
