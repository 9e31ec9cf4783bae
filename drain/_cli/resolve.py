"""`drain resolve TARGET`: what a channel to this target would know, and what it would use of it, and why.

For a person who looks for a fault at night: every endpoint is shown, the unused ones with the reason, and what keeps the target
from being resolved is told in one sentence.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import click
from rich import box
from rich.table import Table
from rich.text import Text

from drain import resolver
from drain._channel_source import preference
from drain._cli.cluster import cluster_options, namespace_option, shown
from drain._cli.exits import FOUND, INTERRUPTED, MISUSED, UNDECIDED, end
from drain._cli.lines import whole_lines
from drain._core.endpoints import Endpoint, Place, Preference, place
from drain._core.snapshot import TargetSnapshot
from drain.config import ClientPolicy
from drain.errors import ConfigurationError, ResolutionError, TargetError

_POLL = 0.5  # seconds between two looks for a failure, while no set comes


@click.command("resolve", short_help="Show a target's endpoints, and why each is used or not.")
@click.argument("target")
@click.option("--watch", is_flag=True, help="Go on, and show every change, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="JSON: one object, or with --watch one a line.")
@click.option("--zone", metavar="ZONE", help="The client's own zone.  [default: $DRAIN_ZONE]")
@click.option("--prefer-same-zone", is_flag=True, help="As ClientPolicy(prefer_same_zone=True).")
@click.option("--subset-size", type=click.IntRange(1), metavar="N", help="As ClientPolicy(subset_size=N).")
@click.option("--subset-key", metavar="TEXT", help="As ClientPolicy(subset_key=TEXT).  [default: the host's name]")
@cluster_options
@namespace_option("Of targets that name none.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 3600),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for an answer.",
)
def command(
    target: str,
    *,
    watch: bool,
    as_json: bool,
    kubeconfig: str | None,
    context: str | None,
    namespace: str | None,
    timeout: float,
    **wanted: Any,
) -> None:
    """Show the endpoints of TARGET, and why each is used or not.

    TARGET is what drain.insecure_channel() takes, such as kubernetes:///geoipd.shop:9200.

    Exit code 0: there are endpoints to call; 1: there is none; 2: TARGET or an option is wrong; 3: TARGET cannot be resolved.
    """
    logging.getLogger("drain").addHandler(logging.NullHandler())  # what it would say on stderr is shown here already
    show = _show_json if as_json else _show_table
    try:
        policy = ClientPolicy(**{name: value for name, value in wanted.items() if value}).overridden_by(os.environ)
        if kubeconfig or context or namespace:
            resolver.configure_kubernetes(kubeconfig, context=context, namespace=namespace)
        with resolver.watch(target) as watching:
            code = UNDECIDED
            for snapshot in _snapshots(watching, timeout, forever=watch):
                code = show(snapshot, preference(policy))
    except (TargetError, ConfigurationError) as error:
        end("resolve", str(error), MISUSED)
    except (ResolutionError, TimeoutError) as error:
        if as_json:
            click.echo(json.dumps({"target": target, "failure": str(error), "endpoints": None}))
        end("resolve", str(error), UNDECIDED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(code)


def _snapshots(watching: resolver.Watching, timeout: float, *, forever: bool) -> Iterator[TargetSnapshot]:
    """What is known, whenever it differs. Raises ResolutionError if the first that is known is a failure, or TimeoutError."""
    with shown(f"waiting for {watching.snapshot.target}"):
        watching.next(timeout)
    version = -1
    while True:
        snapshot = watching.snapshot
        if snapshot.version != version:
            version = snapshot.version
            yield snapshot
        if not forever:
            return
        try:
            watching.next(_POLL)
        except TimeoutError:
            continue


def state_of(endpoint: Endpoint) -> str:
    """The endpoint's conditions in one word or two."""
    if endpoint.terminating:
        return "terminating" if endpoint.serving else "terminating, not serving"
    return "ready" if endpoint.ready else "not ready"


def use_of(each: Place) -> str:
    """Whether it is used."""
    return {None: "no", 0: "yes"}.get(each.priority, "failover")


def age(seconds: float | None) -> str:
    """As kubectl writes ages: 45s, 12m, 3h, 9d."""
    if seconds is None:
        return ""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def _age_of(endpoint: Endpoint) -> float | None:
    return None if endpoint.since is None else max(0.0, time.time() - endpoint.since)


def _show_json(snapshot: TargetSnapshot, wanted: Preference) -> int:
    places = place(snapshot.endpoints, wanted) if snapshot.endpoints is not None else ()
    endpoints = [
        {
            "address": each.endpoint.address,
            "port": each.endpoint.port,
            "ready": each.endpoint.ready,
            "serving": each.endpoint.serving,
            "terminating": each.endpoint.terminating,
            "zone": each.endpoint.zone,
            "hints": sorted(each.endpoint.hints),
            "node": each.endpoint.node,
            "name": each.endpoint.name,
            "age": _age_of(each.endpoint),
            "used": each.priority is not None,
            "priority": each.priority,
            "why": each.why,
        }
        for each in places
    ]
    used = sum(each.priority is not None for each in places)
    about = {
        "target": snapshot.target,
        "used": used,
        "failure": snapshot.failure,
        "stale": snapshot.stale,
        "at": time.time(),
    }
    click.echo(json.dumps({**about, "endpoints": endpoints}))
    return 0 if used else FOUND


def _show_table(snapshot: TargetSnapshot, wanted: Preference) -> int:
    places = place(snapshot.endpoints, wanted) if snapshot.endpoints is not None else ()
    used = sum(each.priority is not None for each in places)
    console = whole_lines()
    console.print(
        Text(f"{snapshot.target}: {used} of {_counted(len(places), 'endpoint')} used", style="bold"), soft_wrap=True
    )
    if snapshot.failure is not None:
        console.print(Text(f"not up to date: {snapshot.failure}", style="yellow"), soft_wrap=True)
    if places:
        console.print(_table(places))
    return 0 if used else FOUND


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number:,} {what}s"


def _table(places: tuple[Place, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    columns = {
        "endpoint": [str(each.endpoint) for each in places],
        "state": [state_of(each.endpoint) for each in places],
        "zone": [each.endpoint.zone or "" for each in places],
        "node": [each.endpoint.node or "" for each in places],
        "name": [each.endpoint.name or "" for each in places],
        "changed": [age(_age_of(each.endpoint)) for each in places],
        "used": [use_of(each) for each in places],
        "why": [each.why for each in places],
    }
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    for name in shown:
        table.add_column(name, no_wrap=name == "endpoint")
    styles = {"yes": "green", "failover": "cyan", "no": "dim"}
    for cells, use in zip(zip(*shown.values(), strict=True), columns["used"], strict=True):
        table.add_row(*cells, style=styles[use])
    return table
