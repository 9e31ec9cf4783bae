"""The ways: how servers leave, how clients find them, and what stands between. One row each, with the advice that it follows."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.cluster._scene import manifests

APP, PORT = "web", 50051
CALLERS = (
    16  # in each of two pods, one synchronous and one asyncio; each of them has 4 connections where the client is plain
)
SLEEP_15, SLEEP_5 = {"sleep": {"seconds": 15}}, {"sleep": {"seconds": 5}}
HOOK = {"exec": {"command": ["drain-prestop"]}}
HEADLESS = f"dns:///{APP}-headless:{PORT}"


@dataclass(frozen=True, slots=True)
class Way:
    """One row.

    Args:
        title: for people. advice: whose configuration it is. server: "plain" or "drain" (`programs.serve`), with `arguments`.
        prestop: the container's preStop handler; None: there is none. client: "plain" or "drain" (`programs.call`), with
            `options`; both are Go programs (tests/bench/go/pod.go) if `go`. target: for clients; empty: the proxy's address. front: a proxy of examples/proxies; empty: there is none.
    """

    title: str
    advice: str
    server: str = "plain"
    arguments: tuple[str, ...] = ()
    prestop: manifests.Object | None = None
    client: str = "plain"
    options: tuple[str, ...] = ()
    target: str = f"{APP}:{PORT}"
    front: str = ""
    go: bool = False


_ROUND_ROBIN = ("--round-robin",)
WAYS: dict[str, Way] = {
    "clusterip": Way("ClusterIP, server.stop(10)", "what grpc's own examples do"),
    "sleep": Way("ClusterIP, preStop sleep 15", "what Kubernetes' users advise each other", prestop=SLEEP_15),
    "sleep-5": Way("ClusterIP, preStop sleep 5", "the same, in a hurry", prestop=SLEEP_5),
    "headless": Way(
        "headless, dns:///, round_robin, preStop sleep 15", "gRPC's and Kubernetes' blogs",
        prestop=SLEEP_15, target=HEADLESS, options=_ROUND_ROBIN,
    ),
    "age-120": Way(
        "the same, MaxConnectionAge 2 min", "gRFC A9",
        arguments=("--max-connection-age", "120"), prestop=SLEEP_15, target=HEADLESS, options=_ROUND_ROBIN,
    ),
    "age-10": Way(
        "the same, MaxConnectionAge 10 s", "gRFC A9",
        arguments=("--max-connection-age", "10"), prestop=SLEEP_15, target=HEADLESS, options=_ROUND_ROBIN,
    ),
    "envoy": Way("Envoy in front, preStop sleep 15", "examples/proxies/envoy", prestop=SLEEP_15, target="", front="envoy"),
    "haproxy": Way("HAProxy in front, preStop sleep 15", "examples/proxies/haproxy", prestop=SLEEP_15, target="", front="haproxy"),
    "traefik": Way("Traefik in front, preStop sleep 15", "examples/proxies/traefik", prestop=SLEEP_15, target="", front="traefik"),
    "kuberesolver": Way(
        "grpc-go, kuberesolver, GracefulStop", "kuberesolver's README", target=f"kubernetes:///{APP}:{PORT}", go=True
    ),
    "client": Way(
        "drain, client only (preStop sleep 15)", "README", prestop=SLEEP_15, client="drain", target=f"kubernetes:///{APP}:{PORT}"
    ),
    "server": Way("drain, server only (ClusterIP)", "README", server="drain", prestop=HOOK),
    "server-rebalance": Way(
        "drain, server only, with rebalancing", "README", server="drain", prestop=HOOK, arguments=("--rebalance",)
    ),
    "both": Way("drain, both sides", "README", server="drain", prestop=HOOK, client="drain", target=f"kubernetes:///{APP}:{PORT}"),
}  # fmt: skip


def servers(way: Way, image: str) -> list[manifests.Object]:
    """Accounts, Services, Deployment."""
    program = ("pod-serve",) if way.go else ("programs.serve", way.server, "sync")
    made = manifests.server(APP, image, *program, *way.arguments)
    if way.prestop is not None:
        made["spec"]["template"]["spec"]["containers"][0]["lifecycle"] = {"preStop": way.prestop}
    return [
        *manifests.account("server", manifests.READ_SLICES, manifests.READ_POD),
        *manifests.account("client", manifests.READ_SLICES),
        *manifests.services(APP),
        made,
    ]


def callers(way: Way, target: str, caller: Callable[..., manifests.Object]) -> list[manifests.Object]:
    """One pod of each flavour. `caller`: as `Scene.caller`."""
    more = (f"--callers={CALLERS}", "--pause=0.02", *way.options)
    made = [caller(flavour, way.client, flavour, target, *more) for flavour in ("sync", "aio")]
    if way.go:
        for each in made:
            (container,) = each["spec"]["template"]["spec"]["containers"]
            container["args"] = ["pod-call", f"--callers={CALLERS}", "--pause=20ms", target]
    return made
