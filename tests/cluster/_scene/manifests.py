"""The objects: servers as README's story of a pod has them, and callers."""

from typing import Any

Object = dict[str, Any]

PORT = 50051
GRACE = 30
READ_SLICES = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}
READ_POD = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}

_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def namespace(name: str) -> Object:
    """It refuses pods that ask for more than the restricted standard allows."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def account(name: str, *rules: Object) -> list[Object]:
    """A ServiceAccount that may do that, in its namespace."""
    group = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    subjects = [{"kind": "ServiceAccount", "name": name}]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
        {**group, "kind": "Role", "rules": list(rules)},
        {**group, "kind": "RoleBinding", "roleRef": role, "subjects": subjects},
    ]


def services(name: str) -> list[Object]:
    """A ClusterIP one, and a headless one."""
    port = {"name": "grpc", "port": PORT, "targetPort": "grpc"}
    made = []
    for suffix, more in (("", {}), ("-headless", {"clusterIP": "None"})):
        spec = {"selector": {"app": name}, "ports": [port], **more}
        made.append({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name + suffix}, "spec": spec})
    return made


def budget(name: str, available: int) -> Object:
    """No eviction leaves fewer pods."""
    spec = {"minAvailable": available, "selector": {"matchLabels": {"app": name}}}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": spec}


def server(
    name: str,
    image: str,
    *arguments: str,
    replicas: int = 3,
    prestop: list[str] | None = None,
    environment: dict[str, str] | None = None,
    account: str = "server",
) -> Object:
    """A Deployment. `prestop`: the hook's command; None: there is no hook."""
    fields = {"DRAIN_POD_NAME": "metadata.name", "DRAIN_POD_NAMESPACE": "metadata.namespace"}
    given = {"DRAIN_TERMINATION_GRACE_PERIOD": str(GRACE), **(environment or {})}
    container = _container(image, *arguments) | {
        "ports": [{"name": "grpc", "containerPort": PORT}],
        "env": [
            *({"name": each, "valueFrom": {"fieldRef": {"fieldPath": path}}} for each, path in fields.items()),
            *({"name": each, "value": value} for each, value in given.items()),
        ],
        "readinessProbe": {"grpc": {"port": PORT}, "periodSeconds": 1},
        "livenessProbe": {"grpc": {"port": PORT, "service": "liveness"}},
    }
    if prestop is not None:
        container["lifecycle"] = {"preStop": {"exec": {"command": prestop}}}
    return _deployment(name, container, replicas, account, GRACE)


def caller(name: str, image: str, *arguments: str, account: str = "client", replicas: int = 1) -> Object:
    """A Deployment of callers (`programs.call`). They are not moved when a node is drained."""
    made = _deployment(name, _container(image, "programs.call", *arguments), replicas, account, 20)
    made["spec"]["template"]["metadata"]["labels"]["role"] = "caller"
    return made


def _container(image: str, *arguments: str) -> Object:
    return {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": list(arguments),
        "securityContext": _RESTRICTED,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }


def _deployment(name: str, container: Object, replicas: int, account: str, grace: int) -> Object:
    labels = {"app": name}
    pod = {
        "serviceAccountName": account,
        "terminationGracePeriodSeconds": grace,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": dict(labels)}, "spec": pod},
        },
    }
