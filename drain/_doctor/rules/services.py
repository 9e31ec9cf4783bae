"""What stands between clients and pods: Services, and cloud load balancers."""

from collections.abc import Iterator

from drain._doctor.fields import get, mappings, text, whole
from drain._doctor.finding import Severity
from drain._doctor.model import Thing, Workload
from drain._doctor.rule import Trip, rule
from drain._doctor.rules._sources import AFFINITY, ALB, SERVICE
from drain._doctor.rules.budget import policy

_ATTRIBUTES = (
    "alb.ingress.kubernetes.io/target-group-attributes",
    "service.beta.kubernetes.io/aws-load-balancer-target-group-attributes",
)
_DELAY = "deregistration_delay.timeout_seconds"


def _services(workload: Workload) -> tuple[Thing, ...]:
    return workload.services if workload.servers else ()


@rule(
    "session-affinity",
    Workload,
    Severity.WARNING,
    why="With ClientIP a client that reconnects is sent back to the pod it came from, as long as that is an endpoint:"
    " telling clients to go elsewhere does not work, and new pods stay idle.",
    source=AFFINITY,
)
def session_affinity(workload: Workload) -> Iterator[Trip]:
    """A Service that remembers."""
    for each in _services(workload):
        if text(each.body, "spec", "sessionAffinity") == "ClientIP":
            yield Trip(
                f"{each.called} has sessionAffinity: ClientIP.",
                ("spec", "sessionAffinity"),
                "sessionAffinity: None",
                thing=each,
            )


@rule(
    "publishes-not-ready",
    Workload,
    Severity.ERROR,
    why="Pods that are not ready, or that leave, stay among the endpoints as if they were: clients go on being sent "
    "to them until their address is gone.",
    source=SERVICE,
)
def publishes_not_ready(workload: Workload) -> Iterator[Trip]:
    """A Service that ignores readiness."""
    for each in _services(workload):
        if get(each.body, "spec", "publishNotReadyAddresses") is True:
            what = f"{each.called} has publishNotReadyAddresses: true."
            yield Trip(what, ("spec", "publishNotReadyAddresses"), "publishNotReadyAddresses: false", thing=each)


@rule(
    "service-port",
    Workload,
    Severity.ERROR,
    why="A Service's targetPort that no container has leaves the Service without an endpoint for that port: nobody "
    "gets through.",
    source=SERVICE,
)
def service_port(workload: Workload) -> Iterator[Trip]:
    """A targetPort by a name that no container gives."""
    names = {text(port, "name") for each in workload.containers for _, port in each.ports}
    for each in _services(workload):
        for index, port in mappings(each.body, "spec", "ports"):
            wanted = get(port, "targetPort")
            if isinstance(wanted, str) and wanted and not wanted.isdecimal() and wanted not in names:
                known = ", ".join(sorted(filter(None, names))) or "none with a name"
                has = f"which no container of {workload.thing.called} has (it has: {known})"
                what = f'{each.called} leads to port "{wanted}", {has}.'
                numbers = (whole(p, "containerPort") for c in workload.servers for _, p in c.ports)
                number = next(filter(None, numbers), 50051)
                yield Trip(what, ("spec", "ports", index, "targetPort"), f"targetPort: {number}", thing=each)


@rule(
    "deregistration-delay",
    Workload,
    Severity.WARNING,
    why="An AWS load balancer closes its connections to a target when the deregistration delay is over (300 s unless "
    "set), whatever is in flight. It should be no shorter than calls may take.",
    source=ALB,
)
def deregistration_delay(workload: Workload) -> Iterator[Trip]:
    """An ALB or NLB that gives calls less time than the server does."""
    finishing = max(
        (made.finishing_time for each in workload.servers if (made := policy(each)) is not None and each.drains),
        default=5.0,
    )
    for each in (*_services(workload), *(workload.ingresses if workload.servers else ())):
        for name in _ATTRIBUTES:
            pairs = dict(part.strip().partition("=")[::2] for part in text(each.annotations, name).split(","))
            delay = pairs.get(_DELAY, "")
            if delay.isdecimal() and len(delay) < 6 and int(delay) < finishing:
                what = f"{each.called} has {_DELAY}={delay}, and the server gives calls in flight {finishing:g} s."
                better = {**pairs, _DELAY: f"{finishing:.0f}"}
                change = f"{name}: {','.join(f'{key}={value}' for key, value in better.items())}"
                yield Trip(
                    what, ("metadata", "annotations", name), change, Severity.ERROR if int(delay) == 0 else None, each
                )
