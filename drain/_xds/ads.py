"""The embedded control plane: an ADS server (xDS v3, state of the world) on a Unix socket, inside this process.

grpc's own xDS client connects to it, from servers (Listeners, for lossless GOAWAY) and from channels. It runs on grpc.aio,
on an event loop and a daemon thread of its own: an ADS servicer on the synchronous server would take a thread for each stream and
hold up interpreter exit, and the user's loop must not decide when GOAWAY is sent. Nothing runs before the first use; a forked
child makes a plane of its own.

Resources come from sources. A `Source` owns the names that begin with its prefix, and says `changed()` when they differ.
"""

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage

from drain._core.subscription import Heard, Subscription
from drain._runtime_dir import new_socket_path, runtime_dir
from drain._xds import xds_pb2 as pb
from drain._xds.bootstrap import bootstrap_json
from drain._xds.messages import CLUSTER, LISTENER

_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_START_TIMEOUT = 5.0
_STOP_TIMEOUT = 1.0
# Absence of one of these in a response means that it does not exist; of any other type, only that there is no news.
_FULL_STATE = frozenset({LISTENER, CLUSTER})
_OPTIONS = [
    ("grpc.max_send_message_length", 64 << 20),  # 5,000 endpoints are 1 MiB
    ("grpc.max_receive_message_length", 1 << 20),  # requests carry names only
    ("grpc.enable_channelz", 0),  # the user's tools should see his servers, not this one
    ("grpc.so_reuseport", 0),
]


class Source(Protocol):
    """Who knows the resources whose names begin with a prefix. Called on the plane's thread: must not block."""

    def resource(self, type_url: str, name: str) -> bytes | None:
        """The serialised `google.protobuf.Any` of a resource, or None if there is none (now)."""

    def subscribed(self, type_url: str, name: str) -> None:
        """The first stream asks for it: a watch begins here."""

    def unsubscribed(self, type_url: str, name: str) -> None:
        """The last stream has stopped asking: a watch ends here."""

    def refused(self, type_url: str, names: Sequence[str], message: str) -> None:
        """Grpc has sent a NACK: it keeps what it had."""


class Pushed:
    """A change on its way. Done when every stream that was told has ACKed it, or is gone. `future` is for asyncio."""

    def __init__(self) -> None:
        self.future: Future[bool] = Future()
        self._waiting: set[_Stream] = set()
        self._taken = True

    def wait(self, timeout: float) -> bool:
        """Block until done: True if everybody took it; False after `timeout` seconds, or if somebody refused."""
        try:
            return self.future.result(timeout)
        except TimeoutError:
            return False

    # On the plane's thread:

    def expect(self, streams: "set[_Stream]") -> None:
        self._waiting = streams
        self._settle()

    def answered(self, stream: "_Stream", *, taken: bool) -> None:
        self._taken = self._taken and taken
        self._waiting.discard(stream)
        self._settle()

    def _settle(self) -> None:
        if not self._waiting and not self.future.done():
            self.future.set_result(self._taken)


class _Stream:
    """One ADS stream: what it asks for, what it must be told, and who waits for its answer."""

    def __init__(self) -> None:
        self.subscription = Subscription()
        self.inbox: asyncio.Queue[pb.DiscoveryRequest | None] = asyncio.Queue()
        self.due: dict[str, list[Pushed]] = {}  # types to be sent, and the changes that are the reason
        self.unanswered: dict[int, list[Pushed]] = {}

    def owe(self, type_url: str, pushed: Pushed | None = None) -> None:
        """The stream must be told this type anew."""
        changes = self.due.setdefault(type_url, [])
        if pushed is not None:
            changes.append(pushed)

    def wake(self) -> None:
        """Something is due, though no request has come."""
        self.inbox.put_nowait(pb.DiscoveryRequest())


