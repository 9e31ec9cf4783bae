"""What README says to apply, applied: with it, and with nothing else, a ServiceAccount can follow a service."""

import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from drain._core.own_endpoint import Standing
from drain._kube import own_endpoint
from tests.integration._servers.waiting import until
from tests.kube._cluster.cluster import Cluster
from tests.kube._cluster.follow import Follow
from tests.kube._cluster.namespace import Namespace, Slice, Use

README = Path(__file__).parents[2] / "README.md"
_PATHS = {
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
}


def apply(namespace: Namespace, account: str) -> None:
    """README's manifest for that ServiceAccount, in this namespace."""
    blocks = re.findall(r"```yaml\n(apiVersion: rbac.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (manifest,) = [each for each in blocks if f"name: {account}," in each]
    applied = list(
        yaml.safe_load_all(
            manifest.replace("shop,", f"{namespace.name},").replace(
                "namespace: shop}", f"namespace: {namespace.name}}}"
            )
        )
    )
    for each in applied:
        assert each["metadata"]["namespace"] == namespace.name
        namespace.api.create(_PATHS[each["kind"]].format(namespace.name), each)
    assert [each["kind"] for each in applied] == ["Role", "ServiceAccount", "RoleBinding"]


def test_a_server_sees_its_own_endpoint(
    cluster: Cluster, namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(namespace, "shop-server")
    namespace.service("web")
    namespace.pod("web-1", "web", "198.19.128.1")
    namespace.until_slices("web", ["198.19.128.1"])
    where = urlsplit(cluster.url)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(where.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(where.port))
    monkeypatch.setenv(
        "DRAIN_SERVICE_ACCOUNT_DIR", str(namespace.mount(tmp_path / "a", namespace.token("shop-server")))
    )
    monkeypatch.setenv("DRAIN_POD_NAME", "web-1")
    look = own_endpoint.look(lambda: None)
    assert look is not None
    try:
        until(lambda: look.view().standing is Standing.LISTED)
        namespace.terminate("web-1")
        until(lambda: look.view().standing is Standing.LEFT)
        until(lambda: look.view().grace is not None)
    finally:
        look.stop()
    assert look.view().grace == 300, "`get pods` is in the manifest, too"


def test_a_client_follows_a_service(cluster: Cluster, namespace: Namespace, use: Use, follow: Follow) -> None:
    apply(namespace, "shop-client")
    namespace.put("web", Slice(name="web-1", addresses=["198.19.128.1"]))
    kubeconfig = use(namespace, cluster.url, token=namespace.token("shop-client"))
    follow("kubernetes:///web:50051").until(["198.19.128.1"])
    program = "import sys; from drain._cli import main; sys.exit(main())"
    words = [
        "resolve",
        "kubernetes:///web:50051",
        "--json",
        f"--kubeconfig={kubeconfig}",
        f"--namespace={namespace.name}",
    ]
    found = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert found.returncode == 0, found.stderr
    (endpoint,) = json.loads(found.stdout)["endpoints"]
    assert (endpoint["address"], endpoint["why"]) == ("198.19.128.1", "ready")
    assert 0 <= endpoint["age"] < 300
