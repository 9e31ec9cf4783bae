"""ClientPolicy and its parts: values, pairs that cannot be, parts that have settings of their own, warnings."""

import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from drain.config import ClientKeepalive, ClientPolicy, OutlierDetection, RetryPolicy, ServerKeepalive
from drain.errors import ConfigurationError


def refusal(make: Callable[[], object]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        make()
    return str(caught.value)


def test_the_defaults_are_those_of_the_documentation() -> None:
    policy = ClientPolicy()
    assert {s.name: getattr(policy, s.name) for s in policy.settings()} == {
        "load_balancing": "round_robin",
        "hash_header": None,
        "retry": None,
        "service_config": None,
        "outlier_detection": None,
        "max_concurrent_requests": None,
        "subset_size": None,
        "subset_key": None,
        "zone": None,
        "prefer_same_zone": False,
        "initial_reconnect_backoff": 0.1,
        "min_reconnect_backoff": 5.0,
        "max_reconnect_backoff": 3.0,
        "keepalive": None,
        "server_keepalive": None,
        "authority": None,
    }
    assert (RetryPolicy().max_attempts, RetryPolicy().codes) == (4, ("UNAVAILABLE",))
    assert (ClientKeepalive().keepalive_time, ClientKeepalive().keepalive_timeout) == (360.0, 20.0)


def test_policies_are_values() -> None:
    """They are keys of what channels share."""
    one = ClientPolicy(retry=RetryPolicy(codes=[grpc.StatusCode.UNAVAILABLE]), service_config={"methodConfig": []})
    two = ClientPolicy(retry=RetryPolicy(codes=("unavailable", "UNAVAILABLE")), service_config='{"methodConfig":[]}')
    assert one == two
    assert hash(one) == hash(two)


@pytest.mark.parametrize(
    ("owner", "values", "named"),
    [
        (RetryPolicy, {"initial_backoff": 2}, ("initial_backoff=2 s", "max_backoff=1 s")),
        (RetryPolicy, {"max_attempts": 1}, ("max_attempts=1", "at least 2 and at most 5")),
        (RetryPolicy, {"max_attempts": 6}, ("max_attempts=6", "at most 5")),
        (RetryPolicy, {"initial_backoff": 0.004}, ("initial_backoff=0.004", "at least 0.005 s")),
        (RetryPolicy, {"codes": []}, ("codes=[]", "at least one of CANCELLED")),
        (RetryPolicy, {"codes": "UNAVAILABLE"}, ("codes='UNAVAILABLE'", "a list")),
        (RetryPolicy, {"codes": ["NOT_FOUND"]}, ("NOT_FOUND", "RESOURCE_EXHAUSTED")),
        (RetryPolicy, {"codes": [14]}, ("codes=[14]",)),
        (OutlierDetection, {"base_ejection_time": 301}, ("base_ejection_time=301 s", "max_ejection_time=300 s")),
        (OutlierDetection, {"success_rate_stdev_factor": None}, ("success_rate_stdev_factor=None", "ejected")),
        (OutlierDetection, {"max_ejection_percent": 101}, ("max_ejection_percent=101", "at most 100")),
        (
            ClientKeepalive,
            {"keepalive_time": None, "permit_without_calls": True},
            ("permit_without_calls", "keepalive_time"),
        ),
        (ClientPolicy, {"load_balancing": "ring_hash"}, ("load_balancing=ring_hash", "hash_header")),
        (ClientPolicy, {"load_balancing": "least_request"}, ("'weighted_round_robin'",)),
        (ClientPolicy, {"hash_header": "x-user"}, ("hash_header=x-user", "load_balancing=round_robin")),
        (ClientPolicy, {"load_balancing": "ring_hash", "hash_header": "X-User"}, ("lower case",)),
        (ClientPolicy, {"load_balancing": "ring_hash", "hash_header": "user-bin"}, ('"-bin"',)),
        (ClientPolicy, {"subset_key": "a"}, ("subset_key=a", "subset_size")),
        (ClientPolicy, {"subset_size": 0}, ("subset_size=0", "at least 1")),
        (ClientPolicy, {"max_concurrent_requests": 0}, ("max_concurrent_requests=0",)),
        (ClientPolicy, {"initial_reconnect_backoff": 0.05}, ("initial_reconnect_backoff=0.05", "0.1 s")),
        (
            ClientPolicy,
            {"initial_reconnect_backoff": 4},
            ("initial_reconnect_backoff=4 s", "max_reconnect_backoff=3 s"),
        ),
        (ClientPolicy, {"retry": {"max_attempts": 3}}, ("retry=", "a RetryPolicy")),
        (ClientPolicy, {"keepalive": ServerKeepalive()}, ("keepalive=", "a ClientKeepalive")),
        (ClientPolicy, {"service_config": "{"}, ("service_config='{'", "a JSON object")),
        (ClientPolicy, {"service_config": "[]"}, ("a JSON object",)),
        (ClientPolicy, {"service_config": {"a": {1}}}, ("a JSON object",)),
        (ClientPolicy, {"service_config": {"a": float("nan")}}, ("a JSON object",)),
        (ClientPolicy, {"service_config": 7}, ("a JSON object",)),
        (ClientPolicy, {"zone": ""}, ("zone=''",)),
        (ClientPolicy, {"authority": "a\nb"}, ("authority=",)),
    ],
)
def test_what_cannot_be_is_one_clear_error(owner: Any, values: dict[str, Any], named: tuple[str, ...]) -> None:
    text = refusal(lambda: owner(**values))
    assert all(name in text for name in named), text
    assert "\n" not in text


def test_a_service_config_may_be_text_or_a_dict() -> None:
    config = {"methodConfig": [{"name": [{}], "timeout": "1s"}]}
    assert ClientPolicy(service_config=config) == ClientPolicy(service_config=json.dumps(config, indent=2))


# -- parts with settings of their own --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "environ", "after"),
    [
        (None, {}, None),
        (None, {"DRAIN_CLIENT_RETRY": "default"}, RetryPolicy()),
        (None, {"DRAIN_CLIENT_RETRY_MAX_ATTEMPTS": "2"}, RetryPolicy(max_attempts=2)),
        (
            RetryPolicy(max_attempts=3),
            {"DRAIN_CLIENT_RETRY_CODES": "internal"},
            RetryPolicy(max_attempts=3, codes=["INTERNAL"]),
        ),
        (RetryPolicy(max_attempts=3), {"DRAIN_CLIENT_RETRY": "default"}, RetryPolicy()),
        (RetryPolicy(), {"DRAIN_CLIENT_RETRY": "none"}, None),
        (RetryPolicy(), {"DRAIN_CLIENT_RETRY": "NONE", "DRAIN_CLIENT_RETRY_MAX_ATTEMPTS": "2"}, None),
        (
            RetryPolicy(max_attempts=3),
            {"DRAIN_CLIENT_RETRY": "default", "DRAIN_CLIENT_RETRY_MAX_BACKOFF": "2s"},
            RetryPolicy(max_backoff=2),
        ),
    ],
)
def test_the_environment_reaches_into_the_parts(before: Any, environ: dict[str, str], after: Any) -> None:
    assert ClientPolicy(retry=before).overridden_by(environ).retry == after


