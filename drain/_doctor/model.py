"""Objects by what they are to each other: a workload, its containers, services, budgets, autoscalers, rights. Nothing is sure."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from drain._doctor import rights, selectors, words
from drain._doctor.container import Container
from drain._doctor.fields import Object, Path, mapping, mappings, sequence, text, whole
from drain._doctor.reading import Document

_TEMPLATES: dict[str, Path] = {
    "Pod": (),
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "Rollout": ("spec", "template"),  # Argo's: a Deployment by another name
}
GRACE = 30  # seconds: Kubernetes' default of terminationGracePeriodSeconds


@dataclass(frozen=True, slots=True)
class Thing:
    """One object, and where it was read."""

    document: Document

    @property
    def body(self) -> Object:
        """All of it."""
        return self.document.body

    @property
    def kind(self) -> str:
        """Such as "Service"; empty: it is no Kubernetes object."""
        return text(self.body, "kind")

    @property
    def name(self) -> str:
        """Without its namespace."""
        return text(self.body, "metadata", "name")

    @property
    def namespace(self) -> str:
        """Empty: not said, so that it may be any."""
        return text(self.body, "metadata", "namespace")

    @property
    def annotations(self) -> Object:
        """Its own, not a pod template's."""
        return mapping(self.body, "metadata", "annotations")

    @property
    def called(self) -> str:
        """For people: "Deployment shop/greeter"."""
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind or 'object'} {where}{self.name or '(without a name)'}"

    def beside(self, other: "Thing") -> bool:
        """Whether both may be in one namespace."""
        return selectors.may_be(self.namespace, other.namespace)


@dataclass(frozen=True)
class Surroundings:
    """All that was read.

    Attributes:
        things: the objects.
        may: whether an account of that namespace may use that verb on that resource ("list", "endpointslices"), if somebody who
            knows was asked (the API server); None as its answer: not known.
        whole: whether all that is in the namespace was read, so that what is not here is not there.
    """

    things: tuple[Thing, ...]
    may: "Callable[[str, str, str, str], bool | None] | None" = None
    whole: bool = False

    @functools.cached_property
    def by_kind(self) -> dict[str, list[Thing]]:
        """Sorted by kind: a file may have thousands."""
        found: dict[str, list[Thing]] = {}
        for each in self.things:
            found.setdefault(each.kind, []).append(each)
        return found

    def of(self, *kinds: str) -> Iterator[Thing]:
        """Those of these kinds."""
        for kind in kinds:
            yield from self.by_kind.get(kind, ())

    @functools.cached_property
    def workloads(self) -> tuple["Workload", ...]:
        """Whatever makes pods that stay."""
        return tuple(Workload(each, self) for kind in _TEMPLATES for each in self.of(kind) if _runs(each))


def _runs(thing: Thing) -> bool:
    return bool(sequence(thing.body, *_TEMPLATES[thing.kind], "spec", "containers"))


@dataclass(frozen=True)
class Workload:
    """What makes pods, seen with what is around it."""

    thing: Thing
    around: Surroundings

    @property
    def kind(self) -> str:
        """Such as "Deployment"."""
        return self.thing.kind

    @property
    def template(self) -> Path:
        """Where the pod's metadata and spec are."""
        return _TEMPLATES[self.thing.kind]

    @property
    def spec_path(self) -> Path:
        """Of the pod's spec."""
        return (*self.template, "spec")

    @property
    def pod(self) -> Object:
        """The pod's spec."""
        return mapping(self.thing.body, *self.spec_path)

    @property
    def labels(self) -> Object:
        """The pods' labels."""
        return mapping(self.thing.body, *self.template, "metadata", "labels")

    @property
    def annotations(self) -> Object:
        """The pods' annotations."""
        return mapping(self.thing.body, *self.template, "metadata", "annotations")

    @property
    def annotations_path(self) -> Path:
        """Where they are."""
        return (*self.template, "metadata", "annotations")

    @property
    def grace(self) -> int:
        """terminationGracePeriodSeconds, or Kubernetes' default."""
        found = whole(self.pod, "terminationGracePeriodSeconds")
        return GRACE if found is None else found

    @property
    def replicas(self) -> int | None:
        """As written, or 1 where nobody else says; None: it is not for the workload to say (an autoscaler's, a DaemonSet's)."""
        if self.kind in ("DaemonSet", "Pod"):
            return None
        found = whole(self.thing.body, "spec", "replicas")
        return found if found is not None else None if self.autoscalers else 1

    @property
    def fewest(self) -> int | None:
        """Pods that there are at least; None: not known."""
        minima = [whole(each.body, "spec", "minReplicas") for each in self.autoscalers]
        return min(1 if each is None else each for each in minima) if minima else self.replicas

    @property
    def account(self) -> str:
        """Its ServiceAccount."""
        return text(self.pod, "serviceAccountName") or text(self.pod, "serviceAccount") or "default"

    @functools.cached_property
    def containers(self) -> tuple[Container, ...]:
        """Without those that a mesh has put in."""
        path = (*self.spec_path, "containers")
        found = (Container(self, (*path, index), each) for index, each in mappings(self.thing.body, *path))
        return tuple(each for each in found if each.name not in words.MESH_CONTAINERS)

    @functools.cached_property
    def servers(self) -> tuple[Container, ...]:
        """Containers of which something says that they serve gRPC."""
        return tuple(each for each in self.containers if each.serves_grpc)

    @functools.cached_property
    def services(self) -> tuple[Thing, ...]:
        """Those that select its pods."""
        beside = (each for each in self.around.of("Service") if each.beside(self.thing))
        return tuple(each for each in beside if selectors.equals(mapping(each.body, "spec", "selector"), self.labels))

    @functools.cached_property
    def autoscalers(self) -> tuple[Thing, ...]:
        """HorizontalPodAutoscalers that scale it."""
        found = (each for each in self.around.of("HorizontalPodAutoscaler") if each.beside(self.thing))
        return tuple(
            each
            for each in found
            if text(each.body, "spec", "scaleTargetRef", "name") == self.thing.name
            and text(each.body, "spec", "scaleTargetRef", "kind") == self.kind
        )

    @functools.cached_property
    def budgets(self) -> tuple[Thing, ...]:
        """PodDisruptionBudgets over its pods."""
        found = (each for each in self.around.of("PodDisruptionBudget") if each.beside(self.thing))
        return tuple(each for each in found if selectors.matches(mapping(each.body, "spec", "selector"), self.labels))

    @functools.cached_property
    def ingresses(self) -> tuple[Thing, ...]:
        """Ingresses that name one of its services."""
        names = {each.name for each in self.services}
        found = (each for each in self.around.of("Ingress") if each.beside(self.thing))
        return tuple(each for each in found if names.intersection(_backends(each.body)))

    @property
    def is_judged(self) -> bool:
        """Whether it has a gRPC server, or a client that follows a target."""
        return bool(self.servers) or any(each.follows for each in self.containers)

    def may(self, verb: str, resource: str, namespace: str = "") -> bool | None:
        """Whether its account may do that; None: nothing that was read says so."""
        if self.around.may is not None:
            return self.around.may(namespace or self.thing.namespace, self.account, verb, resource)
        return rights.granted(self, verb, resource, namespace or self.thing.namespace)


def _backends(ingress: Object) -> Iterator[str]:
    yield text(ingress, "spec", "defaultBackend", "service", "name")
    for _, each in mappings(ingress, "spec", "rules"):
        for _, path in mappings(each, "http", "paths"):
            yield text(path, "backend", "service", "name")
