"""What a rule found, and how bad it is."""

import enum
from dataclasses import dataclass
from typing import Any

PAGE = "docs/doctor.md"


class Severity(enum.IntEnum):
    """ERROR: calls are lost, or cut. WARNING: they are under a condition that is likely to come. ADVICE: it could be better."""

    ADVICE = 1
    WARNING = 2
    ERROR = 3

    @property
    def word(self) -> str:
        """In lower case."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Place:
    """Where in what was read.

    Attributes:
        source: a file, "-", or "the cluster"; empty where neither is meant.
        path: the field, as `kubectl explain` writes it: "spec.template.spec.containers[0].readinessProbe".
        line: the number of the line that is there now, from 1 on; None: not known. Of a field that is missing: where it belongs.
        present: whether the field is there.
    """

    source: str = ""
    path: str = ""
    line: int | None = None
    present: bool = False

    @property
    def field(self) -> str:
        """Its path, for people."""
        return self.path if self.present or not self.path else f"{self.path} (missing)"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, for people and as data.

    Attributes:
        rule: its name, which is its anchor on the documentation's page, too.
        severity: how bad.
        subject: what has it: "Deployment shop/greeter".
        what: the fault, with its values, in a sentence.
        why: what it costs.
        change: lines to write at `place`; empty where `what` says it.
        place: where.
        source: who says so: a page of Kubernetes, grpc or a mesh.
    """

    rule: str
    severity: Severity
    subject: str
    what: str
    why: str
    change: str
    place: Place
    source: str

    @property
    def page(self) -> str:
        """Where the documentation speaks of it."""
        return f"{PAGE}#{self.rule}"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-able values."""
        return {
            "rule": self.rule,
            "severity": self.severity.word,
            "subject": self.subject,
            "what": self.what,
            "why": self.why,
            "change": self.change,
            "source_file": self.place.source,
            "path": self.place.path,
            "line": self.place.line,
            "page": self.page,
            "source": self.source,
        }
