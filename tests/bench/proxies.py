"""Rolling restarts behind Envoy, HAProxy and Traefik, configured as examples/proxies has them: calls that fail, with drain and with plain
`server.stop(10)` on SIGTERM, side by side. Three servers, 16 callers that know nothing of drain and retry nothing.
"""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from examples.processes import free_address
from tests._parts import proxies
from tests.bench._rows import Row
from tests.integration._servers.waiting import until
from tests.proxies._fronts import FRONTS
from tests.proxies._load import Load
from tests.proxies._servers import Server

NAMES = ("envoy", "haproxy", "traefik")
RESTARTS, RESTARTS_QUICK = 10, 1  # rolling: each is of all three servers
MODULES = {
    "drain": ("examples.greeter.server", "examples.greeter.aio_server", "examples.greeter.server"),
    "plain": ("examples.prestop.server",) * 3,
}
BOUND = 60.0
ENOUGH = 20


async def measure(quick: bool) -> AsyncIterator[Row]:
    """Each proxy, both kinds of servers."""
    programs = await asyncio.to_thread(proxies.ready, lambda line: print(line, file=sys.stderr, flush=True))
    restarts = RESTARTS_QUICK if quick else RESTARTS
    for name in NAMES:
        for kind in MODULES:
            calls, failed, first = await asyncio.to_thread(run, programs, name, kind, restarts)
            yield Row(
                f"{restarts} rolling restarts of 3 servers behind {name}, {kind}",
                f"{failed:,} of {calls:,} failed{f', such as {first[:80]}' if first else ''}",
                "0 failed" if kind == "drain" else "",
                failed == 0 if kind == "drain" else None,
            )


def run(programs: Mapping[str, Path], name: str, kind: str, restarts: int) -> tuple[int, int, str]:
    """Calls, failed ones, and what the first of them said."""
    with ExitStack() as ended:
        folder = Path(ended.enter_context(tempfile.TemporaryDirectory()))
        servers = []
        for pod, module in zip("abc", MODULES[kind], strict=True):
            servers.append(Server(pod, module))
            ended.callback(lambda server=servers[-1]: server.process.kill())
        port = int(free_address().rpartition(":")[2])
        front = FRONTS[name](programs, folder / name, port, [each.address for each in servers])
        ended.callback(front.stop)
        until(front.answers, BOUND, every=0.1)
        load = Load(front.address)
        try:
            for server in servers * restarts:
                until(lambda server=server: load.count(server.pod) > ENOUGH, BOUND, every=0.05)
                server.leave()
                server.start()
        finally:
            load.stop()
        return load.answered.total() + len(load.failed), len(load.failed), load.failed[0] if load.failed else ""
