"""Endpoints: Python gRPC servers in this process, each on an address of its own. They answer who they are."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import drain  # first: it sets what grpc reads when it is loaded

import grpc  # isort: skip

from tests.kube._cluster.namespace import PORT

WHO = "/drain.test.Kube/Who"


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self._name = name.encode()

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._who) if details.method == WHO else None

    def _who(self, request: bytes, context: Any) -> bytes:
        if request:  # how long to take
            time.sleep(float(request))
        return self._name


class Backend:
    """One server. `graceful`: one of drain's, which leaves without losing a call."""

    def __init__(self, address: str, port: int = PORT, *, name: str = "", graceful: bool = False) -> None:
        self.address, self.port = address, port
        self.name = name or address
        self._pool = ThreadPoolExecutor(8, thread_name_prefix=f"backend-{self.name}")
        handlers = [_Handlers(self.name)]
        self._server: Any = (
            drain.server(self._pool, handlers) if graceful else grpc.server(self._pool, handlers, options=_ALONE)
        )
        assert self._server.add_insecure_port(f"{address}:{port}") == port
        self._server.start()

    def drain(self) -> None:
        """Leave as a pod should. Returns when it has."""
        self._server.drain(reason="the test")
        self._server.wait_for_termination(30)

    def stop(self) -> None:
        self._server.stop(0).wait(10)
        self._pool.shutdown(wait=False)


_ALONE = [("grpc.so_reuseport", 0)]

Backends = Callable[..., Backend]
