"""The harness itself: if one of these fails, look here before looking at drain."""

import json
import select
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import urllib3

from tests._parts.kubernetes import KUBERNETES
from tests.integration._servers.waiting import until
from tests.kube._cluster.addresses import Addresses
from tests.kube._cluster.api import Api, ApiError
from tests.kube._cluster.backends import WHO, Backends
from tests.kube._cluster.cluster import Cluster
from tests.kube._cluster.faults import Answer, Cut, Gone, Silent
from tests.kube._cluster.namespace import Namespace, Slice
from tests.kube._cluster.proxy import Proxy


def path(namespace: Namespace, query: str = "") -> str:
    return f"/apis/discovery.k8s.io/v1/namespaces/{namespace.name}/endpointslices?{query}"


def version(namespace: Namespace) -> str:
    """Where a watch may begin. Without one the server would ask etcd, and Debian's 3.4 does not answer that."""
    return str(namespace.api.get(path(namespace))["metadata"]["resourceVersion"])


def test_the_server_is_the_one_we_mean(cluster: Cluster) -> None:
    found = cluster.api.get("/version")
    assert (found["major"], found["minor"]) == tuple(KUBERNETES.split(".")[:2])


def test_the_real_controller_follows_the_pods(namespace: Namespace, addresses: Addresses) -> None:
    first, second = addresses.take(2)
    namespace.service("web")
    namespace.pod("one", "web", first, node="node-a")
    namespace.pod("two", "web", second, node="node-b", ready=False)
    namespace.until_slices("web", [first])
    namespace.set_ready("two", True)
    namespace.until_slices("web", [first, second])
    zones = {e["addresses"][0]: e.get("zone") for each in namespace.slices("web") for e in each["endpoints"]}
    assert zones == {first: "zone-a", second: "zone-b"}
    namespace.terminate("one")
    namespace.until_slices("web", [second])
    conditions = next(
        e["conditions"] for each in namespace.slices("web") for e in each["endpoints"] if e["addresses"] == [first]
    )
    assert conditions == {"ready": False, "serving": True, "terminating": True}
    namespace.remove("one", "two")
    namespace.until_slices("web", [])
    namespace.delete_service("web")
    until(lambda: namespace.slices("web") == [], every=0.02)


def test_a_role_is_enough_and_needed(cluster: Cluster, namespace: Namespace) -> None:
    name = namespace.account("reader", ["list"])
    api = Api(cluster.url, cluster.pki.authority, token=namespace.token(name))
    api.get(path(namespace))
    with pytest.raises(ApiError, match="403"):
        api.get(path(namespace, "watch=1&timeoutSeconds=1"))
    namespace.allow(name, ["list", "watch"])
    assert api.get(path(namespace, f"watch=1&timeoutSeconds=1&resourceVersion={version(namespace)}")) == ""
    with pytest.raises(ApiError, match="403"):
        api.get("/apis/discovery.k8s.io/v1/endpointslices")
    api.close()
    stranger = Api(cluster.url, cluster.pki.authority, token="nonsense")
    with pytest.raises(ApiError, match="401"):
        stranger.get(path(namespace))
    stranger.close()


def test_the_server_can_be_killed_and_comes_back(cluster: Cluster, namespace: Namespace) -> None:
    namespace.put("web", Slice(name="web-1", addresses=["198.19.0.1"]))
    began = time.monotonic()
    cluster.kill_apiserver()
    with pytest.raises(urllib3.exceptions.HTTPError):
        cluster.api.get("/readyz")
    cluster.start_apiserver()
    assert [each["metadata"]["name"] for each in namespace.slices("web")] == ["web-1"]
    assert time.monotonic() - began < 60


def test_backends_say_who_they_are(backend: Backends) -> None:
    for graceful in (False, True):
        server = backend(graceful=graceful)
        with grpc.insecure_channel(f"{server.address}:{server.port}") as channel:
            assert channel.unary_unary(WHO)(b"", timeout=10, wait_for_ready=True).decode() == server.address


class TestProxy:
    @pytest.fixture
    def api(self, cluster: Cluster, proxy: Proxy, namespace: Namespace) -> Iterator[Api]:
        made = Api(proxy.url, cluster.pki.authority, token=namespace.token(namespace.account()))
        yield made
        made.close()

    def stream(self, namespace: Namespace, api: Api) -> Any:
        selected = "labelSelector=kubernetes.io/service-name%3Dweb"
        return api.stream(path(namespace, f"watch=true&{selected}&resourceVersion={version(namespace)}"))

    def test_it_passes_and_counts(self, proxy: Proxy, namespace: Namespace, api: Api) -> None:
        namespace.put("web", Slice(name="web-1", addresses=["198.19.0.1"]))
        found = api.get(path(namespace, "labelSelector=kubernetes.io/service-name%3Dweb"))
        assert [each["metadata"]["name"] for each in found["items"]] == ["web-1"]
        assert [(each.verb, each.service) for each in proxy.requests()] == [("list", "web")]

    def test_it_answers_in_the_servers_place(self, proxy: Proxy, namespace: Namespace, api: Api) -> None:
        with proxy.fault(Answer(429, "TooManyRequests", {"retry-after": "1"}), "list", times=1):
            with pytest.raises(ApiError, match="429"):
                api.get(path(namespace))
            api.get(path(namespace))
        with proxy.fault(Cut(20), "list"), pytest.raises(urllib3.exceptions.HTTPError):
            api.get(path(namespace))
        with (
            proxy.fault(Cut(20, clean=True), "list"),
            pytest.raises(json.JSONDecodeError),
        ):
            api.get(path(namespace))
        with proxy.fault(Silent(), "list"), pytest.raises(urllib3.exceptions.HTTPError):
            api("GET", path(namespace), bound=0.3)
        with proxy.fault(Gone(), "watch"):
            assert api.get(path(namespace, "watch=1"))["object"]["code"] == 410
        with proxy.refusing(), pytest.raises(urllib3.exceptions.HTTPError):
            api.get(path(namespace))
        api.get(path(namespace))

    def test_watches_are_ended_cleanly_or_not(self, proxy: Proxy, namespace: Namespace, api: Api) -> None:
        for clean in (True, False):
            answer = self.stream(namespace, api)
            until(lambda: proxy.watching("web") == 1)
            assert proxy.close_watches(clean=clean) == 1
            if clean:
                assert answer.read() == b""
            else:
                with pytest.raises(urllib3.exceptions.HTTPError):
                    answer.read()
            answer.release_conn()
            until(lambda: proxy.watching() == 0)

    def test_a_stalled_watch_says_nothing_and_stays_open(self, proxy: Proxy, namespace: Namespace, api: Api) -> None:
        answer = self.stream(namespace, api)
        until(lambda: proxy.watching("web") == 1)
        namespace.put("web", Slice(name="web-1", addresses=["198.19.0.1"]))
        assert b"web-1" in answer.read1()
        with proxy.stalled():
            namespace.put("web", Slice(name="web-2", addresses=["198.19.0.2"]))
            sock = answer._fp.fp.raw._sock
            # Not by reading with a time-out: urllib3 hangs up then, and the proxy may see it before it is asked.
            readable, _, _ = select.select([sock], [], [], 0.5)
            assert not readable
            assert not sock.pending()
            assert proxy.watching("web") == 1
        answer.close()
        until(lambda: proxy.watching() == 0)
