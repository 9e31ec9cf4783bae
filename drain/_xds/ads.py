"""The embedded control plane: an ADS server (xDS v3, state of the world) on a Unix socket, inside this process.

grpc's own xDS client connects to it, from servers (Listeners, for lossless GOAWAY) and from channels. Its streams live on an
event loop and a daemon thread of its own: the user's loop must not decide when GOAWAY is sent. It speaks gRPC through the
synchronous server (wire.py says why). Nothing runs before the first use; a forked child makes a plane of its own, and whatever it
does to its parent's does nothing.

Resources come from sources (sources.py). A `Source` owns the names that begin with its prefix, and says `changed()` when they
differ; each stream (stream.py) asks for names and is told.
"""

import asyncio
import atexit
import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc

from drain._runtime_dir import held_socket_path, runtime_dir
from drain._xds import xds_pb2 as pb
from drain._xds.bootstrap import bootstrap_json
from drain._xds.pushed import Pushed
from drain._xds.sources import Source, Sources
from drain._xds.stream import Stream
from drain._xds.wire import Daemons, Wire

__all__ = ["ControlPlane", "Pushed", "Source"]

_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_START_TIMEOUT = 5.0
_STOP_TIMEOUT = 1.0
_GOODBYE = 0.2  # seconds for the streams to end; they take one
# One for each server and channel. Each is two sleeping threads, about 80 KiB; more than this is a mistake, or malice.
MOST_STREAMS = 1_024
_OPTIONS = [
    ("grpc.max_send_message_length", 64 << 20),  # 5,000 endpoints are 1 MiB
    ("grpc.max_receive_message_length", 1 << 20),  # requests carry names only
    ("grpc.enable_channelz", 0),  # the user's tools should see his servers, not this one
    ("grpc.so_reuseport", 0),
]


