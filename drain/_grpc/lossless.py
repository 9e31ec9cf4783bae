"""Lossless GOAWAY: a server that follows a Listener of the embedded control plane.

`server.stop()` marks the server shut down before it sends GOAWAY, so calls that arrive meanwhile end CANCELLED. An xDS-enabled
server has a better way: *changing* its Listener sends a graceful GOAWAY on every connection while it keeps serving (a rotation),
*removing* it sends GOAWAY, accepts no new connection, and lets the calls in flight finish. Nothing else of xDS is used.

This module alone knows how a config fetcher gets into a grpc.aio server, which has no public parameter for it.
"""

import gc
import itertools
import os
import threading
from collections.abc import Sequence
from typing import Any

from grpc._cython import cygrpc  # see `fetcher_option`; guarded by tests/versions

from drain._xds import messages
from drain._xds.ads import ControlPlane, Pushed
from drain._xds.bootstrap import BOOTSTRAP_ARGUMENT

# Connections that were told to go are cut when this is over; the deadlines are ours to keep, and overlapping drains would cut
# each other short. The largest that C-core's 32 bit milliseconds hold, about 24 days.
DRAIN_GRACE = ("grpc.experimental.server_config_change_drain_grace_time_ms", 2**31 - 1)
_FETCHER = ("grpc.server_config_fetcher", b"grpc.server_config_fetcher")

_numbers = itertools.count(1)


class Listener:
    """One server's Listeners (one for each address it listens on) in the control plane. Thread safe.

    `refusals` counts NACKs: a Listener that C-core refused, with its text in `refusal`.
    """

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._lock = threading.Lock()
        self._generation = 0
        self._present = True
        self.refusals = 0
        self.refusal = ""
        self.prefix = f"drain/server/{os.getpid()}/{next(_numbers)}/"
        plane.attach(self.prefix, self)

    @property
    def options(self) -> list[tuple[str, Any]]:
        """Channel arguments for the server: where its control plane is, and no cutting by C-core's own timer."""
        name = self.prefix.replace("%", "%%")
        bootstrap = self._plane.bootstrap(node_id=f"drain-server-{os.getpid()}", listener_template=f"{name}%s")
        return [(BOOTSTRAP_ARGUMENT, bootstrap), DRAIN_GRACE]

    def rotate(self) -> Pushed:
        """GOAWAY on every open connection; the server goes on accepting. The result tells when C-core has taken it."""
        with self._lock:
            self._generation += 1
        return self._plane.changed(self.prefix, messages.LISTENER)

    def remove(self) -> Pushed:
        """GOAWAY on every open connection, and none is accepted any more."""
        with self._lock:
            self._present = False
        return self._plane.changed(self.prefix, messages.LISTENER)

    def detach(self) -> None:
        """Forget this server. Idempotent."""
        self._plane.detach(self.prefix)

    # What the control plane asks of a Source.

    def resource(self, type_url: str, name: str) -> bytes | None:
        """The Listener for the address that C-core wants to listen on, which is the rest of the name."""
        with self._lock:
            if type_url != messages.LISTENER or not self._present:
                return None
            return messages.server_listener(name, name.removeprefix(self.prefix), self._generation)

    def subscribed(self, type_url: str, name: str) -> None:
        """A server asks for an address of its own: nothing to do."""

    def unsubscribed(self, type_url: str, name: str) -> None:
        """It is gone: nothing to do."""

    def refused(self, type_url: str, names: Sequence[str], message: str) -> None:
        """C-core refused the Listener. Start and rotation notice by their bounds; the text is kept for them."""
        with self._lock:
            self.refusals += 1
            self.refusal = message


def fetcher_option(options: Sequence[tuple[str, Any]]) -> tuple[Any, tuple[Any, Any] | None]:
    """The channel argument that makes any grpc server follow a Listener, and what must stay alive until it is built.

    grpc.aio.server has no `xds` parameter (grpcio 1.85.1: "TODO: Support xDS in aio server"), but the config fetcher is an
    ordinary channel argument. A throw-away sync server makes one; it is found among what that server refers to.
    Returns (holder, None) where it cannot be found: a private internal has changed.
    """
    holder = cygrpc.Server(list(options), True)
    for referent in gc.get_referents(holder):
        for arguments in referent if isinstance(referent, list) else ():
            for pair in arguments if isinstance(arguments, list) else ():
                if isinstance(pair, tuple) and len(pair) == 2 and pair[0] in _FETCHER:
                    return holder, pair
    return holder, None
