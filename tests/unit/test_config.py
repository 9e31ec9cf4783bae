"""Settings: what is taken, what is refused and with which words, and what the environment overrides.

Over 300 lines: mostly tables, with a row for each setting and each way to get it wrong.
"""

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drain import config
from drain.config import (
    ClientKeepalive,
    ClientPolicy,
    DrainPolicy,
    OutlierDetection,
    RebalancePolicy,
    RetryPolicy,
    ServerKeepalive,
    Setting,
    settings_markdown,
    settings_table,
)
from drain.errors import ConfigurationError, DrainError

OWNERS: dict[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (
        ServerKeepalive,
        DrainPolicy,
        RebalancePolicy,
        ClientPolicy,
        RetryPolicy,
        OutlierDetection,
        ClientKeepalive,
    )
}
SETTINGS = tuple(settings_table())
DURATIONS = tuple(s for s in SETTINGS if s.kind == "duration")
VARIABLES = tuple(s for s in SETTINGS if s.variable)
each_setting = pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: f"{s.owner}.{s.name}")
each_variable = pytest.mark.parametrize("setting", VARIABLES, ids=lambda s: s.variable)
each_duration = pytest.mark.parametrize("setting", DURATIONS, ids=lambda s: f"{s.owner}.{s.name}")
each_owner = pytest.mark.parametrize("owner", list(OWNERS))
# Parts with settings of their own that variables reach, and the fields of these.
NESTED = tuple(s for s in VARIABLES if s.nested is not None)
PARTS = tuple((s, part) for s in NESTED if s.nested is not None for part in s.nested.settings())
each_part = pytest.mark.parametrize(("whole", "part"), PARTS, ids=[part.variable for _, part in PARTS])

# A value other than the default, as text and as stored; and what must stand beside it if not the defaults.
ANOTHER: dict[str, tuple[str, Any]] = {
    "max_connection_age": ("2m", 120.0),
    "max_connection_age_grace": ("30s", 30.0),
    "max_connection_idle": ("4m30s", 270.0),
    "keepalive_time": ("1m", 60.0),
    "keepalive_timeout": ("5", 5.0),
    "permit_without_calls": ("yes", True),
    "min_recv_ping_interval_without_data": ("10s", 10.0),
    "max_ping_strikes": ("0", 0),
    "goaway": ("Require", "require"),
    "announce_timeout": ("0", 0.0),
    "announce_min": ("2s", 2.0),
    "rotation_interval": ("400ms", 0.4),
    "return_window": ("0.25", 0.25),
    "announce_delay": ("3s", 3.0),
    "quiet_period": ("1s", 1.0),
    "drain_timeout": ("1h", 3600.0),
    "stream_grace": ("10s", 10.0),
    "watch_endpoint": ("no", False),
    "kubernetes_events": ("no", False),
    "termination_log": ("/tmp/why", "/tmp/why"),
    "settle": ("1500ms", 1.5),
    "termination_grace_period": ("1m", 60.0),
    "reserve": ("5s", 5.0),
    "rebalance": ("default", RebalancePolicy()),
    "target": ("kubernetes:///geoipd:9200", "kubernetes:///geoipd:9200"),
    "spread": ("20s", 20.0),
    "still": ("1s", 1.0),
    "min_interval": ("5m", 300.0),
    "load_balancing": ("Pick_First", "pick_first"),
    "hash_header": ("x-user", "x-user"),
    "retry": ("default", RetryPolicy()),
    "service_config": ('{"methodConfig": []}', '{"methodConfig": []}'),
    "outlier_detection": ("Default", OutlierDetection()),
    "max_concurrent_requests": ("7", 7),
    "subset_size": ("20", 20),
    "subset_key": ("me", "me"),
    "zone": ("eu-1a", "eu-1a"),
    "prefer_same_zone": ("on", True),
    "initial_reconnect_backoff": ("200ms", 0.2),
    "min_reconnect_backoff": ("2s", 2.0),
    "max_reconnect_backoff": ("10s", 10.0),
    "keepalive": ("default", ClientKeepalive()),
    "authority": ("geoipd.example", "geoipd.example"),
    "max_attempts": ("3", 3),
    "codes": ("internal, UNAVAILABLE", ("INTERNAL", "UNAVAILABLE")),
    "initial_backoff": ("10ms", 0.01),
    "max_backoff": ("2s", 2.0),
    "interval": ("5s", 5.0),
    "base_ejection_time": ("10s", 10.0),
    "max_ejection_time": ("10m", 600.0),
    "max_ejection_percent": ("50", 50),
    "success_rate_stdev_factor": ("1000", 1000),
    "success_rate_enforcement": ("50", 50),
    "success_rate_minimum_hosts": ("3", 3),
    "success_rate_request_volume": ("10", 10),
    "failure_percentage_threshold": ("85", 85),
    "failure_percentage_enforcement": ("50", 50),
    "failure_percentage_minimum_hosts": ("3", 3),
    "failure_percentage_request_volume": ("10", 10),
    "max_pings_without_data": ("0", 0),
}
BESIDE: dict[str, dict[str, Any]] = {
    "hash_header": {"load_balancing": "ring_hash", "hash_header": "x-other"},
    "subset_key": {"subset_size": 5},
    "success_rate_stdev_factor": {"failure_percentage_threshold": 50},
}
# By a variable of its own it is set in one class, by another in another.
ANOTHER_HERE = {"DRAIN_CLIENT_KEEPALIVE_TIME": ("2m", 120.0)}


