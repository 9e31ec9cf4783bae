"""A channel's arguments: what a policy becomes, who wins, what is refused; for our targets and for grpc's own."""

import json
from typing import Any

import pytest

from drain._grpc.channel_options import ChannelOptions, channel_options
from drain._grpc.options import OptionClash
from drain._xds.bootstrap import BOOTSTRAP_ARGUMENT
from drain.config import ClientKeepalive, ClientPolicy, OutlierDetection, RetryPolicy
from drain.errors import ConfigurationError

BACKOFF = {
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 5000,
    "grpc.max_reconnect_backoff_ms": 3000,
}
WINS = "the user's own options win"


def made(
    policy: ClientPolicy | None = None, *user: Any, authority: str | None = None, ours: bool = True
) -> ChannelOptions:
    return channel_options(policy or ClientPolicy(), user, authority=authority, ours=ours)


def refusal(policy: ClientPolicy | None = None, *user: Any, ours: bool = True) -> str:
    with pytest.raises(ConfigurationError) as caught:
        made(policy, *user, ours=ours)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def service_config(options: ChannelOptions) -> Any:
    return json.loads(dict(options.arguments)["grpc.service_config"])


@pytest.mark.parametrize("ours", [True, False])
def test_every_field_that_becomes_an_argument(ours: bool) -> None:
    keepalive = ClientKeepalive(
        keepalive_time=400, keepalive_timeout="10s", permit_without_calls=False, max_pings_without_data=0
    )
    policy = ClientPolicy(keepalive=keepalive, authority="svc.example", max_reconnect_backoff="1m")
    found = dict(made(policy, ours=ours).arguments)
    found.pop("grpc.service_config", None)
    assert found == BACKOFF | {
        "grpc.max_reconnect_backoff_ms": 60_000,
        "grpc.keepalive_time_ms": 400_000,
        "grpc.keepalive_timeout_ms": 10_000,
        "grpc.http2.ping_timeout_ms": 10_000,
        "grpc.keepalive_permit_without_calls": 0,
        "grpc.http2.max_pings_without_data": 0,
        "grpc.default_authority": "svc.example",
    }
    assert {type(value) for name, value in found.items() if name != "grpc.default_authority"} == {int}


def test_a_plain_policy_sets_the_back_off_alone() -> None:
    options = made()
    assert dict(options.arguments) == BACKOFF
    assert (options.clashes, options.warnings, options.timeouts) == ((), (), {})


def test_the_users_options_win_and_the_clash_is_told() -> None:
    user = [("grpc.keepalive_time_ms", 7), ("grpc.max_send_message_length", 9)]
    options = made(ClientPolicy(keepalive=ClientKeepalive()), *user)
    assert dict(options.arguments)["grpc.keepalive_time_ms"] == 7
    assert options.clashes == (OptionClash("grpc.keepalive_time_ms", 360_000, 7, 7, WINS),)
    names = [name for name, _ in options.arguments]
    assert len(set(names)) == len(names)


# -- authority -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "user", "authority", "expected", "clashes"),
    [
        (None, [], "svc.ns", "svc.ns", 0),
        (None, [], None, None, 0),
        ("mine", [], "svc.ns", "mine", 0),
        (None, [("grpc.default_authority", "his")], "svc.ns", "his", 0),
        ("mine", [("grpc.default_authority", "his")], "svc.ns", "his", 1),
        (None, [("grpc.ssl_target_name_override", "cert")], "svc.ns", None, 0),
        ("mine", [("grpc.ssl_target_name_override", "cert")], "svc.ns", "mine", 0),
    ],
)
def test_who_says_the_authority(policy: Any, user: Any, authority: Any, expected: Any, clashes: int) -> None:
    """The service's name is a default: another one is no clash with it."""
    options = made(ClientPolicy(authority=policy), *user, authority=authority)
    assert dict(options.arguments).get("grpc.default_authority") == expected
    assert len(options.clashes) == clashes


# -- service config --------------------------------------------------------------------------------------------------

TIMED = {"methodConfig": [{"name": [{"service": "a.B"}], "timeout": "2s"}]}


