"""What a running cluster has: a workload, and whatever is about it in its namespace. Read only."""

import functools
import os
import time
from collections.abc import Callable, Sequence

import grpc

from drain import _runtime_dir
from drain._admin.client import Call, sockets, talk
from drain._doctor.model import Surroundings, Thing
from drain._doctor.process import Process, first_process
from drain._doctor.reading import Document
from drain._grpc.capability import capability
from drain._kube.failure import ApiError
from drain._kube.objects import KINDS, Kind, Objects, forbidden, missing
from drain.errors import ConfigurationError

_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
_AROUND = ("Service", "ServiceAccount", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Ingress")
_GROUPS = {each.resource: each.group for each in KINDS.values()}
_STATUS_BOUND = 3.0  # seconds


def surroundings(
    cluster: Objects, namespace: str, wanted: Sequence[tuple[Kind, str]]
) -> tuple[Surroundings, list[str]]:
    """These workloads (none: all of the namespace) with what is around them; and what could not be looked at. Raises ApiError."""
    found = [cluster.get(kind, namespace, name) for kind, name in wanted]
    unseen: list[str] = []
    for name in () if wanted else _WORKLOADS:
        found += cluster.all_of(KINDS[name], namespace)
    for name in _AROUND:
        try:
            found += cluster.all_of(KINDS[name], namespace)
        except ApiError as error:
            if not forbidden(error) and not missing(error):
                raise
            unseen.append(str(error))
    things = tuple(Thing(Document(each, "the cluster")) for each in found)
    return Surroundings(things, _asked(cluster), whole=True), unseen


def _asked(cluster: Objects) -> Callable[[str, str, str, str], bool | None]:
    @functools.cache
    def may(namespace: str, account: str, verb: str, resource: str) -> bool | None:
        return cluster.may(verb, resource, namespace, _GROUPS.get(resource, ""), (namespace, account))

    return may


def process(cluster: Callable[[], Objects]) -> Process:
    """The process that this is, or the container. Raises nothing; where the cluster cannot be asked it says why."""
    unasked, in_cluster = "", bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
    first, catches = first_process() if in_cluster else ((), None)  # elsewhere PID 1 is not the server's affair
    refused: list[str] = []
    if in_cluster:
        try:
            asked = cluster()
            refused = [each for each in ("list", "watch") if _may_not(asked, each)]
        except (ApiError, ConfigurationError) as error:
            unasked = str(error)
    return Process(
        called="this pod" if in_cluster else "this process",
        grpcio=grpc.__version__,
        lossless={flavour: _lossless(flavour) for flavour in ("sync", "aio")},
        environ=dict(os.environ),
        no_place=_no_place(),
        first=first,
        catches=catches,
        in_cluster=in_cluster,
        refused=tuple(f"{each} endpointslices" for each in refused),
        unasked=unasked,
        servers=tuple(_servers()),
    )


def _may_not(cluster: Objects, verb: str) -> bool:
    return cluster.may(verb, "endpointslices", cluster.namespace, "discovery.k8s.io") is False


def _lossless(flavour: str) -> tuple[str, str] | None:
    found = capability(flavour)
    return None if found.lossless else (found.reason, found.remedy)


def _no_place() -> str | None:
    """A directory that is not there yet is made, as a server would."""
    try:
        _runtime_dir.runtime_dir()
    except ConfigurationError as error:
        return str(error)
    return None


def _servers() -> list[dict[str, object]]:
    """What servers here tell of themselves; those that do not answer in time are left out."""
    try:
        found = sockets(str(_runtime_dir.where()))
    except (ConfigurationError, OSError):
        return []
    calls = [Call(path, {"command": "status"}, anywhere=True) for path in found]
    told: list[dict[str, object]] = []
    for _, answer in talk(calls, time.monotonic() + _STATUS_BOUND):
        if answer.get("kind") == "status":
            told += [dict(each) for each in answer.get("servers") or () if isinstance(each, dict)]
    return told
