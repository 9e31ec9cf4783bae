"""Our trimmed xDS messages against the real ones (xds-protos): what we write they read, and back, field by field.

The real ones are loaded in a process of their own: their modules share a name space with those of other distributions. Over
300 lines: a case for each message.
"""

import json
import re
import subprocess
import sys
import time
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from drain._client_settings import RETRYABLE
from drain._core.endpoints import Endpoint, Locality
from drain._xds import client, messages
from drain._xds import xds_pb2 as pb
from drain.config import ClientPolicy, OutlierDetection, RetryPolicy

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
        for name in (
            "RouteMatch",
            "RetryPolicy",
            "RetryPolicy.RetryBackOff",
            "RouteAction",
            "RouteAction.HashPolicy",
            "RouteAction.HashPolicy.Header",
            "NonForwardingAction",
            "Route",
            "VirtualHost",
        )
    },
    "RouteConfiguration": ("envoy.config.route.v3.RouteConfiguration", "envoy.config.route.v3.route_pb2"),
    "CircuitBreakers": ("envoy.config.cluster.v3.CircuitBreakers", "envoy.config.cluster.v3.circuit_breaker_pb2"),
    "CircuitBreakers.Thresholds": (
        "envoy.config.cluster.v3.CircuitBreakers.Thresholds",
        "envoy.config.cluster.v3.circuit_breaker_pb2",
    ),
    "OutlierDetection": ("envoy.config.cluster.v3.OutlierDetection", "envoy.config.cluster.v3.outlier_detection_pb2"),
    "TypedExtensionConfig": ("envoy.config.core.v3.TypedExtensionConfig", "envoy.config.core.v3.extension_pb2"),
    **{
        name: (f"envoy.config.cluster.v3.{name}", "envoy.config.cluster.v3.cluster_pb2")
        for name in ("LoadBalancingPolicy", "LoadBalancingPolicy.Policy")
    },
    **{
        name: (
            f"envoy.extensions.load_balancing_policies.{module}.v3.{name}",
            f"envoy.extensions.load_balancing_policies.{module}.v3.{module}_pb2",
        )
        for name, module in {
            "RoundRobin": "round_robin",
            "PickFirst": "pick_first",
            "RingHash": "ring_hash",
            "ClientSideWeightedRoundRobin": "client_side_weighted_round_robin",
            "WrrLocality": "wrr_locality",
        }.items()
    },
    "OrcaLoadReport": ("xds.data.orca.v3.OrcaLoadReport", "xds.data.orca.v3.orca_load_report_pb2"),
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


def everything(descriptor: Descriptor, depth: int = 4, only: str | None = None) -> Any:
    """A message of ours with every field set that it has (of a oneof the last), or with one `only`."""
    message = getattr_path(descriptor)()
    for each in descriptor.fields:
        if only is not None and each.name != only:
            continue
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


def endpoint(address: str, port: int = 1, **more: Any) -> Endpoint:
    return Endpoint(address=address, port=port, **more)


def places(*endpoints: Endpoint, zone: str = "", priority: int = 0) -> Locality:
    return Locality(zone, priority, endpoints)


