"""A server in a pod of a real cluster leaves in step with its own EndpointSlices, as the real controller writes them.

Over 300 lines: one pod, and all that may befall it while it leaves.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration._servers.calls import Client, code
from tests.integration._servers.process import ServerProcess
from tests.kube._cluster.cluster import Cluster
from tests.kube._cluster.namespace import Namespace, Slice
from tests.kube._cluster.proxy import Proxy

POD, ADDRESS = "web-0", "198.19.128.7"  # nobody connects to it
BUSY = 5.0  # seconds: by so much a busy machine may be late; what would be wrong is PATIENT
AT_LEAST = 2.0  # seconds of announcing: enough for a first answer of the API server, on a busy machine, too
PATIENT = {"announce_min": AT_LEAST, "announce_timeout": 30.0, "announce_delay": 8.0, "settle": 1.0}
NOT_LONG = AT_LEAST + BUSY
RBAC = "a Role with list and watch on endpointslices in this namespace, or DRAIN_WATCH_ENDPOINT=false"
Inside = Callable[..., ServerProcess]


@pytest.fixture
def pod(namespace: Namespace) -> Namespace:
    """A pod, ready in one service, beside another one."""
    namespace.service("web")
    namespace.pod(POD, "web", ADDRESS)
    namespace.pod("web-1", "web", "198.19.128.8")
    namespace.until_slices("web", [ADDRESS, "198.19.128.8"])
    return namespace


@pytest.fixture
def inside(
    namespace: Namespace, cluster: Cluster, flavour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Inside]:
    """Servers in that pod, each a process, with an account that may do so much."""
    with ExitStack() as made:

        def start(
            verbs: tuple[str, ...] = ("list", "watch"), *, pods: bool = False, port: int | None = None, **policy: Any
        ) -> ServerProcess:
            token = namespace.token(namespace.account("server", verbs, pods=pods))
            for name, value in {
                "KUBERNETES_SERVICE_HOST": cluster.address[0],
                "KUBERNETES_SERVICE_PORT": str(port or cluster.address[1]),
                "DRAIN_SERVICE_ACCOUNT_DIR": str(namespace.mount(tmp_path / "serviceaccount", token)),
                "DRAIN_POD_NAME": POD,
            }.items():
                monkeypatch.setenv(name, value)
            started = ServerProcess(flavour=flavour, policy=PATIENT | policy)
            made.callback(started.kill)
            started.ready()
            goaway = "classic" if policy.get("goaway") == "classic" else "lossless"
            started.until("GoawayChosen", goaway=goaway)
            return started

        yield start


def leave(server: ServerProcess) -> float:
    """SIGTERM, as kubelet sends it. When that was."""
    server.signal(signal.SIGTERM)
    return time.monotonic()


def ended(server: ServerProcess) -> dict[str, Any]:
    """The report of a server that has left in good order."""
    assert server.exit_code(60) == 0, server.stderr
    report = server.report
    assert (report["clean"], report["errors"]) == (True, []), report
    return report


def announced(server: ServerProcess) -> float:
    """When announcing ended."""
    return float(server.until("AnnouncingEnded", 40)["at"])  # type: ignore[arg-type]


def seen(server: ServerProcess, standing: str, why: str) -> float:
    """When the server saw that."""
    return float(server.until("EndpointSeen", standing=standing, why=why)["at"])  # type: ignore[arg-type]


def still_announcing(server: ServerProcess, rotations: int = 20) -> None:
    """It rotates on and on; without the endpoint two in a row to which nobody comes back would have done."""
    server.until("Rotated", number=rotations)
    assert server.phases[-1] == "announcing"


def fallbacks(server: ServerProcess) -> list[Any]:
    return [each for each in server.events if each["event"] == "FallbackTaken"]


def fell_back(server: ServerProcess, instead: str, reason: str) -> None:
    """Said once: what is missing, what counts instead, and what to do."""
    (said,) = fallbacks(server)
    assert (said["what"], said["instead"], said["remedy"]) == ("the pod's own endpoint", instead, RBAC)
    assert reason in said["reason"]


# It leaves.


def test_deleted_and_terminated(pod: Namespace, inside: Inside) -> None:
    """The usual end of a pod: the slices follow the deletion sooner than announcing may end at all."""
    server = inside()
    deleted = time.monotonic()
    pod.terminate(POD)
    leave(server)
    print(f"left seen {seen(server, 'left', 'terminating in 1 slice') - deleted:.3f} s after the deletion")
    report = ended(server)
    assert report["endpoint"] == "terminating in 1 slice"
    assert AT_LEAST <= report["phases"]["announcing"] < NOT_LONG
    assert fallbacks(server) == []


def test_terminated_before_it_is_taken_out(pod: Namespace, inside: Inside) -> None:
    """While somebody may still send here it stays; then, for `settle`, for who follows the slices; then it goes."""
    server = inside()
    leave(server)
    seen(server, "listed", "ready in 1 slice")
    still_announcing(server)
    deleted = time.monotonic()
    pod.terminate(POD)
    left = seen(server, "left", "terminating in 1 slice")
    print(f"left seen {left - deleted:.3f} s after the deletion")
    report = ended(server)
    assert (report["announcing_ended"], report["endpoint"]) == ("endpoint left", "terminating in 1 slice")
    assert PATIENT["settle"] - 0.05 <= announced(server) - left < PATIENT["settle"] + BUSY


def test_two_services(pod: Namespace, inside: Inside) -> None:
    """Each has a slice with this pod, and the real controller takes it out of both."""
    pod.service("api", pods_of="web")
    pod.until_slices("api", [ADDRESS, "198.19.128.8"])
    server = inside()
    leave(server)
    seen(server, "listed", "ready in 2 slices")
    pod.terminate(POD)
    assert ended(server)["endpoint"] == "terminating in 2 slices"


def test_a_service_that_holds_on(pod: Namespace, inside: Inside) -> None:
    """Somebody else's slice still has it: one that has let it go is not enough."""
    pod.put("api", Slice(name="api-1", addresses=[ADDRESS], pod=POD))
    server = inside()
    leave(server)
    seen(server, "listed", "ready in 2 slices")
    pod.terminate(POD)
    seen(server, "listed", "ready in 1 slice")
    still_announcing(server)
    pod.delete_slice("api-1")
    report = ended(server)
    assert (report["announcing_ended"], report["endpoint"]) == ("endpoint left", "terminating in 1 slice")


