"""The ways: how servers leave, how clients find them, and what stands between. One row each, with the advice that it follows."""

import json
from dataclasses import dataclass

import yaml

from tests.bench.compare import fronts
from tests.cluster._scene import manifests

APP, PORT = "web", 50051
FLAVOURS = ("sync", "aio")  # of callers
CALLERS = 16  # in each of two pods, one synchronous and one asyncio
SLEEP_15, SLEEP_5 = {"sleep": {"seconds": 15}}, {"sleep": {"seconds": 5}}
HOOK = {"exec": {"command": ["drain-prestop"]}}
# Callers behind a layer-4 balancer have a channel each: how few connections are spread would be chance. Proxies spread calls, not connections.
PINNED, PROXIED = CALLERS, 4
HEADLESS, KUBERNETES = f"dns:///{APP}-headless:{PORT}", f"kubernetes:///{APP}:{PORT}"


@dataclass(frozen=True, slots=True)
class Way:
    """One row.

    Args:
        title: for people. advice: whose configuration it is.
        server: "plain" or "drain" (`programs.serve`), with `arguments`. prestop: the container's preStop handler; None: there is none.
        client: "plain" or "drain" (`programs.call`), with `options`. channels: of each pod of clients. target: for clients; empty: the proxy's address.
        front: a proxy of examples/proxies on the node; empty: there is none. sidecar: each caller has an Envoy of its own.
        go: server and client are Go programs (tests/bench/go/pod.go).
    """

    title: str
    advice: str
    server: str = "plain"
    arguments: tuple[str, ...] = ()
    prestop: manifests.Object | None = None
    client: str = "plain"
    options: tuple[str, ...] = ()
    channels: int = 1
    target: str = f"{APP}:{PORT}"
    front: str = ""
    sidecar: bool = False
    go: bool = False

    @property
    def ours(self) -> bool:
        return "drain" in (self.server, self.client)


def _headless(title: str, *arguments: str, advice: str = "gRFC A9") -> Way:
    return Way(title, advice, arguments=arguments, prestop=SLEEP_15, target=HEADLESS, options=("--round-robin",))


def _behind(front: str, name: str) -> Way:
    return Way(f"{name} in front, sleep 15", f"examples/proxies/{front}", prestop=SLEEP_15, channels=PROXIED, target="", front=front)  # fmt: skip


WAYS: dict[str, Way] = {
    "clusterip": Way("ClusterIP, server.stop(10)", "what grpc's own examples do", channels=PINNED),
    "sleep": Way("ClusterIP, sleep 15", "what Kubernetes' users advise each other", prestop=SLEEP_15, channels=PINNED),
    "sleep-5": Way("ClusterIP, sleep 5", "the same, in a hurry", prestop=SLEEP_5, channels=PINNED),
    "headless": _headless("headless, round_robin, sleep 15", advice="gRPC's and Kubernetes' blogs"),
    "age-120": _headless("MaxConnectionAge 2 min, sleep 15", "--max-connection-age", "120"),
    "age-10": _headless("MaxConnectionAge 10 s, sleep 15", "--max-connection-age", "10"),
    "envoy": _behind("envoy", "Envoy"),
    "haproxy": _behind("haproxy", "HAProxy"),
    "traefik": _behind("traefik", "Traefik"),
    "nginx": _behind("nginx", "nginx"),
    "sidecar": Way(
        "Envoy beside each client, sleep 15", "examples/proxies/envoy, in the client's pod", prestop=SLEEP_15,
        channels=PROXIED, target=f"127.0.0.1:{fronts.SIDECAR_PORT}", sidecar=True,
    ),
    "kuberesolver": Way("grpc-go, kuberesolver, GracefulStop", "kuberesolver's README", target=KUBERNETES, go=True),
    "client": Way("drain, client only, sleep 15", "README", prestop=SLEEP_15, client="drain", target=KUBERNETES),
    "server": Way("drain, server only", "README", server="drain", prestop=HOOK, channels=PINNED),
    "server-rebalance": Way(
        "drain, server only, rebalancing", "README", server="drain", prestop=HOOK, arguments=("--rebalance",), channels=PINNED
    ),
    "both": Way("drain, both sides", "README", server="drain", prestop=HOOK, client="drain", target=KUBERNETES),
    "both-retry": Way(
        "drain, both sides, retries", "README", server="drain", prestop=HOOK, client="drain", target=KUBERNETES, options=("--retry",)
    ),
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


def callers(way: Way, target: str, image: str) -> list[manifests.Object]:
    """One pod of each flavour."""
    made = []
    for flavour in FLAVOURS:
        if way.go:
            each = manifests.caller(flavour, image)
            (container,) = each["spec"]["template"]["spec"]["containers"]
            container["args"] = ["pod-call", f"--callers={CALLERS}", "--pause=20ms", target]
        else:
            more = (f"--callers={CALLERS}", f"--channels={way.channels}", "--pause=0.02", *way.options)
            each = manifests.caller(flavour, image, way.client, flavour, target, *more)
        made.append(fronts.with_sidecar(each, f"{APP}-headless", PORT) if way.sidecar else each)
    return made


def configuration(way: Way) -> dict[str, str]:
    """What makes this way what it is, for people: file -> text. Accounts and Services are the same in all."""
    caller = callers(way, way.target or "<proxy>", "<image>")[0]
    found = {"servers.yaml": servers(way, "<image>")[-1], "callers.yaml": caller}
    if way.sidecar:
        arguments = caller["spec"]["template"]["spec"]["initContainers"][0]["args"]
        found["envoy.yaml"] = json.loads(arguments[1])
        arguments[1] = "<envoy.yaml>"
    texts = {name: yaml.safe_dump(each, sort_keys=False, width=120) for name, each in found.items()}
    return texts | (fronts.configuration(way.front) if way.front else {})