class ControlPlane:
    """See the module. `attach`, `detach`, `changed` and `bootstrap` may be called from any thread; the first use starts it."""

    _shared: "ControlPlane | None" = None
    _shared_lock = threading.Lock()

    @classmethod
    def shared(cls) -> "ControlPlane":
        """This process's own. Starts it. Raises OSError or ConfigurationError if its socket cannot be had."""
        with cls._shared_lock:
            if cls._shared is None or not cls._shared.alive:
                plane = cls()
                plane.start()
                cls._shared = plane
                atexit.register(plane.close)
            return cls._shared

    def __init__(self, directory: Path | None = None) -> None:
        self.path: Path | None = None
        self._directory = directory
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="drain-xds", daemon=True)
        self._started: Future[None] = Future()
        self._lock = threading.Lock()  # guards _loop, _stopping
        self._loop: asyncio.AbstractEventLoop | None = None  # while it takes calls from other threads
        self._stop: asyncio.Event | None = None
        self._given_up = False
        self._sources = Sources()
        self._streams: set[Stream] = set()
        self._refusals = 0

    def start(self) -> None:
        """Serve. Returns when the socket is there. Raises OSError or ConfigurationError, and leaves nothing behind then."""
        directory = self._directory if self._directory is not None else runtime_dir()
        with held_socket_path("xds", directory) as self.path:
            self._thread.start()
            try:
                self._started.result(_START_TIMEOUT)
                os.chmod(self.path, 0o600)  # the directory keeps others out already; whoever looks shall see it, too
            except TimeoutError:
                self.close()
                raise OSError(f"control plane at {self.path}: grpc did not start within {_START_TIMEOUT:g} s") from None
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Stop serving, and remove the socket. For tests, and for interpreter exit. Idempotent, bounded; silent in a child."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._given_up = True
            if self._loop is not None and self._stop is not None:
                self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.ident is not None:
            self._thread.join(_STOP_TIMEOUT)
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    @property
    def alive(self) -> bool:
        """Whether it serves."""
        return self._loop is not None and self._pid == os.getpid()

    @property
    def streams(self) -> int:
        """Open ADS streams: one for each server and channel."""
        return len(self._streams)

    @property
    def refusals(self) -> int:
        """NACKs since the start."""
        return self._refusals + sum(stream.refusals for stream in self._streams.copy())

    def bootstrap(self, *, node_id: str, listener_template: str | None = None) -> str:
        """The bootstrap that leads a server or channel here."""
        assert self.path is not None  # started
        return bootstrap_json(self.path, node_id=node_id, listener_template=listener_template)

    def attach(self, prefix: str, source: Source) -> None:
        """`source` owns every resource name that begins with `prefix`; the longest prefix wins."""
        self._sources.attach(prefix, source)
        self._call(self._sources.adopted, prefix)

    def detach(self, prefix: str) -> None:
        """Its resources are gone. Streams are not told: whoever wants that says `changed` first. Idempotent."""
        self._sources.detach(prefix)

    def changed(self, prefix: str, type_url: str) -> Pushed:
        """The source's resources of this type have changed: every stream that asks for one is told."""
        pushed = Pushed()
        if not self._call(self._push, prefix, type_url, pushed):
            pushed.expect(())
        return pushed

    def _call(self, call: Any, *arguments: object) -> bool:
        """Have it called on the plane's thread. False if that is not there."""
        if os.getpid() != self._pid:  # looked at first: in a child the lock may be held for ever
            return False
        with self._lock:
            if self._loop is None:
                return False
            self._loop.call_soon_threadsafe(call, *arguments)
            return True

    # On the plane's thread from here on.

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                try:
                    runner.run(self._serve())
                finally:
                    with self._lock:  # what was called until now is still carried out, by the runner's own end
                        self._loop = None
        except Exception as error:  # the root of the thread
            if not self._started.done():
                self._started.set_exception(OSError(f"control plane at {self.path}: {error}"))
            else:
                logging.getLogger("drain").exception("drain.control_plane_failed path=%s", self.path)

    async def _serve(self) -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        server = grpc.server(Daemons(), options=_OPTIONS, maximum_concurrent_rpcs=MOST_STREAMS)
        handler = grpc.stream_stream_rpc_method_handler(
            lambda requests, context: self._handle(loop, requests, context),
            response_serializer=pb.DiscoveryResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, {"StreamAggregatedResources": handler}),)
        )
        server.add_insecure_port(f"unix:{quote(str(self.path))}")
        server.start()
        try:
            with self._lock:
                self._loop, self._stop = loop, stop
                given_up = self._given_up
            self._started.set_result(None)
            if not given_up:
                await stop.wait()
            await self._say_goodbye()
        finally:
            _stop(server)

    async def _say_goodbye(self) -> None:
        """End the streams in good order: cutting them would make each client log an error, at every interpreter exit.

        So would ending one that has just begun, before it has heard anything.
        """
        deadline = asyncio.get_running_loop().time() + _GOODBYE
        while self._streams and asyncio.get_running_loop().time() < deadline:
            for stream in self._streams:
                if stream.has_spoken:
                    stream.end()
            await asyncio.sleep(0.001)

    def _handle(self, loop: asyncio.AbstractEventLoop, requests: Iterator[bytes], context: Any) -> Iterator[Any]:
        """On a thread of grpc's."""
        return Wire(loop).handle(requests, context, self._talk)

    async def _talk(self, wire: Wire) -> None:
        stream = Stream(self._sources)
        self._streams.add(stream)
        try:
            await stream.serve(wire.requests(pb.DiscoveryRequest.FromString), wire)
        finally:
            self._streams.discard(stream)
            self._refusals += stream.refusals

    def _push(self, prefix: str, type_url: str, pushed: Pushed) -> None:
        told = [stream for stream in self._streams if stream.asks_for(prefix, type_url)]
        pushed.expect(told)
        for stream in told:
            stream.tell(type_url, pushed)


def _stop(server: grpc.Server) -> None:
    """End connections in good order, for the same reason: `stop(None)` alone would cancel calls, though there are none.

    It blocks the loop, which has nothing left to do.
    """
    # From Python 3.12 on there is no new thread at interpreter exit, which a grace needs; but by then the stop has begun.
    with contextlib.suppress(RuntimeError):
        server.stop(_GOODBYE)
    server.wait_for_termination(_GOODBYE)
    server.stop(None)


def _forget_in_child() -> None:
    """A forked child has neither the thread nor the loop: it makes a plane of its own, and leaves the parent's socket alone."""
    ControlPlane._shared = None
    ControlPlane._shared_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_in_child)
