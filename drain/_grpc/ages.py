"""How long a connection may live yet, for handlers whose answer takes long (grpc/grpc#26703).

grpc tells nobody when a connection began, channelz neither. So a thread looks about once a second for connections that are new;
what it sees for the first time began after it last looked. Everything errs on the side of less time left.
"""

import threading
from collections.abc import Callable, Iterable

from drain import _clock
from drain._grpc.inflight import server_sockets

INTERVAL = 1.0  # seconds between looks
JITTER = 0.9  # grpc ends a connection between 0.9 and 1.1 of max_connection_age (chttp2_transport.cc)
_BREATH = 0.001  # seconds between two pages: thousands of connections must not hold up the calls
_SPARE = 1000  # connections gone that are remembered beside those that live

Sockets = Callable[[int, int], Iterable[list[tuple[int, str]]]]


class Ages:
    """When the connections of one server began. `start` and `stop` from any thread, `left` from every handler.

    Args:
        limit: the server's max_connection_age in seconds; None: it has none, and nothing is ever looked at.
        sockets: pages of (channelz id, peer) of a server from an id on. clock: seconds.
    """

    def __init__(
        self, limit: float | None, sockets: Sockets = server_sockets, clock: Callable[[], float] = _clock.now
    ) -> None:
        self.limit = limit
        self._sockets, self._clock = sockets, clock
        self._began: dict[str, float] = {}
        self._next_id = 0
        self._kept = 0
        self._looked_at: float | None = None
        self._stopped = threading.Event()

    def start(self, server_id: int | None) -> None:
        """Follow that server's connections from before its first one on. Without an id, and without a limit, does nothing."""
        self.stop()
        if self.limit is None or server_id is None:
            return
        self._stopped = stopped = threading.Event()
        self._began, self._next_id, self._kept, self._looked_at = {}, 0, 0, self._clock()

        def run() -> None:
            while not stopped.wait(INTERVAL):
                self.look(server_id)

        threading.Thread(target=run, name="drain-ages", daemon=True).start()

    def stop(self) -> None:
        """End the thread. Idempotent."""
        self._stopped.set()
        self._looked_at = None

    def left(self, peer: str) -> float | None:
        """Seconds until that connection reaches its age, at least; None: it never does, or nobody knows when it began."""
        looked_at = self._looked_at
        if self.limit is None or looked_at is None or peer.startswith("unix"):  # Unix sockets' peers have no names
            return None
        began = self._began.get(peer, looked_at)  # not seen yet: it is younger than the last look
        return max(0.0, JITTER * self.limit - (self._clock() - began))

    def look(self, server_id: int) -> None:
        """Note what is new."""
        stopped, since, now = self._stopped, self._looked_at, self._clock()
        if since is None:  # stopped
            return
        if len(self._began) > 2 * self._kept + _SPARE:
            self._forget_the_gone(server_id)
        for page in self._sockets(server_id, self._next_id):
            for number, peer in page:
                self._began[peer] = since  # in the place of who had this port before
                self._next_id = max(self._next_id, number + 1)
            if stopped.wait(_BREATH):
                return
        self._looked_at = now

    def _forget_the_gone(self, server_id: int) -> None:
        living = {peer for page in self._sockets(server_id, 0) for _, peer in page}
        self._began = {peer: began for peer, began in self._began.items() if peer in living}
        self._kept = len(self._began)
