"""The stage of the client's benches: a real API server, the Go peer's servers, and clients that follow."""

import asyncio
import itertools
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from drain._demo.children import Child, Family
from tests.bench._peer import binary
from tests.bench._slices import PORT, Slice, Writer
from tests.kube._cluster.addresses import on_lo
from tests.kube._cluster.cluster import Cluster, parts

START = 90.0  # seconds to a process's first answer, on a busy machine: a client may have 5,000 endpoints to connect to
ANSWER = 60.0
CLIENTS = {  # by name: library and flavour
    "drain sync": ("drain", "sync"),
    "drain aio": ("drain", "aio"),
    "kuberesolver": ("kuberesolver", ""),
}


class Peer:
    """A process that takes orders: of the Go peer, or a `_follower`."""

    _tags = itertools.count(1)

    def __init__(self, child: Child) -> None:
        self.child = child
        self.ready: dict[str, Any] = {}

    async def ask(self, what: str, *words: object, within: float = ANSWER) -> dict[str, Any]:
        """Give an order, and wait until it is carried out."""
        tag = str(next(self._tags))
        self.child.order(" ".join([what, tag, *map(str, words)]))
        event = await self.child.until(what, within, where=lambda event: event["tag"] == tag)
        self.child.events.remove(event)  # there are thousands, and each search begins at the first
        return event

    async def end(self) -> None:
        """SIGKILL."""
        self.child.kill()
        await self.child.gone()


class Kube:
    """An API server and what goes with it; at the end of `async with` nothing is left, however it ends."""

    def __init__(self) -> None:
        self._family = Family()
        self._left = ExitStack()

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self._begin)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._family.__aexit__()
        await asyncio.to_thread(self._left.close)

    def _begin(self) -> None:
        binary()  # built before anything is measured
        found = parts(lambda line: print(f"  {line}", file=sys.stderr, flush=True))
        self.addresses = self._left.enter_context(on_lo())
        folder = Path(tempfile.mkdtemp(prefix="drain-bench-"))
        self._left.callback(shutil.rmtree, folder, ignore_errors=True)
        self.cluster = Cluster(found, folder).start()
        self._left.callback(self.cluster.stop)
        namespace, pki = self.cluster.namespace(), self.cluster.pki
        self.namespace = namespace.name
        self._folder, self._namespace = folder, namespace
        self._token, self._authority = folder / "token", pki.authority
        self._token.write_text(namespace.token(namespace.account(), 24 * 3600))
        self.writer = Writer(self.cluster.url, pki.authority, pki.admin_certificate, pki.admin_key, self.namespace)
        self._left.callback(self.writer.close)

    def target(self, service: str) -> str:
        """As a client names it."""
        return f"kubernetes:///{service}.{self.namespace}:{PORT}"

    def kubeconfig(self, server: str) -> Path:
        """For a client that may list and watch, at this URL of the API server."""
        name = "reader-" + server.rpartition(":")[2]
        return self._namespace.kubeconfig(self._folder / name, server, {"tokenFile": str(self._token)})

    def write(self, slices: list[Slice]) -> None:
        """All of them."""
        for each in slices:
            self.writer.write(each)

    async def serve(self, addresses: list[str]) -> Peer:
        """Go servers at these addresses, in one process."""
        where = [f"{address}:{PORT}" for address in addresses]
        peer = await self._start("servers", "tests.bench._peer", "serve", *where)
        await peer.child.until("serving", START)
        return peer

    async def forward(self, delay_ms: float) -> str:
        """URL of the API server behind a line that takes so long one way."""
        host, port = self.cluster.address
        peer = await self._start("line", "tests.bench._peer", "forward", f"--to={host}:{port}", f"--delay={delay_ms}ms")
        return f"https://127.0.0.1:{(await peer.child.until('forwarding', START))['port']}"

    async def client(self, name: str, service: str, *arguments: str, server: str | None = None) -> Peer:
        """One of CLIENTS, when it has had an answer from that service. `arguments` are `_follower`'s.

        `server`: the API server's URL; None: its own.
        """
        library, flavour = CLIENTS[name]
        target, server = f"--target={self.target(service)}", server or self.cluster.url
        if library == "kuberesolver":
            api = (f"--api={server}", f"--ca={self._authority}", f"--token={self._token}")
            peer = await self._start(name, "tests.bench._peer", "call", target, *api, *arguments)
        else:
            kind = (f"--library={library}", f"--flavour={flavour}", f"--kubeconfig={self.kubeconfig(server)}")
            peer = await self._start(name, "tests.bench._follower", target, *kind, *arguments)
        peer.ready = await peer.child.until("ready", START)
        return peer

    async def plain(self, flavour: str, addresses: list[str]) -> Peer:
        """Plain grpcio, round_robin over these addresses."""
        target = "--target=ipv4:" + ",".join(f"{address}:{PORT}" for address in addresses)
        peer = await self._start("plain", "tests.bench._follower", target, "--library=plain", f"--flavour={flavour}")
        peer.ready = await peer.child.until("ready", START)
        return peer

    async def _start(self, name: str, module: str, *arguments: str) -> Peer:
        return Peer(await self._family.start(name, module, *arguments))
