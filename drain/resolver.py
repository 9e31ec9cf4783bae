"""Channels that follow the cluster, and the plugin API that lets any Python code be a resolver for grpc.

    channel = drain.insecure_channel("kubernetes:///geoipd:9200")

A channel made here is an ordinary `grpc.Channel`. Targets in one of our schemes (`kubernetes`, `static`, `file`, `dns+poll`, and
what was registered) are followed by the control plane embedded in this process, through grpc's own xDS client; all others are
grpc's own and pass through, with the policy's keepalive, retries and load balancing.

    class Consul:
        def __init__(self, target): ...
        def start(self, listener): ...   # listener.endpoints([...]) whenever they differ; listener.failed("why")
        def stop(self): ...

    drain.resolver.register("consul", Consul)

grpc itself has no such API in Python (grpc/grpc#11685). Everything here may be called from any thread.
"""

import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from drain._channels import plan, resolvers
from drain._core.endpoints import Endpoint, EndpointSet
from drain._core.snapshot import TargetSnapshot
from drain._core.target import GRPC_SCHEMES, Target
from drain._grpc.timeouts import with_timeouts
from drain._resolvers.protocol import Factory, Listener, Resolver
from drain._resolvers.watching import Watching
from drain.config import ClientPolicy
from drain.errors import ConfigurationError
from drain.events import Event

__all__ = [
    "Endpoint",
    "EndpointSet",
    "Factory",
    "Listener",
    "Resolver",
    "Target",
    "TargetSnapshot",
    "Watching",
    "configure_kubernetes",
    "insecure_channel",
    "register",
    "secure_channel",
    "snapshot",
    "subscribe",
    "watch",
]

Options = Sequence[tuple[str, Any]]


def insecure_channel(
    target: str,
    options: Options | None = None,
    compression: grpc.Compression | None = None,
    *,
    policy: ClientPolicy | None = None,
) -> grpc.Channel:
    """`grpc.insecure_channel`, for our targets too.

    Args:
        target: what to talk to (README: Targets).
        options: grpc's channel arguments; they win over the policy's, and a clash is logged.
        compression: as in grpc.
        policy: how to follow the target and how to call. None: `ClientPolicy()`. The environment overrides it.

    Raises TargetError and ConfigurationError at once for what can never work. What may work later (an unknown service, no
    permission, nobody there) is told by each call that fails, and cured by itself.
    """
    made = plan(target, options, policy)
    return with_timeouts(grpc.insecure_channel(made.target, made.options, compression), made.timeouts)


def secure_channel(
    target: str,
    credentials: grpc.ChannelCredentials,
    options: Options | None = None,
    compression: grpc.Compression | None = None,
    *,
    policy: ClientPolicy | None = None,
) -> grpc.Channel:
    """`grpc.secure_channel`, for our targets too. See `insecure_channel`.

    The servers' certificates are checked against `policy.authority`; None: the service's DNS name, such as
    "geoipd.shop.svc.cluster.local".
    """
    made = plan(target, options, policy)
    return with_timeouts(grpc.secure_channel(made.target, credentials, made.options, compression), made.timeouts)


def register(scheme: str, factory: Factory, *, replace: bool = False) -> None:
    """Resolve targets `scheme://...` with what `factory(target)` makes.

    Args:
        scheme: letters, digits, "+", "-" and "."; not one of grpc's own.
        factory: see `Factory` and `Resolver`. Called once when a channel is made, so that a bad target is an error there, and
            again each time the target begins to be followed.
        replace: take the place of a factory that is registered already, drain's own included. Channels that follow one of its
            targets keep the old one.

    Raises ConfigurationError.
    """
    if not isinstance(scheme, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise ConfigurationError(f'register({scheme!r}): a scheme is a letter, then letters, digits, "+", "-" or ".".')
    if scheme.lower() in GRPC_SCHEMES:
        raise ConfigurationError(f"register({scheme!r}): grpc itself resolves it. Choose another name.")
    if not callable(factory):
        raise ConfigurationError(
            f"register({scheme!r}, {factory!r}): the factory must be callable, and return a Resolver."
        )
    try:
        resolvers.watches.register(scheme.lower(), factory, replace=replace)
    except ValueError:
        raise ConfigurationError(
            f"register({scheme!r}): it is registered already. Pass replace=True to take its place."
        ) from None


def watch(target: str) -> Watching:
    """Follow a target without a channel: iterate the result, with `for` or `async for`, for one EndpointSet after another.

    Raises TargetError for a target that is not one of ours. See `Watching`.
    """
    return Watching(resolvers.watch(target))


def snapshot() -> tuple[TargetSnapshot, ...]:
    """What is known, at this moment, of every target that is being followed."""
    return resolvers.watches.snapshots()


def subscribe(callback: Callable[[Event], object]) -> Callable[[], None]:
    """Be told of what happens to targets (`EndpointsChanged`, `WatchFailed`, ...: `drain.events`), on the thread where it does.

    Returns what ends it, any number of times. A callback that raises is logged and harms nobody.
    """
    return resolvers.subscribers.add(callback)


def configure_kubernetes(
    source: Any = None,
    *,
    context: str | None = None,
    namespace: str | None = None,
    service_account: str | os.PathLike[str] | None = None,
) -> None:
    """Say where the API server is, where it is not found by itself; for targets that are used from now on.

    Args:
        source: a kubeconfig's path, or a `kubernetes.client.Configuration`. None: in the cluster, else by kubeconfig.
        context: of the kubeconfig; None: its current one.
        namespace: of targets that name none; None: the ServiceAccount's, the kubeconfig context's, or "default".
        service_account: a directory with token, ca.crt and namespace, for in-cluster access; None: kubelet's.
    """
    from drain._kube.api import configure  # noqa: PLC0415  # only who needs it

    configure(source, context=context, namespace=namespace, service_account=service_account)