def test_classic(pod: Namespace, inside: Inside) -> None:
    """Nobody can be asked, and kube-proxy is not at once where the slices are: `settle` after they have let it go."""
    server = inside(goaway="classic")
    leave(server)
    seen(server, "listed", "ready in 1 slice")
    pod.terminate(POD)
    left = seen(server, "left", "terminating in 1 slice")
    report = ended(server)
    assert (report["goaway"], report["announcing_ended"]) == ("classic", "endpoint left")
    assert PATIENT["settle"] - 0.05 <= announced(server) - left < PATIENT["settle"] + BUSY


def test_in_no_service(namespace: Namespace, inside: Inside) -> None:
    """Nobody is to be waited for, and that is known."""
    namespace.pod(POD, "web", ADDRESS)
    server = inside()
    leave(server)
    seen(server, "left", "in no slice")
    report = ended(server)
    assert (report["announcing_ended"], report["endpoint"]) == ("nobody came back", "in no slice")
    assert report["phases"]["announcing"] < NOT_LONG
    assert fallbacks(server) == []


def test_not_ready_and_never_deleted(pod: Namespace, inside: Inside) -> None:
    """Its health says NOT_SERVING, and so, after a while, does its readiness."""
    server = inside()
    leave(server)
    seen(server, "listed", "ready in 1 slice")
    pod.set_ready(POD, False)
    report = ended(server)
    assert report["endpoint"] == "not ready in 1 slice"


# Who may not look, or finds nobody to ask.


@pytest.mark.parametrize(("verbs", "missing"), [((), "list"), (("watch",), "list"), (("list",), "watch")])
@pytest.mark.parametrize("goaway", ["auto", "classic"])
def test_permission_missing(pod: Namespace, inside: Inside, verbs: tuple[str, ...], missing: str, goaway: str) -> None:
    """The pod stays listed, and that may not be seen."""
    server = inside(verbs, goaway=goaway, announce_delay=3.0)
    leave(server)
    report = ended(server)
    reason = f'may not {missing} endpointslices.discovery.k8s.io in namespace "{pod.name}"'
    if goaway == "classic":
        assert report["announcing_ended"] == "announce_delay"
        assert 3.0 <= report["phases"]["announcing"] < 3.0 + BUSY
        fell_back(server, "announce_delay", reason)
    else:
        assert report["announcing_ended"] == "nobody came back"
        assert report["phases"]["announcing"] < NOT_LONG
        fell_back(server, "observation alone", reason)
    assert reason in report["endpoint"]


