"""What metrics cost: server CPU per call with them over without, as in cpu.py; and a scrape with many connections and endpoints."""

import contextlib
import socket
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from concurrent import futures
from pathlib import Path

import drain
from drain._observe import readings
from tests.bench import cpu
from tests.bench._rows import FLAVOURS, Row, Spread
from tests.integration._servers.waiting import until

CONNECTIONS, ENDPOINTS = 1_000, 5_000
MOST_RATIO, MOST_SCRAPE = 1.02, 0.100
SCRAPES = 15
# A client's first words in HTTP/2: the preface, and empty SETTINGS (RFC 9113, section 3.4).
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


async def measure(quick: bool) -> AsyncIterator[Row]:
    """Both flavours, then the scrape."""
    pairs, calls = (cpu.PAIRS_QUICK, cpu.CALLS_QUICK) if quick else (cpu.PAIRS, cpu.CALLS)
    for flavour in FLAVOURS:
        rounds = [await cpu.one_round(flavour, calls, "drain", "metrics") for _ in range(pairs)]
        on = Spread.of([metrics / without for without, metrics, _ in rounds])
        beside = Spread.of([other / without for without, _, other in rounds])
        figure = f"{on.ratio()}; without over without {beside.ratio()}"
        mark = f"median <= {MOST_RATIO:g}, or within the quartiles of the same beside itself"
        passed = on.median <= max(MOST_RATIO, beside.upper)
        yield Row(f"server CPU per call, metrics on over off, {pairs} pairs, {flavour}", figure, mark, passed)
    took = scrapes(50 if quick else CONNECTIONS, 100 if quick else ENDPOINTS)
    what = f"scrape with {CONNECTIONS:,} connections and {ENDPOINTS:,} endpoints"
    yield Row(what, Spread.of(took).ms(), f"median <= {MOST_SCRAPE * 1000:g} ms", Spread.of(took).median <= MOST_SCRAPE)


def scrapes(connections: int, endpoints: int) -> list[float]:
    """Seconds of each scrape of this process, over HTTP."""
    server = drain.server(futures.ThreadPoolExecutor(4))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    stop = drain.metrics.serve(0, "127.0.0.1")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as opened:
        file = Path(folder) / "endpoints.yaml"
        file.write_text(
            "\n".join(f"- {{address: 10.{n >> 16}.{n >> 8 & 255}.{n & 255}, port: 1}}" for n in range(endpoints))
        )
        watching = opened.enter_context(drain.resolver.watch(f"file://{file}"))
        assert len(watching.next(30)) == endpoints
        for _ in range(connections):
            opened.enter_context(_connected(port))
        until(lambda: len(server.status().peers) == connections, 30)
        took = []
        for _ in range(SCRAPES):
            time.sleep(2 * readings._SHORTEST)  # a reading is kept for a moment: each scrape must make its own
            began = time.perf_counter()
            with urllib.request.urlopen(f"http://127.0.0.1:{stop.port}/metrics", timeout=30) as answer:  # type: ignore[attr-defined]
                assert f" {float(endpoints)}" in answer.read().decode()
            took.append(time.perf_counter() - began)
    stop()
    server.stop(0).wait(10)
    return took


@contextlib.contextmanager
def _connected(port: int) -> Iterator[None]:
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.sendall(HELLO)
        yield
