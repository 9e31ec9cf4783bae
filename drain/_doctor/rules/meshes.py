"""Istio's and Linkerd's sidecars, which leave by clocks of their own."""

import re
from collections.abc import Iterator

from drain._doctor.fields import Object, mapping, mappings, text
from drain._doctor.finding import Severity
from drain._doctor.model import Workload
from drain._doctor.reading import documents
from drain._doctor.rule import Trip, rule
from drain._doctor.rules._sources import ISTIO, LINKERD
from drain._doctor.rules.budget import leaving
from drain._settings import seconds_from
from drain._settings import text as seconds_text

_CONFIG = "proxy.istio.io/config"
_ISTIO_DRAIN = 5.0  # seconds: terminationDrainDuration's default
_WAIT = "config.alpha.linkerd.io/proxy-wait-before-exit-seconds"
_NATIVE = ("config.beta.linkerd.io/proxy-enable-native-sidecar", "config.alpha.linkerd.io/proxy-enable-native-sidecar")


def _marks(workload: Workload) -> Object:
    return {**workload.labels, **workload.annotations}


def _has(workload: Workload, container: str) -> bool:
    return any(text(each, "name") == container for _, each in mappings(workload.pod, "containers"))


def _is_native(workload: Workload, container: str) -> bool:
    """A sidecar that Kubernetes ends after the containers: nothing to set."""
    return any(
        text(each, "name") == container and text(each, "restartPolicy") == "Always"
        for _, each in mappings(workload.pod, "initContainers")
    )


def _takes(workload: Workload) -> float:
    """How long its servers take to leave at most, in seconds: what a sidecar has to outlive."""
    return max((leaving(each) or 0.0 for each in workload.servers), default=0.0)


def _in_istio(workload: Workload) -> bool:
    marks = _marks(workload)
    if text(marks, "sidecar.istio.io/inject") == "false" or text(marks, "sidecar.istio.io/nativeSidecar") == "true":
        return False
    if _is_native(workload, "istio-proxy"):
        return False
    return text(marks, "sidecar.istio.io/inject") == "true" or _CONFIG in marks or _has(workload, "istio-proxy")


@rule(
    "istio-drain",
    Workload,
    Severity.ERROR,
    why="Istio's sidecar ends terminationDrainDuration after SIGTERM (5 s unless set), and with it every connection "
    "to the server, which is still at work. A native sidecar (sidecar.istio.io/nativeSidecar, Istio's default "
    "since 1.27) ends after the server, and needs none of this.",
    source=ISTIO,
)
def istio_drain(workload: Workload) -> Iterator[Trip]:
    """A sidecar that is gone before the server has left."""
    takes = _takes(workload)
    if not workload.servers or not takes or not _in_istio(workload):
        return
    written = text(workload.annotations, _CONFIG)
    found, bad = documents(written, "")
    config = found[0].body if found and not bad else {}
    if text(mapping(config, "proxyMetadata"), "EXIT_ON_ZERO_ACTIVE_CONNECTIONS") == "true":
        return
    said = text(config, "terminationDrainDuration")
    lasts = seconds_from(said) if said else _ISTIO_DRAIN
    if lasts is not None and lasts >= takes:
        return
    has = (
        f"terminationDrainDuration is {said!r}" if said else f"terminationDrainDuration is not set ({_ISTIO_DRAIN:g} s)"
    )
    what = f"{has}, and the server takes up to {seconds_text(takes)} to leave."
    change = (
        f"{_CONFIG}: |\n  terminationDrainDuration: {takes:.0f}s\n"
        '  proxyMetadata: {EXIT_ON_ZERO_ACTIVE_CONNECTIONS: "true"}  # or this alone: it ends with its last connection'
    )
    yield Trip(what, (*workload.annotations_path, _CONFIG), change)


@rule(
    "linkerd-wait",
    Workload,
    Severity.ERROR,
    why="Linkerd's proxy refuses new connections as soon as it gets SIGTERM, which is when the pod is told to leave "
    "and the cluster has not learned of it. It must wait; as a native sidecar it is ended after the server, and "
    "need not.",
    source=LINKERD,
)
def linkerd_wait(workload: Workload) -> Iterator[Trip]:
    """A proxy that leaves first."""
    marks = _marks(workload)
    inside = text(marks, "linkerd.io/inject") in ("enabled", "ingress") or _has(workload, "linkerd-proxy")
    if not workload.servers or not inside or _is_native(workload, "linkerd-proxy"):
        return
    if any(text(marks, each) == "true" for each in _NATIVE):
        return
    said = text(marks, _WAIT)
    waits = float(said) if re.fullmatch(r"\d{1,6}", said) else 0.0
    takes = _takes(workload) or float(min(workload.grace - 5, 15))
    at = (*workload.annotations_path, _WAIT)
    if waits >= workload.grace:
        what = f"the proxy waits {seconds_text(waits)}, and the pod is killed after {workload.grace} s."
        yield Trip(what, at, f'{_WAIT}: "{takes:.0f}"')
    elif waits < takes:
        wait = f"{seconds_text(waits)} before it leaves{'' if said else ' (not set)'}"
        what = f"the proxy waits {wait}, and the server takes up to {seconds_text(takes)}."
        yield Trip(what, at, f'{_WAIT}: "{takes:.0f}"')