@pytest.mark.parametrize("goaway", ["auto", "classic"])
def test_the_api_server_is_down(pod: Namespace, inside: Inside, proxy: Proxy, goaway: str) -> None:
    """When the drain begins, and until it is over."""
    server = inside(port=proxy.port, goaway=goaway, announce_delay=3.0)
    with proxy.refusing():
        leave(server)
        report = ended(server)
    assert report["announcing_ended"] == ("announce_delay" if goaway == "classic" else "nobody came back")
    reason = f"cannot reach the API server at {proxy.url}: Connection re"  # refused; the first one is reset
    fell_back(server, "announce_delay" if goaway == "classic" else "observation alone", reason)
    assert report["endpoint"].startswith(reason)


def test_the_api_server_goes_down(pod: Namespace, inside: Inside, proxy: Proxy) -> None:
    """In the middle, and until it is over: nobody else can have learned that we go, so it stays as long as it may."""
    server = inside(port=proxy.port, announce_timeout=10.0)
    leave(server)
    seen(server, "listed", "ready in 1 slice")
    with proxy.refusing():
        report = ended(server)
    assert (report["announcing_ended"], fallbacks(server)) == ("announce_timeout", [])
    assert report["endpoint"].startswith("ready in 1 slice when last seen; ")
    assert "the API server at" in report["endpoint"]


def test_the_api_server_goes_down_and_returns(pod: Namespace, inside: Inside, proxy: Proxy) -> None:
    """It is taken out meanwhile: seen when the server is back, and not waited for any longer."""
    server = inside(port=proxy.port)
    leave(server)
    seen(server, "listed", "ready in 1 slice")
    with proxy.refusing():
        pod.terminate(POD)
        still_announcing(server)
    report = ended(server)
    assert (report["announcing_ended"], report["endpoint"]) == ("endpoint left", "terminating in 1 slice")
    assert fallbacks(server) == []


def test_the_api_server_is_away_for_a_moment(pod: Namespace, inside: Inside, cluster: Cluster) -> None:
    """After it has let the pod go: that is not forgotten, so the drain is as short as ever."""
    server = inside(announce_min=4.0)
    leave(server)
    seen(server, "listed", "ready in 1 slice")
    pod.terminate(POD)
    seen(server, "left", "terminating in 1 slice")
    with cluster.out_of_reach():
        report = ended(server)
    assert report["endpoint"] == "terminating in 1 slice"
    assert fallbacks(server) == []


# A shorter grace than the manifest's.

GRACE = 4
BUDGET = {
    "announce_min": 0.5,
    "announce_timeout": 8.0,
    "drain_timeout": 20.0,
    "reserve": 2.0,
    "termination_grace_period": 30.0,
}


def test_a_shorter_grace(pod: Namespace, inside: Inside) -> None:
    """`kubectl delete --grace-period=4`: a call that never ends is cut while it can still be told so."""
    server = inside(pods=True, **BUDGET)
    with Client(server.ports[0]) as client:
        call = client.begin("Hang", timeout=60)
        server.until("begun", method="Hang")
        pod.terminate(POD, GRACE)
        deleted = time.monotonic()
        leave(server)
        assert code(call) in ("CANCELLED", "UNAVAILABLE")
        cut = time.monotonic() - deleted
        server.until("drained")
        over = time.monotonic() - deleted
    print(f"cut {cut:.3f} s after the deletion, over {over:.3f} s after it; grace {GRACE} s")
    assert cut < GRACE
    assert over < GRACE
    server.order("release")  # a handler that takes no notice, and for whose thread Python waits
    assert server.exit_code() == 0, server.stderr
    shortened = server.until("BudgetShortened")
    assert 0 < shortened["left"] <= GRACE  # type: ignore[operator]
    report = server.report
    assert 2 < report["budget"] < GRACE - 0.9
    assert report["cancelled"] == 1


def test_a_shorter_grace_that_may_not_be_seen(pod: Namespace, inside: Inside) -> None:
    """Without `get pods`: the policy's own time, and nobody complains."""
    server = inside(**BUDGET)
    with Client(server.ports[0]) as client:
        call = client.begin("Wait", timeout=60)
        server.until("begun", method="Wait")
        pod.terminate(POD, GRACE)
        leave(server)
        server.until("phase", phase="finishing")
        server.order("release")
        assert code(call) == "OK"
    report = ended(server)
    assert report["budget"] == 28
    assert report["endpoint"] == "terminating in 1 slice"
    assert not [each for each in server.events if each["event"] in ("BudgetShortened", "FallbackTaken")]