CONFIG = {
    "methodConfig": [
        {"name": [{"service": "a.B"}], "timeout": "1s"},
        {
            "name": [{"service": "a.B", "method": "C"}],
            "retryPolicy": {"maxAttempts": 9, "retryableStatusCodes": ["INTERNAL"]},
        },
    ]
}
WEIGHTED = {
    "loadBalancingConfig": [
        {
            "weighted_round_robin": {
                "blackoutPeriod": "0s",
                "weightUpdatePeriod": "0.1s",
                "weightExpirationPeriod": "60s",
                "errorUtilizationPenalty": 2,
            }
        }
    ]
}
POLICIES = {
    "plain": ClientPolicy(),
    "pick_first": ClientPolicy(load_balancing="pick_first", max_concurrent_requests=7),
    "ring_hash": ClientPolicy(
        hash_header="x-user",
        service_config={"loadBalancingConfig": [{"ring_hash_experimental": {"minRingSize": 2, "maxRingSize": 9}}]},
    ),
    "weighted": ClientPolicy(service_config=WEIGHTED),
    "routes": ClientPolicy(retry=RetryPolicy(max_attempts=3), service_config=CONFIG),
    "outliers": ClientPolicy(outlier_detection=OutlierDetection(failure_percentage_threshold=85)),
    "ring_hash, plain": ClientPolicy(load_balancing="ring_hash", hash_header="x-user"),
    "weighted, plain": ClientPolicy(load_balancing="weighted_round_robin"),
    "first of all": ClientPolicy(service_config={"loadBalancingConfig": [{"pick_first": {}}]}),
    "retries": ClientPolicy(
        retry=RetryPolicy(max_attempts=5, codes=RETRYABLE, initial_backoff=0.005, max_backoff="1m30s")
    ),
    "successes": ClientPolicy(
        outlier_detection=OutlierDetection(
            interval=0.25,
            base_ejection_time="1m",
            max_ejection_time="5m0.5s",
            max_ejection_percent=0,
            success_rate_stdev_factor=1,
            success_rate_enforcement=2,
            success_rate_minimum_hosts=3,
            success_rate_request_volume=4,
        )
    ),
    "failures": ClientPolicy(
        outlier_detection=OutlierDetection(success_rate_stdev_factor=None, failure_percentage_threshold=0)
    ),
}
ZONES = (
    places(endpoint("10.0.0.1"), endpoint("10.0.0.2", weight=3), zone="a"),
    places(endpoint("10.0.0.3"), endpoint("10.0.0.4"), zone="b"),
    places(endpoint("fd00::5"), zone="c", priority=1),
)
OURS = descriptors()
BUILT = {
    "server, IPv4": messages.server_listener("drain/server/1/1/10.0.0.1:50051", "10.0.0.1:50051", 3),
    "server, IPv6": messages.server_listener("n", "[::1]:1", 0),
    "server, Unix": messages.server_listener("n", "/run/app.sock:0", 0),
    **{f"Listener, {name}": client.listener("svc", "svc-cluster", policy) for name, policy in POLICIES.items()},
    **{f"Cluster, {name}": client.cluster("svc-cluster", "svc: why", policy) for name, policy in POLICIES.items()},
    **{f"endpoints, {name}": client.endpoints("svc: eds", ZONES, policy) for name, policy in POLICIES.items()},
    "no endpoint": client.endpoints("svc: why", ()),
    "channel, Listener": messages.client_listener("svc", "svc-cluster"),
    "channel, Cluster": messages.cluster("svc-cluster"),
    "channel, endpoints": messages.endpoints("svc-cluster", [("10.0.0.1", 1), ("::1", 2)], [("10.0.0.3", 3)]),
    "channel, no endpoint": messages.endpoints("svc-cluster", []),
    "ports": client.endpoints("svc", [places(endpoint("10.0.0.1", 443), endpoint("10.0.0.1", 65535))]),
}
# Each field by itself: of a oneof only one fits into a message. Of lb_policy we have the 0 alone, which is not written.
ALONE = {
    f"{name}.{each.name}": (name, everything(descriptor, only=each.name))
    for name, descriptor in OURS.items()
    for each in descriptor.fields
    if f"{name}.{each.name}" != "Cluster.lb_policy"
}
by_name = pytest.mark.parametrize("name", sorted(OURS))


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    full = {f"full {name}": everything(descriptor) for name, descriptor in OURS.items()}
    asked: dict[str, list[str]] = {
        key: [REAL[key.removeprefix("full ")][0], message.SerializeToString().hex()] for key, message in full.items()
    }
    for key, (name, message) in ALONE.items():
        asked[f"alone {key}"] = [REAL[name][0], message.SerializeToString().hex()]
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
        ours_in = each.containing_oneof.name if each.containing_oneof is not None else None
        assert oneof is None or alone or ours_in == oneof, each.name
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


