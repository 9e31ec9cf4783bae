"""What the cluster says of this pod's own endpoint: whether every service that had it has taken it out. Pure.

A pod is in the EndpointSlices of each service that selects it (KEP-752; KEP-1672 for `terminating`). While one of them lists it
as ready, somebody may still send here; when all have taken it out, who follows slices has learned, or will within a lag.
"""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Json = Mapping[str, Any]
_SERVICE = "kubernetes.io/service-name"


class Standing(enum.Enum):
    """How the pod's own endpoint stands."""

    UNKNOWN = "unknown"  # no answer yet, or nobody may ask
    LISTED = "listed"  # some service still sends here
    LEFT = "left"  # not ready or terminating in every slice that has it, or in none


@dataclass(frozen=True, slots=True)
class View:
    """What is known now.

    Attributes:
        standing: see `Standing`.
        why: a few words for the report: "terminating in 2 slices", "not ready in 1 slice", "in no slice", or why nobody knows;
            "ready in 1 slice when last seen; ..." while the API server cannot be asked.
        grace: seconds that the pod had left before it is killed, as its own object said when it was read; None: not known.
    """

    standing: Standing = Standing.UNKNOWN
    why: str = ""
    grace: float | None = None


@dataclass(frozen=True, slots=True)
class Pod:
    """Who we are.

    Attributes:
        namespace, name: the pod's. certain: whether the name was given (downward API) and not only guessed from the host's name,
            which is another where the pod has `hostNetwork` or a `hostname` of its own. ip: its address; empty: not known.
    """

    namespace: str
    name: str
    certain: bool = True
    ip: str = ""


@dataclass(frozen=True, slots=True)
class _Entry:
    """Our endpoint in one slice."""

    service: str
    ready: bool
    terminating: bool


@dataclass(frozen=True, slots=True)
class OwnEndpoint:
    """Mirrors the slices of a namespace, as far as they have this pod. Immutable, safe to share.

    `known`: there was an answer. `met`: the pod was seen in some slice.
    """

    pod: Pod
    known: bool = False
    met: bool = False
    entries: Mapping[str, _Entry] = field(default_factory=dict)

    skipped: tuple[str, ...] = ()  # what `drain._core.slices.Slices` has, too

    @property
    def service(self) -> str:
        """For messages."""
        return f"pod {self.pod.namespace}/{self.pod.name}"

    def __bool__(self) -> bool:
        return True  # also with no slice: there is nothing to hold on to

    def replaced(self, items: Iterable[Json]) -> "OwnEndpoint":
        """What a list request answered: nothing else exists. What is not of a slice's shape has nothing of ours."""
        found = {_name(raw): entry for raw in items if (entry := self._entry(raw)) is not None}
        return replace(self, known=True, met=self.met or bool(found), entries=found)

    def applied(self, kind: str, raw: Json) -> "OwnEndpoint":
        """After an event of a watch: ADDED, MODIFIED or DELETED. The same object where nothing is different."""
        name = _name(raw)
        entry = self._entry(raw) if kind != "DELETED" else None
        if entry == self.entries.get(name):
            return self
        entries = {each: known for each, known in self.entries.items() if each != name}
        if entry is not None:
            entries[name] = entry
        return replace(self, met=self.met or entry is not None, entries=entries)

    @property
    def services(self) -> frozenset[str]:
        """Names of the services that have this pod, in its own namespace."""
        return frozenset(entry.service for entry in self.entries.values() if entry.service)

    @property
    def terminating(self) -> bool:
        """Whether any slice says that the pod is being deleted; another may list it still."""
        return any(entry.terminating for entry in self.entries.values())

    @property
    def view(self) -> View:
        """How we stand."""
        if not self.known:
            return View()
        entries = self.entries.values()
        if not entries and not (self.met or self.pod.certain):
            guess = f"no slice has a pod \"{self.pod.name}\", which is the host's name: say the pod's in DRAIN_POD_NAME"
            return View(Standing.UNKNOWN, guess)
        if not entries:
            return View(Standing.LEFT, "in no slice")
        listed = sum(entry.ready and not entry.terminating for entry in entries)
        if listed:
            return View(Standing.LISTED, f"ready in {_slices(listed)}")
        terminating = sum(entry.terminating for entry in entries)
        said = [f"terminating in {_slices(terminating)}"] if terminating else []
        if terminating < len(entries):
            said.append(f"not ready in {_slices(len(entries) - terminating)}")
        return View(Standing.LEFT, ", ".join(said))

    def _entry(self, raw: Json) -> _Entry | None:
        ours = [endpoint for endpoint in map(_object, _list(_object(raw), "endpoints")) if self._is_ours(endpoint)]
        if not ours:
            return None
        labels = _object(_object(raw.get("metadata")).get("labels"))
        conditions = [_object(endpoint.get("conditions")) for endpoint in ours]
        # More than one would be strange; what any of them still lists counts.
        return _Entry(
            service=str(labels.get(_SERVICE) or ""),
            ready=any(
                each.get("ready") is not False and not each.get("terminating") for each in conditions
            ),  # null: ready
            terminating=all(bool(each.get("terminating")) for each in conditions),
        )

    def _is_ours(self, endpoint: Json) -> bool:
        reference = _object(endpoint.get("targetRef"))
        if reference.get("name"):
            kind, namespace = reference.get("kind") or "Pod", reference.get("namespace") or self.pod.namespace
            return (kind, namespace, reference["name"]) == ("Pod", self.pod.namespace, self.pod.name)
        return bool(self.pod.ip) and self.pod.ip in _list(endpoint, "addresses")


def _name(raw: Json) -> str:
    return str(_object(_object(raw).get("metadata")).get("name") or "")


def _object(what: Any) -> Json:
    """An object, or an empty one for whatever else there is: a drain does not end over somebody's odd slice."""
    return what if isinstance(what, Mapping) else {}


def _list(raw: Json, name: str) -> list[Any]:
    found = raw.get(name)
    return found if isinstance(found, list) else []


def _slices(number: int) -> str:
    return f"{number} slice{'s' if number != 1 else ''}"
