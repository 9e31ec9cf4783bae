"""Traefik with its Kubernetes provider."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from tests.cluster._node.cluster import Cluster
from tests.cluster._scene import manifests
from tests.proxies._fronts import EXAMPLES, Backends, Traefik

READS = {"apiGroups": [""], "resources": ["services", "secrets"], "verbs": ["get", "list", "watch"]}
INGRESSES = {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses"], "verbs": ["get", "list", "watch"]}


def objects(app: str) -> list[manifests.Object]:
    """examples/proxies/traefik/ingress.yaml for the pods of that app, and the account "traefik" that may read them."""
    service, ingress = yaml.safe_load_all((EXAMPLES / "traefik" / "ingress.yaml").read_text())
    service["spec"]["selector"] = {"app": app}
    return [service, ingress, *manifests.account("traefik", READS, INGRESSES, manifests.READ_SLICES)]


class TraefikIngress(Traefik):
    """With its Kubernetes provider, in one namespace. `token`: of its ServiceAccount."""

    def __init__(
        self,
        programs: Mapping[str, Path],
        folder: Path,
        port: int,
        cluster: Cluster,
        namespace: str,
        token: str,
        host: str = "127.0.0.1",
    ) -> None:
        self._cluster, self._namespace, self._token = cluster, namespace, token
        super().__init__(programs, folder, port, [], host)

    def configured(self, backends: Backends) -> tuple[list[str], dict[str, str]]:
        path = self._folder / "traefik.yml"
        found = yaml.safe_load(path.read_text())
        found["entryPoints"]["grpc"]["address"] = self.address
        found["providers"] = {
            "file": {"filename": "dynamic/retry.yml"},
            "kubernetesIngress": {
                "endpoint": self._cluster.url,
                "token": self._token,
                "certAuthFilePath": str(self._cluster.pki.authority),
                "namespaces": [self._namespace],
                "disableClusterScopeResources": True,
            },
        }
        path.write_text(yaml.safe_dump(found))
        path.chmod(0o600)
        return ["--configfile=traefik.yml"], {}
