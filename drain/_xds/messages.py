"""The resources that drain serves, as serialised `google.protobuf.Any`. Field numbers and meaning: xDS v3.

For a server: a Listener. For a channel: client.py makes them from a policy; what is here is the plainest there can be.
"""

import ipaddress
import re
from collections.abc import Iterable

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import UInt32Value

from drain._xds import xds_pb2 as pb

_ENVOY = "type.googleapis.com/envoy"
LISTENER = f"{_ENVOY}.config.listener.v3.Listener"
ROUTE = f"{_ENVOY}.config.route.v3.RouteConfiguration"
CLUSTER = f"{_ENVOY}.config.cluster.v3.Cluster"
ENDPOINTS = f"{_ENVOY}.config.endpoint.v3.ClusterLoadAssignment"
MANAGER = f"{_ENVOY}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = f"{_ENVOY}.extensions.filters.http.router.v3.Router"

# Ten years: no stream is ended by it. Only the difference between two generations matters.
_FOR_EVER = 10 * 365 * 86400
# grpc's own limit of concurrent calls is 1,024 for each cluster and process: calls above it would fail UNAVAILABLE.
MOST_REQUESTS = 2**32 - 1


class UnservableError(ValueError):
    """What is asked for cannot be said in xDS. The text says why; a source may raise it from `resource`."""


# For a server.


def server_listener(name: str, address: str, generation: int) -> bytes:
    """The Listener that makes a grpc server listen on `address`, as grpc itself writes it, and serve everything.

    That is "host:port", "[v6]:port", or a Unix socket's path (abstract: with a NUL before it). grpc compares the Listener's
    address with it as text, after it has put host and port together (xds_listener_parser.cc, AddressParse), so a path can be
    served only if it ends like a port: "/run/app.sock:0". Raises UnservableError for any other.

    Another `generation` is another configuration, so that grpc sends GOAWAY on every connection (a rotation). grpc compares
    what it understands of a Listener: a change of max_stream_duration counts; names, metadata and stat_prefix do not.
    """
    chain = pb.FilterChain(filters=[pb.Filter(name="hcm", typed_config=any_of(MANAGER, _server_manager(generation)))])
    listener = pb.Listener(name=name)
    listener.address.socket_address.CopyFrom(_socket_address(address))
    if _is_ip(listener.address.socket_address.address):
        listener.filter_chains.append(chain)
    else:  # a filter chain is chosen by IP addresses: a Unix socket has none, and only the default is left
        listener.default_filter_chain.CopyFrom(chain)
    return any_of(LISTENER, listener).SerializeToString()


def _server_manager(generation: int) -> pb.HttpConnectionManager:
    every = pb.Route(match=pb.RouteMatch(prefix=""), non_forwarding_action=pb.NonForwardingAction())
    made = manager([every])
    made.common_http_protocol_options.max_stream_duration.CopyFrom(Duration(seconds=_FOR_EVER + generation))
    return made


def _socket_address(address: str) -> pb.SocketAddress:
    host, _, port = address.rpartition(":")
    literal = host.removeprefix("[").removesuffix("]")
    if _is_ip(literal):
        return pb.SocketAddress(address=literal, port_value=int(port))
    if ":" in host or not re.fullmatch(r"0|[1-9][0-9]{0,4}", port) or int(port) > 65535:
        raise UnservableError(
            f"{address!r}: grpc's xDS cannot name a Unix socket unless its path has one colon, and ends with it and a "
            'number, such as "unix:/run/app.sock:0"'
        )
    return pb.SocketAddress(address=host, port_value=int(port))


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


# For a channel.


def client_listener(name: str, cluster: str) -> bytes:
    """The Listener of a channel `xds:///name`: every call goes to `cluster`."""
    made = manager([pb.Route(match=pb.RouteMatch(prefix=""), route=pb.RouteAction(cluster=cluster))])
    listener = pb.Listener(name=name, api_listener=pb.ApiListener(api_listener=any_of(MANAGER, made)))
    return any_of(LISTENER, listener).SerializeToString()


def cluster(name: str) -> bytes:
    """A Cluster whose endpoints come over the same stream, under the same name; round robin; no limit of concurrent calls."""
    source = pb.ConfigSource(ads=pb.AggregatedConfigSource(), resource_api_version=pb.V3)
    limit = pb.CircuitBreakers.Thresholds(max_requests=UInt32Value(value=MOST_REQUESTS))
    message = pb.Cluster(
        name=name,
        type=pb.Cluster.EDS,
        eds_cluster_config=pb.Cluster.EdsClusterConfig(eds_config=source),
        lb_policy=pb.Cluster.ROUND_ROBIN,
        circuit_breakers=pb.CircuitBreakers(thresholds=[limit]),
    )
    return any_of(CLUSTER, message).SerializeToString()


def endpoints(cluster: str, addresses: Iterable[tuple[str, int]], draining: Iterable[tuple[str, int]] = ()) -> bytes:
    """The endpoints of a Cluster, as (IP address, port), all in one locality; `draining` get no new call.

    No address may be there twice: grpc would refuse the whole resource.
    """
    members = [_endpoint(address, pb.HEALTHY) for address in addresses]
    members += [_endpoint(address, pb.DRAINING) for address in draining]
    assignment = pb.ClusterLoadAssignment(cluster_name=cluster)
    if members:
        locality = assignment.endpoints.add(lb_endpoints=members, load_balancing_weight=UInt32Value(value=1))
        locality.locality.SetInParent()
    return any_of(ENDPOINTS, assignment).SerializeToString()


def _endpoint(address: tuple[str, int], health: pb.HealthStatus) -> pb.LbEndpoint:
    where = pb.SocketAddress(address=address[0], port_value=address[1])
    return pb.LbEndpoint(endpoint=pb.Endpoint(address=pb.Address(socket_address=where)), health_status=health)


# For both.


def manager(routes: Iterable[pb.Route]) -> pb.HttpConnectionManager:
    """For calls to any host; the first route that matches counts."""
    host = pb.VirtualHost(name="all", domains=["*"], routes=routes)
    return pb.HttpConnectionManager(
        route_config=pb.RouteConfiguration(virtual_hosts=[host]),
        http_filters=[pb.HttpFilter(name="router", typed_config=any_of(_ROUTER, pb.Router()))],
    )


def any_of(type_url: str, message: Message) -> Any:
    """The message, packed as what it is called in public."""
    return Any(type_url=type_url, value=message.SerializeToString())
