"""Load balancing, as a policy and a service config ask for it on our targets (gRFC A24, A42, A58, A62). Pure."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from drain._core.service_json import known, seconds, wrong
from drain.config import ClientPolicy
from drain.errors import ConfigurationError

_BALANCERS = {
    "round_robin": "round_robin",
    "pick_first": "pick_first",
    "ring_hash_experimental": "ring_hash",
    "weighted_round_robin": "weighted_round_robin",
}


@dataclass(frozen=True, slots=True)
class Balancing:
    """Which policy, and its parameters; None: grpc's default. Periods in seconds."""

    name: str
    hash_header: str | None = None
    shuffle: bool = True
    minimum_ring_size: int | None = None
    maximum_ring_size: int | None = None
    blackout_period: float | None = None
    weight_update_period: float | None = None
    weight_expiration_period: float | None = None
    error_utilization_penalty: float | None = None


def balancing_of(config: Mapping[str, Any], policy: ClientPolicy) -> Balancing:
    """Which one a service config and a policy ask for together. Raises ConfigurationError where they disagree."""
    chosen = _chosen(config)
    if chosen is None:
        return Balancing(policy.load_balancing, hash_header=policy.hash_header)
    where, name, details = chosen
    ours = _BALANCERS[name]
    if policy.load_balancing not in {"round_robin", ours}:  # round_robin is what nobody may have chosen
        raise ConfigurationError(
            f"service_config: {where} says {ours}, and ClientPolicy.load_balancing says {policy.load_balancing}. Leave one out."
        )
    balancing = _DETAILED[ours](details, where)
    header = balancing.hash_header or policy.hash_header
    if (ours == "ring_hash") != (header is not None):
        what = "needs ClientPolicy.hash_header" if header is None else f"never uses hash_header={header}. Leave it out"
        raise ConfigurationError(f"service_config: {where}: {ours} {what}.")
    return replace(balancing, hash_header=header)


def _chosen(config: Mapping[str, Any]) -> tuple[str, str, Any] | None:
    """The first one that grpc could use here, as it chooses itself: where it stands, its name, its details."""
    if "loadBalancingConfig" not in config:
        old = config.get("loadBalancingPolicy")
        if old is None:
            return None
        if not isinstance(old, str) or old.lower() not in _BALANCERS:
            raise wrong("loadBalancingPolicy", old, f"must be one of {', '.join(_BALANCERS)}")
        return "loadBalancingPolicy", old.lower(), {}
    policies = config["loadBalancingConfig"]
    if not isinstance(policies, list) or not all(isinstance(each, Mapping) and len(each) == 1 for each in policies):
        raise wrong("loadBalancingConfig", policies, "must be a list of objects with one key each")
    for number, each in enumerate(policies):
        ((name, details),) = each.items()
        if name in _BALANCERS:
            return f"loadBalancingConfig[{number}].{name}", name, details
    raise wrong(
        "loadBalancingConfig", policies, f"has none of those that drain's targets know: {', '.join(_BALANCERS)}"
    )


def _round_robin(found: Any, where: str) -> Balancing:
    known(found, where, set())
    return Balancing("round_robin")


def _pick_first(found: Any, where: str) -> Balancing:
    known(found, where, {"shuffleAddressList"})
    shuffle = found.get("shuffleAddressList", False)
    if not isinstance(shuffle, bool):
        raise wrong(f"{where}.shuffleAddressList", shuffle, "must be true or false")
    return Balancing("pick_first", shuffle=shuffle)


def _ring_hash(found: Any, where: str) -> Balancing:
    known(found, where, {"minRingSize", "maxRingSize", "requestHashHeader"})
    sizes = {name: found.get(name) for name in ("minRingSize", "maxRingSize")}
    for name, size in sizes.items():
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 8_388_608):
            raise wrong(f"{where}.{name}", size, "must be a whole number from 1 to 8388608")
    if (sizes["minRingSize"] or 1024) > (sizes["maxRingSize"] or 8_388_608):
        raise wrong(where, found, "minRingSize (1024 if left out) is above maxRingSize")
    header = found.get("requestHashHeader")
    if header is not None:  # checked like ours
        ClientPolicy(load_balancing="ring_hash", hash_header=header)
    return Balancing(
        "ring_hash", hash_header=header, minimum_ring_size=sizes["minRingSize"], maximum_ring_size=sizes["maxRingSize"]
    )


def _weighted(found: Any, where: str) -> Balancing:
    periods = {
        "blackoutPeriod": "blackout_period",
        "weightUpdatePeriod": "weight_update_period",
        "weightExpirationPeriod": "weight_expiration_period",
    }
    known(found, where, {*periods, "errorUtilizationPenalty"})
    given: dict[str, Any] = {
        name: _period(found[key], f"{where}.{key}") for key, name in periods.items() if key in found
    }
    penalty = found.get("errorUtilizationPenalty")
    if penalty is not None and (isinstance(penalty, bool) or not isinstance(penalty, (int, float)) or penalty < 0):
        raise wrong(f"{where}.errorUtilizationPenalty", penalty, "must be a number, at least 0")
    return Balancing("weighted_round_robin", error_utilization_penalty=penalty, **given)


def _period(found: Any, where: str) -> float:
    return 0.0 if isinstance(found, str) and re.fullmatch(r"0+(\.0+)?s", found) else seconds(found, where)


_DETAILED: Mapping[str, Callable[[Any, str], Balancing]] = {
    "round_robin": _round_robin,
    "pick_first": _pick_first,
    "ring_hash": _ring_hash,
    "weighted_round_robin": _weighted,
}
