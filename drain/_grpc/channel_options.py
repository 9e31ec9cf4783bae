"""grpc's channel arguments for a channel: from `ClientPolicy`, from the user, and where the two meet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from drain._core.service_config import has_balancing, merged, plain, plan, timeouts
from drain._grpc.options import OptionClash, pairs
from drain._xds.bootstrap import BOOTSTRAP_ARGUMENT
from drain.config import ClientPolicy
from drain.errors import ConfigurationError

_SERVICE_CONFIG = "grpc.service_config"
_AUTHORITY = "grpc.default_authority"
_TLS_NAME = "grpc.ssl_target_name_override"
_RETRIES = "grpc.enable_retries"
_USERS_WIN = "the user's own options win"
# What only our control plane can tell grpc. `zone` is not among them: a client that knows where it runs may call anybody.
_OURS_ALONE = ("outlier_detection", "max_concurrent_requests", "subset_size", "prefer_same_zone")


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """What grpc is given. The caller logs `clashes` and `warnings`, and makes the channel's resources from `policy`."""

    arguments: tuple[tuple[str, Any], ...]
    policy: ClientPolicy
    """The policy, with what the user's own `grpc.service_config` says."""
    clashes: tuple[OptionClash, ...]
    warnings: tuple[str, ...]
    timeouts: dict[str, float | None]
    """For `drain._grpc.timeouts`."""


def channel_options(
    policy: ClientPolicy, user: Iterable[tuple[str, Any]] | None, *, authority: str | None, ours: bool
) -> ChannelOptions:
    """The arguments for a channel: the policy's, with the user's own on top.

    Args:
        policy: with the environment's overrides.
        user: options as for `grpc.insecure_channel`; None: none. They win, and a clash is told.
        authority: what the channel's :authority is where neither the policy nor the user says one; None: as grpc has it.
        ours: whether the target is one of drain's own. There `grpc.service_config` (which grpc would not look at) becomes part of
            `policy`, and `grpc.enable_retries` 0 is refused. For grpc's own targets the policy's load balancing, retry and
            service config become that argument, and what it cannot say is refused.

    Raises ConfigurationError for options that are not pairs of a name and a value, and for what cannot work.
    """
    users = tuple(pairs(user))
    named = dict(reversed(users))  # the first of several wins, as in C-core
    _refuse(named, policy, ours)
    policy, clashes = _with_service_config(policy, named)
    arguments = dict(_arguments(policy, named, authority))
    clashes += [
        OptionClash(name, value, named[name], named[name], _USERS_WIN)
        for name, value in arguments.items()
        if name in named and named[name] != value
    ]
    if ours:
        plan(policy)  # whatever is wrong with it is said now
    else:
        arguments[_SERVICE_CONFIG] = plain(policy)
    kept = tuple(pair for pair in users if pair[0] != _SERVICE_CONFIG)
    return ChannelOptions(
        (*((name, value) for name, value in arguments.items() if name not in dict(kept)), *kept),
        policy,
        tuple(clashes),
        tuple(policy.warnings()),
        timeouts(policy),
    )


def _refuse(named: Mapping[str, Any], policy: ClientPolicy, ours: bool) -> None:
    if ours and BOOTSTRAP_ARGUMENT in named:
        raise ConfigurationError(
            f"options: {BOOTSTRAP_ARGUMENT} cannot be set, because it leads grpc to drain's embedded control plane. Leave it out."
        )
    if ours and not named.get(_RETRIES, True):
        raise ConfigurationError(
            f"options: {_RETRIES}=0 cannot be set, because grpc would then lose calls that a leaving server has not begun. Leave "
            "it out; without ClientPolicy.retry no other call is retried."
        )
    if ours:
        return
    for setting in policy.settings():
        value = getattr(policy, setting.name)
        if setting.name in _OURS_ALONE and value != setting.default:
            raise ConfigurationError(
                f"ClientPolicy.{setting.name}={value!r}: grpc can do that on drain's targets only (kubernetes:, ...). "
                f"Use one of those, or leave {setting.name} out."
            )


def _with_service_config(policy: ClientPolicy, named: Mapping[str, Any]) -> tuple[ClientPolicy, list[OptionClash]]:
    """The user's service config is the policy's as well; where both say something the user's option wins."""
    if _SERVICE_CONFIG not in named:
        return policy, []
    users = named[_SERVICE_CONFIG]
    users = users.decode(errors="replace") if isinstance(users, bytes) else users
    text, keys = merged(policy, users)
    reason = f"{_USERS_WIN}, key by key"
    clashes = [OptionClash(f"{_SERVICE_CONFIG}: {key}", mine, his, his, reason) for key, (mine, his) in keys.items()]
    chosen = json.loads(users)
    if has_balancing(chosen) and policy.load_balancing != "round_robin":
        his = chosen.get("loadBalancingConfig", chosen.get("loadBalancingPolicy"))
        clashes.append(OptionClash(f"{_SERVICE_CONFIG}: load balancing", policy.load_balancing, his, his, _USERS_WIN))
        hash_header = policy.hash_header if "ring_hash" in json.dumps(his) else None
        policy = replace(policy, load_balancing="round_robin", hash_header=hash_header, service_config=text)
    return replace(policy, service_config=text), clashes


def _arguments(policy: ClientPolicy, named: Mapping[str, Any], authority: str | None) -> Iterator[tuple[str, Any]]:
    yield from policy.arguments()
    if policy.keepalive is not None:
        yield from policy.keepalive.arguments()
    if policy.authority is not None:
        yield _AUTHORITY, policy.authority
    # A user who names the certificate has said enough: with another authority beside it grpc would refuse its own calls.
    elif authority is not None and _AUTHORITY not in named and _TLS_NAME not in named:
        yield _AUTHORITY, authority