# Of each kind but durations, what no field of it takes.
WRONG: dict[str, tuple[Any, ...]] = {
    "count": (-1, 1.0, True, "2", 2**31, float("nan"), [1]),
    "flag": (1, 0, "yes", []),
    "choice": ("", "lossless", "AUTO", "Round_Robin", 1, ["auto"], True),
    "text": ("", "a\nb", "\0", "\x7f", 7, b"x", ["x"], True),
    "codes": ("UNAVAILABLE", b"UNAVAILABLE", [], ["OK"], ["NOT_FOUND", "UNAVAILABLE"], [14], [None], 14, True),
    "json": ("", "{", "[]", "null", '{"a": NaN}', {"a": {1}}, {"a": float("inf")}, [], 7, b"{}", True),
    "nested": ("default", {}, True, 1, DrainPolicy(), RetryPolicy),
}


def beside(setting: Setting) -> dict[str, Any]:
    return BESIDE.get(setting.name, {})


def refusal(make: Callable[[], object]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        make()
    return str(caught.value)


# -- values ----------------------------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_documentation() -> None:
    assert {s.name: s.default for s in SETTINGS if s.owner in {"ServerKeepalive", "DrainPolicy"}} == {
        "max_connection_age": 300.0,
        "max_connection_age_grace": None,
        "max_connection_idle": None,
        "keepalive_time": None,
        "keepalive_timeout": None,
        "permit_without_calls": None,
        "min_recv_ping_interval_without_data": None,
        "max_ping_strikes": None,
        "goaway": "auto",
        "announce_timeout": 8.0,
        "announce_min": 1.0,
        "rotation_interval": 0.5,
        "return_window": 0.3,
        "announce_delay": 5.0,
        "quiet_period": 0.5,
        "watch_endpoint": True,
        "kubernetes_events": True,
        "termination_log": "/dev/termination-log",
        "settle": 2.0,
        "drain_timeout": None,
        "termination_grace_period": None,
        "reserve": 2.0,
        "rebalance": None,
        "stream_grace": None,
    }


def test_the_defaults_of_a_clients_parts_are_those_of_the_documentation() -> None:
    """Those of ClientPolicy itself: test_config_client.py. OutlierDetection's are gRFC A50's."""
    parts = ("RetryPolicy", "OutlierDetection", "ClientKeepalive")
    assert {owner: {s.name: s.default for s in SETTINGS if s.owner == owner} for owner in parts} == {
        "RetryPolicy": {
            "max_attempts": 4,
            "codes": ("UNAVAILABLE",),
            "initial_backoff": 0.05,
            "max_backoff": 1.0,
        },
        "OutlierDetection": {
            "interval": 10.0,
            "base_ejection_time": 30.0,
            "max_ejection_time": 300.0,
            "max_ejection_percent": 10,
            "success_rate_stdev_factor": 1900,
            "success_rate_enforcement": 100,
            "success_rate_minimum_hosts": 5,
            "success_rate_request_volume": 100,
            "failure_percentage_threshold": None,
            "failure_percentage_enforcement": 100,
            "failure_percentage_minimum_hosts": 5,
            "failure_percentage_request_volume": 50,
        },
        "ClientKeepalive": {
            "keepalive_time": 360.0,
            "keepalive_timeout": 20.0,
            "permit_without_calls": None,
            "max_pings_without_data": None,
        },
    }


@each_setting
def test_a_default_is_stored_as_it_is_documented(setting: Setting) -> None:
    stored = getattr(OWNERS[setting.owner](), setting.name)
    assert (stored, type(stored)) == (setting.default, type(setting.default))


def test_every_class_is_tested_here() -> None:
    assert {s.owner for s in SETTINGS} == set(OWNERS)
    assert {s.name for s in VARIABLES} == set(ANOTHER)
    assert {s.kind for s in SETTINGS} == {*WRONG, "duration"}


@each_variable
def test_code_and_environment_store_the_same(setting: Setting) -> None:
    text, value = ANOTHER_HERE.get(setting.variable) or ANOTHER[setting.name]
    made = OWNERS[setting.owner](**{**beside(setting), setting.name: value})
    assert getattr(made, setting.name) == value
    assert made == OWNERS[setting.owner](**beside(setting)).overridden_by({setting.variable: text})


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (90, 90.0),
        (0.5, 0.5),
        (timedelta(minutes=1, milliseconds=250), 60.25),
        ("1m30s", 90.0),
        ("250ms", 0.25),
        ("1.5h", 5400.0),
        ("1h2m3.5s", 3723.5),
        ("+3s", 3.0),
        ("90", 90.0),
        (" 2.5 ", 2.5),
        ("1e2", 100.0),
        ("0", 0.0),
    ],
)
def test_each_form_of_a_duration_is_stored_as_float_seconds(written: Any, seconds: float) -> None:
    policy = DrainPolicy(announce_timeout=0, quiet_period=0, drain_timeout=written)
    assert policy.drain_timeout == seconds
    assert type(policy.drain_timeout) is float


