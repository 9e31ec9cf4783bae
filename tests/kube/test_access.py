"""Who may look, and what calls say while nobody may. All of it heals by itself when it is put right."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from drain._kube import api
from tests.integration._servers.waiting import AT_ONCE, until
from tests.kube._cluster.backends import Backends
from tests.kube._cluster.client import Client, Connect
from tests.kube._cluster.cluster import Cluster
from tests.kube._cluster.faults import Answer
from tests.kube._cluster.follow import Follow
from tests.kube._cluster.namespace import Namespace, Slice, Use
from tests.kube._cluster.proxy import Proxy


def replace(path: Path, text: str) -> None:
    """As kubelet does: never half of it."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    os.replace(new, path)


def refused(client: Client, *words: str) -> None:
    """Fast, and with a text that says it."""
    code, details, took = client.refusal()
    assert code == "UNAVAILABLE"
    for each in words:
        assert each in details
    assert took < AT_ONCE


def test_an_unknown_service(reader: Namespace, backend: Backends, connect: Connect) -> None:
    server = backend()
    client = connect("kubernetes:///nobody:50051")
    refused(client, "nobody", reader.name)
    reader.put("nobody", Slice(name="nobody-1", addresses=[server.address]))
    assert client.until_answered() == server.address


def test_a_port_that_no_slice_has(reader: Namespace, backend: Backends, connect: Connect) -> None:
    server = backend()
    reader.put("web", Slice(name="web-1", addresses=[server.address], ports={"metrics": 9090, "http": 8080}))
    client = connect("kubernetes:///web:50051")
    refused(client, "50051", "metrics", "9090", "http", "8080")
    named = connect("kubernetes:///web:grpc")
    refused(named, "grpc", "metrics")
    silent = connect("kubernetes:///web")
    refused(silent, "several ports", "metrics", "http")
    reader.put("web", Slice(name="web-1", addresses=[server.address], ports={"grpc": 50051}))
    for each in (client, named, silent):
        assert each.until_answered() == server.address


def test_no_permission(cluster: Cluster, namespace: Namespace, use: Use, backend: Backends, connect: Connect) -> None:
    server = backend()
    namespace.put("web", Slice(name="web-1", addresses=[server.address]))
    account = namespace.account("nobody", [])
    use(namespace, cluster.url, token=namespace.token(account))
    client = connect("kubernetes:///web:50051")
    refused(client, "403", "list", "endpointslices", namespace.name)
    namespace.allow(account, ["list", "watch"])
    assert client.until_answered() == server.address


def test_permission_to_list_but_not_to_watch(
    cluster: Cluster, namespace: Namespace, use: Use, backend: Backends, connect: Connect, follow: Follow
) -> None:
    """What was listed is used; that nothing is followed is said, by verb."""
    one, two = backend(), backend()
    namespace.put("web", Slice(name="web-1", addresses=[one.address]))
    account = namespace.account("half", ["list"])
    use(namespace, cluster.url, token=namespace.token(account))
    known = follow("kubernetes:///web:50051")
    client = connect("kubernetes:///web:50051")
    assert client.until_answered() == one.address
    until(lambda: known.failure is not None)
    assert "may not watch" in str(known.failure)
    namespace.allow(account, ["list", "watch"])
    until(lambda: known.failure is None)
    namespace.put("web", Slice(name="web-1", addresses=[two.address]))
    client.until_everyone({two.address})


def test_permission_taken_away(
    cluster: Cluster, namespace: Namespace, use: Use, proxy: Proxy, backend: Backends, connect: Connect
) -> None:
    """The last good set stays in use."""
    one, two = backend(), backend()
    namespace.put("web", Slice(name="web-1", addresses=[one.address]))
    account = namespace.account()
    use(namespace, proxy.url, token=namespace.token(account))
    client = connect("kubernetes:///web:50051")
    client.until_answered()
    until(lambda: proxy.watching("web") == 1)
    with client.load() as load:
        namespace.allow(account, [])
        asked = len(proxy.requests())
        proxy.close_watches()  # an open watch is not taken away by the server itself
        until(lambda: len(proxy.requests()) > asked)
        assert client.everyone(10) == {one.address}
        namespace.put("web", Slice(name="web-1", addresses=[two.address]))
        namespace.allow(account, ["list", "watch"])
        client.until_everyone({two.address})
    assert load.failed == []


