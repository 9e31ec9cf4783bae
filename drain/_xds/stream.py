"""One ADS stream: a task that reads what the client wants, and the handler itself, which tells it what it is owed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from drain._core.subscription import StreamError, Subscription
from drain._xds import xds_pb2 as pb
from drain._xds.messages import CLUSTER, ENDPOINTS, LISTENER, ROUTE
from drain._xds.pushed import Pushed
from drain._xds.sources import Sources

# Absence of one of these in a response means that it does not exist; of any other type, only that there is no news.
_FULL_STATE = frozenset({LISTENER, CLUSTER})
# Make before break (xDS: "eventual consistency considerations"): what a route leads to comes before the route.
_ORDER = {url: place for place, url in enumerate((CLUSTER, ENDPOINTS, LISTENER, ROUTE))}
# Changes that wait for one stream's answer. Whoever waits has given up long before; a client that is stuck may not cost memory.
_MOST_WAITING = 1_000


class Stream:
    """See the module. Everything on the plane's thread."""

    def __init__(self, sources: Sources) -> None:
        self.refusals = 0
        self.has_spoken = False
        self._sources = sources
        self._subscription = Subscription()
        self._awake = asyncio.Event()
        self._over = False
        self._fault: tuple[grpc.StatusCode, str] | None = None
        self._due: dict[str, list[Pushed]] = {}  # changes of which the client is not told yet
        self._sent: dict[
            str, list[tuple[int, list[Pushed]]]
        ] = {}  # those it has not answered, by the response's number

    async def serve(self, requests: AsyncIterator[pb.DiscoveryRequest], context: Any) -> None:
        """Talk until the client or `end` ends it. Nothing is left behind, however it ends."""
        reader = asyncio.create_task(self._read(requests))
        try:
            while not self._over:
                self._awake.clear()
                response = self._next()
                if response is not None:
                    await context.write(response)
                    self.has_spoken = True
                else:
                    await self._sleep()
            if self._fault is not None:
                await context.abort(*self._fault)
        finally:
            reader.cancel()
            self._forget()

    def asks_for(self, prefix: str, type_url: str) -> bool:
        """Whether it wants any name that begins so."""
        return any(name.startswith(prefix) for name in self._subscription.names(type_url))

    def tell(self, type_url: str, pushed: Pushed | None = None) -> None:
        """Resources of this type have changed; `pushed` wants to know when the client has answered."""
        self._subscription.owe(type_url)
        if pushed is not None:
            changes = self._due.setdefault(type_url, [])
            changes.append(pushed)
            if len(changes) > _MOST_WAITING:
                changes.pop(0).answered(self, taken=False)
        self._awake.set()

    def end(self) -> None:
        """Say goodbye with status OK. grpc calls again after a second, or elsewhere."""
        self._over = True
        self._awake.set()

    # Reading.

    async def _read(self, requests: AsyncIterator[pb.DiscoveryRequest]) -> None:
        try:
            async for request in requests:
                self._hear(request)
        except StreamError as error:
            self._fault = (grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except Exception as error:  # the root of the task: bytes that are no request, for one
            self._fault = (grpc.StatusCode.INVALID_ARGUMENT, f"unreadable request: {type(error).__name__}: {error}")
        finally:
            self.end()

    def _hear(self, request: pb.DiscoveryRequest) -> None:
        type_url = request.type_url
        error = request.error_detail.message or "refused" if request.HasField("error_detail") else None
        heard = self._subscription.hear(type_url, request.resource_names, request.response_nonce, error)
        self._sources.asked(type_url, heard.added)
        self._sources.dropped(type_url, heard.removed)
        if heard.answered is not None:
            self._settle(type_url, heard.answered, taken=heard.refused is None)
        if heard.refused is not None:
            self.refusals += 1
            self._sources.refused(type_url, list(request.resource_names), heard.refused)
        self._awake.set()

    def _settle(self, type_url: str, number: int, *, taken: bool) -> None:
        """The answer to a response is the answer to all of its type before it: the client has skipped them for the newer one."""
        sent = self._sent.pop(type_url, [])
        for _, changes in [entry for entry in sent if entry[0] <= number]:
            for pushed in changes:
                pushed.answered(self, taken=taken)
        if later := [entry for entry in sent if entry[0] > number]:
            self._sent[type_url] = later

    # Telling.

    def _next(self) -> pb.DiscoveryResponse | None:
        """The response that is due, made now, so that it holds what is known now."""
        due = self._subscription.due(asyncio.get_running_loop().time())
        for type_url in sorted(due, key=lambda url: _ORDER.get(url, len(_ORDER))):
            if (response := self._response(type_url)) is not None:
                return response
        return None

    def _response(self, type_url: str) -> pb.DiscoveryResponse | None:
        changes = self._due.pop(type_url, [])
        names = self._subscription.names(type_url)
        found, complete = self._sources.find(type_url, names)
        if not complete:  # a source has failed: its changes are not taken, and what there is goes out
            for pushed in changes:
                pushed.answered(self, taken=False)
            changes = []
        if not found and not (names and type_url in _FULL_STATE and complete):
            self._subscription.passed(type_url)
            for pushed in changes:
                pushed.answered(self, taken=True)
            return None
        try:
            number = self._subscription.responded(type_url, asyncio.get_running_loop().time())
        except StreamError as error:
            self._fault = (grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
            self._due[type_url] = changes
            self.end()
            return None
        self._sent.setdefault(type_url, []).append((number, changes))
        return pb.DiscoveryResponse(version_info=str(number), nonce=str(number), type_url=type_url, resources=found)

    async def _sleep(self) -> None:
        """Until something is heard or told, or the client's time to answer is over."""
        loop = asyncio.get_running_loop()
        until = self._subscription.due_at
        try:
            async with asyncio.timeout(None if until is None else max(0.0, until - loop.time())):
                await self._awake.wait()
        except TimeoutError:
            return

    def _forget(self) -> None:
        waiting = list(self._due.values())
        waiting += [changes for sent in self._sent.values() for _, changes in sent]
        self._due, self._sent = {}, {}
        for changes in waiting:
            for pushed in changes:
                pushed.answered(self, taken=True)
        for type_url, names in self._subscription.everything:
            self._sources.dropped(type_url, names)