@given(st.integers(min_value=1, max_value=2**31 - 2))
def test_every_form_of_the_same_duration_is_the_same(milliseconds: int) -> None:
    """Text, numbers and timedelta agree to the millisecond, which is what grpc's arguments resolve."""
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    forms: tuple[Any, ...] = (
        milliseconds / 1000,
        timedelta(milliseconds=milliseconds),
        f"{milliseconds}ms",
        f"{hours}h{minutes}m{rest // 1000}s{rest % 1000}ms",
        f"{milliseconds // 1000}.{milliseconds % 1000:03}s",
        f"{milliseconds // 1000}.{milliseconds % 1000:03}",
    )
    stored = {ServerKeepalive(keepalive_time=form).keepalive_time for form in forms}
    assert {round((seconds or 0) * 1000) for seconds in stored} == {milliseconds}


@given(st.text(max_size=8) | st.from_regex(r"[-+0-9.hmsnuµ !]{1,8}", fullmatch=True))
def test_any_text_is_a_duration_or_one_clear_error(text: str) -> None:
    try:
        policy = DrainPolicy(quiet_period=0, drain_timeout=text)
    except ConfigurationError as error:
        told = str(error)
    else:
        told = f"drain_timeout={policy.drain_timeout}"
        assert 0 <= policy.drain_timeout < 2**31 / 1000
    assert "drain_timeout=" in told


@pytest.mark.parametrize(
    "wrong", ["", "soon", "1m!30s", "1m 30s", "1mm", "2d", "1y", "ms", "1..5s", "nan", "inf", "1e999"]
)
@pytest.mark.parametrize("forms", [str, lambda text: text + " "])
def test_text_that_is_no_go_duration_is_refused(wrong: str, forms: Callable[[str], str]) -> None:
    """durationpy alone lets through what is between two parts, and reads "1mm" as a month."""
    assert "drain_timeout" in refusal(lambda: DrainPolicy(drain_timeout=forms(wrong)))


