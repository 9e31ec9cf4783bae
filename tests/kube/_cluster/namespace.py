"""One test's namespace: services, pods, slices, accounts. Names of things are those of the Kubernetes API."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.integration._servers.waiting import until
from tests.kube._cluster.api import Api, ApiError, Object
from tests.kube._cluster.pki import Pki

DISCOVERY = "/apis/discovery.k8s.io/v1"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
PORT = 50051


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A hand-made EndpointSlice. `None` conditions and ports stay unsaid."""

    name: str
    addresses: Sequence[str] = ()
    ports: Mapping[str, int] = field(default_factory=lambda: {"grpc": PORT})
    ready: bool | None = True
    serving: bool | None = None
    terminating: bool | None = None
    zone: str | None = None
    hints: Sequence[str] = ()
    pod: str | None = None
    family: str = "IPv4"

    def endpoint(self, address: str) -> Object:
        conditions = {"ready": self.ready, "serving": self.serving, "terminating": self.terminating}
        made: Object = {
            "addresses": [address],
            "conditions": {name: value for name, value in conditions.items() if value is not None},
        }
        if self.zone is not None:
            made["zone"] = self.zone
        if self.hints:
            made["hints"] = {"forZones": [{"name": each} for each in self.hints]}
        if self.pod is not None:
            made["targetRef"] = {"kind": "Pod", "name": self.pod}
        return made


