"""The one time budget: what the drain and the hook take, and what the pod is given."""

import math
from collections.abc import Iterator, Mapping

from drain._doctor.container import Container
from drain._doctor.finding import Severity
from drain._doctor.model import Workload
from drain._doctor.rule import Trip, rule
from drain._doctor.rules._sources import POD_TERMINATION
from drain._settings import text
from drain.config import DrainPolicy
from drain.errors import ConfigurationError

_PERIOD = "DRAIN_TERMINATION_GRACE_PERIOD"
_LEAST_AFTER_HOOK = 5  # seconds for calls in flight, in a server of which nothing more is known
_LEAST_SLEEP = 5  # seconds: kube-proxy and proxies' health checks have seen it by then


def policy(container: Container, **given: float) -> DrainPolicy | None:
    """As the container's variables set it; None: they are refused, which is another rule's affair."""
    environ: Mapping[str, str] = {name: value for name, value in container.environ.items() if name != _PERIOD}
    try:
        return DrainPolicy(**given).overridden_by(environ)  # type: ignore[arg-type]
    except ConfigurationError:
        return None


def announces(container: Container) -> bool:
    """Whether the server is drain's, and announces that it leaves: not where a hook is to wait in its place."""
    made = policy(container) if container.drains else None
    return made is not None and made.announce_timeout > 0


def leaving(container: Container) -> float | None:
    """How long the server takes to leave at most, its hook included, in seconds; None: nobody knows."""
    before = container.prestop.before if container.prestop is not None else 0.0
    if not container.drains:
        return before or None
    made = policy(container)
    return None if made is None else before + made.announce_timeout + made.finishing_time


def _period(container: Container) -> float | None:
    """What the container is told of its grace period."""
    try:
        return DrainPolicy().overridden_by({_PERIOD: container.environ.get(_PERIOD, "")}).termination_grace_period
    except ConfigurationError:  # too short for the defaults, or no duration: other rules say so
        return None


def _is_told(container: Container) -> bool:
    """Whether the container is told of a grace period, be it a wrong one."""
    return container.environ.get(_PERIOD, "").strip().lower() not in ("", "none")


@rule(
    "grace-too-short",
    Workload,
    Severity.ERROR,
    why="Kubernetes counts terminationGracePeriodSeconds from the beginning of the preStop hook and then kills the "
    "container: calls still in flight fail with UNAVAILABLE, exit code 137.",
    source=POD_TERMINATION,
)
def grace_too_short(workload: Workload) -> Iterator[Trip]:
    """The drain's sum is longer than the pod has."""
    at = (*workload.spec_path, "terminationGracePeriodSeconds")
    for each in workload.servers:
        if each.drains:
            made = policy(each)
            if made is None or _is_told(each):  # "grace-unlike" and "bad-setting" judge that
                continue
            parts = (made.announce_timeout, made.finishing_time, made.reserve)
            if sum(parts) > workload.grace:
                named = zip(("announce_timeout", "drain_timeout", "reserve"), parts, strict=True)
                listed = " + ".join(f"{name} {text(value)}" for name, value in named)
                whole = f"{listed} = {text(sum(parts))}"
                what = f'the pod has {workload.grace} s to leave, and container "{each.name}" may take {whole}.'
                yield Trip(what, at, f"terminationGracePeriodSeconds: {math.ceil(sum(parts))}")
        elif each.prestop is None and workload.grace < _LEAST_AFTER_HOOK:
            what = f'the pod has {workload.grace} s to leave, hardly any for calls that container "{each.name}" has in flight.'
            yield Trip(what, at, "terminationGracePeriodSeconds: 30")


@rule(
    "grace-unlike",
    Workload,
    Severity.ERROR,
    why="A server cannot see its pod's grace period; it plans its drain by the one it is told. Told more than there "
    "is, it is killed amid its drain.",
    source=POD_TERMINATION,
)
def grace_unlike(workload: Workload) -> Iterator[Trip]:
    """DRAIN_TERMINATION_GRACE_PERIOD says another time than the pod has."""
    for each in workload.servers:
        told = _period(each)
        before = each.prestop.before if each.prestop is not None else 0.0
        if told is None or told in (workload.grace, workload.grace - before):  # what the hook leaves is as good
            continue
        what = f'container "{each.name}" is told {_PERIOD}={each.environ[_PERIOD]}, and the pod\'s period is {workload.grace} s.'
        worse = told > workload.grace
        change = f'value: "{workload.grace}"'
        yield Trip(what, each.variable_path(_PERIOD), change, None if worse else Severity.WARNING)


@rule(
    "prestop-too-long",
    Workload,
    Severity.ERROR,
    why="The hook's time is part of the grace period. When it is used up, Kubernetes sends SIGTERM, and kills the "
    "container about two seconds later: whatever the server would do on SIGTERM is cut.",
    source=POD_TERMINATION,
)
def prestop_too_long(workload: Workload) -> Iterator[Trip]:
    """The hook leaves no time for what comes after it."""
    for each in workload.servers:
        hook = each.prestop
        if hook is None or hook.seconds is None:
            continue
        at = (*workload.spec_path, "terminationGracePeriodSeconds")
        if hook.does != "sleep":
            if hook.seconds >= workload.grace:
                what = f'the hook of container "{each.name}" may take {text(hook.seconds)}, all of the pod\'s {workload.grace} s.'
                yield Trip(what, at, f"terminationGracePeriodSeconds: {math.ceil(hook.seconds + 2)}")
            continue
        after = (leaving(each) or hook.seconds) - hook.seconds
        needs = hook.seconds + (after + 2 if each.drains else _LEAST_AFTER_HOOK)
        if needs <= workload.grace:
            continue
        rest = f"and drain {text(after)} after it" if each.drains else "and nothing is left for calls in flight"
        if not each.drains and hook.seconds < workload.grace:
            rest = f"and {text(workload.grace - hook.seconds)} are left for calls in flight"
        what = f'container "{each.name}" sleeps {text(hook.seconds)} in its hook, of the pod\'s {workload.grace} s, {rest}.'
        worse = each.drains or hook.seconds >= workload.grace
        change = f"terminationGracePeriodSeconds: {math.ceil(hook.seconds + (after + 2 if each.drains else 15))}"
        yield Trip(what, at, change, None if worse else Severity.WARNING)


@rule(
    "prestop-too-short",
    Workload,
    Severity.WARNING,
    why="kube-proxy writes its rules up to a second late, proxies look at health every few seconds: until then new "
    "connections still come, and a server that has stopped listening refuses them.",
    source=POD_TERMINATION,
)
def prestop_too_short(workload: Workload) -> Iterator[Trip]:
    """A sleep that is over before the cluster has learned."""
    for each in workload.servers:
        hook = each.prestop
        if hook is not None and hook.does == "sleep" and not each.drains and (hook.seconds or 0) < _LEAST_SLEEP:
            what = f'the hook of container "{each.name}" sleeps {text(hook.seconds or 0)} only.'
            yield Trip(
                what,
                each.prestop_path,
                "preStop: {exec: {command: [drain-prestop, --standalone]}}  # or sleep: {seconds: 15}",
            )