@pytest.mark.parametrize("wrong", [True, b"1s", float("nan"), float("inf"), 10**400, [], object(), 1j])
@each_duration
def test_what_is_no_duration_is_refused_by_name(setting: Setting, wrong: Any) -> None:
    text = refusal(lambda: OWNERS[setting.owner](**{setting.name: wrong}))
    assert f"{setting.owner}.{setting.name}=" in text
    assert '"1m30s"' in text


@pytest.mark.parametrize("wrong", [-0.001, -1, 2**31 / 1000, timedelta(days=25), "597h"])
@each_duration
def test_durations_out_of_range_are_refused_with_the_range(setting: Setting, wrong: Any) -> None:
    """C-core keeps a C int of milliseconds; INT_MAX means never, for which None is written here."""
    text = refusal(lambda: OWNERS[setting.owner](**{setting.name: wrong}))
    assert f"{setting.owner}.{setting.name}=" in text
    assert "2147483.646 s" in text


@each_duration
def test_zero_is_refused_where_it_would_close_connections_at_once(setting: Setting) -> None:
    if setting.minimum == 0:
        return
    text = refusal(lambda: OWNERS[setting.owner](**{setting.name: 0}))
    assert f"at least {setting.minimum:g} s" in text
    assert setting.none is None or setting.none in text, "says what to write instead"


@each_setting
def test_none_is_taken_exactly_where_it_has_a_meaning(setting: Setting) -> None:
    make = partial(OWNERS[setting.owner], **{**beside(setting), setting.name: None})
    if setting.name == "hash_header":
        make = partial(ClientPolicy, hash_header=None)
    if setting.none is not None:
        assert getattr(make(), setting.name) is None
    else:
        assert f"{setting.owner}.{setting.name}=None" in refusal(make)


@pytest.mark.parametrize(
    ("setting", "wrong"),
    [
        pytest.param(setting, wrong, id=f"{setting.owner}.{setting.name}={wrong!r}")
        for setting in SETTINGS
        for wrong in WRONG.get(setting.kind, ())
    ],
)
def test_what_is_none_of_its_kind_is_refused_by_name(setting: Setting, wrong: Any) -> None:
    text = refusal(lambda: OWNERS[setting.owner](**{**beside(setting), setting.name: wrong}))
    assert text.startswith(f"{setting.owner}.{setting.name}={wrong!r}: must be ")
    assert "\n" not in text
    assert setting.none is None or f"or None ({setting.none})" in text
    if setting.nested is not None:
        assert f"a {setting.nested.__name__}" in text
    assert all(choice in text for choice in setting.choices)


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.kind == "count"], ids=lambda s: f"{s.owner}.{s.name}")
def test_a_count_is_taken_within_its_range_and_not_beside_it(setting: Setting) -> None:
    least, most = int(setting.minimum), 2**31 - 1 if setting.maximum is None else int(setting.maximum)
    make = partial(OWNERS[setting.owner], **beside(setting))
    for value in (least, most):
        assert getattr(make(**{setting.name: value}), setting.name) == value
        assert getattr(make().overridden_by({setting.variable: str(value)}), setting.name) == value
    for value in (least - 1, most + 1):
        assert f"at least {least} and at most {most}" in refusal(partial(make, **{setting.name: value}))
        text = refusal(partial(make().overridden_by, {setting.variable: str(value)}))
        assert text.startswith(f"{setting.variable}='{value}'")


@pytest.mark.parametrize("setting", [s for s in DURATIONS if s.minimum], ids=lambda s: f"{s.owner}.{s.name}")
def test_a_duration_shorter_than_the_shortest_is_refused(setting: Setting) -> None:
    text = refusal(lambda: OWNERS[setting.owner](**{setting.name: setting.minimum * 0.99}))
    assert f"at least {setting.minimum:g} s" in text


@pytest.mark.parametrize("wrong", ["lossless", "AUTO", 1, ["auto"]])
def test_goaway_is_one_of_three(wrong: Any) -> None:
    text = refusal(lambda: DrainPolicy(goaway=wrong))
    assert "goaway" in text
    assert "'auto', 'require', 'classic'" in text


def test_settings_are_comparable_by_what_is_stored() -> None:
    policy = DrainPolicy(announce_timeout="8s")
    assert policy == DrainPolicy()
    assert hash(policy) == hash(DrainPolicy())
    assert policy != DrainPolicy(drain_timeout=21)


