"""What a pod's ServiceAccount may see."""

from collections.abc import Iterator

from drain._doctor.container import Container
from drain._doctor.fields import get, mappings
from drain._doctor.finding import Severity
from drain._doctor.model import Workload
from drain._doctor.rule import Trip, rule
from drain._doctor.rules._sources import ACCOUNT, RBAC
from drain._doctor.rules.budget import policy

_VERBS = ("list", "watch")
_RULE = "rules:\n  - {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}"


def _looks(container: Container) -> str:
    """What the container looks at endpoints for; empty: it does not."""
    if container.follows:
        return "follow its targets"
    made = policy(container) if container.drains else None
    if made is not None and made.watch_endpoint and made.announce_timeout:
        return "see when the cluster has learned that it leaves"
    hook = container.prestop
    return "see when the cluster has learned that it leaves" if hook is not None and hook.does == "standalone" else ""


def _namespaces(container: Container) -> set[str]:
    """In which it looks; "": its own."""
    found = {""}
    for target in container.targets:
        host = target.rpartition("/")[2].partition(":")[0]
        parts = host.split(".")
        if len(parts) > 1 and parts[1]:
            found.add(parts[1])
    return found


@rule(
    "rbac-missing",
    Workload,
    Severity.WARNING,
    why="Endpoints are watched with the pod's own ServiceAccount. A client that may not has no endpoints, and its "
    "calls fail; a server that may not leaves by who comes back alone, and a hook waits its whole delay.",
    source=RBAC,
)
def rbac_missing(workload: Workload) -> Iterator[Trip]:
    """No right to list or watch EndpointSlices."""
    for each in workload.containers:
        purpose = _looks(each)
        for namespace in sorted(_namespaces(each)) if purpose else ():
            missing = [verb for verb in _VERBS if workload.may(verb, "endpointslices", namespace) is False]
            if not missing:
                continue
            where = f' in namespace "{namespace}"' if namespace else ""
            what = (
                f'ServiceAccount "{workload.account}" may not {" and ".join(missing)} endpointslices.discovery.k8s.io{where}, '
                f'which container "{each.name}" needs to {purpose}.'
            )
            worse = Severity.ERROR if purpose.startswith("follow") else None
            yield Trip(
                what, (*workload.spec_path, "serviceAccountName"), f"# in a Role that is bound to it:\n{_RULE}", worse
            )


@rule(
    "token-not-mounted",
    Workload,
    Severity.WARNING,
    why="Without a token nobody in the pod can ask the API server: a client has no endpoints, a server leaves by who "
    "comes back alone, a hook waits its whole delay.",
    source=ACCOUNT,
)
def token_not_mounted(workload: Workload) -> Iterator[Trip]:
    """The token is not mounted: automountServiceAccountToken is off, in the pod or in its account."""
    path = (*workload.spec_path, "automountServiceAccountToken")
    wanted = get(workload.pod, "automountServiceAccountToken")
    accounts = [
        each
        for each in workload.around.of("ServiceAccount")
        if each.name == workload.account
        and each.beside(workload.thing)
        and get(each.body, "automountServiceAccountToken") is False
    ]
    if wanted is True or (wanted is None and not accounts):
        return
    for each in workload.containers:
        if (purpose := _looks(each)) and not _mounted_by_hand(workload):
            off = "no token is mounted (automountServiceAccountToken: false)"
            what = f'container "{each.name}" looks at endpoints to {purpose}, and {off}.'
            worse = Severity.ERROR if purpose.startswith("follow") else None
            yield Trip(what, path, "automountServiceAccountToken: true", worse)


def _mounted_by_hand(workload: Workload) -> bool:
    """A projected volume brings a token, too."""
    return any(
        "serviceAccountToken" in source
        for _, volume in mappings(workload.pod, "volumes")
        for _, source in mappings(volume, "projected", "sources")
    )
