"""A server in a pod of a real service that grows: it rotates, once, with one standing watch (drain/_rebalancing)."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import drain
from drain import events
from drain._kube import api
from drain._rebalancing import services
from drain._rebalancing.rebalancer import Rebalancer
from drain.config import DrainPolicy, RebalancePolicy
from tests.integration._servers.calls import Client, Load
from tests.integration._servers.hosted import FAST, Hosted
from tests.integration._servers.waiting import until
from tests.kube._cluster.addresses import Addresses
from tests.kube._cluster.namespace import Namespace, Slice
from tests.kube._cluster.proxy import Proxy

Serve = Callable[..., Hosted]
OURS = "web-0"
SOON = RebalancePolicy(spread=0, still=0.2, min_interval=0)


@pytest.fixture
def pod(namespace: Namespace, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Namespace]:
    """This process is the pod web-0, whose ServiceAccount may list and watch slices."""
    folder = namespace.mount(tmp_path / "serviceaccount", namespace.token(namespace.account()))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(proxy.port))
    monkeypatch.setenv("DRAIN_SERVICE_ACCOUNT_DIR", str(folder))
    monkeypatch.setenv("DRAIN_POD_NAME", OURS)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr(services, "FIRST_PAUSE", 0.2)
    api.configure()
    yield namespace
    api.configure()


@pytest.fixture
def serve(flavour: str, proxy: Proxy) -> Iterator[Serve]:
    """Servers that rebalance; afterwards nobody watches anything, and no thread is left."""
    with ExitStack() as made:

        def make(rebalance: RebalancePolicy = SOON) -> Hosted:
            policy: DrainPolicy = replace(FAST, rebalance=rebalance)
            hosted = Hosted(flavour, policy=policy)
            made.callback(hosted.close)
            return hosted.start()

        yield make
    until(lambda: proxy.watching() == 0)
    until(lambda: not [each for each in threading.enumerate() if each.name.startswith("drain-rebalance")])


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[Rebalancer]:
    """Every rebalancer that a test makes."""
    found: list[Rebalancer] = []

    class Noted(Rebalancer):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            found.append(self)

    monkeypatch.setattr("drain._rebalancing.rebalancer.Rebalancer", Noted)
    return found


def knows(made: list[Rebalancer], *totals: int) -> None:
    """The rebalancer knows so many ready endpoints beside its own, by service: from here on, more is growth."""
    until(lambda: [each.total for each in made[-1]._machines.values()] == list(totals))


def rebalanced(hosted: Hosted, times: int = 1) -> Any:
    return hosted.events.until(lambda event: isinstance(event, events.Rebalanced), times=times)


def watching(hosted: Hosted, proxy: Proxy, *services: str) -> None:
    """One standing watch for each service, and no other."""
    until(lambda: sorted(each.service or "" for each in proxy.requests("watch")) == sorted(services))
    until(lambda: proxy.watching() == len(services))


def test_a_service_that_grows(
    pod: Namespace, proxy: Proxy, serve: Serve, addresses: Addresses, made: list[Rebalancer]
) -> None:
    pod.service("web")
    pods = [addresses() for _ in range(5)]
    for number in range(2):
        pod.pod(f"web-{number}", "web", pods[number])
    pod.until_slices("web", pods[:2])
    hosted = serve()
    watching(hosted, proxy, "web")
    knows(made, 1)
    with Load([hosted.port]) as load:
        for number in (2, 3):
            pod.pod(f"web-{number}", "web", pods[number])
        pod.until_slices("web", pods[:4])
        until(lambda: sum(each.added for each in hosted.happened(events.Rebalanced)) == 2)
        pod.pod("web-4", "web", pods[4], ready=False)
        pod.until_slices("web", pods[4:5], ready=False)
        before = len(hosted.happened(events.Rebalanced))
        pod.set_ready("web-4", True)
        event = rebalanced(hosted, before + 1)
        load.more(5)
    assert load.failures == []
    assert (event.added, event.total) == (1, 4), "of five pods one is us"
    assert event.connections
    assert proxy.watching() == 1
    assert len(proxy.requests()) == 3, "a list of the namespace, a list and a watch of the service"


def test_our_own_coming_is_no_growth(
    pod: Namespace, proxy: Proxy, serve: Serve, addresses: Addresses, made: list[Rebalancer]
) -> None:
    """The server runs before its pod is in any slice: it asks until it is, and only then does it watch."""
    pod.service("web")
    others = [addresses(), addresses()]
    pod.pod("web-1", "web", others[0])
    pod.until_slices("web", others[:1])
    hosted = serve()
    until(lambda: len(proxy.requests("list")) >= 2)
    assert proxy.watching() == 0
    ours = addresses()
    pod.pod(OURS, "web", ours, ready=False)
    watching(hosted, proxy, "web")
    knows(made, 1)
    pod.set_ready(OURS, True)
    pod.until_slices("web", [others[0], ours])
    pod.pod("web-2", "web", others[1])
    event = rebalanced(hosted)
    assert (event.added, event.total) == (1, 2)
    assert len(hosted.happened(events.Rotated)) == 1


def test_several_services_and_ports(
    pod: Namespace, proxy: Proxy, serve: Serve, addresses: Addresses, made: list[Rebalancer]
) -> None:
    """All services that have the pod are followed, each with one watch; which port is meant matters to nobody."""
    pods = [addresses() for _ in range(4)]
    pod.service("web", ports={"grpc": 50051, "admin": 50052})
    pod.pod(OURS, "web", pods[0])
    pod.pod("web-1", "web", pods[1])
    pod.until_slices("web", pods[:2])
    pod.put("other", Slice(name="other-1", addresses=[pods[0]], pod=OURS), Slice(name="", addresses=[pods[2]], pod="x"))
    hosted = serve()
    watching(hosted, proxy, "web", "other")
    knows(made, 1, 1)
    pod.pod("web-2", "web", pods[3])
    event = rebalanced(hosted)
    assert (event.added, event.total) == (1, 2)


def test_without_permission(
    pod: Namespace, proxy: Proxy, serve: Serve, addresses: Addresses, made: list[Rebalancer]
) -> None:
    """It is said once, which verb on what is missing, and works as soon as it is granted; the server serves all the while."""
    pods = [addresses() for _ in range(3)]
    pod.service("web")
    pod.pod(OURS, "web", pods[0])
    pod.pod("web-1", "web", pods[1])
    pod.until_slices("web", pods[:2])
    pod.allow("reader", [])
    hosted = serve()
    failed: Any = hosted.events.until(lambda event: isinstance(event, events.WatchFailed))
    assert "may not list endpointslices" in failed.reason
    asked = len(proxy.requests("list"))
    until(lambda: len(proxy.requests("list")) > asked)
    assert len(hosted.happened(events.WatchFailed)) == 1
    with Client(hosted.port) as client:
        assert client.call("Echo") == b"hello"
    pod.allow("reader", ["list", "watch"])
    watching(hosted, proxy, "web")
    knows(made, 1)
    pod.pod("web-2", "web", pods[2])
    assert rebalanced(hosted).added == 1


def test_a_target_of_ones_own(
    pod: Namespace, proxy: Proxy, serve: Serve, addresses: Addresses, made: list[Rebalancer]
) -> None:
    """The same watch as a channel's to that target."""
    pods = [addresses() for _ in range(2)]
    pod.service("web")
    pod.pod("web-1", "web", pods[0])
    pod.until_slices("web", pods[:1])
    target = f"kubernetes:///web.{pod.name}:50051"
    with drain.resolver.watch(target) as watch:
        assert len(watch.next(20)) == 1
        hosted = serve(replace(SOON, target=target))
        knows(made, 1)
        assert [each.users for each in drain.resolver.snapshot()] == [2]
        pod.pod("web-2", "web", pods[1])
        assert rebalanced(hosted).added == 1
        assert proxy.watching() == 1


def test_no_pod_around_us(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    hosted = serve()
    told: Any = hosted.events.until(lambda event: isinstance(event, events.FallbackTaken))
    assert (told.what, "target" in told.remedy) == ("rebalancing", True)
