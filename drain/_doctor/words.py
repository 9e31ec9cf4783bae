"""Names by which things are known: drain's own variables, ports that speak gRPC, containers that meshes put in."""

import re

from drain.config import settings_table

PROBES = ("readinessProbe", "livenessProbe", "startupProbe")
MESH_CONTAINERS = frozenset({"istio-proxy", "linkerd-proxy", "linkerd-init", "istio-init"})
CLIENT_PREFIX = "DRAIN_CLIENT_"
# Read by drain, and no setting of a class.
OTHERS = frozenset(
    {
        "DRAIN_POD_NAME",
        "DRAIN_POD_NAMESPACE",
        "DRAIN_RUNTIME_DIR",
        "DRAIN_ZONE",
        "DRAIN_SERVICE_ACCOUNT_DIR",
        "DRAIN_POD_IP",
    }
)
VARIABLES = frozenset(each.variable for each in settings_table() if each.variable) | OTHERS
SERVER_VARIABLES = frozenset(
    each
    for each in VARIABLES - {"DRAIN_ZONE", "DRAIN_RUNTIME_DIR", "DRAIN_SERVICE_ACCOUNT_DIR"}
    if not each.startswith(CLIENT_PREFIX)
)
# What Kubernetes injects for a Service called drain, or drain-x: "service links".
SERVICE_LINK = re.compile(r"DRAIN(_[A-Z0-9]+)*_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP).*)?)")
TARGET = re.compile(r"\bkubernetes:/{0,3}[^\s\"',;]+")
_GRPC_NAME = re.compile(r"(^|-)(grpc|h2c|grpcs)(-|$)")
PORT = 50051  # grpc's examples', and so everybody's


def is_grpc(name: str, number: int | None, protocol: str) -> bool:
    """Whether a port says that it speaks gRPC: by its name (`grpc`, `grpc-api`), its appProtocol, or grpc's examples' number."""
    if protocol:
        return protocol.lower() in ("grpc", "grpcs", "kubernetes.io/h2c", "h2c")
    return bool(_GRPC_NAME.search(name.lower())) or (number == PORT and not name.lower().startswith("http"))
