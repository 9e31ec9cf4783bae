"""All rules over what was read."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from drain._doctor import rules  # noqa: F401 - makes them known
from drain._doctor.fields import Path, get, line, written
from drain._doctor.finding import Finding, Place, Severity
from drain._doctor.model import Surroundings, Thing
from drain._doctor.pair import Pair, pairs
from drain._doctor.process import Process
from drain._doctor.reading import Unreadable
from drain._doctor.rule import RULES, Trip


@dataclass(frozen=True, slots=True)
class Examined:
    """What came of it.

    Attributes:
        findings: the worst first; of one severity in the order of what was read.
        judged: workloads that were, by name. passed_over: those of which nothing says that they serve gRPC.
        unreadable: what could not be read.
    """

    findings: tuple[Finding, ...]
    judged: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def worst(self) -> Severity | None:
        """Of its findings; None: there is none."""
        return max((each.severity for each in self.findings), default=None)


def manifests(around: Surroundings, unreadable: Iterable[Unreadable] = ()) -> Examined:
    """Objects, from files or from the API server."""
    judged = [each for each in around.workloads if each.is_judged]
    found: list[Finding] = []
    for workload in judged:
        found += _findings(workload, workload.thing)
    for pair in pairs(around):
        found += _findings(pair, pair.client.thing)
    for thing in around.things[:1]:
        found += _findings(around, thing)
    over = tuple(each.thing.called for each in around.workloads if not each.is_judged)
    return Examined(ordered(found), tuple(each.thing.called for each in judged), over, tuple(unreadable))


def pair(given: Pair) -> Examined:
    """A server's keepalive settings and a client's."""
    return Examined(ordered(_findings(given, given.client.thing, called="the pair")))


def process(given: Process) -> Examined:
    """This process, or container."""
    return Examined(ordered(_findings(given, None, called=given.called)))


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Without repetitions: two containers of one workload may have one fault."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda each: -each.severity))


def _findings(subject: object, thing: Thing | None, called: str = "") -> Iterator[Finding]:
    for rule in RULES.values():
        if isinstance(subject, rule.subject):
            for trip in rule.trips(subject):
                of = trip.thing or thing
                severity = rule.severity if trip.severity is None else trip.severity
                name = called or (of.called if of is not None else "")
                place = _place(of, trip) if of is not None else Place()
                yield Finding(rule.name, severity, name, trip.what, rule.why, trip.change, place, rule.source)


def _place(thing: Thing, trip: Trip) -> Place:
    document = thing.document
    body, at = document.body, trip.at
    there = line(body, at, document.line)
    return Place(document.source, written(at), there, present=bool(at) and _is_there(body, at))


def _is_there(body: object, at: Path) -> bool:
    holder = get(body, *at[:-1])
    return at[-1] in holder if isinstance(holder, dict) else get(body, *at) is not None
