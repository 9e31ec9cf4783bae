"""Who knows which resource: sources by prefix, who is asked for, and what to serve when a source fails.

The one place where a source's errors end. A source is called on the plane's thread, in the midst of a stream that others live
from too: what it raises is logged (`drain.control_plane_source_failed`), told to it as a refusal, and the last good resource is
served meanwhile. Leaving the resource out would say that it does not exist, and grpc would drop what it has.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from google.protobuf.any_pb2 import Any

from drain._xds.messages import UnservableError

_log = logging.getLogger("drain")


class Source(Protocol):
    """Who knows the resources whose names begin with a prefix. Called on the plane's thread: must not block.

    What `resource` knows must be newer than the `changed()` that announces it: first change, then say so.
    """

    def resource(self, type_url: str, name: str) -> bytes | None:
        """The serialised `google.protobuf.Any` of a resource, or None if there is none (now).

        None means for a Listener and a Cluster that it does not exist, and for the other types that there is no news.
        """

    def subscribed(self, type_url: str, name: str) -> None:
        """The first stream asks for it: a watch begins here."""

    def unsubscribed(self, type_url: str, name: str) -> None:
        """The last stream has stopped asking: a watch ends here."""

    def refused(self, type_url: str, names: Sequence[str], message: str) -> None:
        """Grpc has sent a NACK, or the source itself raised `message`: grpc keeps what it had."""


class Sources:
    """All sources of one plane. `attach` and `detach` from any thread, without a lock (a child may fork while another thread is
    in here); everything else on the plane's thread.
    """

    def __init__(self) -> None:
        self._by_prefix: dict[str, Source] = {}
        self._askers: dict[tuple[str, str], int] = {}
        self._told: dict[tuple[str, str], Source] = {}  # who knows that it is being watched
        self._good: dict[tuple[str, str], bytes] = {}

    def attach(self, prefix: str, source: Source) -> None:
        """`source` owns every name that begins with `prefix`; the longest prefix wins."""
        self._by_prefix[prefix] = source

    def detach(self, prefix: str) -> None:
        """Its resources are gone. Idempotent."""
        self._by_prefix.pop(prefix, None)

    def asked(self, type_url: str, names: Iterable[str]) -> None:
        """One stream more asks for these."""
        for name in names:
            key = type_url, name
            self._askers[key] = self._askers.get(key, 0) + 1
            self._introduce(key)

    def adopted(self, prefix: str) -> None:
        """A source has come after those who ask for its names: its watches begin now."""
        for key in [key for key in self._askers if key[1].startswith(prefix)]:
            self._introduce(key)

    def _introduce(self, key: tuple[str, str]) -> None:
        source, before = self._owner(key[1]), self._told.get(key)
        if source is None or source is before:
            return
        if before is not None:
            _carefully(before, "unsubscribed", lambda: before.unsubscribed(*key))
        self._told[key] = source
        _carefully(source, "subscribed", lambda: source.subscribed(*key))

    def dropped(self, type_url: str, names: Iterable[str]) -> None:
        """One stream less asks for these."""
        for name in names:
            key = type_url, name
            self._askers[key] -= 1
            if not self._askers[key]:
                del self._askers[key]
                self._good.pop(key, None)
                if (source := self._told.pop(key, None)) is not None:
                    _carefully(source, "unsubscribed", lambda: source.unsubscribed(*key))  # noqa: B023  # called at once

    def find(self, type_url: str, names: Iterable[str]) -> tuple[list[Any], bool]:
        """What there is of these resources, and whether every source could say."""
        found, complete = [], True
        for name in sorted(names):
            resource, fresh = self._find(type_url, name)
            complete = complete and fresh
            if resource is not None:
                found.append(resource)
        return found, complete

    def _find(self, type_url: str, name: str) -> tuple[Any | None, bool]:
        if (source := self._owner(name)) is None:
            return None, True
        key = type_url, name
        try:
            serialised = source.resource(type_url, name)
            resource = Any.FromString(serialised) if serialised is not None else None
        except Exception as error:  # the edge to the source; the stream must live on, for all other resources
            if isinstance(error, UnservableError):  # no fault of the source
                text = str(error)
            else:
                text = f"{type(error).__name__}: {error}"
                _report(source, "resource", error)
            _carefully(source, "refused", lambda: source.refused(type_url, [name], text))
            return (Any.FromString(self._good[key]) if key in self._good else None), False
        if serialised is None:
            self._good.pop(key, None)
        elif key in self._askers:
            self._good[key] = serialised
        return resource, True

    def refused(self, type_url: str, names: Sequence[str], message: str) -> None:
        """A NACK: every source that is concerned hears of it once, with the names that are its own."""
        concerned: dict[int, tuple[Source, list[str]]] = {}
        for name in names:
            if (source := self._owner(name)) is not None:
                concerned.setdefault(id(source), (source, []))[1].append(name)
        for source, mine in concerned.values():
            _carefully(source, "refused", lambda: source.refused(type_url, mine, message))  # noqa: B023  # called at once

    def _owner(self, name: str) -> Source | None:
        by_prefix = self._by_prefix.copy()  # another thread may attach meanwhile
        prefixes = [prefix for prefix in by_prefix if name.startswith(prefix)]
        return by_prefix[max(prefixes, key=len)] if prefixes else None


def _carefully(source: Source, what: str, call: Callable[[], None]) -> None:
    try:
        call()
    except Exception as error:  # the edge to the source, as above
        _report(source, what, error)


def _report(source: Source, what: str, error: Exception) -> None:
    _log.error("drain.control_plane_source_failed source=%s call=%s", type(source).__name__, what, exc_info=error)