@pytest.mark.parametrize("key", sorted(ALONE))
def test_each_field_alone_goes_there_and_back(key: str, theirs: dict[str, Any]) -> None:
    name, message = ALONE[key]
    ((field, _),) = message.ListFields()
    answer = theirs["read"][f"alone {key}"]
    assert answer["unknown"] == 0
    assert list(answer["json"]) == [field.name]
    assert getattr_path(OURS[name]).FromString(bytes.fromhex(answer["back"])) == message


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
    assert manager["@type"] == messages.MANAGER
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


Read = dict[str, Any]


def read(theirs: dict[str, Any], key: str) -> Read:
    found: Read = theirs["read"][key]["json"]
    return found


def routes(theirs: dict[str, Any], name: str) -> list[Read]:
    (host,) = read(theirs, f"Listener, {name}")["api_listener"]["api_listener"]["route_config"]["virtual_hosts"]
    assert host["domains"] == ["*"]
    return list(host["routes"])


def balancer(policy: Read) -> tuple[str, Read]:
    (one,) = policy["policies"]
    config = dict(one["typed_extension_config"]["typed_config"])
    return config.pop("@type").rpartition(".")[2], config


def test_a_channels_resources_lead_to_each_other(theirs: dict[str, Any]) -> None:
    assert routes(theirs, "plain") == [{"match": {"prefix": ""}, "route": {"cluster": "svc-cluster"}}]
    cluster = read(theirs, "Cluster, plain")
    assert cluster["name"] == "svc-cluster"
    assert cluster["type"] == "EDS"
    source = {"eds_config": {"ads": {}, "resource_api_version": "V3"}, "service_name": "svc: why"}
    assert cluster["eds_cluster_config"] == source
    assert cluster["circuit_breakers"] == {"thresholds": [{"max_requests": 2**32 - 1}]}, "the default would be 1,024"
    assert "outlier_detection" not in cluster
    assert read(theirs, "endpoints, plain")["cluster_name"] == "svc: eds"
    assert read(theirs, "no endpoint") == {"cluster_name": "svc: why"}


def test_the_plainest_resources_of_a_channel_lead_to_each_other(theirs: dict[str, Any]) -> None:
    manager = read(theirs, "channel, Listener")["api_listener"]["api_listener"]
    (host,) = manager["route_config"]["virtual_hosts"]
    assert host["routes"] == [{"match": {"prefix": ""}, "route": {"cluster": "svc-cluster"}}]
    cluster = read(theirs, "channel, Cluster")
    assert cluster["eds_cluster_config"] == {"eds_config": {"ads": {}, "resource_api_version": "V3"}}
    assignment = read(theirs, "channel, endpoints")
    assert assignment["cluster_name"] == "svc-cluster"
    (locality,) = assignment["endpoints"]
    assert locality["locality"] == {}, "without one grpc refuses the resource"
    assert locality["load_balancing_weight"] == 1, "without one grpc ignores the locality"
    found = [
        (*each["endpoint"]["address"]["socket_address"].values(), each["health_status"])
        for each in locality["lb_endpoints"]
    ]
    assert found == [("10.0.0.1", 1, "HEALTHY"), ("::1", 2, "HEALTHY"), ("10.0.0.3", 3, "DRAINING")]
    assert read(theirs, "channel, no endpoint") == {"cluster_name": "svc-cluster"}


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_a_channels_listener_has_a_manager_with_one_filter_and_each_route_leads_to_the_cluster(
    name: str, theirs: dict[str, Any]
) -> None:
    listener = read(theirs, f"Listener, {name}")
    assert set(listener) == {"name", "api_listener"}, "an address would make it a server's"
    assert listener["name"] == "svc"
    manager = listener["api_listener"]["api_listener"]
    assert manager["@type"] == messages.MANAGER
    assert [each["typed_config"]["@type"] for each in manager["http_filters"]] == [messages._ROUTER]
    found = routes(theirs, name)
    assert {each["route"]["cluster"] for each in found} == {"svc-cluster"}
    assert found[-1]["match"] == {"prefix": ""}


