"""Objects of any kind for commands that look at a cluster, or change it: `drain doctor`, `drain rehearse`. Not for servers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from drain._kube.api import About, Api, Json
from drain._kube.failure import ApiError
from drain._kube.wire import Interrupt

WATCH = 300  # seconds after which the API server ends a watch
MERGE = "application/merge-patch+json"
_NOT_FOUND, _FORBIDDEN = 404, 403


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind, and where the API has it. `group` is empty for the oldest ones."""

    name: str
    resource: str
    group: str = ""
    version: str = "v1"

    @property
    def called(self) -> str:
        """As RBAC and errors call it: "deployments.apps"."""
        return f"{self.resource}.{self.group}" if self.group else self.resource

    def path(self, namespace: str, name: str = "", sub: str = "") -> str:
        """Of all in the namespace, or of one, or of its subresource."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root, f"namespaces/{quote(namespace)}" if namespace else "", self.resource, quote(name), sub]
        return "/".join(filter(None, parts))


KINDS = {
    each.name: each
    for each in (
        Kind("Pod", "pods"),
        Kind("Service", "services"),
        Kind("ServiceAccount", "serviceaccounts"),
        Kind("Deployment", "deployments", "apps"),
        Kind("StatefulSet", "statefulsets", "apps"),
        Kind("DaemonSet", "daemonsets", "apps"),
        Kind("ReplicaSet", "replicasets", "apps"),
        Kind("HorizontalPodAutoscaler", "horizontalpodautoscalers", "autoscaling", "v2"),
        Kind("PodDisruptionBudget", "poddisruptionbudgets", "policy"),
        Kind("Ingress", "ingresses", "networking.k8s.io"),
        Kind("EndpointSlice", "endpointslices", "discovery.k8s.io"),
        Kind("Event", "events"),
    )
}
_SHORT = {
    "pod": "Pod", "pods": "Pod", "po": "Pod",
    "deployment": "Deployment", "deployments": "Deployment", "deploy": "Deployment",
    "statefulset": "StatefulSet", "statefulsets": "StatefulSet", "sts": "StatefulSet",
    "daemonset": "DaemonSet", "daemonsets": "DaemonSet", "ds": "DaemonSet",
}  # fmt: skip


def named(written: str) -> tuple[Kind, str]:
    """`deploy/x` as kubectl reads it. Raises ValueError, whose text says what to write."""
    kind, slash, name = written.partition("/")
    if not slash or not name or kind.lower().partition(".")[0] not in _SHORT:
        raise ValueError(
            f"{written!r}: write KIND/NAME with one of deploy, sts, ds, pod as KIND, such as deploy/greeter"
        )
    return KINDS[_SHORT[kind.lower().partition(".")[0]]], name


class Objects:
    """One cluster's objects. Every method raises ApiError; `forbidden` and `missing` tell two of them apart. Thread safe."""

    def __init__(self, api: Api | None = None) -> None:
        self._api = api or Api.shared()
        self.namespace, self.server = self._api.namespace, self._api.server

    def get(self, kind: Kind, namespace: str, name: str) -> Json:
        """One object."""
        found = self._api.ask("GET", About("get", kind.called, namespace), kind.path(namespace, name))
        return {"kind": kind.name, **found}

    def all_of(self, kind: Kind, namespace: str) -> list[Json]:
        """All of a kind in a namespace. Their `kind`, which the API leaves out of lists, is put in."""
        return self.listed(kind, namespace, {})[0]

    def listed(
        self, kind: Kind, namespace: str, labels: Mapping[str, str], fields: Mapping[str, str] | None = None
    ) -> tuple[list[Json], str]:
        """Those with these labels (and fields), and the version of the list, from which a watch may go on."""
        path = f"{kind.path(namespace)}?{_chosen(labels, fields or {})}"
        answer = self._api.ask("GET", About("list", kind.called, namespace), path)
        items, about = answer.get("items"), answer.get("metadata")
        found = [each for each in items if isinstance(each, dict)] if isinstance(items, list) else []
        version = str(about.get("resourceVersion") or "") if isinstance(about, dict) else ""
        return [{"kind": kind.name, **each} for each in found], version

    def watch(
        self, kind: Kind, namespace: str, labels: Mapping[str, str], version: str, interrupt: Interrupt
    ) -> Iterator[Json]:
        """Events after that version, until the watch ends in whatever way: ApiError tells how. `interrupt` ends it."""
        watch = self._api.watch_path(f"{kind.path(namespace)}?{_chosen(labels)}", namespace, version, WATCH, interrupt)
        try:
            while not interrupt:
                yield from watch.events(wait=1.0)
        finally:
            watch.close()

    def inside(
        self, namespace: str, pod: str, container: str | None, command: Sequence[str], interrupt: Interrupt
    ) -> Iterator[str]:
        """The lines that a command prints in a container (None: its default one). Raises `drain._kube.inside.InsideError`."""
        from drain._kube import inside  # noqa: PLC0415 - it brings the kubernetes package

        return inside.lines(self._api.way, namespace, pod, container, command, interrupt)

    def interrupt(self) -> Interrupt:
        """To end a watch with, from any thread."""
        return Interrupt()

    def patch(self, kind: Kind, namespace: str, name: str, change: Mapping[str, Any], sub: str = "") -> Json:
        """A merge patch of an object, or of a subresource of it."""
        resource = f"{kind.called}/{sub}" if sub else kind.called
        return self._api.ask(
            "PATCH", About("patch", resource, namespace), kind.path(namespace, name, sub), dict(change), MERGE
        )

    def delete(self, kind: Kind, namespace: str, name: str) -> Json:
        """With the grace that the object has."""
        return self._api.ask("DELETE", About("delete", kind.called, namespace), kind.path(namespace, name))

    def may(
        self, verb: str, resource: str, namespace: str, group: str = "", account: tuple[str, str] | None = None
    ) -> bool | None:
        """Whether we may do that, or whether `account` (its namespace, its name) may. None: we may not ask about others."""
        review, spec = "SelfSubjectAccessReview", {}
        if account is not None:
            review = "SubjectAccessReview"
            name, room = f"system:serviceaccount:{account[0]}:{account[1]}", f"system:serviceaccounts:{account[0]}"
            spec = {"user": name, "groups": ["system:serviceaccounts", room, "system:authenticated"]}
        plural = f"{review.lower()}s"
        resource, _, sub = resource.partition("/")
        asked = {"verb": verb, "group": group, "resource": resource, "subresource": sub, "namespace": namespace}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": review,
            "spec": {**spec, "resourceAttributes": asked},
        }
        about = About("create", f"{plural}.authorization.k8s.io")
        try:
            answer = self._api.ask("POST", about, f"/apis/authorization.k8s.io/v1/{plural}", body)
        except ApiError as error:
            if forbidden(error):
                return None
            raise
        status = answer.get("status")
        return bool(status.get("allowed")) if isinstance(status, dict) else None


def _chosen(labels: Mapping[str, str], fields: Mapping[str, str] | None = None) -> str:
    selectors = {"labelSelector": labels, "fieldSelector": fields or {}}
    return urlencode(
        {name: ",".join(f"{k}={v}" for k, v in wanted.items()) for name, wanted in selectors.items() if wanted}
    )


def forbidden(error: ApiError) -> bool:
    """We may not."""
    return error.status == _FORBIDDEN


def missing(error: ApiError) -> bool:
    """There is no such thing."""
    return error.status == _NOT_FOUND
