"""What README says to apply, applied: with it, and with nothing else, a ServiceAccount can follow a service."""

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml

from tests.kube._cluster.cluster import Cluster
from tests.kube._cluster.follow import Follow
from tests.kube._cluster.namespace import Namespace, Slice, Use

README = Path(__file__).parents[2] / "README.md"
_PATHS = {
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
}


def test_the_manifest(cluster: Cluster, namespace: Namespace, use: Use, follow: Follow) -> None:
    manifest = re.search(r"```yaml\n(apiVersion: rbac.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert manifest is not None
    applied = list(
        yaml.safe_load_all(
            manifest[1]
            .replace("shop,", f"{namespace.name},")
            .replace("namespace: shop}", f"namespace: {namespace.name}}}")
        )
    )
    for each in applied:
        assert each["metadata"]["namespace"] == namespace.name
        namespace.api.create(_PATHS[each["kind"]].format(namespace.name), each)
    assert [each["kind"] for each in applied] == ["Role", "ServiceAccount", "RoleBinding"]
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