@each_owner
def test_settings_are_frozen_keyword_only_comparable_and_hashable(owner: str) -> None:
    made = OWNERS[owner]()
    assert made == OWNERS[owner]()
    assert hash(made) == hash(OWNERS[owner]())
    for each in made.settings():
        with pytest.raises(AttributeError):
            setattr(made, each.name, each.default)
    with pytest.raises(TypeError):
        OWNERS[owner](3)
    assert not hasattr(made, "__dict__")


def test_a_configuration_error_is_a_drain_error_and_a_value_error() -> None:
    assert issubclass(ConfigurationError, DrainError)
    assert issubclass(ConfigurationError, ValueError)


# -- pairs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "values", "named"),
    [
        (DrainPolicy, {"announce_min": 9}, ("announce_min=9 s", "announce_timeout=8 s")),
        (DrainPolicy, {"announce_timeout": 0.9}, ("announce_min=1 s", "announce_timeout=0.9 s")),
        (DrainPolicy, {"announce_delay": 15}, ("announce_delay=15 s", "announce_timeout=8 s")),
        (DrainPolicy, {"announce_delay": 6, "announce_timeout": 3}, ("announce_delay=6 s", "announce_timeout=3 s")),
        (DrainPolicy, {"return_window": 0.6}, ("return_window=0.6 s", "rotation_interval=0.5 s")),
        (DrainPolicy, {"rotation_interval": 0.2}, ("return_window=0.3 s", "rotation_interval=0.2 s")),
        (
            DrainPolicy,
            {"announce_timeout": 0.7, "announce_min": 0},
            ("announce_timeout=0.7 s", "rotation_interval=0.5 s"),
        ),
        (DrainPolicy, {"rotation_interval": 10}, ("announce_timeout=8 s", "rotation_interval=10 s")),
        (DrainPolicy, {"quiet_period": 11}, ("quiet_period=11 s", "drain_timeout=20 s")),
        (DrainPolicy, {"drain_timeout": 0}, ("quiet_period=0.5 s", "drain_timeout=0 s")),
        (DrainPolicy, {"stream_grace": 21}, ("stream_grace=21 s", "drain_timeout=20 s")),
        (DrainPolicy, {"stream_grace": 6, "termination_grace_period": 15}, ("stream_grace=6 s", "drain_timeout=5 s")),
        (DrainPolicy, {"termination_grace_period": 10}, ("termination_grace_period=10 s", "announce_timeout 8 s")),
        (
            DrainPolicy,
            {"termination_grace_period": 30, "drain_timeout": 21},
            ("termination_grace_period=30 s", "announce_timeout 8 s + drain_timeout 21 s + reserve 2 s = 31 s"),
        ),
        (
            DrainPolicy,
            {"termination_grace_period": 30, "reserve": 22},
            ("termination_grace_period=30 s", "reserve 22 s"),
        ),
        (
            ServerKeepalive,
            {"max_connection_age": None, "max_connection_age_grace": 30},
            ("max_connection_age_grace=30 s", "max_connection_age"),
        ),
        (ServerKeepalive, {"max_connection_idle": 301}, ("max_connection_idle=301 s", "max_connection_age=300 s")),
        (
            ServerKeepalive,
            {"max_ping_strikes": 0, "min_recv_ping_interval_without_data": 10},
            ("min_recv_ping_interval_without_data=10 s", "max_ping_strikes=0"),
        ),
    ],
)
def test_a_contradictory_pair_names_both_values(owner: Any, values: dict[str, Any], named: tuple[str, str]) -> None:
    text = refusal(lambda: owner(**values))
    assert all(name in text for name in named), text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("owner", "values"),
    [
        (DrainPolicy, {"announce_timeout": 0, "announce_min": 9, "announce_delay": 30, "rotation_interval": 60}),
        (DrainPolicy, {"announce_timeout": 3}),
        (DrainPolicy, {"announce_timeout": 0.8, "announce_min": 0.8}),
        (DrainPolicy, {"return_window": 0.5}),
        (DrainPolicy, {"drain_timeout": 0, "quiet_period": 0, "stream_grace": 0}),
        (DrainPolicy, {"stream_grace": 20, "quiet_period": 10}),
        (DrainPolicy, {"termination_grace_period": 30, "drain_timeout": 20}),
        (DrainPolicy, {"termination_grace_period": 2.5, "announce_timeout": 0.8, "announce_min": 0.1, "reserve": 0.5}),
        (ServerKeepalive, {"max_connection_age": None, "max_connection_idle": "24h"}),
        (ServerKeepalive, {"keepalive_time": 10, "keepalive_timeout": 20}),
        (ServerKeepalive, {"max_ping_strikes": 0, "min_recv_ping_interval_without_data": 0}),
    ],
)
def test_what_only_looks_contradictory_is_taken(owner: Any, values: dict[str, Any]) -> None:
    """Announcing skipped: its other settings do not matter. grpc takes a keepalive_timeout above keepalive_time."""
    owner(**values)


