"""The bridge from watches to grpc: the resources of our client channels, as a source of the embedded control plane.

A channel asks for its Listener (its routes inside), then its Cluster, then the endpoints of that. The watch of its target begins
with the first of these and ends with the last stream that asked, so it lives exactly as long as grpc wants it: a channel that is
closed, collected or idle costs nothing.

A target without a usable endpoint is told through a name: the Cluster then points to an endpoints resource that is empty and *is
called* what the matter is. grpc puts that name into the details of every failed call, at once; the other way that xDS has
(resource_errors) takes 15 s and loses the text, unless an experiment is on (measured on 1.85.1).
"""

import os
import threading
from collections.abc import Callable, Sequence

from drain import _clock, events
from drain._core.endpoints import Place, Preference, localities, place
from drain._core.snapshot import TargetSnapshot
from drain._resolvers.watches import Tell, Watch
from drain._xds import client
from drain._xds.ads import ControlPlane
from drain._xds.messages import CLUSTER, ENDPOINTS, LISTENER
from drain.config import ClientPolicy

_PREFIX = "drain/"
# Longer than this no failure is told; the log has all of it.
_LONGEST_REASON = 1_000


class Entry:
    """What all channels to one target with one policy share. `name` is what they ask for: `xds:///name`."""

    def __init__(self, plane: ControlPlane, name: str, watch: Watch, policy: ClientPolicy, tell: Tell) -> None:
        self.name = name
        self.prefix = f"{name.partition('|')[0]}|"
        self._plane = plane
        self._watch = watch
        self._policy = policy
        self._preference = preference(policy)
        self._tell = tell
        self._listener = client.listener(name, cluster=name, policy=policy)
        self._lock = threading.Lock()  # two threads of a resolver may bring news
        self._asked: set[tuple[str, str]] = set()  # on the plane's thread only
        self._leave: Callable[[], None] | None = None
        self._following = False
        self._version = 0
        self._endpoints_name: str | None = None
        self._cluster: bytes | None = None
        self._endpoints: bytes | None = None

    # A source, for its own names. On the plane's thread.

    def resource(self, type_url: str, name: str) -> bytes | None:
        """See `drain._xds.sources.Source`."""
        if type_url == LISTENER:
            return self._listener if name == self.name else None
        if type_url == CLUSTER:
            return self._cluster if name == self.name else None
        if type_url != ENDPOINTS:
            return None
        return self._endpoints if name == self.name else client.endpoints(name, ())

    def subscribed(self, type_url: str, name: str) -> None:
        """See `drain._xds.sources.Source`."""
        self._asked.add((type_url, name))
        if self._leave is None:
            with self._lock:
                self._following = True
            self._leave = self._watch.use(self._changed)
            self._changed()  # others may follow it already

    def unsubscribed(self, type_url: str, name: str) -> None:
        """See `drain._xds.sources.Source`."""
        self._asked.discard((type_url, name))
        if not self._asked and self._leave is not None:
            self._leave()
            self._leave = None
            with self._lock:  # what comes next may be something else altogether
                self._following = False
                self._version, self._cluster, self._endpoints, self._endpoints_name = 0, None, None, None

    def refused(self, type_url: str, names: Sequence[str], message: str) -> None:
        """See `drain._xds.sources.Source`."""
        self._tell(events.UpdateRefused(str(self._watch.target), message, _clock.now()))

    # On the watch's thread, mostly.

    def _changed(self) -> None:
        with self._lock:
            snapshot = self._watch.snapshot()
            unknown = snapshot.endpoints is None and snapshot.failure is None
            if not self._following or unknown or snapshot.version == self._version:
                return
            self._version = snapshot.version
            new_cluster = self._prepare(snapshot)
        heard_at = _clock.now() - (snapshot.age or 0.0)
        # A new Cluster leads to its endpoints by itself; without one they alone are news.
        pushed = self._plane.changed(self.prefix, CLUSTER if new_cluster else ENDPOINTS)
        if new_cluster:
            self._plane.changed(self.prefix, ENDPOINTS)
        elif snapshot.failure is None:
            pushed.future.add_done_callback(lambda taken: self._taken(taken.result(), heard_at))

    def _taken(self, taken: bool, heard_at: float) -> None:
        """On the plane's thread."""
        if taken:
            now = _clock.now()
            self._tell(events.UpdateTaken(str(self._watch.target), now - heard_at, now))

    def _prepare(self, snapshot: TargetSnapshot) -> bool:
        places = place(snapshot.endpoints, self._preference) if snapshot.endpoints is not None else ()
        found = localities(places)
        if found:
            self._endpoints = client.endpoints(self.name, found, self._policy)
        name = self.name if found else f"{self.name}: {reason(snapshot, places)}"
        if name == self._endpoints_name:
            return False
        self._endpoints_name = name
        self._cluster = client.cluster(self.name, endpoints_name=name, policy=self._policy)
        return True


def preference(policy: ClientPolicy) -> Preference:
    """What the policy wants of a set of endpoints."""
    return Preference(
        zone=policy.zone,
        prefer_same_zone=policy.prefer_same_zone,
        subset_size=policy.subset_size,
        subset_key=policy.subset_key or os.uname().nodename,
    )


def reason(snapshot: TargetSnapshot, places: Sequence[Place]) -> str:
    """Why there is nothing to call, in one line."""
    if snapshot.failure is not None:
        return snapshot.failure[:_LONGEST_REASON]
    if not places:
        return "no endpoint"
    whys = [each.why for each in places]
    return "no endpoint can be used: " + ", ".join(f"{whys.count(why)} {why}" for why in dict.fromkeys(whys))


class ChannelSource:
    """All entries of this process, by target and policy. Thread safe. A forked child begins with none."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._plane: ControlPlane | None = None
        self._entries: dict[tuple[Watch, ClientPolicy], Entry] = {}
        os.register_at_fork(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        self._lock, self._plane, self._entries = threading.Lock(), None, {}

    def entry(self, watch: Watch, policy: ClientPolicy) -> tuple[Entry, ControlPlane]:
        """What a channel to this target with this policy asks for, and whom. Starts the control plane if need be (OSError)."""
        with self._lock:
            plane = ControlPlane.shared()
            if plane is not self._plane:
                self._plane, self._entries = plane, {}
            if (watch, policy) not in self._entries:
                name = f"{_PREFIX}{len(self._entries)}|{watch.target}"
                entry = Entry(plane, name, watch, policy, self._tell)
                plane.attach(entry.prefix, entry)
                self._entries[watch, policy] = entry
            return self._entries[watch, policy], plane
