"""What the kubelet asks, and by what the cluster learns that a server is ready, or leaves."""

from collections.abc import Iterator

from drain._doctor.container import Container
from drain._doctor.fields import get, mapping, text, texts
from drain._doctor.finding import Severity
from drain._doctor.model import Workload
from drain._doctor.rule import Trip, rule
from drain._doctor.rules._sources import HEALTH, PROBES
from drain._doctor.rules.budget import announces
from drain._doctor.words import PROBES as KINDS

_ALIVE = "liveness"


def _readiness(container: Container) -> str:
    return f"readinessProbe: {{grpc: {{port: {container.first_port}}}, periodSeconds: 1, timeoutSeconds: 2}}"


def _service(probe: object) -> str | None:
    """Which service a gRPC probe asks for; None: it is none."""
    if isinstance(get(probe, "grpc"), dict):
        return text(probe, "grpc", "service")
    words = texts(probe, "exec", "command")
    if not any("grpc_health_probe" in word for word in words):
        return None
    return next((word.partition("=")[2] for word in words if word.lstrip("-").startswith("service=")), "")


@rule(
    "readiness-missing",
    Workload,
    Severity.ERROR,
    why="Without a readiness probe a pod gets calls as soon as its container runs, before the server listens, and a "
    "rollout takes the old pods away before the new ones serve.",
    source=PROBES,
)
def readiness_missing(workload: Workload) -> Iterator[Trip]:
    """No readiness probe."""
    for each in workload.servers:
        if not mapping(each.body, "readinessProbe"):
            what = f'container "{each.name}" has no readinessProbe.'
            yield Trip(what, (*each.path, "readinessProbe"), _readiness(each))


@rule(
    "readiness-tcp",
    Workload,
    Severity.WARNING,
    why="A port that accepts connections says nothing of the server: it is open before the server is ready, and stays"
    " open while it says NOT_SERVING. Only gRPC health tells of a drain.",
    source=HEALTH,
)
def readiness_tcp(workload: Workload) -> Iterator[Trip]:
    """A readiness probe that only connects."""
    for each in workload.servers:
        if get(each.body, "readinessProbe", "tcpSocket") is not None:
            what = f'the readinessProbe of container "{each.name}" is a tcpSocket.'
            yield Trip(what, (*each.path, "readinessProbe"), _readiness(each))


@rule(
    "readiness-asks-liveness",
    Workload,
    Severity.ERROR,
    why='The name "liveness" stays SERVING while a drain server leaves, so that it is not killed. Asked for readiness'
    " it hides the drain.",
    source=HEALTH,
)
def readiness_asks_liveness(workload: Workload) -> Iterator[Trip]:
    """The one name that does not turn NOT_SERVING."""
    for each in workload.servers:
        if each.drains and _service(get(each.body, "readinessProbe")) == _ALIVE:
            what = f'the readinessProbe of container "{each.name}" asks for the service "{_ALIVE}".'
            yield Trip(what, (*each.path, "readinessProbe"), _readiness(each))


@rule(
    "liveness-asks-readiness",
    Workload,
    Severity.WARNING,
    why="While a server drains or is paused its health is NOT_SERVING, which is no reason to kill it. (Since "
    "Kubernetes 1.22 a pod that is being deleted is not asked any more, but one that is paused, or drained by "
    "hand, is.)",
    source=PROBES,
)
def liveness_asks_readiness(workload: Workload) -> Iterator[Trip]:
    """A liveness probe that fails while the server drains."""
    for each in workload.servers:
        service = _service(get(each.body, "livenessProbe"))
        if announces(each) and service is not None and service != _ALIVE:
            asked = f"the service {service!r}" if service else "the whole server"
            what = f'the livenessProbe of container "{each.name}" asks for {asked}.'
            change = f"livenessProbe: {{grpc: {{port: {each.first_port}, service: {_ALIVE}}}, timeoutSeconds: 5}}"
            yield Trip(what, (*each.path, "livenessProbe"), change)


@rule(
    "probe-port",
    Workload,
    Severity.ERROR,
    why="A probe on a port that is not there fails for ever: the pod never becomes ready, or is restarted again and "
    "again, and a rollout stands still.",
    source=PROBES,
)
def probe_port(workload: Workload) -> Iterator[Trip]:
    """A probe that names a port which no container has."""
    for each in workload.servers:
        names = {text(port, "name") for _, port in each.ports}
        for kind in KINDS:
            for way in ("tcpSocket", "httpGet", "grpc"):
                port = get(each.body, kind, way, "port")
                at = (*each.path, kind, way, "port")
                if isinstance(port, str) and way == "grpc":
                    what = f'the {kind} of container "{each.name}" names its gRPC port "{port}": it must be a number.'
                    yield Trip(what, at, f"port: {each.first_port}")
                elif isinstance(port, str) and not port.isdecimal() and port not in names:
                    what = f'the {kind} of container "{each.name}" asks port "{port}", which it does not have.'
                    yield Trip(what, at, f"port: {each.first_port}")