def test_the_grace_period_is_one_budget() -> None:
    """What announcing and the reserve leave of it is for calls in flight; a drain_timeout that is given stays."""
    assert DrainPolicy().finishing_time == 20
    assert DrainPolicy(termination_grace_period=30).finishing_time == 20
    assert DrainPolicy(termination_grace_period=60, announce_timeout=10, reserve=5).finishing_time == 45
    assert DrainPolicy(termination_grace_period=60, drain_timeout=15).finishing_time == 15


def test_a_short_announce_timeout_shortens_the_classic_announcement() -> None:
    assert DrainPolicy().classic_announcement == 5
    assert DrainPolicy(announce_timeout=3).classic_announcement == 3
    assert DrainPolicy(announce_timeout=0).classic_announcement == 0


# -- environment -----------------------------------------------------------------------------------------------------


@each_variable
def test_every_field_has_its_variable(setting: Setting) -> None:
    text, value = ANOTHER_HERE.get(setting.variable) or ANOTHER[setting.name]
    made = OWNERS[setting.owner](**beside(setting))
    overridden = made.overridden_by({setting.variable: text})
    assert getattr(overridden, setting.name) == value != getattr(made, setting.name)
    untouched = [s.name for s in SETTINGS if s.owner == setting.owner and s.name != setting.name]
    assert all(getattr(overridden, name) == getattr(made, name) for name in untouched)


def test_variables_are_told_apart_by_their_prefix() -> None:
    prefixes = {
        "ServerKeepalive": "DRAIN_",
        "DrainPolicy": "DRAIN_",
        "RebalancePolicy": "DRAIN_REBALANCE_",
        "ClientPolicy": "DRAIN_CLIENT_",
        "ClientKeepalive": "DRAIN_CLIENT_",
        "RetryPolicy": "DRAIN_CLIENT_RETRY_",
        "OutlierDetection": "DRAIN_CLIENT_OUTLIER_",
    }
    others = {"zone": "DRAIN_ZONE", "server_keepalive": ""}
    for s in SETTINGS:
        assert s.variable == others.get(s.name, prefixes[s.owner] + s.name.upper())


def test_no_variable_is_one_that_kubernetes_sets() -> None:
    """For a service called drain, drain-client, drain-client-service, ...: <NAME>_SERVICE_HOST, <NAME>_PORT, and so on."""
    theirs = re.compile(r".*(_SERVICE_HOST|_SERVICE_PORT(_.*)?|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")
    assert [s.variable for s in VARIABLES if theirs.fullmatch(s.variable)] == []


@each_variable
def test_a_wrong_variable_is_named_with_its_text(setting: Setting) -> None:
    wrong = "\a" if setting.kind == "text" else "soon"
    text = refusal(lambda: OWNERS[setting.owner](**beside(setting)).overridden_by({setting.variable: wrong}))
    assert text.startswith(f"{setting.variable}={wrong!r}")


@each_variable
def test_none_in_any_case_is_none_where_none_is_allowed(setting: Setting) -> None:
    environ = {setting.variable: "None"}
    if setting.name == "hash_header":
        environ["DRAIN_CLIENT_LOAD_BALANCING"] = "round_robin"
    if setting.none is not None:
        overridden = OWNERS[setting.owner](**beside(setting)).overridden_by(environ)
        assert getattr(overridden, setting.name) is None
    else:
        assert setting.variable in refusal(lambda: OWNERS[setting.owner]().overridden_by(environ))