class ControlPlane:
    """See the module. `attach`, `detach`, `changed` and `bootstrap` may be called from any thread; the first use starts it."""

    _shared: "ControlPlane | None" = None
    _shared_lock = threading.Lock()

    @classmethod
    def shared(cls) -> "ControlPlane":
        """This process's own. Starts it. Raises OSError or ConfigurationError if its socket cannot be had."""
        with cls._shared_lock:
            if cls._shared is None:
                plane = cls()
                plane.start()
                cls._shared = plane
                atexit.register(plane.close)
            return cls._shared

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._loop = asyncio.new_event_loop()
        self._started: Future[None] = Future()
        self._stop: asyncio.Event | None = None
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="drain-xds", daemon=True)
        self._sources: dict[str, Source] = {}
        self._streams: set[_Stream] = set()
        self._askers: dict[tuple[str, str], int] = {}
        self.path: Path | None = None
        self.refusals = 0

    def start(self) -> None:
        """Serve. Returns when the socket is there."""
        self.path = new_socket_path("xds", self._directory if self._directory is not None else runtime_dir())
        self._thread.start()
        self._started.result(_START_TIMEOUT)

    def close(self) -> None:
        """Stop serving, and remove the socket. For tests, and for interpreter exit. Idempotent, bounded."""
        if os.getpid() != self._pid or not self._thread.is_alive() or self._loop.is_closed():
            return
        if self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_STOP_TIMEOUT)
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    @property
    def streams(self) -> int:
        """Open ADS streams: one for each server and channel."""
        return len(self._streams)

    def bootstrap(self, *, node_id: str, listener_template: str | None = None) -> str:
        """The bootstrap that leads a server or channel here."""
        assert self.path is not None  # started
        return bootstrap_json(self.path, node_id=node_id, listener_template=listener_template)

    def attach(self, prefix: str, source: Source) -> None:
        """`source` owns every resource name that begins with `prefix`; the longest prefix wins."""
        self._sources = {**self._sources, prefix: source}

    def detach(self, prefix: str) -> None:
        """Its resources are gone. Streams are not told: whoever wants that says `changed` first. Idempotent."""
        self._sources = {known: source for known, source in self._sources.items() if known != prefix}

    def changed(self, prefix: str, type_url: str) -> Pushed:
        """The source's resources of this type have changed: every stream that asks for one is told."""
        pushed = Pushed()
        if self._loop.is_closed() or os.getpid() != self._pid:
            pushed.expect(set())
        else:
            self._loop.call_soon_threadsafe(self._push, prefix, type_url, pushed)
        return pushed

    # On the plane's thread from here on.

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as error:  # the root of the thread
            if not self._started.done():
                self._started.set_exception(OSError(f"control plane at {self.path}: {error}"))
            else:
                logging.getLogger("drain").exception("drain.control_plane_failed path=%s", self.path)
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = grpc.aio.server(options=_OPTIONS)
        handler = grpc.stream_stream_rpc_method_handler(
            self._stream, pb.DiscoveryRequest.FromString, pb.DiscoveryResponse.SerializeToString
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, {"StreamAggregatedResources": handler}),)
        )
        server.add_insecure_port(f"unix:{self.path}")
        await server.start()
        self._started.set_result(None)
        await self._stop.wait()
        await server.stop(0)

    async def _stream(self, requests: AsyncIterator[pb.DiscoveryRequest], context: Any) -> AsyncIterator[Any]:
        stream = _Stream()
        self._streams.add(stream)
        reader = asyncio.create_task(self._read(stream, requests))
        try:
            while (request := await stream.inbox.get()) is not None:
                if request.type_url:
                    self._hear(stream, request)
                for type_url in list(stream.due):
                    response = self._response(stream, type_url)
                    if response is not None:
                        yield response
        except ValueError as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        finally:
            reader.cancel()
            self._gone(stream)

    async def _read(self, stream: _Stream, requests: AsyncIterator[pb.DiscoveryRequest]) -> None:
        try:
            async for request in requests:
                stream.inbox.put_nowait(request)
        finally:
            stream.inbox.put_nowait(None)

    def _hear(self, stream: _Stream, request: Any) -> None:
        error = request.error_detail.message or "refused" if request.HasField("error_detail") else None
        heard = stream.subscription.hear(request.type_url, request.resource_names, request.response_nonce, error)
        if heard.respond:
            stream.owe(request.type_url)
        self._count_askers(request.type_url, heard)
        if heard.acked is not None or heard.refused is not None:
            self._answered(stream, request, heard)

    def _answered(self, stream: _Stream, request: Any, heard: Heard) -> None:
        for pushed in stream.unanswered.pop(int(request.response_nonce), ()):
            pushed.answered(stream, taken=heard.refused is None)
        if heard.refused is not None:
            self.refusals += 1
            names = list(request.resource_names)
            for source in {id(s): s for s in map(self._source, names) if s is not None}.values():
                source.refused(request.type_url, names, heard.refused)

    def _response(self, stream: _Stream, type_url: str) -> Any:
        changes = stream.due.pop(type_url, [])
        names = stream.subscription.names(type_url)
        found = [serialised for name in sorted(names) if (serialised := self._resource(type_url, name)) is not None]
        if not found and type_url not in _FULL_STATE:
            for pushed in changes:
                pushed.answered(stream, taken=True)
            return None
        number = stream.subscription.responded(type_url)
        # An answer to this one answers all that went before: a client skips a response that a newer one has overtaken.
        earlier = [pushed for waiting in stream.unanswered.values() for pushed in waiting]
        stream.unanswered = {number: changes} if not earlier else {**stream.unanswered, number: changes}
        return pb.DiscoveryResponse(
            version_info=str(number),
            nonce=str(number),
            type_url=type_url,
            resources=[AnyMessage.FromString(serialised) for serialised in found],
        )

    def _push(self, prefix: str, type_url: str, pushed: Pushed) -> None:
        told = {
            stream
            for stream in self._streams
            if any(name.startswith(prefix) for name in stream.subscription.names(type_url))
        }
        for stream in told:
            stream.owe(type_url, pushed)
            stream.wake()
        pushed.expect(told)

    def _gone(self, stream: _Stream) -> None:
        self._streams.discard(stream)
        for waiting in (*stream.unanswered.values(), *stream.due.values()):
            for pushed in waiting:
                pushed.answered(stream, taken=True)
        for type_url, names in stream.subscription.everything:
            self._count_askers(type_url, Heard(removed=names))

    def _count_askers(self, type_url: str, heard: Heard) -> None:
        for name in heard.added:
            self._askers[type_url, name] = self._askers.get((type_url, name), 0) + 1
            if self._askers[type_url, name] == 1 and (source := self._source(name)) is not None:
                source.subscribed(type_url, name)
        for name in heard.removed:
            self._askers[type_url, name] -= 1
            if not self._askers[type_url, name]:
                del self._askers[type_url, name]
                if (source := self._source(name)) is not None:
                    source.unsubscribed(type_url, name)

    def _resource(self, type_url: str, name: str) -> bytes | None:
        source = self._source(name)
        return source.resource(type_url, name) if source is not None else None

    def _source(self, name: str) -> Source | None:
        prefixes = [prefix for prefix in self._sources if name.startswith(prefix)]
        return self._sources[max(prefixes, key=len)] if prefixes else None


def _forget_in_child() -> None:
    """A forked child has neither the thread nor the loop: it makes a plane of its own, and leaves the parent's socket alone."""
    ControlPlane._shared = None
    ControlPlane._shared_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_in_child)
