"""The resources of a channel `xds:///name`, from a `ClientPolicy`, as serialised `google.protobuf.Any`.

In the order in which grpc asks: the Listener `name` (its routes inside), the Cluster that they lead to, and the endpoints of that
Cluster, which may be called otherwise than the Cluster (`endpoints_name`).

**A failure that is told through a name.** grpc puts the name of an empty endpoints resource into the details of every call that
fails for it: "no children in weighted_target policy (EDS resource NAME: contains no localities)". So a Cluster may lead to
`endpoints_name="drain/7: service geoipd is not known"`, whose endpoints are `endpoints(name, ())`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import FloatValue, UInt32Value, UInt64Value

from drain._core.balancing import Balancing
from drain._core.endpoints import Endpoint, Locality
from drain._core.service_config import Route, plan
from drain._xds import xds_pb2 as pb
from drain._xds.messages import CLUSTER, ENDPOINTS, LISTENER, MANAGER, MOST_REQUESTS, any_of, manager
from drain.config import ClientPolicy, OutlierDetection, RetryPolicy

_MOST_WEIGHT = 2**32 - 1
_POLICIES = "type.googleapis.com/envoy.extensions.load_balancing_policies"
_ROUND_ROBIN = f"{_POLICIES}.round_robin.v3.RoundRobin"
_PICK_FIRST = f"{_POLICIES}.pick_first.v3.PickFirst"
_RING_HASH = f"{_POLICIES}.ring_hash.v3.RingHash"
_WEIGHTED = f"{_POLICIES}.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin"
_BY_LOCALITY = f"{_POLICIES}.wrr_locality.v3.WrrLocality"


def listener(name: str, cluster: str, policy: ClientPolicy) -> bytes:
    """The Listener of a channel `xds:///name`: every call goes to `cluster`, with the retries of its method.

    Timeouts are not in it: see drain/_grpc/timeouts.py.

    Raises ConfigurationError for a service config that xDS cannot say.
    """
    asked = plan(policy)
    routes = [_route(each, cluster, asked.balancing.hash_header) for each in asked.routes]
    message = pb.Listener(name=name, api_listener=pb.ApiListener(api_listener=any_of(MANAGER, manager(routes))))
    return any_of(LISTENER, message).SerializeToString()


def _route(asked: Route, cluster: str, hash_header: str | None) -> pb.Route:
    match = pb.RouteMatch(path=asked.path) if asked.exact else pb.RouteMatch(prefix=asked.path)
    action = pb.RouteAction(cluster=cluster)
    if asked.retry is not None:
        action.retry_policy.CopyFrom(_retry(asked.retry))
    if hash_header is not None:
        action.hash_policy.add().header.header_name = hash_header
    return pb.Route(match=match, route=action)


def _retry(asked: RetryPolicy) -> pb.RetryPolicy:
    back_off = pb.RetryPolicy.RetryBackOff(
        base_interval=_duration(asked.initial_backoff), max_interval=_duration(asked.max_backoff)
    )
    retry_on = ",".join(code.lower().replace("_", "-") for code in asked.codes)
    return pb.RetryPolicy(
        retry_on=retry_on, num_retries=UInt32Value(value=asked.max_attempts - 1), retry_back_off=back_off
    )


def cluster(name: str, endpoints_name: str, policy: ClientPolicy) -> bytes:
    """The Cluster `name`, whose endpoints come over the same stream as `endpoints_name`."""
    asked = plan(policy)
    source = pb.ConfigSource(ads=pb.AggregatedConfigSource(), resource_api_version=pb.V3)
    # grpc's own limit of concurrent calls is 1,024 for each cluster and process.
    limit = MOST_REQUESTS if asked.max_concurrent_requests is None else asked.max_concurrent_requests
    message = pb.Cluster(
        name=name,
        type=pb.Cluster.EDS,
        eds_cluster_config=pb.Cluster.EdsClusterConfig(eds_config=source, service_name=endpoints_name),
        load_balancing_policy=_load_balancing(asked.balancing),
        circuit_breakers=pb.CircuitBreakers(
            thresholds=[pb.CircuitBreakers.Thresholds(max_requests=UInt32Value(value=limit))]
        ),
    )
    if asked.outlier_detection is not None:
        message.outlier_detection.CopyFrom(_outlier_detection(asked.outlier_detection))
    return any_of(CLUSTER, message).SerializeToString()


def _load_balancing(asked: Balancing) -> pb.LoadBalancingPolicy:
    if asked.name == "pick_first":  # of all localities: one for each would be several
        return _policy(_PICK_FIRST, pb.PickFirst(shuffle_address_list=asked.shuffle))
    if asked.name == "ring_hash":
        ring = pb.RingHash()
        if asked.minimum_ring_size is not None:
            ring.minimum_ring_size.CopyFrom(UInt64Value(value=asked.minimum_ring_size))
        if asked.maximum_ring_size is not None:
            ring.maximum_ring_size.CopyFrom(UInt64Value(value=asked.maximum_ring_size))
        return _policy(_RING_HASH, ring)
    within = _weighted(asked) if asked.name == "weighted_round_robin" else _policy(_ROUND_ROBIN, pb.RoundRobin())
    return _policy(_BY_LOCALITY, pb.WrrLocality(endpoint_picking_policy=within))


def _weighted(asked: Balancing) -> pb.LoadBalancingPolicy:
    message = pb.ClientSideWeightedRoundRobin()
    for name in ("blackout_period", "weight_update_period", "weight_expiration_period"):
        if (seconds := getattr(asked, name)) is not None:
            getattr(message, name).CopyFrom(_duration(seconds))
    if asked.error_utilization_penalty is not None:
        message.error_utilization_penalty.CopyFrom(FloatValue(value=asked.error_utilization_penalty))
    return _policy(_WEIGHTED, message)


def _policy(type_url: str, message: Message) -> pb.LoadBalancingPolicy:
    name = type_url.rpartition(".")[2]
    extension = pb.TypedExtensionConfig(name=name, typed_config=any_of(type_url, message))
    return pb.LoadBalancingPolicy(policies=[pb.LoadBalancingPolicy.Policy(typed_extension_config=extension)])


def _outlier_detection(asked: OutlierDetection) -> pb.OutlierDetection:
    message = pb.OutlierDetection(
        interval=_duration(asked.interval),
        base_ejection_time=_duration(asked.base_ejection_time),
        max_ejection_time=_duration(asked.max_ejection_time),
        max_ejection_percent=UInt32Value(value=asked.max_ejection_percent),
        # Said in any case: an enforcement of 0 is how a judge is turned off.
        enforcing_success_rate=UInt32Value(value=0),
        enforcing_failure_percentage=UInt32Value(value=0),
    )
    if asked.success_rate_stdev_factor is not None:
        message.enforcing_success_rate.value = asked.success_rate_enforcement
        message.success_rate_stdev_factor.value = asked.success_rate_stdev_factor
        message.success_rate_minimum_hosts.value = asked.success_rate_minimum_hosts
        message.success_rate_request_volume.value = asked.success_rate_request_volume
    if asked.failure_percentage_threshold is not None:
        message.enforcing_failure_percentage.value = asked.failure_percentage_enforcement
        message.failure_percentage_threshold.value = asked.failure_percentage_threshold
        message.failure_percentage_minimum_hosts.value = asked.failure_percentage_minimum_hosts
        message.failure_percentage_request_volume.value = asked.failure_percentage_request_volume
    return message


def endpoints(name: str, localities: Iterable[Locality], policy: ClientPolicy | None = None) -> bytes:
    """The endpoints resource `name`; without localities it is empty, and calls fail at once with its name in their details.

    Each endpoint gets an equal share of its priority's calls, times its weight. grpc's round robin knows no weights within a
    locality, but between localities: so endpoints of another weight become a locality of their own, and each locality weighs
    what its endpoints do. Where `policy` (None: round robin) compares endpoints with each other, by hash or by load, all zones
    of a priority are one locality, because grpc compares within one only.

    No address may be there twice: grpc would refuse the whole resource.
    """
    assignment = pb.ClusterLoadAssignment(cluster_name=name)
    balancing = plan(policy).balancing.name if policy is not None else "round_robin"
    by_hash = balancing == "ring_hash"
    for priority, zone, part, members in _parts(
        localities, by_hash or balancing == "weighted_round_robin", not by_hash
    ):
        # The ring multiplies both weights: there the endpoint's alone must count.
        weight = 1 if by_hash else sum(each.weight for each in members)
        found = assignment.endpoints.add(
            load_balancing_weight=UInt32Value(value=min(weight, 2**32 - 1)),
            priority=priority,
        )
        found.MergeFromString(b"".join(_endpoint(each.address, each.port, each.weight) for each in members))
        found.locality.SetInParent()
        found.locality.zone, found.locality.sub_zone = zone, part
    _lighten(assignment)
    return any_of(ENDPOINTS, assignment).SerializeToString()


def _lighten(assignment: pb.ClusterLoadAssignment) -> None:
    """A priority whose localities weigh more than a uint32 together is refused by grpc."""
    totals = Counter[int]()
    for each in assignment.endpoints:
        totals[each.priority] += each.load_balancing_weight.value
    for each in assignment.endpoints:
        if (total := totals[each.priority]) > _MOST_WEIGHT:
            each.load_balancing_weight.value = max(1, each.load_balancing_weight.value * 2**31 // total)


def _parts(
    localities: Iterable[Locality], one_zone: bool, by_weight: bool
) -> Iterator[tuple[int, str, str, list[Endpoint]]]:
    """Priority, zone, what tells parts of one zone from each other, and the endpoints."""
    rows = [
        (each.priority, "" if one_zone else each.zone, member.weight if by_weight else 1, member)
        for each in localities
        for member in each.endpoints
    ]
    rows.sort(key=lambda row: row[:3])
    for (priority, zone, weight), group in groupby(rows, key=lambda row: row[:3]):
        yield priority, zone, "" if weight == 1 else f"weight {weight}", [row[3] for row in group]


@lru_cache(1 << 16)
def _endpoint(address: str, port: int, weight: int) -> bytes:
    """One endpoint, as a locality that has no other field: protobuf merges what is concatenated.

    Kept, because an update of one among 5,000 says all of them again: 25 ms less.
    """
    where = pb.SocketAddress(address=address, port_value=port)
    message = pb.LbEndpoint(endpoint=pb.Endpoint(address=pb.Address(socket_address=where)), health_status=pb.HEALTHY)
    if weight != 1:
        message.load_balancing_weight.CopyFrom(UInt32Value(value=weight))
    return pb.LocalityLbEndpoints(lb_endpoints=[message]).SerializeToString()


def _duration(seconds: float) -> Duration:
    message = Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message