@each_part
def test_one_variable_of_a_part_alone_makes_the_part(whole: Setting, part: Setting) -> None:
    text, value = ANOTHER_HERE.get(part.variable) or ANOTHER[part.name]
    made = OWNERS[part.owner](**beside(part))
    before = OWNERS[whole.owner](**{whole.name: made} if beside(part) else {})
    after = before.overridden_by({part.variable: text})
    assert getattr(after, whole.name) == OWNERS[part.owner](**{**beside(part), part.name: value})
    others = [s.name for s in SETTINGS if s.owner == whole.owner and s.name != whole.name]
    assert all(getattr(after, name) == getattr(before, name) for name in others)


@each_part
def test_a_wrong_variable_of_a_part_is_named(whole: Setting, part: Setting) -> None:
    owner = OWNERS[whole.owner]
    for before in (owner(), owner(**{whole.name: OWNERS[part.owner]()})):
        assert refusal(partial(before.overridden_by, {part.variable: "soon"})).startswith(f"{part.variable}='soon'")


@pytest.mark.parametrize("setting", NESTED, ids=lambda s: s.variable)
@pytest.mark.parametrize("wrong", ["yes", "{}", "1", "defaults"])
def test_a_part_as_a_whole_is_none_or_default(setting: Setting, wrong: str) -> None:
    text = refusal(lambda: OWNERS[setting.owner]().overridden_by({setting.variable: wrong}))
    assert text.startswith(f"{setting.variable}={wrong!r}")
    assert setting.nested is not None
    assert f"'none', or 'default' for a {setting.nested.__name__}()" in text


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"DRAIN_CLIENT_LOAD_BALANCING": "ring_hash"}, "load_balancing=ring_hash without hash_header"),
        ({"DRAIN_CLIENT_SUBSET_KEY": "me"}, "subset_key=me never acts"),
        ({"DRAIN_CLIENT_INITIAL_RECONNECT_BACKOFF": "1m"}, "initial_reconnect_backoff=60 s"),
        ({"DRAIN_CLIENT_RETRY_INITIAL_BACKOFF": "2s"}, "initial_backoff=2 s"),
        ({"DRAIN_CLIENT_OUTLIER_SUCCESS_RATE_STDEV_FACTOR": "none"}, "success_rate_stdev_factor=None"),
        (
            {"DRAIN_CLIENT_KEEPALIVE_TIME": "none", "DRAIN_CLIENT_PERMIT_WITHOUT_CALLS": "yes"},
            "permit_without_calls=True never acts",
        ),
    ],
)
def test_a_clients_contradiction_made_by_the_environment_names_the_variables(
    environ: dict[str, str], named: str
) -> None:
    text = refusal(lambda: ClientPolicy().overridden_by(environ))
    assert named in text
    assert all(f"{variable}={written!r}" in text for variable, written in environ.items())


def test_the_environment_wins_over_code() -> None:
    assert DrainPolicy(drain_timeout=5).overridden_by({"DRAIN_DRAIN_TIMEOUT": "40s"}) == DrainPolicy(drain_timeout=40)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"DRAIN_DRAIN_TIMEOUT": "", "DRAIN_GOAWAY": "  "},
        # What Kubernetes injects for services called "drain", "drain-x" and "drain-announce".
        {
            "DRAIN_PORT": "tcp://10.0.0.1:50051",
            "DRAIN_PORT_50051_TCP_ADDR": "10.0.0.1",
            "DRAIN_X_SERVICE_HOST": "10.0.0.2",
            "DRAIN_ANNOUNCE_SERVICE_PORT": "50051",
        },
        # "drain-client" and "drain-client-service".
        {
            "DRAIN_CLIENT_PORT": "tcp://10.0.0.1:50051",
            "DRAIN_CLIENT_SERVICE_HOST": "10.0.0.2",
            "DRAIN_CLIENT_SERVICE_PORT_GRPC": "50051",
            "DRAIN_CLIENT_SERVICE_SERVICE_HOST": "10.0.0.2",
        },
        {"DRAIN_RUNTIME_DIR": "/run/drain", "drain_drain_timeout": "5s"},
    ],
)
def test_the_same_object_comes_back_when_nothing_applies(environ: dict[str, str]) -> None:
    for made in (owner() for owner in OWNERS.values()):
        assert made.overridden_by(environ) is made


