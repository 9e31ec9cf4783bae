"""Our trimmed xDS messages against the real ones (xds-protos): what we write they read, and back, field by field.

The real ones are loaded in a process of their own: their modules share a name space with those of other distributions.
"""

import json
import re
import subprocess
import sys
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from drain._xds import messages
from drain._xds import xds_pb2 as pb

# Ours -> theirs, and the module that has it.
REAL = {
    "Node": ("envoy.config.core.v3.Node", "envoy.config.core.v3.base_pb2"),
    "Status": ("google.rpc.Status", "google.rpc.status_pb2"),
    "DiscoveryRequest": ("envoy.service.discovery.v3.DiscoveryRequest", "envoy.service.discovery.v3.discovery_pb2"),
    "DiscoveryResponse": ("envoy.service.discovery.v3.DiscoveryResponse", "envoy.service.discovery.v3.discovery_pb2"),
    "SocketAddress": ("envoy.config.core.v3.SocketAddress", "envoy.config.core.v3.address_pb2"),
    "Address": ("envoy.config.core.v3.Address", "envoy.config.core.v3.address_pb2"),
    "AggregatedConfigSource": (
        "envoy.config.core.v3.AggregatedConfigSource",
        "envoy.config.core.v3.config_source_pb2",
    ),
    "ConfigSource": ("envoy.config.core.v3.ConfigSource", "envoy.config.core.v3.config_source_pb2"),
    "Locality": ("envoy.config.core.v3.Locality", "envoy.config.core.v3.base_pb2"),
    "Filter": ("envoy.config.listener.v3.Filter", "envoy.config.listener.v3.listener_components_pb2"),
    "FilterChain": ("envoy.config.listener.v3.FilterChain", "envoy.config.listener.v3.listener_components_pb2"),
    "ApiListener": ("envoy.config.listener.v3.ApiListener", "envoy.config.listener.v3.api_listener_pb2"),
    "Listener": ("envoy.config.listener.v3.Listener", "envoy.config.listener.v3.listener_pb2"),
    "HttpProtocolOptions": ("envoy.config.core.v3.HttpProtocolOptions", "envoy.config.core.v3.protocol_pb2"),
    **{
        name: (
            f"envoy.extensions.filters.network.http_connection_manager.v3.{name}",
            "envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2",
        )
        for name in ("HttpFilter", "HttpConnectionManager")
    },
    "Router": (
        "envoy.extensions.filters.http.router.v3.Router",
        "envoy.extensions.filters.http.router.v3.router_pb2",
    ),
    **{
        name: (f"envoy.config.route.v3.{name}", "envoy.config.route.v3.route_components_pb2")
        for name in ("RouteMatch", "RouteAction", "NonForwardingAction", "Route", "VirtualHost")
    },
    "RouteConfiguration": ("envoy.config.route.v3.RouteConfiguration", "envoy.config.route.v3.route_pb2"),
    "CircuitBreakers": ("envoy.config.cluster.v3.CircuitBreakers", "envoy.config.cluster.v3.circuit_breaker_pb2"),
    "CircuitBreakers.Thresholds": (
        "envoy.config.cluster.v3.CircuitBreakers.Thresholds",
        "envoy.config.cluster.v3.circuit_breaker_pb2",
    ),
    "Cluster": ("envoy.config.cluster.v3.Cluster", "envoy.config.cluster.v3.cluster_pb2"),
    "Cluster.EdsClusterConfig": (
        "envoy.config.cluster.v3.Cluster.EdsClusterConfig",
        "envoy.config.cluster.v3.cluster_pb2",
    ),
    **{
        name: (f"envoy.config.endpoint.v3.{name}", "envoy.config.endpoint.v3.endpoint_components_pb2")
        for name in ("Endpoint", "LbEndpoint", "LocalityLbEndpoints")
    },
    "ClusterLoadAssignment": (
        "envoy.config.endpoint.v3.ClusterLoadAssignment",
        "envoy.config.endpoint.v3.endpoint_pb2",
    ),
}

# Reads {our name: [their name, module, hex of our bytes]} and [their Anys, hex]; answers with their descriptors, what they
# understood, and their own serialisation of it. Unknown fields would be a field number that is not theirs.
READER = """
import importlib, json, sys
from google.protobuf import symbol_database, unknown_fields
from google.protobuf.json_format import MessageToDict
from google.protobuf.any_pb2 import Any

def fields(descriptor):
    return {f.name: [f.number, f.type, f.is_repeated, f.message_type.full_name if f.message_type else
            {v.name: v.number for v in f.enum_type.values} if f.enum_type else None,
            f.containing_oneof.name if f.containing_oneof else None] for f in descriptor.fields}

def unknown(message):
    found = len(unknown_fields.UnknownFieldSet(message))
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in value if field.is_repeated else [value]:
                if isinstance(each, Any):
                    inner = pool[each.TypeName()]()
                    each.Unpack(inner)
                    found += unknown(inner)
                found += unknown(each)
    return found

asked = json.load(sys.stdin)
pool = {}
for theirs, module in asked["real"].values():
    where = importlib.import_module(module)
    for part in theirs[len(where.DESCRIPTOR.package) + 1:].split("."):
        where = getattr(where, part)
    pool[theirs] = where
answer = {"fields": {ours: fields(pool[theirs].DESCRIPTOR) for ours, (theirs, _) in asked["real"].items()}, "read": {}}
for key, (theirs, data) in asked["messages"].items():
    message = pool[theirs].FromString(bytes.fromhex(data))
    answer["read"][key] = {
        "json": MessageToDict(message, preserving_proto_field_name=True),
        "unknown": unknown(message),
        "back": message.SerializeToString(deterministic=True).hex(),
    }
print(json.dumps(answer))
"""


