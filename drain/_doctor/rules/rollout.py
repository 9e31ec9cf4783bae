"""How many pods there are while some of them leave: replicas, rolling updates, autoscalers, disruption budgets."""

from collections.abc import Iterator

from drain._doctor.fields import Path, get, mapping, share, text, whole
from drain._doctor.finding import Severity
from drain._doctor.model import Surroundings, Workload
from drain._doctor.rule import Trip, rule
from drain._doctor.rules._sources import DEPLOYMENT, DISRUPTIONS, HPA, PDB

_ROLLING: dict[str, Path] = {
    "Deployment": ("spec", "strategy", "rollingUpdate"),
    "Rollout": ("spec", "strategy", "canary"),
    "DaemonSet": ("spec", "updateStrategy", "rollingUpdate"),
}


@rule(
    "single-replica",
    Workload,
    Severity.WARNING,
    why="When the only pod leaves before another one is ready (its node is drained, it is evicted, it crashes) nobody"
    " serves. Only a rolling update that adds one first goes without a gap.",
    source=DISRUPTIONS,
)
def single_replica(workload: Workload) -> Iterator[Trip]:
    """One pod, by number or by the autoscaler's minimum."""
    if not workload.servers:
        return
    if workload.kind == "Pod" and not get(workload.thing.body, "metadata", "ownerReferences"):
        yield Trip(
            "it is a lone Pod: nothing replaces it when it leaves.",
            ("kind",),
            "# a Deployment with replicas: 2 or more",
        )
    for each in workload.autoscalers:
        if (whole(each.body, "spec", "minReplicas") or 1) == 1:
            what = f"{each.called} may leave one pod."
            yield Trip(what, ("spec", "minReplicas"), "minReplicas: 2", thing=each)
    if not workload.autoscalers and workload.replicas == 1:
        yield Trip("it has one replica.", ("spec", "replicas"), "replicas: 2")


@rule(
    "all-at-once",
    Workload,
    Severity.ERROR,
    why="A rollout may take all old pods away before a new one is ready: for that time nobody serves, and the calls "
    "fail with UNAVAILABLE.",
    source=DEPLOYMENT,
)
def all_at_once(workload: Workload) -> Iterator[Trip]:
    """Recreate, or a maxUnavailable as large as the workload."""
    if not workload.servers:
        return
    body = workload.thing.body
    if workload.kind == "Deployment" and text(body, "spec", "strategy", "type") == "Recreate":
        change = "strategy:\n  rollingUpdate: {maxUnavailable: 0, maxSurge: 1}"
        yield Trip(
            "its strategy is Recreate: all old pods go before the first new one comes.", ("spec", "strategy"), change
        )
        return
    replicas = workload.fewest
    if workload.kind in _ROLLING:
        at = (*_ROLLING[workload.kind], "maxUnavailable")
        missing = share(body, replicas or 100, *at, up=False)
        if missing is not None and missing > 0 and missing >= (replicas or 100):
            yield Trip(
                f"maxUnavailable is {get(body, *at)}, of {_pods(replicas)}.",
                at,
                "maxUnavailable: 0  # with maxSurge: 1",
            )
    elif (
        workload.kind == "StatefulSet" and replicas == 1 and text(body, "spec", "updateStrategy", "type") != "OnDelete"
    ):
        what = "a StatefulSet takes a pod away before it makes the new one, and this one has one replica."
        yield Trip(what, ("spec", "replicas"), "replicas: 2  # or a Deployment")


def _pods(count: int | None) -> str:
    return "all its pods" if count is None else f"{count} pod{'s' * (count != 1)}"


@rule(
    "replicas-and-autoscaler",
    Workload,
    Severity.WARNING,
    why="Each time the manifest is applied the number that it has replaces the autoscaler's: under load a deploy "
    "takes most pods away at once.",
    source=HPA,
)
def replicas_and_autoscaler(workload: Workload) -> Iterator[Trip]:
    """Two who say how many. What the API server shows always has a number, which says nothing."""
    if not workload.servers or workload.around.whole or not workload.autoscalers:
        return
    if (count := whole(workload.thing.body, "spec", "replicas")) is not None:
        what = f"it has replicas: {count}, and {workload.autoscalers[0].called} scales it."
        yield Trip(what, ("spec", "replicas"), "# leave replicas out")


@rule(
    "budget-blocks",
    Workload,
    Severity.WARNING,
    why="No pod may be evicted, so a node cannot be drained, and whoever must drain it deletes the pods by force in "
    "the end.",
    source=PDB,
)
def budget_blocks(workload: Workload) -> Iterator[Trip]:
    """A PodDisruptionBudget that allows none."""
    replicas = workload.fewest
    for each in workload.budgets if workload.servers else ():
        for name, blocked in (
            ("maxUnavailable", share(each.body, replicas or 100, "spec", "maxUnavailable", up=True) == 0),
            ("minAvailable", _blocks(each.body, replicas)),
        ):
            if blocked:
                what = f"{each.called} has {name}: {get(each.body, 'spec', name)}, of {_pods(replicas)}."
                yield Trip(what, ("spec", name), "maxUnavailable: 1", thing=each)


def _blocks(budget: object, replicas: int | None) -> bool:
    least = share(budget, replicas or 100, "spec", "minAvailable", up=True)
    if least is None or least == 0:
        return False
    return least >= replicas if replicas is not None else get(budget, "spec", "minAvailable") == "100%"


@rule(
    "budget-missing",
    Workload,
    Severity.ADVICE,
    why="Without a PodDisruptionBudget several nodes may be drained at once, and all pods of a service leave together.",
    source=PDB,
)
def budget_missing(workload: Workload) -> Iterator[Trip]:
    """Several replicas, and nothing bounds evictions."""
    if not workload.servers or workload.budgets or workload.kind not in ("Deployment", "StatefulSet", "Rollout"):
        return
    if (workload.fewest or 0) > 1:
        change = (
            "apiVersion: policy/v1\nkind: PodDisruptionBudget\n"
            f"metadata: {{name: {workload.thing.name or 'server'}}}\n"
            f"spec:\n  maxUnavailable: 1\n  selector: {{matchLabels: {_flow(workload)}}}"
        )
        yield Trip("no PodDisruptionBudget selects its pods.", (), change)


def _flow(workload: Workload) -> str:
    labels = mapping(workload.thing.body, "spec", "selector", "matchLabels") or workload.labels
    return "{" + ", ".join(f"{key}: {text(labels, key)}" for key in labels) + "}"


@rule(
    "budget-selects-nothing",
    Surroundings,
    Severity.WARNING,
    why="A PodDisruptionBudget whose selector no pod has bounds nothing.",
    source=PDB,
)
def budget_selects_nothing(around: Surroundings) -> Iterator[Trip]:
    """A selector with a slip of the pen. Judged where gRPC servers are beside it."""
    servers = [each for each in around.workloads if each.servers]
    chosen = [budget.document for each in around.workloads for budget in each.budgets]
    for each in around.of("PodDisruptionBudget"):
        beside = [other for other in servers if other.thing.beside(each)]
        if beside and not any(each.document is other for other in chosen):
            what = f"no workload here has the labels of its selector; {beside[0].thing.called} has {_flow(beside[0])}."
            yield Trip(what, ("spec", "selector"), f"selector: {{matchLabels: {_flow(beside[0])}}}", thing=each)
