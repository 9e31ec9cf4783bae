"""Plain grpc callers, which know nothing of drain."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from drain._demo.caller import OPTIONS, Caller, Shape
from tests.integration._servers.service import path
from tests.integration._servers.waiting import BOUND, until

PATIENCE = 10.0
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Client:
    """One channel with a connection of its own."""

    def __init__(
        self, target: str | int, credentials: grpc.ChannelCredentials | None = None, *more: tuple[str, Any]
    ) -> None:
        where, options = f"127.0.0.1:{target}" if isinstance(target, int) else target, [*OPTIONS, *more]
        self.channel = (
            grpc.secure_channel(where, credentials, options) if credentials else grpc.insecure_channel(where, options)
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def call(self, method: str, request: bytes = b"hello", timeout: float = PATIENCE, **more: Any) -> bytes:
        """A unary call."""
        return self.channel.unary_unary(path(method))(request, timeout=timeout, **more)  # type: ignore[no-any-return]

    def begin(self, method: str, request: bytes = b"hello", timeout: float = PATIENCE) -> Any:
        """A unary call as a future."""
        return self.channel.unary_unary(path(method)).future(request, timeout=timeout)

    def stream(self, method: str, request: bytes, timeout: float = PATIENCE) -> Any:
        """A server stream."""
        return self.channel.unary_stream(path(method))(request, timeout=timeout)

    def collect(self, requests: Iterator[bytes], timeout: float = PATIENCE) -> bytes:
        """A client stream."""
        return self.channel.stream_unary(path("Collect"))(requests, timeout=timeout)  # type: ignore[no-any-return]

    def chat(self, requests: Iterator[bytes], timeout: float = PATIENCE) -> Any:
        """A stream in both directions."""
        return self.channel.stream_stream(path("Chat"))(requests, timeout=timeout)

    def code(self, method: str, request: bytes = b"0", timeout: float = PATIENCE) -> str:
        """How a unary call ends."""
        return code(self.begin(method, request, timeout))

    def health(self, name: str = "", timeout: float = PATIENCE) -> int:
        """One health check."""
        stub = health_pb2_grpc.HealthStub(self.channel)
        return stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=timeout).status  # type: ignore[no-any-return]

    def watch(self, name: str = "", timeout: float = PATIENCE) -> Any:
        """A health Watch."""
        stub = health_pb2_grpc.HealthStub(self.channel)
        return stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=timeout)


def code(call: Any) -> str:
    """How a call that was begun ends, "OK" included."""
    return _ending(lambda: call.result(timeout=BOUND))


def ending(stream: Any) -> str:
    """How a stream ends, "OK" included; read to its end."""
    return _ending(lambda: [None for _ in stream])


def _ending(wait: Callable[[], object]) -> str:
    try:
        wait()
    except grpc.RpcError as error:
        return str(error.code().name)  # type: ignore[attr-defined]
    except grpc.FutureCancelledError:
        return "CANCELLED"
    return "OK"


class Talk:
    """The requests of a stream, said one by one."""

    def __init__(self) -> None:
        self._said = threading.Condition()
        self._words: list[bytes | None] = []

    def say(self, word: bytes | None) -> None:
        """Send one more; None is the end."""
        with self._said:
            self._words.append(word)
            self._said.notify_all()

    def __iter__(self) -> Iterator[bytes]:
        for number in range(1_000_000):
            with self._said:
                if not self._said.wait_for(lambda: len(self._words) > number, BOUND):  # noqa: B023  # at once
                    return
                word = self._words[number]
            if word is None:
                return
            yield word


class Load:
    """Callers that call as fast as they may while it lasts, unary and streaming, each on a channel of its own."""

    def __init__(self, ports: list[int], *, callers: int = 6, streaming: int = 2, interval: float = 0.01) -> None:
        shape = Shape(callers=callers, streaming=streaming, interval=interval, timeout=PATIENCE)
        self.callers = [Caller(number, shape) for number in range(callers)]
        self._done = threading.Event()
        target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
        arguments = (target, time.monotonic(), self._done)
        self._threads = [threading.Thread(target=each.run, args=arguments, daemon=True) for each in self.callers]

    @property
    def ok(self) -> int:
        """Calls answered so far."""
        return sum(caller.ok for caller in self.callers)

    @property
    def failures(self) -> list[str]:
        """What failed."""
        return [f"{failure.status}: {failure.details}" for caller in self.callers for failure in caller.failures]

    def more(self, calls: int) -> None:
        """Wait until every caller has had so many more answers, or has failed."""
        wanted = [caller.ok + calls for caller in self.callers]
        until(lambda: self.failures or all(c.ok >= n for c, n in zip(self.callers, wanted, strict=True)))

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        self.more(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(BOUND)


def in_flight(client: Client, told: Any, *, calls: int = 1, method: str = "Wait") -> list[Any]:
    """So many calls whose handlers run, and run on until they are released. Keep them: a call that is dropped is cancelled."""
    begun = [client.begin(method, timeout=3 * PATIENCE) for _ in range(calls)]
    told.name(method, times=calls)
    return begun
