"""How a channel is made: from a target and a policy to what grpc is given. For synchronous and asyncio channels alike."""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from drain import events
from drain._channel_source import ChannelSource
from drain._core.target import Target, parse
from drain._grpc.channel_options import ChannelOptions, channel_options
from drain._resolvers import dns, file, kubernetes, static
from drain._resolvers.protocol import Resolver
from drain._resolvers.watches import Watch, Watches
from drain._subscribers import Subscribers
from drain._xds.bootstrap import BOOTSTRAP_ARGUMENT
from drain.config import ClientPolicy
from drain.errors import TargetError


@dataclass(frozen=True, slots=True)
class Plan:
    """What grpc is given."""

    target: str
    options: list[tuple[str, Any]]
    timeouts: Mapping[str, float | None]
    """Seconds by path, of the service config: see drain._grpc.timeouts."""


class Resolvers:
    """Everything this process knows of targets."""

    def __init__(self) -> None:
        self.subscribers = Subscribers()
        self.watches = Watches(self.subscribers.tell)
        self.channels = ChannelSource(self.subscribers.tell)
        self._warned: set[tuple[str, str]] = set()
        for scheme, module in {"kubernetes": kubernetes, "static": static, "file": file, "dns+poll": dns}.items():
            self.watches.register(scheme, module.factory, replace=False)

    def warn(self, target: str, text: str) -> None:
        """Log it, once for each target."""
        if (target, text) not in self._warned:
            self._warned.add((target, text))
            logging.getLogger("drain").warning("drain.channel_warning target=%r %s", target, text)

    def prepare(self, target: Target) -> tuple[Watch, Resolver]:
        """The target's watch, and a resolver that shows that it makes sense. Raises TargetError."""
        return self.watches.of(target), self.watches.factory(target.scheme)(target)

    def watch(self, text: str) -> Watch:
        """The watch of a target of ours. Raises TargetError."""
        target = parse(text, self.watches.schemes())
        if target is None:
            ours = ", ".join(f"{each}://" for each in sorted(self.watches.schemes()))
            raise TargetError(f"target {text!r}: grpc itself resolves it; only {ours} can be watched.")
        return self.prepare(target)[0]


resolvers = Resolvers()


def plan(text: str, options: Sequence[tuple[str, Any]] | None, policy: ClientPolicy | None) -> Plan:
    """See `drain.resolver.insecure_channel`. Raises TargetError, ConfigurationError, and OSError without a control plane."""
    policy = (ClientPolicy() if policy is None else policy).overridden_by(os.environ)
    target = parse(text, resolvers.watches.schemes())
    if target is None:
        plain = _options(text, policy, options, None, ours=False)
        return Plan(text, list(plain.arguments), plain.timeouts)
    watch, resolver = resolvers.prepare(target)
    chosen = _options(text, policy, options, _authority(target, resolver), ours=True)
    entry, plane = resolvers.channels.entry(watch, chosen.policy)
    bootstrap = plane.bootstrap(node_id=f"drain-{os.getpid()}")
    arguments = [*chosen.arguments, (BOOTSTRAP_ARGUMENT, bootstrap)]
    return Plan(f"xds:///{quote(entry.name)}", arguments, chosen.timeouts)


def _options(
    text: str, policy: ClientPolicy, users: Sequence[tuple[str, Any]] | None, authority: str | None, *, ours: bool
) -> ChannelOptions:
    chosen = channel_options(policy, users, authority=authority, ours=ours)
    for clash in chosen.clashes:
        resolvers.subscribers.tell(events.OptionOverridden(clash.name, clash.ours, clash.users, clash.applied))
    for warning in chosen.warnings:
        resolvers.warn(text, warning)
    return chosen


def _authority(target: Target, resolver: Resolver) -> str:
    """What the resolver says, or else the last part of the endpoint: any name but ours, which no server knows."""
    named = getattr(resolver, "authority", None) or target.endpoint.rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9.:\[\]_-]", "-", named) or target.scheme
