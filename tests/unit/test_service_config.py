"""A gRPC service config, read for our targets: what is understood, what is refused by name, what is handed on to grpc's own."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drain._core.balancing import Balancing
from drain._core.service_config import Plan, Route, merged, plain, plan, timeouts
from drain.config import ClientPolicy, OutlierDetection, RetryPolicy
from drain.errors import ConfigurationError

RETRY = {
    "maxAttempts": 3,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
THREE = RetryPolicy(max_attempts=3, initial_backoff=0.1)


def methods(*configs: Any, **policy: Any) -> ClientPolicy:
    return ClientPolicy(service_config={"methodConfig": list(configs)}, **policy)


def balanced(*policies: Any, **policy: Any) -> ClientPolicy:
    return ClientPolicy(service_config={"loadBalancingConfig": list(policies)}, **policy)


def refusal(policy: ClientPolicy) -> str:
    with pytest.raises(ConfigurationError) as caught:
        plan(policy)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_plain_policy_is_one_route() -> None:
    assert plan(ClientPolicy()) == Plan(Balancing("round_robin"), (Route(""),), None, None)


def test_a_policys_retry_is_for_what_has_none_of_its_own() -> None:
    own = RetryPolicy(max_attempts=2)
    policy = methods(
        {"name": [{"service": "a.B"}], "retryPolicy": RETRY},
        {"name": [{"service": "a.B", "method": "C"}, {"service": "d.E"}], "timeout": "1s"},
        retry=own,
    )
    assert plan(policy).routes == (
        Route("/a.B/C", own),
        Route("/a.B/", THREE),
        Route("/d.E/", own),
        Route("", own),
    )


@given(st.permutations([{"service": "a.B", "method": "C"}, {"service": "a.B"}, {"service": "z.Z", "method": "Z"}, {}]))
def test_the_order_in_which_they_are_written_does_not_matter(names: list[Any]) -> None:
    found = [route.path for route in plan(methods(*({"name": [name]} for name in names))).routes]
    assert set(found[:2]) == {"/a.B/C", "/z.Z/Z"}
    assert found[2:] == ["/a.B/", ""]


@pytest.mark.parametrize("name", [{}, {"service": ""}, {"service": "", "method": ""}])
def test_the_default_has_several_spellings(name: Any) -> None:
    assert plan(methods({"name": [name], "retryPolicy": RETRY})).routes == (Route("", THREE),)


def test_more_attempts_than_grpc_makes_are_as_many_as_it_makes() -> None:
    (route,) = plan(methods({"name": [{}], "retryPolicy": {**RETRY, "maxAttempts": 50}})).routes
    assert route.retry is not None
    assert route.retry.max_attempts == 5


def test_timeouts_are_told_apart_from_routes() -> None:
    policy = methods(
        {"name": [{"service": "a.B"}, {}], "timeout": "1.5s"}, {"name": [{"service": "a.B", "method": "C"}]}
    )
    assert timeouts(policy) == {"/a.B/": 1.5, "": 1.5, "/a.B/C": None}
    assert timeouts(ClientPolicy()) == {}
    assert timeouts(methods({"name": [{}], "retryPolicy": RETRY})) == {}


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        (ClientPolicy(service_config={"retryThrottling": {}}), "retryThrottling cannot be said in xDS"),
        (ClientPolicy(service_config={"healthCheckConfig": {}}), "healthCheckConfig"),
        (ClientPolicy(service_config={"methodConfig": {}}), "methodConfig={}: must be a list"),
        (ClientPolicy(service_config={"methodConfig": [1]}), "must be a list of objects"),
        (methods({"name": [{}], "waitForReady": True}), "methodConfig[0].waitForReady cannot be said"),
        (methods({"name": [{}], "waitForReady": True}), "wait_for_ready=True"),
        (methods({"name": [{}], "maxRequestMessageBytes": 9}), "grpc.max_send_message_length"),
        (methods({"name": [{}], "maxResponseMessageBytes": 9}), "grpc.max_receive_message_length"),
        (methods({}, {"name": [{}], "hedgingPolicy": {}}), "methodConfig[0].name=null"),
        (methods({"name": [{}], "hedgingPolicy": {}}), "hedgingPolicy"),
        (methods({"name": []}), "at least one"),
        (methods({"name": ["a"]}), "must be an object"),
        (methods({"name": [{"method": "C"}]}), "a method needs its service"),
        (methods({"name": [{"service": "a/B"}]}), "without a slash"),
        (methods({"name": [{"service": 7}]}), "must be text"),
        (methods({"name": [{"pkg": "a"}]}), "name.pkg"),
        (methods({"name": [{"service": "a"}]}, {"name": [{"service": "a"}]}), "methodConfig[1].name"),
        (methods({"name": [{}], "retryPolicy": 7}), "retryPolicy=7"),
        (methods({"name": [{}], "retryPolicy": {**RETRY, "maxAttempts": 1}}), "max_attempts=1"),
        (methods({"name": [{}], "retryPolicy": {**RETRY, "maxAttempts": "x"}}), "max_attempts='x'"),
        (methods({"name": [{}], "retryPolicy": {**RETRY, "backoffMultiplier": 1.5}}), "backoffMultiplier=1.5"),
        (methods({"name": [{}], "retryPolicy": {**RETRY, "perAttemptRecvTimeout": "1s"}}), "perAttemptRecvTimeout"),
        (methods({"name": [{}], "retryPolicy": {**RETRY, "retryableStatusCodes": ["ABORTED"]}}), "codes=['ABORTED']"),
        (methods({"name": [{}], "retryPolicy": {**RETRY, "initialBackoff": "2s"}}), "initial_backoff=2 s"),
        (methods({"name": [{}], "retryPolicy": {**RETRY, "initialBackoff": "0.001s"}}), "at least 0.005 s"),
        (methods({"name": [{}], "retryPolicy": {**RETRY, "maxBackoff": 1}}), "retryPolicy.maxBackoff=1"),
        (balanced({"least_request_experimental": {}}), "none of those"),
        (balanced("round_robin"), "objects with one key each"),
        (balanced({"round_robin": {"a": 1}}), "round_robin.a cannot be said"),
        (balanced({"pick_first": {"shuffleAddressList": 1}}), "shuffleAddressList=1"),
        (balanced({"ring_hash_experimental": {}}), "needs ClientPolicy.hash_header"),
        (balanced({"round_robin": {}}, hash_header="x"), "never uses hash_header=x"),
        (balanced({"ring_hash_experimental": {"minRingSize": 0}}, hash_header="x"), "minRingSize=0"),
        (balanced({"ring_hash_experimental": {"maxRingSize": 9}}, hash_header="x"), "above maxRingSize"),
        (balanced({"ring_hash_experimental": {"requestHashHeader": "X"}}), "lower case"),
        (balanced({"weighted_round_robin": {"enableOobLoadReport": True}}), "enableOobLoadReport cannot be said"),
        (balanced({"weighted_round_robin": {"blackoutPeriod": 1}}), "blackoutPeriod=1"),
        (balanced({"weighted_round_robin": {"errorUtilizationPenalty": -1}}), "errorUtilizationPenalty=-1"),
        (balanced({"round_robin": {}}, load_balancing="pick_first"), "Leave one out"),
        (ClientPolicy(service_config={"loadBalancingPolicy": "grpclb"}), "loadBalancingPolicy"),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(policy: ClientPolicy, named: str) -> None:
    assert named in refusal(policy)


@pytest.mark.parametrize("timeout", ["0s", "1", 1, "1m", "-1s", "s", "1e3s", None])
def test_a_timeout_is_a_duration_in_grpcs_json(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        timeouts(methods({"name": [{}], "timeout": timeout}))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (ClientPolicy(load_balancing="pick_first"), Balancing("pick_first", shuffle=True)),
        (balanced({"pick_first": {}}), Balancing("pick_first", shuffle=False)),
        (balanced({"grpclb": {}}, {"round_robin": {}}, {"pick_first": {}}), Balancing("round_robin")),
        (balanced({"weighted_round_robin": {}}), Balancing("weighted_round_robin")),
        (
            balanced({"weighted_round_robin": {"blackoutPeriod": "0s"}}, load_balancing="weighted_round_robin"),
            Balancing("weighted_round_robin", blackout_period=0.0),
        ),
        (
            balanced({"ring_hash_experimental": {"requestHashHeader": "x-user"}}),
            Balancing("ring_hash", hash_header="x-user"),
        ),
        (ClientPolicy(service_config={"loadBalancingPolicy": "ROUND_ROBIN"}), Balancing("round_robin")),
        (methods({"name": [{}], "waitForReady": False}), Balancing("round_robin")),
    ],
)
def test_load_balancing(policy: ClientPolicy, expected: Balancing) -> None:
    assert plan(policy).balancing == expected


# -- grpc's own targets ----------------------------------------------------------------------------------------------


def test_grpcs_own_targets_get_it_as_json() -> None:
    retry = {
        "maxAttempts": 4,
        "initialBackoff": "0.050000000s",
        "maxBackoff": "1.000000000s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config = {"methodConfig": [{"name": [{"service": "a.B"}], "timeout": "1s", "retryPolicy": RETRY}]}
    policy = ClientPolicy(service_config=config, retry=RetryPolicy(), load_balancing="weighted_round_robin")
    assert json.loads(plain(policy)) == {
        "loadBalancingConfig": [{"weighted_round_robin": {}}],
        "methodConfig": [
            {"name": [{"service": "a.B"}], "retryPolicy": RETRY},
            {"name": [{}], "retryPolicy": retry},
        ],
    }
    assert json.loads(plain(ClientPolicy(load_balancing="pick_first"))) == {
        "loadBalancingConfig": [{"pick_first": {"shuffleAddressList": True}}]
    }


def test_what_only_grpc_itself_understands_is_handed_on() -> None:
    config = {"loadBalancingConfig": [{"grpclb": {}}], "retryThrottling": {"maxTokens": 9, "tokenRatio": 1}}
    assert json.loads(plain(ClientPolicy(service_config=config))) == config


def test_ring_hash_cannot_be_said_there() -> None:
    with pytest.raises(ConfigurationError, match="ring_hash"):
        plain(ClientPolicy(load_balancing="ring_hash", hash_header="x"))


def test_a_users_own_json_goes_on_top_key_by_key() -> None:
    policy = ClientPolicy(service_config={"methodConfig": [], "retryThrottling": {"maxTokens": 9}})
    text, clashes = merged(policy, '{"methodConfig": [{"name": [{}]}], "healthCheckConfig": {}}')
    assert json.loads(text or "") == {
        "methodConfig": [{"name": [{}]}],
        "retryThrottling": {"maxTokens": 9},
        "healthCheckConfig": {},
    }
    assert clashes == {"methodConfig": ([], [{"name": [{}]}])}
    assert merged(policy, None) == (policy.service_config, {})
    for wrong in ("{", "[]", "7"):
        with pytest.raises(ConfigurationError, match="must be a JSON object"):
            merged(policy, wrong)


def test_a_plan_has_the_rest_of_the_policy() -> None:
    policy = ClientPolicy(outlier_detection=OutlierDetection(), max_concurrent_requests=5)
    assert plan(policy).outlier_detection == OutlierDetection()
    assert plan(policy).max_concurrent_requests == 5