def test_a_bad_token(cluster: Cluster, namespace: Namespace, use: Use, backend: Backends, connect: Connect) -> None:
    server = backend()
    namespace.put("web", Slice(name="web-1", addresses=[server.address]))
    good = namespace.token(namespace.account())
    path = use(namespace, cluster.url, token="nonsense")
    client = connect("kubernetes:///web:50051")
    refused(client, "401", "token")
    replace(path, path.read_text().replace("nonsense", good))
    assert client.until_answered() == server.address


@pytest.fixture
def mounted(proxy: Proxy, namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """This process looks like one in a pod of the cluster: the files that kubelet mounts, and the variables it sets."""
    namespace.account()
    folder = namespace.mount(tmp_path / "serviceaccount", namespace.token())
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(proxy.port))
    api.configure(service_account=folder)
    yield folder
    api.configure()


def test_in_a_pod_the_token_is_rotated(
    mounted: Path, namespace: Namespace, proxy: Proxy, backend: Backends, connect: Connect
) -> None:
    """The file is replaced, the old token expires: requests from then on carry the new one, and no call notices."""
    one, two = backend(), backend()
    namespace.put("web", Slice(name="web-1", addresses=[one.address]))
    client = connect("kubernetes:///web:50051")
    assert client.until_answered() == one.address  # the namespace is the mounted one's
    until(lambda: proxy.watching("web") == 1)
    old, new = (mounted / "token").read_text(), namespace.token(seconds=7200)
    assert old != new
    assert {each.token for each in proxy.requests()} == {old}
    with client.load() as load, proxy.fault(Answer(401, "Unauthorized"), when=lambda request: request.token == old):
        replace(mounted / "token", new)
        proxy.close_watches()
        namespace.put("web", Slice(name="web-1", addresses=[two.address]))
        client.until_everyone({two.address})
        assert proxy.requests()[-1].token == new
    assert load.failed == []


def test_a_token_that_expires_before_its_file_is_replaced(
    mounted: Path, namespace: Namespace, proxy: Proxy, backend: Backends, connect: Connect
) -> None:
    """401 is said, the last good set is used, and the new token is taken as soon as it is there."""
    one, two = backend(), backend()
    namespace.put("web", Slice(name="web-1", addresses=[one.address]))
    client = connect("kubernetes:///web:50051")
    client.until_answered()
    until(lambda: proxy.watching("web") == 1)
    old, new = (mounted / "token").read_text(), namespace.token(seconds=7200)
    with client.load() as load, proxy.fault(Answer(401, "Unauthorized"), when=lambda request: request.token == old):
        before = len(proxy.requests())
        proxy.close_watches()
        until(lambda: len(proxy.requests()) >= before + 2)
        namespace.put("web", Slice(name="web-1", addresses=[two.address]))
        replace(mounted / "token", new)
        client.until_everyone({two.address})
    assert load.failed == []


def test_another_namespace_needs_its_own_role(
    cluster: Cluster, namespace: Namespace, use: Use, connect: Connect
) -> None:
    other = cluster.namespace()
    use(namespace, cluster.url, token=namespace.token(namespace.account()))
    refused(connect(f"kubernetes:///web.{other.name}:50051"), "403", other.name)


def test_no_cluster_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connect: Connect) -> None:
    """Neither in a pod nor with a kubeconfig: the calls say so."""
    for name in [each for each in os.environ if each.startswith("KUBERNETES_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    api.configure()
    refused(connect("kubernetes:///web.anywhere:50051"), "no Kubernetes API server is known")
    api.configure()
