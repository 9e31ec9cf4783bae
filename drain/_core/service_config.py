"""A client's policy, read as what grpc is to do: `plan` for our targets (routes and a cluster in xDS), `merged` for grpc's own.

The JSON is grpc's service config (grpc/doc/service_config.md; gRFC A2, A6). xDS knows less than it: what it cannot say is refused
by name, rather than dropped. Pure.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from drain._core.balancing import Balancing, balancing_of
from drain._core.service_json import known, seconds, wrong
from drain.config import ClientPolicy, OutlierDetection, RetryPolicy
from drain.errors import ConfigurationError

_MOST_ATTEMPTS = 5
_MULTIPLIER = 2  # what grpc's xDS resolver writes, and nothing else can be said (xds_resolver.cc)


@dataclass(frozen=True, slots=True)
class Route:
    """How often calls are made again: to one method ("/pkg.Service/Method"), one service ("/pkg.Service/"), or all ("")."""

    path: str
    retry: RetryPolicy | None = None

    @property
    def exact(self) -> bool:
        """One method, and not whatever begins like this."""
        return bool(self.path) and not self.path.endswith("/")


@dataclass(frozen=True, slots=True)
class Plan:
    """A policy for one of our targets. The first route that matches counts, and the last one matches everything."""

    balancing: Balancing
    routes: tuple[Route, ...]
    outlier_detection: OutlierDetection | None
    max_concurrent_requests: int | None


@lru_cache(maxsize=256)
def plan(policy: ClientPolicy) -> Plan:
    """What `policy` asks of a channel to one of our targets. Raises ConfigurationError for what xDS cannot say."""
    config = json.loads(policy.service_config) if policy.service_config is not None else {}
    known(config, "", {"methodConfig", "loadBalancingConfig", "loadBalancingPolicy"})
    return Plan(
        balancing_of(config, policy),
        tuple(_routes(config, policy.retry)),
        policy.outlier_detection,
        policy.max_concurrent_requests,
    )


def timeouts(policy: ClientPolicy) -> dict[str, float | None]:
    """Seconds by path (see `Route.path`), for every target; empty where there is no timeout at all. See drain._grpc.timeouts.

    Raises ConfigurationError for what is no methodConfig.
    """
    config = json.loads(policy.service_config) if policy.service_config is not None else {}
    found: dict[str, float | None] = {}
    for number, method in enumerate(_methods(config)):
        where = f"methodConfig[{number}]"
        timeout = seconds(method["timeout"], f"{where}.timeout") if "timeout" in method else None
        for path in _paths(method.get("name"), f"{where}.name"):
            found[path] = timeout
    return found if any(each is not None for each in found.values()) else {}


def merged(policy: ClientPolicy, users: str | None) -> tuple[str | None, dict[str, tuple[Any, Any]]]:
    """The service config of the policy with the user's own (JSON; None: none) on top, key by key, and the keys that clash.

    Each clash has both values. Raises ConfigurationError if the user's is no JSON object.
    """
    ours = json.loads(policy.service_config) if policy.service_config is not None else {}
    if users is None:
        return policy.service_config, {}
    theirs = _object(users)
    clashes = {key: (ours[key], theirs[key]) for key in ours if key in theirs and ours[key] != theirs[key]}
    return json.dumps({**ours, **theirs}), clashes


def plain(policy: ClientPolicy) -> str:
    """The service config for grpc's own targets: the policy's, with its load balancing and retry where that says nothing.

    Raises ConfigurationError for what it cannot say (ring_hash: grpc takes the header from xDS only).
    """
    config = json.loads(policy.service_config) if policy.service_config is not None else {}
    if not has_balancing(config):
        if policy.load_balancing == "ring_hash":
            raise ConfigurationError(
                "ClientPolicy.load_balancing=ring_hash: grpc can do that on drain's targets only (kubernetes:, ...). "
                "Use one of those, or another load_balancing."
            )
        details = {"shuffleAddressList": True} if policy.load_balancing == "pick_first" else {}
        config["loadBalancingConfig"] = [{policy.load_balancing: details}]
    if policy.retry is not None:
        methods = [*_methods(config)]
        if not any({} in each.get("name", ()) for each in methods):
            methods.append({"name": [{}]})
        retry = _retry_json(policy.retry)
        config["methodConfig"] = [each if "retryPolicy" in each else {**each, "retryPolicy": retry} for each in methods]
    if "methodConfig" in config:  # its timeouts are not for grpc: see drain._grpc.timeouts
        config["methodConfig"] = [{k: v for k, v in each.items() if k != "timeout"} for each in _methods(config)]
    return json.dumps(config)


def has_balancing(config: Mapping[str, Any]) -> bool:
    """Whether a service config chooses a load balancer."""
    return "loadBalancingConfig" in config or "loadBalancingPolicy" in config


def _retry_json(retry: RetryPolicy) -> dict[str, Any]:
    return {
        "maxAttempts": retry.max_attempts,
        "initialBackoff": f"{retry.initial_backoff:.9f}s",
        "maxBackoff": f"{retry.max_backoff:.9f}s",
        "backoffMultiplier": _MULTIPLIER,
        "retryableStatusCodes": list(retry.codes),
    }


def _object(text: str) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"grpc.service_config={text!r}: must be a JSON object ({error}).") from None
    if not isinstance(read, dict):
        raise ConfigurationError(f"grpc.service_config={text!r}: must be a JSON object.")
    return read


def _methods(config: Mapping[str, Any]) -> list[Any]:
    methods = config.get("methodConfig", [])
    if not isinstance(methods, list) or not all(isinstance(each, Mapping) for each in methods):
        raise wrong("methodConfig", methods, "must be a list of objects")
    return methods


_REMEDIES = {
    "waitForReady": "Pass wait_for_ready=True with the call",
    "maxRequestMessageBytes": "Use the channel option grpc.max_send_message_length",
    "maxResponseMessageBytes": "Use the channel option grpc.max_receive_message_length",
    "hedgingPolicy": "Use retryPolicy",
}


def _routes(config: Mapping[str, Any], retry: RetryPolicy | None) -> Iterator[Route]:
    found: dict[str, Route] = {}
    for number, method in enumerate(_methods(config)):
        where = f"methodConfig[{number}]"
        taken = {key: value for key, value in method.items() if not (key == "waitForReady" and value is False)}
        known(taken, where, {"name", "timeout", "retryPolicy"}, _REMEDIES)
        own = _retry(method["retryPolicy"], f"{where}.retryPolicy") if "retryPolicy" in method else retry
        for path in _paths(method.get("name"), f"{where}.name"):
            if path in found:
                raise wrong(f"{where}.name", method["name"], f"{path or 'the default'!r} is there twice")
            found[path] = Route(path, own)
    found.setdefault("", Route("", retry))
    # The most particular first: methods, then services, then everything. Within each the order does not matter.
    yield from sorted(found.values(), key=lambda route: (not route.exact, not route.path))


def _paths(names: Any, where: str) -> Iterator[str]:
    if not isinstance(names, list) or not names:
        raise wrong(where, names, "must be a list of at least one object")
    for name in names:
        known(name, where, {"service", "method"})
        service, method = name.get("service") or "", name.get("method") or ""
        if not isinstance(service, str) or not isinstance(method, str) or "/" in service + method:
            raise wrong(where, name, "service and method must be text without a slash")
        if method and not service:
            raise wrong(where, name, "a method needs its service")
        yield f"/{service}/{method}" if service else ""


def _retry(found: Any, where: str) -> RetryPolicy:
    names = {"maxAttempts", "initialBackoff", "maxBackoff", "backoffMultiplier", "retryableStatusCodes"}
    known(found, where, names)
    if found.get("backoffMultiplier", _MULTIPLIER) != _MULTIPLIER:
        what = f"cannot be said in xDS, which drain's targets use: grpc's is always {_MULTIPLIER} there"
        raise wrong(f"{where}.backoffMultiplier", found["backoffMultiplier"], what)
    given: dict[str, Any] = {
        name: seconds(found[key], f"{where}.{key}")
        for key, name in (("initialBackoff", "initial_backoff"), ("maxBackoff", "max_backoff"))
        if key in found
    }
    if "retryableStatusCodes" in found:
        given["codes"] = found["retryableStatusCodes"]
    attempts = found.get("maxAttempts")
    # More than five mean five, for every grpc (gRFC A6).
    given["max_attempts"] = min(attempts, _MOST_ATTEMPTS) if isinstance(attempts, int) else attempts
    try:
        return RetryPolicy(**given)
    except ConfigurationError as error:
        raise ConfigurationError(f"service_config: {where}: {error}") from None