def test_each_part_has_variables_of_its_own() -> None:
    environ = {"DRAIN_CLIENT_KEEPALIVE_TIME": "30s", "DRAIN_CLIENT_OUTLIER_INTERVAL": "1s", "DRAIN_ZONE": "a"}
    assert ClientPolicy().overridden_by(environ) == ClientPolicy(
        keepalive=ClientKeepalive(keepalive_time=30), outlier_detection=OutlierDetection(interval=1), zone="a"
    )


def test_a_servers_variables_do_not_reach_what_the_client_believes_of_its_servers() -> None:
    believed = ServerKeepalive(keepalive_time=10)
    policy = ClientPolicy(server_keepalive=believed)
    assert policy.overridden_by({"DRAIN_KEEPALIVE_TIME": "1m"}) is policy


# -- warnings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "server", "told"),
    [
        ({}, None, None),
        ({"keepalive_time": None}, None, None),
        ({"keepalive_time": 299}, None, "every 300 s"),
        ({"keepalive_time": 300}, None, None),
        ({"keepalive_time": 10}, {"min_recv_ping_interval_without_data": 10}, None),
        ({"keepalive_time": 9}, {"min_recv_ping_interval_without_data": 10}, "every 10 s"),
        ({"keepalive_time": 1}, {"max_ping_strikes": 0}, None),
        ({"permit_without_calls": True}, None, "every 7200 s"),
        ({"permit_without_calls": True}, {"permit_without_calls": True}, None),
        ({"permit_without_calls": True, "keepalive_time": 7200}, None, None),
        (
            {"permit_without_calls": True, "keepalive_time": 20},
            {"permit_without_calls": True, "min_recv_ping_interval_without_data": 30},
            "every 30 s",
        ),
    ],
)
def test_a_keepalive_that_servers_would_punish_is_warned_of(client: Any, server: Any, told: str | None) -> None:
    keepalive, believed = ClientKeepalive(**client), ServerKeepalive(**server) if server is not None else None
    warnings = list(ClientPolicy(keepalive=keepalive, server_keepalive=believed).warnings())
    if told is None:
        assert warnings == []
    else:
        (warning,) = warnings
        assert told in warning
        assert "too_many_pings" in warning


def test_a_zone_that_is_preferred_must_be_known() -> None:
    assert ["DRAIN_ZONE" in each for each in ClientPolicy(prefer_same_zone=True).warnings()] == [True]
    assert list(ClientPolicy(prefer_same_zone=True, zone="a").warnings()) == []
