"""A rule: a function that yields what trips it, and what is always said of it, as data. Adding one is writing one."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from drain._doctor.fields import Path
from drain._doctor.finding import Severity
from drain._doctor.model import Thing


@dataclass(frozen=True, slots=True)
class Trip:
    """One place that trips a rule.

    Attributes:
        what: the fault with its values, one sentence.
        at: the field, from the root of the object; of one that is missing: where it belongs.
        change: lines to write there.
        severity: where this one is better or worse than the rule's others.
        thing: the object, if it is not the one that is judged: a Service, a HorizontalPodAutoscaler.
    """

    what: str
    at: Path = ()
    change: str = ""
    severity: Severity | None = None
    thing: Thing | None = None


Check = Callable[[Any], Iterable[Trip]]
F = TypeVar("F", bound=Check)


@dataclass(frozen=True, slots=True)
class Rule:
    """Everything about a rule.

    Attributes:
        name: short, in the words of what is wrong; its anchor in the documentation.
        subject: the class of what it judges.
        severity: of what it finds, unless a trip says otherwise.
        why: what it costs, and how it comes about. One or two sentences.
        source: the page that says so.
    """

    name: str
    subject: type
    severity: Severity
    why: str
    source: str
    check: Check = field(repr=False)

    @property
    def title(self) -> str:
        """What it is about, in a sentence or two."""
        return " ".join((self.check.__doc__ or "").split())

    def trips(self, subject: object) -> Iterator[Trip]:
        """What trips it."""
        yield from self.check(subject)


RULES: dict[str, Rule] = {}


def rule(name: str, subject: type, severity: Severity, *, why: str, source: str) -> Callable[[F], F]:
    """Make a function a rule."""

    def enter(check: F) -> F:
        assert name not in RULES, name
        RULES[name] = Rule(name, subject, severity, why, source, check)
        return check

    return enter
