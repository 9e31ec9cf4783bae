"""Clients of both flavours on drain's own channels, servers that say who they are, and a resolver that does what a test says."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack
from typing import Any

import grpc
import grpc.aio

import drain
from drain.resolver import Endpoint, Listener, Target
from tests.integration._servers.waiting import until

WHO = "/test.Who/Who"
PATIENCE = 10.0


class Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def do(self, call: Callable[[], Any]) -> Any:
        async def main() -> Any:
            found = call()
            return await found if asyncio.iscoroutine(found) or asyncio.isfuture(found) else found

        return asyncio.run_coroutine_threadsafe(main(), self.loop).result(PATIENCE + 5)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)


class Caller:
    """A channel of one flavour, used from a test's thread."""

    def __init__(self, flavour: str, target: str, *, loop: Loop, credentials: Any = None, **named: Any) -> None:
        self._loop = loop if flavour == "aio" else None
        module: Any = drain.aio if flavour == "aio" else drain
        secured = () if credentials is None else (credentials,)
        make = module.insecure_channel if credentials is None else module.secure_channel
        self.channel = self._do(lambda: make(target, *secured, **named))
        self.method = self._do(lambda: self.channel.unary_unary(WHO))

    def _do(self, call: Callable[[], Any]) -> Any:
        return call() if self._loop is None else self._loop.do(call)

    def who(self, **named: Any) -> str:
        """The server's answer. Raises grpc.RpcError."""
        named = {"timeout": PATIENCE, **named}
        if self._loop is None:
            return str(self.method(b"", **named).decode())

        async def call() -> bytes:
            found: bytes = await self.method(b"", **named)
            return found

        return str(self._loop.do(call).decode())

    def code(self, **named: Any) -> tuple[str, str]:
        """Status and details."""
        try:
            return "OK", self.who(**named)
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""

    def spread(self, calls: int = 60) -> Counter[str]:
        return Counter(self.who() for _ in range(calls))

    def until_all(self, names: set[str]) -> None:
        """Until calls go to exactly these."""
        until(lambda: set(self.spread(4 * len(names))) == names)

    def close(self) -> None:
        async def close() -> None:
            await self.channel.close()

        if self._loop is None:
            self.channel.close()
        else:
            self._loop.do(close)


class Who:
    """A plain server that answers with its name; `hold` keeps calls in flight until it is set."""

    def __init__(self, name: str, address: str = "127.0.0.1:0", credentials: Any = None) -> None:
        self.name = name
        self.hold = threading.Event()
        self.hold.set()
        self.calls = 0
        self.in_flight = 0
        self.server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        handler = grpc.unary_unary_rpc_method_handler(self._answer)
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Who", {"Who": handler}),))
        if credentials is None:
            self.port = self.server.add_insecure_port(address)
        else:
            self.port = self.server.add_secure_port(address, credentials)
        self.server.start()

    def _answer(self, request: bytes, context: Any) -> bytes:
        self.calls += 1
        self.in_flight += 1
        try:
            self.hold.wait(PATIENCE)
            return self.name.encode()
        finally:
            self.in_flight -= 1

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(address="127.0.0.1", port=self.port)

    def stop(self) -> None:
        self.hold.set()
        self.server.stop(0).wait(PATIENCE)


class Puppet:
    """A scheme of its own, whose one resolver tells what the test says. `made` are the resolvers that were started."""

    def __init__(self) -> None:
        self.scheme = f"puppet{time.monotonic_ns()}"
        self.target = f"{self.scheme}:///some/service"
        self.started: list[Listener] = []
        self.stopped = 0
        self._state: tuple[tuple[Endpoint, ...], str | None] | None = None
        drain.resolver.register(self.scheme, self._make)

    def _make(self, target: Target) -> "_Strings":
        return _Strings(self)

    def tell(self, *endpoints: Endpoint) -> None:
        self._state = endpoints, None
        for listener in self.started:
            listener.endpoints(endpoints)

    def fail(self, message: str) -> None:
        self._state = (() if self._state is None else self._state[0]), message
        for listener in self.started:
            listener.failed(message)


class _Strings:
    def __init__(self, puppet: Puppet) -> None:
        self._puppet = puppet

    def start(self, listener: Listener) -> None:
        self._puppet.started.append(listener)
        if self._puppet._state is not None:
            endpoints, failure = self._puppet._state
            if failure is None or endpoints:
                listener.endpoints(endpoints)
            if failure is not None:
                listener.failed(failure)

    def stop(self) -> None:
        self._puppet.stopped += 1


class Scene:
    """Callers, servers and puppets of one test, all ended with it."""

    def __init__(self, flavour: str) -> None:
        self.flavour = flavour
        self.ended = ExitStack()
        self.loop = Loop()
        self.ended.callback(self.loop.close)

    def caller(self, target: str, **named: Any) -> Caller:
        made = Caller(self.flavour, target, loop=self.loop, **named)
        self.ended.callback(made.close)
        return made

    def servers(self, *names: str) -> list[Who]:
        made = [Who(name) for name in names]
        for each in made:
            self.ended.callback(each.stop)
        return made


def scene(flavour: str) -> Iterator[Scene]:
    made = Scene(flavour)
    with made.ended:
        yield made