class Namespace:
    """Made by `Cluster.namespace()`."""

    def __init__(self, name: str, api: Api, pki: Pki, need_controllers: Callable[[], None]) -> None:
        self.name = name
        self.api = api
        self._pki = pki
        self._need_controllers = need_controllers
        self._core = f"/api/v1/namespaces/{name}"
        self._slices = f"{DISCOVERY}/namespaces/{name}/endpointslices"

    # Services and their pods: the real controller makes the slices.

    def service(
        self,
        name: str,
        *,
        ports: Mapping[str, int | str] | None = None,
        selector: bool = True,
        families: Sequence[str] = ("IPv4",),
        pods_of: str | None = None,
    ) -> None:
        """A headless service. `ports`: a name and the pod's port, as a number or as the name the pod gives it.

        `pods_of`: it selects the pods of that service, not its own.
        """
        wanted = ports if ports is not None else {"grpc": PORT}
        spec: Object = {
            "clusterIP": "None",
            "ports": [
                {"name": each, "port": 8000 + number, "targetPort": target}
                for number, (each, target) in enumerate(wanted.items())
            ],
            "ipFamilies": list(families),
            "ipFamilyPolicy": "RequireDualStack" if len(families) == 2 else "SingleStack",
        }
        if selector:
            spec["selector"] = {"app": pods_of or name}
            self._need_controllers()
        self.api.create(f"{self._core}/services", {"metadata": {"name": name}, "spec": spec})

    def delete_service(self, name: str) -> None:
        self.api.delete(f"{self._core}/services/{name}")

    def pod(
        self,
        name: str,
        service: str,
        addresses: str | Sequence[str],
        *,
        ready: bool = True,
        node: str = "node-a",
        ports: Mapping[str, int] | None = None,
        account: str = "default",
    ) -> str:
        """A pod that runs, as a kubelet would have said it. Returns its name."""
        container: Object = {"name": "main", "image": "none"}
        if ports:
            container["ports"] = [{"name": each, "containerPort": port} for each, port in ports.items()]
        self.api.create(
            f"{self._core}/pods",
            {
                "metadata": {"name": name, "labels": {"app": service}},
                "spec": {
                    "nodeName": node,
                    "containers": [container],
                    "automountServiceAccountToken": False,
                    "serviceAccountName": account,
                },
            },
        )
        given = [addresses] if isinstance(addresses, str) else list(addresses)
        status = {"phase": "Running", "podIP": given[0], "podIPs": [{"ip": each} for each in given]}
        self.api.patch(f"{self._core}/pods/{name}/status", {"status": status | _readiness(ready)})
        return name

    def set_ready(self, pod: str, ready: bool) -> None:
        """Its readiness probe changes its mind."""
        self.api.patch(f"{self._core}/pods/{pod}/status", {"status": _readiness(ready)})

    def terminate(self, pod: str, grace: int = 300) -> None:
        """`kubectl delete --grace-period`, in seconds. No kubelet ends it before `remove`."""
        self.api.delete(f"{self._core}/pods/{pod}", {"gracePeriodSeconds": grace})

    def remove(self, *pods: str) -> None:
        """It is gone."""
        for each in pods:
            self.api.delete(f"{self._core}/pods/{each}", {"gracePeriodSeconds": 0})

    # Slices.

    def slices(self, service: str) -> list[Object]:
        """Those of the service, as they are now."""
        found = self.api.get(f"{self._slices}?labelSelector=kubernetes.io/service-name%3D{service}")
        return list(found["items"])

    def put(self, service: str, *parts: Slice, name: str | None = None) -> None:
        """Make or change one hand-made slice; several `parts` with different conditions may share it."""
        first = parts[0]
        where = name or first.name
        body: Object = {
            "metadata": {
                "name": where,
                "labels": {"kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": "tests"},
            },
            "addressType": first.family,
            "endpoints": [part.endpoint(each) for part in parts for each in part.addresses],
            "ports": [{"name": each, "port": port, "protocol": "TCP"} for each, port in first.ports.items()],
        }
        try:
            self.api.patch(f"{self._slices}/{where}", body)
        except ApiError as error:
            if error.status != 404:
                raise
            self.api.create(self._slices, body)

    def delete_slice(self, name: str) -> None:
        self.api.delete(f"{self._slices}/{name}")

    def until_slices(self, service: str, addresses: Iterable[str], *, ready: bool = True) -> None:
        """The real controller has done its work."""
        wanted = set(addresses)

        def done() -> bool:
            return wanted == {
                address
                for each in self.slices(service)
                for endpoint in each["endpoints"] or ()
                for address in endpoint["addresses"]
                if bool(endpoint["conditions"].get("ready")) is ready
            }

        until(done, every=0.02)

    # Who may look.

    def account(
        self,
        name: str = "reader",
        verbs: Sequence[str] = ("list", "watch"),
        *,
        pods: bool = False,
        events: bool = False,
    ) -> str:
        """A ServiceAccount that may do so much with the namespace's slices, and nothing else. Returns its name.

        `pods`: it may `get pods`, too. `events`: it may create events.
        """
        self.api.create(f"{self._core}/serviceaccounts", {"metadata": {"name": name}})
        self.api.create(
            f"{RBAC}/namespaces/{self.name}/rolebindings",
            {
                "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": self.name}],
            },
        )
        rules: list[Object] = []
        if verbs:
            rules.append({"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": list(verbs)})
        if pods:
            rules.append({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]})
        if events:
            rules.append({"apiGroups": [""], "resources": ["events"], "verbs": ["create"]})
        self.api.create(f"{RBAC}/namespaces/{self.name}/roles", {"metadata": {"name": name}, "rules": rules})
        for verb in verbs:
            self._until_allowed(name, verb, True)
        if pods:
            self._until_allowed(name, "get", True, "", "pods")
        if events:
            self._until_allowed(name, "create", True, "", "events")
        return name

    def allow(self, name: str, verbs: Sequence[str]) -> None:
        """Change what the account may do. Returns when it holds."""
        before = ("list", "watch")
        rules = [{"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": list(verbs)}]
        self.api.patch(f"{RBAC}/namespaces/{self.name}/roles/{name}", {"rules": rules if verbs else []})
        for verb in before:
            self._until_allowed(name, verb, verb in verbs)

    def token(self, name: str = "reader", seconds: int = 3600, *, pod: str | None = None) -> str:
        """A new token of the account (TokenRequest); bound to a pod of it, as kubelet's are."""
        spec: Object = {"expirationSeconds": seconds}
        if pod is not None:
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod}
        answer = self.api.create(f"{self._core}/serviceaccounts/{name}/token", {"spec": spec})
        return str(answer["status"]["token"])

    def kubeconfig(self, path: Path, server: str, user: dict[str, Any]) -> Path:
        """For this namespace. `user`: {"token": ...} or {"tokenFile": ...}."""
        return self._pki.write_kubeconfig(path, server, user, self.name)

    def mount(self, folder: Path, token: str) -> Path:
        """What a pod finds in /var/run/secrets/kubernetes.io/serviceaccount."""
        folder.mkdir(exist_ok=True)
        (folder / "ca.crt").write_bytes(self._pki.authority.read_bytes())
        (folder / "namespace").write_text(self.name)
        (folder / "token").write_text(token)
        return folder

    def _until_allowed(
        self, name: str, verb: str, allowed: bool, group: str = "discovery.k8s.io", resource: str = "endpointslices"
    ) -> None:
        review = {
            "spec": {
                "user": f"system:serviceaccount:{self.name}:{name}",
                "resourceAttributes": {
                    "namespace": self.name,
                    "verb": verb,
                    "group": group,
                    "resource": resource,
                },
            }
        }

        def holds() -> bool:
            answer = self.api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
            return bool(answer["status"]["allowed"]) is allowed

        until(holds, every=0.01)


Use = Callable[..., Path]
"""Point this process at an API server: (namespace, url, **user of a kubeconfig) -> the kubeconfig."""


def _readiness(ready: bool) -> Object:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # kubelet says it to the second, too
    return {"conditions": [{"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": now}]}