def test_on_ours_the_option_becomes_part_of_the_policy() -> None:
    """grpc would not look at it on an xDS channel."""
    options = made(ClientPolicy(), ("grpc.service_config", json.dumps(TIMED)))
    assert "grpc.service_config" not in dict(options.arguments)
    assert options.policy == ClientPolicy(service_config=TIMED)
    assert options.timeouts == {"/a.B/": 2.0}
    assert options.clashes == ()


def test_of_two_service_configs_the_option_wins_key_by_key() -> None:
    mine = {"methodConfig": [], "loadBalancingConfig": [{"pick_first": {}}]}
    options = made(ClientPolicy(service_config=mine), ("grpc.service_config", json.dumps(TIMED)))
    assert json.loads(options.policy.service_config or "") == {**mine, **TIMED}
    (clash,) = options.clashes
    assert clash.name == "grpc.service_config: methodConfig"
    assert (clash.ours, clash.applied) == ([], TIMED["methodConfig"])


@pytest.mark.parametrize("ours", [True, False])
def test_a_load_balancer_in_the_option_wins_over_the_policys(ours: bool) -> None:
    policy = ClientPolicy(load_balancing="ring_hash", hash_header="x-user")
    chosen = [{"pick_first": {}}]
    options = made(policy, ("grpc.service_config", json.dumps({"loadBalancingConfig": chosen})), ours=ours)
    (clash,) = options.clashes
    assert (clash.ours, clash.applied) == ("ring_hash", chosen)
    assert options.policy.hash_header is None
    if not ours:
        assert service_config(options) == {"loadBalancingConfig": chosen}


@pytest.mark.parametrize("config", ["{", "[]", b"7"])
@pytest.mark.parametrize("ours", [True, False])
def test_an_option_that_is_no_json_object_is_refused(config: Any, ours: bool) -> None:
    assert "grpc.service_config=" in refusal(None, ("grpc.service_config", config), ours=ours)


def test_on_ours_what_xds_cannot_say_is_refused_when_the_channel_is_made() -> None:
    throttled = json.dumps({"retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1}})
    assert "retryThrottling" in refusal(None, ("grpc.service_config", throttled))
    made(None, ("grpc.service_config", throttled), ours=False)


def test_on_grpcs_own_the_policy_becomes_the_option() -> None:
    options = made(ClientPolicy(retry=RetryPolicy(), service_config=TIMED), ours=False)
    config = service_config(options)
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]
    assert [each["name"] for each in config["methodConfig"]] == [[{"service": "a.B"}], [{}]]
    assert all("retryPolicy" in each and "timeout" not in each for each in config["methodConfig"])
    assert options.timeouts == {"/a.B/": 2.0}, "kept in Python, because grpc's own are too short"


# -- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {"outlier_detection": OutlierDetection()},
        {"max_concurrent_requests": 5},
        {"subset_size": 5},
        {"prefer_same_zone": True, "zone": "a"},
        {"load_balancing": "ring_hash", "hash_header": "x"},
    ],
)
def test_what_grpcs_own_targets_cannot_do_is_refused_by_name(values: dict[str, Any]) -> None:
    policy = ClientPolicy(**values)
    assert f"ClientPolicy.{next(iter(values))}" in refusal(policy, ours=False)
    made(policy, ours=True)


def test_a_known_zone_alone_is_no_wish() -> None:
    """DRAIN_ZONE may be set for the whole process."""
    made(ClientPolicy(zone="a"), ours=False)


@pytest.mark.parametrize("option", [("grpc.enable_retries", 0), (BOOTSTRAP_ARGUMENT, "{}")])
def test_what_our_channels_rest_on_is_refused_with_the_reason(option: Any) -> None:
    text = refusal(None, option)
    assert option[0] in text
    assert "because" in text
    made(None, option, ours=False)


def test_retries_that_are_on_may_be_said_to_be_on() -> None:
    made(None, ("grpc.enable_retries", 1))


@pytest.mark.parametrize("user", ["grpc.x", {"grpc.x": 1}, [("a",)], [(1, 2)]])
def test_malformed_options_get_one_clear_error(user: Any) -> None:
    with pytest.raises(ConfigurationError, match="options"):
        channel_options(ClientPolicy(), user, authority=None, ours=True)


def test_warnings_are_handed_on() -> None:
    (warning,) = made(ClientPolicy(keepalive=ClientKeepalive(keepalive_time=1))).warnings
    assert "too_many_pings" in warning