@pytest.mark.parametrize("word", ["true", "1", "yes", "on", "TRUE", " On "])
def test_flags_on(word: str) -> None:
    assert ServerKeepalive().overridden_by({"DRAIN_PERMIT_WITHOUT_CALLS": word}).permit_without_calls is True


@pytest.mark.parametrize("word", ["false", "0", "no", "off", "False"])
def test_flags_off(word: str) -> None:
    assert ServerKeepalive().overridden_by({"DRAIN_PERMIT_WITHOUT_CALLS": word}).permit_without_calls is False


def test_a_contradiction_made_by_the_environment_names_the_variables() -> None:
    text = refusal(lambda: DrainPolicy().overridden_by({"DRAIN_ANNOUNCE_MIN": "9s", "DRAIN_DRAIN_TIMEOUT": "30"}))
    assert "announce_min=9 s" in text
    assert "DRAIN_ANNOUNCE_MIN='9s'" in text
    assert "DRAIN_DRAIN_TIMEOUT='30'" in text


def test_two_variables_are_applied_together() -> None:
    """Each alone would contradict the default of the other."""
    environ = {"DRAIN_ANNOUNCE_MIN": "9s", "DRAIN_ANNOUNCE_TIMEOUT": "10s"}
    assert DrainPolicy().overridden_by(environ) == DrainPolicy(announce_min=9, announce_timeout=10)


def test_a_variable_means_the_same_to_every_class() -> None:
    """Two classes with one field would fight for one variable."""
    variables = [s.variable for s in VARIABLES]
    assert len(set(variables)) == len(variables)


# -- documentation ---------------------------------------------------------------------------------------------------


@each_setting
def test_every_field_is_documented(setting: Setting) -> None:
    assert re.fullmatch(r"[A-Z].*\.", setting.meaning)
    assert setting.unit
    assert setting.default_text
    assert setting.default is not None or setting.none is not None
    assert "|" not in setting.meaning + (setting.none or "") + setting.unit, "it is a cell of a Markdown table"


@each_setting
def test_what_becomes_an_argument_of_grpc_names_it(setting: Setting) -> None:
    becomes = (
        setting.owner.endswith("Keepalive")
        or setting.name.endswith("_reconnect_backoff")
        or setting.name == "authority"
    )
    assert bool(setting.arguments) == becomes
    assert all(name.startswith("grpc.") for name in setting.arguments)


def test_the_markdown_table_has_a_row_for_every_field() -> None:
    head, rule, *rows = settings_markdown().splitlines()
    assert len(rows) == len(SETTINGS)
    assert {line.count("|") for line in (head, rule, *rows)} == {6}
    for setting, row in zip(SETTINGS, rows, strict=True):
        assert f"`{setting.owner}.{setting.name}`" in row
        assert (f"`{setting.variable}`" if setting.variable else "| - |") in row
        assert f"| {setting.default_text} | {setting.unit} | {setting.meaning}" in row
        assert (setting.none is None) or row.endswith(f" none: {setting.none}. |")
        if setting.nested is not None:
            assert setting.unit.startswith(f"`{setting.nested.__name__}`")
            assert ("none or default" in setting.unit) is bool(setting.variable)


def test_the_signatures_take_every_field_by_keyword() -> None:
    for owner, made in OWNERS.items():
        parameters = inspect.signature(made).parameters
        assert list(parameters) == [s.name for s in SETTINGS if s.owner == owner]
        assert {p.kind for p in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}


def test_importing_settings_imports_neither_grpc_nor_a_parser() -> None:
    """`durationpy` waits for the first text such as "1m30s"."""
    code = (
        "import sys, drain.config as c; c.DrainPolicy(drain_timeout=30); "
        "c.ClientPolicy(retry=c.RetryPolicy(codes=['INTERNAL']), keepalive=c.ClientKeepalive(keepalive_time=9), "
        "outlier_detection=c.OutlierDetection(interval=1), service_config={'methodConfig': []}); "
        "print([m for m in ('grpc', 'durationpy', 'kubernetes', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_all_names_are_there() -> None:
    assert all(hasattr(config, name) for name in config.__all__)
