"""What only a real API server can show to `drain.metrics`: why watches end, and how far behind the cluster we are."""

import time
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry

import drain
from tests.integration._servers.waiting import until
from tests.kube._cluster.cluster import Cluster
from tests.kube._cluster.faults import Answer
from tests.kube._cluster.follow import Followed
from tests.kube._cluster.namespace import Namespace
from tests.kube._cluster.proxy import Proxy

TARGET = "kubernetes:///web:50051"


@pytest.fixture
def registry() -> Iterator[CollectorRegistry]:
    made = CollectorRegistry()
    collector = drain.metrics.register(made)
    yield made
    collector.close()


def test_why_watches_end(
    proxied: Namespace, proxy: Proxy, follow: Callable[[str], Followed], registry: CollectorRegistry
) -> None:
    """Each end has its reason, and is counted once; what goes on is not."""
    service = f"{proxied.name}/web"
    proxied.service("web")
    proxied.pod("web-0", "web", "198.19.128.7")
    known = follow(TARGET)
    known.until(["198.19.128.7"])

    def ended(why: str) -> float:
        return registry.get_sample_value("drain_resolver_restarts_total", {"service": service, "why": why}) or 0.0

    def ends() -> float:
        found = [
            each
            for family in registry.collect()
            for each in family.samples
            if each.name == "drain_resolver_restarts_total"
        ]
        return sum(each.value for each in found if each.labels["service"] == service)

    assert ends() == 0
    until(lambda: proxy.watching("web") == 1)
    proxy.close_watches()  # in good order, but at once
    until(lambda: ended("closed early") == 1)
    until(lambda: proxy.watching("web") == 1)
    proxy.close_watches(clean=False)
    until(lambda: ended("broken") + ended("cut") == 1)
    until(lambda: proxy.watching("web") == 1)
    with proxy.fault(Answer(429), "watch", times=1):
        proxy.close_watches(clean=False)
        until(lambda: ended("broken") + ended("cut") == 2)
        until(lambda: ended("refused") == 1)
    until(lambda: proxy.watching("web") == 1)
    settled = ends()
    proxied.pod("web-1", "web", "198.19.128.8")
    known.until(["198.19.128.7", "198.19.128.8"])
    assert ends() == settled


def test_how_far_behind(
    reader: Namespace, cluster: Cluster, follow: Callable[[str], Followed], registry: CollectorRegistry
) -> None:
    """The endpoint controller writes into a slice when a pod changed; to the second, and the first set does not count."""
    reader.service("web")
    reader.pod("web-0", "web", "198.19.128.7")
    known = follow(TARGET)
    known.until(["198.19.128.7"])
    count, total = (f"drain_resolver_propagation_seconds_{each}" for each in ("count", "sum"))
    assert registry.get_sample_value(count, {"target": TARGET}) == 0
    began = time.monotonic()
    reader.pod("web-1", "web", "198.19.128.8")
    known.until(["198.19.128.7", "198.19.128.8"])
    until(lambda: (registry.get_sample_value(count, {"target": TARGET}) or 0) >= 1)
    took, seen = time.monotonic() - began, registry.get_sample_value(count, {"target": TARGET}) or 0
    assert (registry.get_sample_value(total, {"target": TARGET}) or 0) / seen <= took + 1.0