def everything(descriptor: Descriptor, depth: int = 4) -> Any:
    """A message of ours with every field set that it has (of a oneof the last)."""
    message = getattr_path(descriptor)()
    for each in descriptor.fields:
        if each.message_type is None:
            value: Any = {FieldDescriptor.TYPE_STRING: "x", FieldDescriptor.TYPE_ENUM: last_of(each)}.get(each.type, 7)
            if each.is_repeated:
                getattr(message, each.name).append(value)
            else:
                setattr(message, each.name, value)
            continue
        target = getattr(message, each.name)
        if each.is_repeated:
            target = target.add()
        target.SetInParent()
        if each.message_type.full_name == "google.protobuf.Any":
            target.CopyFrom(AnyMessage(type_url=messages._ROUTER, value=pb.Router().SerializeToString()))
        elif each.message_type.file is not descriptor.file:
            setattr(target, each.message_type.fields[0].name, 7)
        elif depth:
            target.CopyFrom(everything(each.message_type, depth - 1))
    return message


def last_of(each: FieldDescriptor) -> int:
    return each.enum_type.values[-1].number if each.enum_type else 0


def getattr_path(descriptor: Descriptor) -> Any:
    where: Any = pb
    for part in descriptor.full_name.removeprefix("drain.xds.v1.").split("."):
        where = getattr(where, part)
    return where


def descriptors(found: Any = None) -> dict[str, Descriptor]:
    """All messages of ours, nested ones included, by their name."""
    result = {}
    for each in (pb.DESCRIPTOR.message_types_by_name if found is None else found).values():
        result[each.full_name.removeprefix("drain.xds.v1.")] = each
        result |= descriptors(each.nested_types_by_name)
    return result