def test_an_endpoint_is_known_by_its_port_too(theirs: dict[str, Any]) -> None:
    (locality,) = read(theirs, "ports")["endpoints"]
    where = [each["endpoint"]["address"]["socket_address"] for each in locality["lb_endpoints"]]
    assert where == [{"address": "10.0.0.1", "port_value": port} for port in (443, 65535)]


def test_the_limit_of_calls_in_flight(theirs: dict[str, Any]) -> None:
    assert read(theirs, "Cluster, pick_first")["circuit_breakers"] == {"thresholds": [{"max_requests": 7}]}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", ("WrrLocality", ("RoundRobin", {}))),
        ("pick_first", ("PickFirst", {"shuffle_address_list": True})),
        ("first of all", ("PickFirst", {})),
        ("ring_hash", ("RingHash", {"minimum_ring_size": "2", "maximum_ring_size": "9"})),
        ("ring_hash, plain", ("RingHash", {})),
        ("weighted, plain", ("WrrLocality", ("ClientSideWeightedRoundRobin", {}))),
        (
            "weighted",
            (
                "WrrLocality",
                (
                    "ClientSideWeightedRoundRobin",
                    {
                        "blackout_period": "0s",
                        "weight_update_period": "0.100s",
                        "weight_expiration_period": "60s",
                        "error_utilization_penalty": 2.0,
                    },
                ),
            ),
        ),
    ],
)
def test_load_balancing(name: str, expected: Any, theirs: dict[str, Any]) -> None:
    kind, config = balancer(read(theirs, f"Cluster, {name}")["load_balancing_policy"])
    assert (kind, balancer(config["endpoint_picking_policy"]) if kind == "WrrLocality" else config) == expected


@pytest.mark.parametrize("name", ["ring_hash", "ring_hash, plain"])
def test_ring_hash_is_told_the_header(name: str, theirs: dict[str, Any]) -> None:
    (route,) = routes(theirs, name)
    assert route["route"]["hash_policy"] == [{"header": {"header_name": "x-user"}}]


def test_routes_go_from_the_particular_to_the_general(theirs: dict[str, Any]) -> None:
    """grpc takes the first that matches. Timeouts are not in them: see drain/_grpc/timeouts.py."""
    plain = {
        "retry_on": "unavailable",
        "num_retries": 2,
        "retry_back_off": {"base_interval": "0.050s", "max_interval": "1s"},
    }
    assert routes(theirs, "routes") == [
        {
            "match": {"path": "/a.B/C"},
            "route": {"cluster": "svc-cluster", "retry_policy": {**plain, "retry_on": "internal", "num_retries": 4}},
        },
        {"match": {"prefix": "/a.B/"}, "route": {"cluster": "svc-cluster", "retry_policy": plain}},
        {"match": {"prefix": ""}, "route": {"cluster": "svc-cluster", "retry_policy": plain}},
    ]


def test_every_code_and_the_whole_back_off_of_a_retry(theirs: dict[str, Any]) -> None:
    """The codes as grpc reads them; the first attempt is no retry."""
    (route,) = routes(theirs, "retries")
    assert route["route"]["retry_policy"] == {
        "retry_on": "cancelled,deadline-exceeded,internal,resource-exhausted,unavailable",
        "num_retries": 4,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "90s"},
    }


def test_outlier_detection_says_both_judges_enforcement(theirs: dict[str, Any]) -> None:
    """Left out, the enforcement of one would be whatever the reader takes for its default."""
    both, failures = (read(theirs, f"Cluster, {name}")["outlier_detection"] for name in ("outliers", "failures"))
    assert both == {
        "interval": "10s",
        "base_ejection_time": "30s",
        "max_ejection_time": "300s",
        "max_ejection_percent": 10,
        "enforcing_success_rate": 100,
        "success_rate_stdev_factor": 1900,
        "success_rate_minimum_hosts": 5,
        "success_rate_request_volume": 100,
        "enforcing_failure_percentage": 100,
        "failure_percentage_threshold": 85,
        "failure_percentage_minimum_hosts": 5,
        "failure_percentage_request_volume": 50,
    }
    assert failures["enforcing_success_rate"] == 0
    assert failures["failure_percentage_threshold"] == 0
    assert failures["enforcing_failure_percentage"] == 100
    assert not any(key.startswith("success_rate") for key in failures)
    assert read(theirs, "Cluster, successes")["outlier_detection"] == {
        "interval": "0.250s",
        "base_ejection_time": "60s",
        "max_ejection_time": "300.500s",
        "max_ejection_percent": 0,
        "enforcing_success_rate": 2,
        "success_rate_stdev_factor": 1,
        "success_rate_minimum_hosts": 3,
        "success_rate_request_volume": 4,
        "enforcing_failure_percentage": 0,
    }


