"""The resources that drain serves, as serialised `google.protobuf.Any`. Field numbers and meaning: xDS v3."""

import ipaddress

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration

from drain._xds import xds_pb2 as pb

_ENVOY = "type.googleapis.com/envoy"
LISTENER = f"{_ENVOY}.config.listener.v3.Listener"
ROUTE = f"{_ENVOY}.config.route.v3.RouteConfiguration"
CLUSTER = f"{_ENVOY}.config.cluster.v3.Cluster"
ENDPOINTS = f"{_ENVOY}.config.endpoint.v3.ClusterLoadAssignment"
_MANAGER = f"{_ENVOY}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = f"{_ENVOY}.extensions.filters.http.router.v3.Router"

# Ten years: no stream is ended by it. Only the difference between two generations matters.
_FOR_EVER = 10 * 365 * 86400


def server_listener(name: str, address: str, generation: int) -> bytes:
    """The Listener that makes a grpc server listen on `address` ("host:port", "[v6]:port", or "unix:...") and serve everything.

    Another `generation` is another configuration, so that grpc sends GOAWAY on every connection (a rotation). grpc compares
    what it understands of a Listener: a change of max_stream_duration counts; names, metadata and stat_prefix do not.
    """
    chain = pb.FilterChain(filters=[pb.Filter(name="hcm", typed_config=_any(_MANAGER, _manager(generation)))])
    listener = pb.Listener(name=name)
    where = _socket_address(address)
    if where is None:  # not an IP address: there is nothing for a filter chain to match on
        listener.default_filter_chain.CopyFrom(chain)
    else:
        listener.address.socket_address.CopyFrom(where)
        listener.filter_chains.append(chain)
    return _any(LISTENER, listener).SerializeToString()


def _manager(generation: int) -> pb.HttpConnectionManager:
    route = pb.Route(match=pb.RouteMatch(prefix=""), non_forwarding_action=pb.NonForwardingAction())
    host = pb.VirtualHost(name="all", domains=["*"], routes=[route])
    return pb.HttpConnectionManager(
        route_config=pb.RouteConfiguration(virtual_hosts=[host]),
        http_filters=[pb.HttpFilter(name="router", typed_config=_any(_ROUTER, pb.Router()))],
        common_http_protocol_options=pb.HttpProtocolOptions(
            max_stream_duration=Duration(seconds=_FOR_EVER + generation)
        ),
    )


def _socket_address(address: str) -> pb.SocketAddress | None:
    host, _, port = address.rpartition(":")
    try:
        ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return pb.SocketAddress(address=host.strip("[]"), port_value=int(port))


def _any(type_url: str, message: object) -> Any:
    return Any(type_url=type_url, value=message.SerializeToString())  # type: ignore[attr-defined]