OURS = descriptors()
BUILT = {
    "server, IPv4": messages.server_listener("drain/server/1/1/10.0.0.1:50051", "10.0.0.1:50051", 3),
    "server, IPv6": messages.server_listener("n", "[::1]:1", 0),
    "server, Unix": messages.server_listener("n", "/run/app.sock:0", 0),
    "channel, Listener": messages.client_listener("svc", "svc-cluster"),
    "channel, Cluster": messages.cluster("svc-cluster"),
    "channel, endpoints": messages.endpoints("svc-cluster", [("10.0.0.1", 1), ("::1", 2)], [("10.0.0.3", 3)]),
    "channel, no endpoint": messages.endpoints("svc-cluster", []),
}
by_name = pytest.mark.parametrize("name", sorted(OURS))


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    full = {f"full {name}": everything(descriptor) for name, descriptor in OURS.items()}
    asked: dict[str, list[str]] = {
        key: [REAL[key.removeprefix("full ")][0], message.SerializeToString().hex()] for key, message in full.items()
    }
    for key, serialised in BUILT.items():
        packed = AnyMessage.FromString(serialised)
        asked[key] = [packed.type_url.removeprefix("type.googleapis.com/"), packed.value.hex()]
    done = subprocess.run(
        [sys.executable, "-c", READER],
        input=json.dumps({"real": REAL, "messages": asked}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_every_message_of_ours_is_compared() -> None:
    assert set(OURS) == set(REAL)


@by_name
def test_every_field_has_their_number_type_and_enum_values(name: str, theirs: dict[str, Any]) -> None:
    for each in OURS[name].fields:
        number, kind, repeated, of, oneof = theirs["fields"][name][each.name]
        assert (each.number, each.type, each.is_repeated) == (number, kind, repeated), each.name
        alone = sum(theirs["fields"][name][other.name][4] == oneof for other in OURS[name].fields) == 1
        assert oneof is None or alone or each.containing_oneof.name == oneof, each.name
        if each.enum_type is not None:
            assert {value.name: value.number for value in each.enum_type.values}.items() <= of.items(), each.name
        elif each.message_type is not None:
            ours = each.message_type.full_name.removeprefix("drain.xds.v1.")
            assert (REAL[ours][0] if ours in REAL else ours) == of, each.name


@by_name
def test_they_read_what_we_write_and_we_read_what_they_write(name: str, theirs: dict[str, Any]) -> None:
    message = everything(OURS[name])
    read = theirs["read"][f"full {name}"]
    assert read["unknown"] == 0
    back = getattr_path(OURS[name]).FromString(bytes.fromhex(read["back"]))
    assert back == message


@pytest.mark.parametrize("key", sorted(BUILT))
def test_they_know_every_resource_that_we_build(key: str, theirs: dict[str, Any]) -> None:
    assert theirs["read"][key]["unknown"] == 0
    assert theirs["read"][key]["back"] == AnyMessage.FromString(BUILT[key]).value.hex()


def chains(listener: dict[str, Any]) -> list[dict[str, Any]]:
    return [*listener.get("filter_chains", ()), *filter(None, [listener.get("default_filter_chain")])]


@pytest.mark.parametrize(
    ("key", "address", "port", "default"),
    [
        ("server, IPv4", "10.0.0.1", 50051, False),
        ("server, IPv6", "::1", 1, False),
        ("server, Unix", "/run/app.sock", 0, True),
    ],
)
def test_a_servers_listener(key: str, address: str, port: int, default: bool, theirs: dict[str, Any]) -> None:
    listener = theirs["read"][key]["json"]
    where = listener["address"]["socket_address"]
    assert (where["address"], where.get("port_value", 0)) == (address, port)
    assert ("default_filter_chain" in listener) is default
    (chain,) = chains(listener)
    (manager,) = [each["typed_config"] for each in chain["filters"]]
    assert manager["@type"] == messages._MANAGER
    assert manager["route_config"]["virtual_hosts"] == [
        {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": ""}, "non_forwarding_action": {}}]}
    ]
    assert [each["typed_config"]["@type"] for each in manager["http_filters"]] == [messages._ROUTER]


def test_generations_differ_by_the_longest_stream_alone() -> None:
    """The one difference that rotates: tests/integration/test_control_plane.py."""

    def manager(generation: int) -> pb.HttpConnectionManager:
        packed = AnyMessage.FromString(messages.server_listener("n", "127.0.0.1:1", generation))
        listener = pb.Listener.FromString(packed.value)
        return pb.HttpConnectionManager.FromString(listener.filter_chains[0].filters[0].typed_config.value)

    one, two = manager(1), manager(2)
    longest = [each.common_http_protocol_options.max_stream_duration for each in (one, two)]
    assert longest[0] != longest[1]
    assert all(each.seconds >= messages._FOR_EVER for each in longest)
    one.ClearField("common_http_protocol_options")
    two.ClearField("common_http_protocol_options")
    assert one == two


@pytest.mark.parametrize(
    "address",
    [
        "/run/app.sock",
        "\0name",
        "app.sock",
        "/run/app.sock:",
        "/run/app.sock:007",
        "/run/app.sock:65536",
        "/run:1/a:0",
        "/a:-1",
    ],
)
def test_a_unix_socket_that_xds_cannot_name_is_refused_with_the_remedy(address: str) -> None:
    with pytest.raises(messages.UnservableError, match=re.escape('such as "unix:/run/app.sock:0"')):
        messages.server_listener("n", address, 0)


def test_a_channels_resources_lead_to_each_other(theirs: dict[str, Any]) -> None:
    read = {key: theirs["read"][key]["json"] for key in BUILT}
    manager = read["channel, Listener"]["api_listener"]["api_listener"]
    (host,) = manager["route_config"]["virtual_hosts"]
    assert host["domains"] == ["*"]
    assert host["routes"] == [{"match": {"prefix": ""}, "route": {"cluster": "svc-cluster"}}]
    cluster = read["channel, Cluster"]
    assert cluster["name"] == "svc-cluster"
    assert cluster["type"] == "EDS"
    assert cluster["eds_cluster_config"] == {"eds_config": {"ads": {}, "resource_api_version": "V3"}}
    assert cluster["circuit_breakers"] == {"thresholds": [{"max_requests": 2**32 - 1}]}, "the default would be 1,024"
    assignment = read["channel, endpoints"]
    assert assignment["cluster_name"] == "svc-cluster"
    (locality,) = assignment["endpoints"]
    assert locality["locality"] == {}, "without one grpc refuses the resource"
    assert locality["load_balancing_weight"] == 1, "without one grpc ignores the locality"
    found = [
        (*each["endpoint"]["address"]["socket_address"].values(), each["health_status"])
        for each in locality["lb_endpoints"]
    ]
    assert found == [("10.0.0.1", 1, "HEALTHY"), ("::1", 2, "HEALTHY"), ("10.0.0.3", 3, "DRAINING")]
    assert read["channel, no endpoint"] == {"cluster_name": "svc-cluster"}


def test_the_module_does_not_collide_with_theirs() -> None:
    """Both in one interpreter: the user may have xds-protos, too."""
    code = "import sys; [__import__(name) for name in sys.argv[1:]]"
    ours, real = "drain._xds.xds_pb2", "envoy.config.listener.v3.listener_pb2"
    for order in ((ours, real), (real, ours)):
        done = subprocess.run(
            [sys.executable, "-c", code, *order], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
