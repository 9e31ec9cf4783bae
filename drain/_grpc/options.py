"""grpc's channel arguments for a server: from `ServerKeepalive`, from the user, and where the two meet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from drain.config import ServerKeepalive
from drain.errors import ConfigurationError

_SO_REUSEPORT = "grpc.so_reuseport"
_CHANNELZ = "grpc.enable_channelz"
_MINIMAL_STACK = "grpc.minimal_stack"
# C-core leaves the filter that acts on these out of the minimal stack (legacy_channel_idle_filter.cc,
# ExcludeFromMinimalStack; measured: test_grpcs_minimal_stack_has_no_connection_age).
_NOT_IN_MINIMAL_STACK = ("grpc.max_connection_age_ms", "grpc.max_connection_idle_ms")

_NO_LIMIT = 2**31 - 1  # what grpc takes for no limit

# What lossless GOAWAY rests on, and why nobody else may set it. Refused in every mode, so that the same code starts, or
# does not, whatever grpcio it meets.
_OURS_ALONE: Mapping[str, str] = {
    "grpc.server_config_fetcher": "drain hands grpc its own, to tell it when to send GOAWAY",
    "grpc.TEST_ONLY_DO_NOT_USE_IN_PROD.xds_bootstrap_config": "it leads grpc to drain's embedded control plane",
    "grpc.experimental.server_config_change_drain_grace_time_ms": (
        "it would cut calls short at each GOAWAY; the time for calls in flight is DrainPolicy.drain_timeout"
    ),
}


@dataclass(frozen=True, slots=True)
class OptionClash:
    """An argument that drain and the user set differently. `applied` says which value grpc gets."""

    name: str
    ours: Any
    users: Any
    applied: Any
    reason: str


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What grpc is given, and what the rest of drain must know about it. The caller logs the clashes."""

    arguments: tuple[tuple[str, Any], ...]
    clashes: tuple[OptionClash, ...]
    shared: bool
    """The user asked to share the port with other processes (`grpc.so_reuseport` 1)."""
    channelz: bool
    """channelz is on: calls in flight can be counted without cost per call."""

    @property
    def age_limit(self) -> float | None:
        """The max_connection_age in seconds that counts, drain's or the user's; None: there is none."""
        named = dict(reversed(self.arguments))
        age = named.get(_NOT_IN_MINIMAL_STACK[0])
        if not isinstance(age, int) or age >= _NO_LIMIT or named.get(_MINIMAL_STACK, False):
            return None
        return age / 1000


def server_options(
    keepalive: ServerKeepalive | None,
    user: Iterable[tuple[str, Any]] | None,
    *,
    lossless: bool,
    shared: bool = False,
) -> ServerOptions:
    """The arguments for a server: `keepalive`'s (None: none), with the user's own on top.

    The user's win, except that `grpc.so_reuseport` stays on in lossless mode, where a socket of ours holds the port
    until grpc listens (see `drain._grpc.addresses`); exclusiveness is then checked by us. `shared`: this process is one of
    several workers on the port, which is shared whatever the user's options say. Raises `ConfigurationError`
    for options that are not pairs of a name and a value, and for those that lossless GOAWAY rests on.
    """
    users = tuple(pairs(user))
    named = dict(reversed(users))  # the first of several wins, as in C-core: test_grpc_takes_the_first_of_several
    _refuse_ours_alone(named)
    ours = dict(keepalive.arguments()) if keepalive is not None else {}
    clashes = [
        OptionClash(name, value, named[name], named[name], "the user's own options win")
        for name, value in ours.items()
        if name in named and named[name] != value
    ]
    clashes += _minimal_stack(ours, named)
    worker, shared = shared, shared or bool(named.get(_SO_REUSEPORT, False))
    if lossless or worker:
        if not named.get(_SO_REUSEPORT, True):
            reason = "drain holds the port for grpc, and has itself made sure that nobody else has it"
            reason = "the port is shared by several workers" if worker else reason
            clashes.append(OptionClash(_SO_REUSEPORT, 1, named[_SO_REUSEPORT], 1, reason))
        users = tuple(pair for pair in users if pair[0] != _SO_REUSEPORT)
        ours[_SO_REUSEPORT] = 1
        named.pop(_SO_REUSEPORT, None)
    return ServerOptions(
        arguments=(*((name, value) for name, value in ours.items() if name not in named), *users),
        clashes=tuple(clashes),
        shared=shared,
        channelz=bool(named.get(_CHANNELZ, True)),
    )


def pairs(user: Iterable[tuple[str, Any]] | None) -> Iterator[tuple[str, Any]]:
    """A user's options, one by one. Raises ConfigurationError for what is no pair of a name and a value."""
    if user is None:
        return
    if isinstance(user, (str, bytes, Mapping)) or not isinstance(user, Iterable):
        raise ConfigurationError(
            f'options={user!r}: must be a sequence of pairs, such as [("grpc.max_receive_message_length", 8388608)].'
        )
    for position, pair in enumerate(user):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ConfigurationError(f"options[{position}]={pair!r}: must be a pair of a name and a value.")
        name, value = pair
        if isinstance(name, bytes):  # grpc takes these as well
            name = name.decode(errors="replace")
        if not isinstance(name, str) or not name:
            raise ConfigurationError(
                f"options[{position}]={pair!r}: the name must be text, such as "
                f'"grpc.max_receive_message_length", not {type(name).__name__}.'
            )
        yield name, value


def _refuse_ours_alone(named: Mapping[str, Any]) -> None:
    for name, reason in _OURS_ALONE.items():
        if name in named:
            raise ConfigurationError(f"options: {name} cannot be set, because {reason}. Leave it out.")


def _minimal_stack(ours: Mapping[str, Any], named: Mapping[str, Any]) -> Iterator[OptionClash]:
    if named.get(_MINIMAL_STACK, False):
        ages = [name for name in _NOT_IN_MINIMAL_STACK if name in ours and name not in named]
        if ages:
            reason = f"grpc's minimal stack ignores {' and '.join(ages)}"
            yield OptionClash(_MINIMAL_STACK, 0, named[_MINIMAL_STACK], named[_MINIMAL_STACK], reason)
