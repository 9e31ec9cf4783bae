"""Client CPU per call: a channel of drain on `kubernetes:` over plain grpcio on `ipv4:`, round_robin both, and plain over plain.

As `cpu` does it for servers: each of the 15 pairs has fresh processes, three clients (plain, drain, plain) side by side, which
call in short bursts in turns. The API server runs meanwhile, and drain watches it. CPU is that of the whole client process.
"""

from collections.abc import AsyncIterator

from tests.bench._kube import Kube, Peer
from tests.bench._rows import FLAVOURS, Row, Spread
from tests.bench._slices import Slice

PAIRS, PAIRS_QUICK = 15, 2
CALLS, CALLS_QUICK = 10_000, 2_000
BURST = 500
WARM_UP = 1_000
BACKENDS = 3
MOST = 1.03


async def measure(quick: bool) -> AsyncIterator[Row]:
    """Both flavours."""
    pairs, calls = (PAIRS_QUICK, CALLS_QUICK) if quick else (PAIRS, CALLS)
    async with Kube() as kube:
        backends = kube.addresses.take(BACKENDS)
        kube.writer.write(Slice("percall", 0, tuple(backends)))
        await kube.serve(backends)
        for flavour in FLAVOURS:
            rounds = [await one_round(kube, flavour, backends, calls) for _ in range(pairs)]
            drains = Spread.of([drain / plain for plain, drain, _ in rounds])
            plains = Spread.of([beside / plain for plain, _, beside in rounds])
            micros = [Spread.of([cpu[index] / calls * 1e6 for cpu in rounds]).median for index in (0, 1)]
            yield Row(
                f"client CPU per call, {pairs} pairs, {flavour}",
                f"{drains.ratio()}: {micros[0]:.0f} -> {micros[1]:.0f} us; plain over plain {plains.ratio()}",
                f"median <= {MOST:g}, or within plain's quartiles",
                drains.median <= max(MOST, plains.upper),
                {"drain": drains, "plain": plains, "seconds (plain, drain, plain)": rounds},
            )


async def one_round(kube: Kube, flavour: str, backends: list[str], calls: int) -> tuple[float, float, float]:
    """CPU seconds of three fresh clients for that many calls each: plain, drain, plain."""
    clients = [
        await kube.plain(flavour, backends),
        await kube.client(f"drain {flavour}", "percall"),
        await kube.plain(flavour, backends),
    ]
    for client in clients:
        await client.ask("burst", WARM_UP)
    spent = [0.0, 0.0, 0.0]
    for turn in range(calls // BURST):
        for step in range(3):  # each of them first, second and third in turns
            which = (turn + step) % 3
            spent[which] += await burst(clients[which])
    for client in clients:
        await client.end()
    return spent[0], spent[1], spent[2]


async def burst(client: Peer) -> float:
    """CPU seconds for one."""
    before = (await client.ask("cpu"))["seconds"]
    await client.ask("burst", BURST)
    return float((await client.ask("cpu"))["seconds"] - before)
