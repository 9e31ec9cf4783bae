"""`kubernetes:///geoipd:9200`: the endpoints of a Kubernetes service, from its EndpointSlices.

Needs a Role with list and watch on discovery.k8s.io/endpointslices in the service's namespace, and nothing more. There is one
watch of the API for each service and process, however many targets (ports) and channels use it; it runs while one does.
"""

import os
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from drain._core.slices import Slices
from drain._core.target import KubernetesTarget, Target, kubernetes_target
from drain._resolvers.protocol import Listener
from drain.errors import DrainError, ResolutionError

if TYPE_CHECKING:  # the client's HTTP layer takes a while to import: only who has such a target waits for it
    from drain._kube.api import Api
    from drain._kube.reflector import Reflector

_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")  # what kubelet mounts
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds between attempts to find an API server's address


def factory(target: Target) -> "KubernetesResolver":
    """A resolver for a kubernetes: target. Raises TargetError."""
    return KubernetesResolver(kubernetes_target(target))


def _own_namespace() -> str:
    """The pod's, for the service's DNS name. Outside a pod nobody's certificate hangs on it."""
    try:
        return _NAMESPACE.read_text().strip() or "default"
    except OSError:
        return "default"


@dataclass(frozen=True, slots=True)
class _News:
    """What is known of a service: its slices once there was an answer, and what is wrong now."""

    number: int = 0  # of what its feed told
    slices: Slices | None = None
    failure: str | None = None


class KubernetesResolver:
    """One target: a port of a service. Thread safe. See `drain._resolvers.protocol.Resolver`."""

    def __init__(self, wanted: KubernetesTarget) -> None:
        self._wanted = wanted
        self.authority = f"{wanted.service}.{wanted.namespace or _own_namespace()}.svc.cluster.local"
        self._pid = os.getpid()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._feed: _Feed | None = None
        self._listener: Listener | None = None
        self._news: _News | None = None  # the latest that is not told yet
        self._taken = 0  # its number
        self._telling = False
        # What the listener knows. Belongs to whoever is telling.
        self._told: Slices | None = None
        self._told_failure: str | None = None
        self._told_any = False

    def start(self, listener: Listener) -> None:
        """Watch. Does not block: finding the API server takes a thread, the first time."""
        self._listener = listener
        threading.Thread(target=self._find, name="drain-kube-start", daemon=True).start()

    def stop(self) -> None:
        """End, within a second. In a forked child the watch is its parent's, and nothing is done."""
        self._stopped.set()
        if os.getpid() != self._pid:
            return
        with self._lock:
            feed, self._feed = self._feed, None
        if feed is not None:
            feed.leave(self)

    def take(self, news: _News) -> None:
        """From the feed, on any thread. Told one after the other, and the latest last, without a lock held meanwhile.

        What became old while the listener was busy is passed over.
        """
        with self._lock:
            if news.number < self._taken:  # from before it joined, and overtaken
                return
            self._news, self._taken = news, news.number
            if self._telling:
                return
            self._telling = True
        while True:
            with self._lock:
                latest, self._news = self._news, None
                if latest is None or self._stopped.is_set():
                    self._telling = False
                    return
            self._tell(latest)

    def _tell(self, news: _News) -> None:
        slices = news.slices
        if slices is not None and (slices is not self._told or (self._told_failure and not news.failure)):
            self._told = slices
            self._tell_slices(slices)
        if news.failure is not None:
            self._fail(news.failure)

    def _tell_slices(self, slices: Slices) -> None:
        assert self._listener is not None  # started
        if not slices:
            # Deleted, if there was one: its last addresses may belong to somebody else by now, and must not be kept.
            if self._told_any:
                self._listener.endpoints(())
                self._told_failure, self._told_any = None, False
            namespace, _, service = slices.service.partition("/")
            self._fail(f'services "{service}" in namespace "{namespace}": no EndpointSlice: does the service exist?')
            return
        try:
            found = slices.endpoints(self._wanted.port, self._wanted.family)
        except ResolutionError as error:
            self._fail(str(error))
            return
        self._told_failure, self._told_any = None, True
        self._listener.endpoints(found)  # sorted and joined already: it is taken as it is

    def _fail(self, message: str) -> None:
        assert self._listener is not None  # started
        if message != self._told_failure:
            self._told_failure = message
            self._listener.failed(message)

    def _find(self) -> None:
        """Join the watch of the service; says what is wrong until that is possible."""
        pause = _FIRST_PAUSE
        while not self._stopped.is_set():
            try:
                from drain._kube.api import Api  # noqa: PLC0415 - see above

                feed = _Feed.joined(Api.shared(), self._wanted, self)
            except Exception as error:  # no configuration, an unreadable one, no kubernetes package
                known = isinstance(error, DrainError)
                self.take(_News(failure=str(error) if known else f"{type(error).__name__}: {error}"))
            else:
                with self._lock:
                    if not self._stopped.is_set():
                        self._feed = feed
                        return
                feed.leave(self)
                return
            self._stopped.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


@dataclass(eq=False)
class _Feed:
    """One watch of the API, and who follows it."""

    key: "tuple[Api, str, str]"
    reflector: "Reflector[Slices] | None" = None
    followers: list[KubernetesResolver] = field(default_factory=list)
    news: _News = _News()

    @classmethod
    def joined(cls, api: "Api", wanted: KubernetesTarget, follower: KubernetesResolver) -> "_Feed":
        """The feed of a service, with one more follower; begun if there was none."""
        from drain._kube.reflector import Reflector  # noqa: PLC0415 - see above

        namespace = wanted.namespace or api.namespace
        key = api, namespace, wanted.service
        with _state.lock:
            feed = _state.feeds.get(key)
            begun = feed is None
            if feed is None:
                feed = _state.feeds[key] = cls(key)
                feed.reflector = Reflector(
                    api,
                    namespace,
                    wanted.service,
                    feed.changed,
                    feed.failed,
                    mirror=Slices(f"{namespace}/{wanted.service}"),
                    ended=feed.ended,
                )
                feed.reflector.start()
            feed.followers.append(follower)
            news = feed.news
        if not begun and (news.slices is not None or news.failure is not None):
            follower.take(news)
        return feed

    def leave(self, follower: KubernetesResolver) -> None:
        """One follower less; the last one ends it."""
        with _state.lock:
            self.followers.remove(follower)
            over = not self.followers
            if over:
                del _state.feeds[self.key]
        if over and self.reflector is not None:
            self.reflector.stop()

    # On the reflector's thread.

    def changed(self, slices: Slices) -> None:
        self._tell(_News(self.news.number + 1, slices))

    def failed(self, message: str) -> None:
        self._tell(_News(self.news.number + 1, self.news.slices, message))

    def ended(self, why: str) -> None:
        _, namespace, service = self.key
        with _state.lock:
            _state.restarts[f"{namespace}/{service}", why] += 1

    def _tell(self, news: _News) -> None:
        with _state.lock:
            self.news = news
            followers = list(self.followers)
        for each in followers:
            each.take(news)


class _State:
    """All feeds of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.feeds: dict[tuple[Api, str, str], _Feed] = {}
        self.restarts: Counter[tuple[str, str]] = Counter()


_state = _State()


def restarts() -> dict[tuple[str, str], int]:
    """How many lists and watches have ended, by (namespace/service, why). Thread safe."""
    with _state.lock:
        return dict(_state.restarts)


def _begin_anew() -> None:
    """In a forked child: the threads are its parent's."""
    global _state
    _state = _State()


os.register_at_fork(after_in_child=_begin_anew)