def localities(theirs: dict[str, Any], key: str) -> list[Any]:
    return [
        (
            each.get("priority", 0),
            each["locality"].get("zone", ""),
            each["locality"].get("sub_zone", ""),
            each["load_balancing_weight"],
            [
                (
                    member["endpoint"]["address"]["socket_address"]["address"],
                    member.get("load_balancing_weight", 1),
                    member["health_status"],
                )
                for member in each["lb_endpoints"]
            ],
        )
        for each in read(theirs, key)["endpoints"]
    ]


def healthy(*addresses: str, weight: int = 1) -> list[Any]:
    return [(address, weight, "HEALTHY") for address in addresses]


def test_round_robin_has_a_locality_for_each_zone_and_weight(theirs: dict[str, Any]) -> None:
    """Each weighs what its endpoints do: grpc's round robin knows no weights within one."""
    assert localities(theirs, "endpoints, plain") == [
        (0, "a", "", 1, healthy("10.0.0.1")),
        (0, "a", "weight 3", 3, healthy("10.0.0.2", weight=3)),
        (0, "b", "", 2, healthy("10.0.0.3", "10.0.0.4")),
        (1, "c", "", 1, healthy("fd00::5")),
    ]


def test_where_endpoints_are_compared_a_priority_is_one_locality(theirs: dict[str, Any]) -> None:
    weighted = healthy("10.0.0.2", weight=3)
    assert localities(theirs, "endpoints, weighted") == [
        (0, "", "", 3, healthy("10.0.0.1", "10.0.0.3", "10.0.0.4")),
        (0, "", "weight 3", 3, weighted),
        (1, "", "", 1, healthy("fd00::5")),
    ]
    ring = [(0, "", "", 1, [*healthy("10.0.0.1"), *weighted, *healthy("10.0.0.3", "10.0.0.4")])]
    assert localities(theirs, "endpoints, ring_hash") == [*ring, (1, "", "", 1, healthy("fd00::5"))]


def test_localities_that_are_too_heavy_together_are_made_lighter() -> None:
    """grpc refuses more than a uint32 for each priority; their ratio stays."""
    heavy = [endpoint(f"10.0.0.{n}", weight=2**32 - n) for n in range(1, 4)]
    packed = AnyMessage.FromString(client.endpoints("n", [places(*heavy, endpoint("10.0.0.9"))]))
    weights = [each.load_balancing_weight.value for each in pb.ClusterLoadAssignment.FromString(packed.value).endpoints]
    assert len(weights) == 4
    assert sum(weights) <= 2**32 - 1
    assert min(weights) == 1
    assert max(weights) / sorted(weights)[1] < 1.001


def test_a_resource_of_five_thousand_is_made_in_time() -> None:
    """Measured: 4 ms; the channel must know of a change within 50."""
    many = places(*(endpoint(f"10.{n // 250}.{n % 250}.1") for n in range(5000)))
    best = min(timed(lambda: client.endpoints("n", [many])) for _ in range(5))
    assert best < 0.1


def timed(call: Any) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def test_the_module_does_not_collide_with_theirs() -> None:
    """Both in one interpreter: the user may have xds-protos, too."""
    code = "import sys; [__import__(name) for name in sys.argv[1:]]"
    ours, real = "drain._xds.xds_pb2", "envoy.config.listener.v3.listener_pb2"
    for order in ((ours, real), (real, ours)):
        done = subprocess.run(
            [sys.executable, "-c", code, *order], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
