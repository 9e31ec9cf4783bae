"""The first call on a fresh channel, in a fresh process, with the API server 1 ms away: from making the channel to the answer.

All that has to be imported is imported before, the kubernetes package included; what it costs to import it late is shown beside.
The line takes 0.5 ms one way, for each segment of the TLS handshake too. Plain grpcio on `ipv4:`, which resolves nothing, beside.
"""

from collections.abc import AsyncIterator

from tests.bench._kube import Kube
from tests.bench._rows import FLAVOURS, Row, Spread
from tests.bench._slices import Slice

TIMES, TIMES_QUICK = 20, 3
ONE_WAY = 0.5  # ms
BACKENDS = 3
MOST = 0.060


async def measure(quick: bool) -> AsyncIterator[Row]:
    """Both flavours."""
    kinds = ("warm", "cold", "plain")
    async with Kube() as kube:
        backends = kube.addresses.take(BACKENDS)
        kube.writer.write(Slice("firstcall", 0, tuple(backends)))
        await kube.serve(backends)
        far = await kube.forward(ONE_WAY)
        for flavour in FLAVOURS:
            took: dict[str, list[float]] = {kind: [] for kind in kinds}
            for _ in range(TIMES_QUICK if quick else TIMES):
                for kind in kinds:
                    if kind == "plain":
                        client = await kube.plain(flavour, backends)
                    else:
                        preload = ("--preload",) if kind == "warm" else ()
                        client = await kube.client(f"drain {flavour}", "firstcall", *preload, server=far)
                    took[kind].append(float(client.ready["took"]))
                    await client.end()
            warm, cold, plain = (Spread.of(took[kind]) for kind in kinds)
            yield Row(
                f"first call on a fresh channel, API server {2 * ONE_WAY:g} ms away, {flavour}",
                f"{warm.ms()}; kubernetes not imported before: {cold.ms()}; plain: {plain.ms()}",
                f"median <= {MOST * 1000:.0f} ms",
                warm.median <= MOST,
                {"seconds": took},
            )
