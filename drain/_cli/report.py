"""`drain report`: what the drains of a namespace, or of a workload, have cost, as its pods have told the cluster."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich import box
from rich.table import Table
from rich.text import Text

from drain._cli import reporting
from drain._cli.asking import printable
from drain._cli.cluster import cluster_options, namespace_option, reached, use, workloads_of
from drain._cli.exits import DONE, FOUND
from drain._cli.lines import whole_lines
from drain._cli.reporting import Row
from drain._kube.failure import ApiError
from drain._kube.notices import COMPONENT
from drain._kube.objects import KINDS, Objects, forbidden

WHY_NOT = "the servers may not create events"


@click.command("report", short_help="Say what the drains of a workload's pods have cost, from its Events.")
@click.argument("workloads", nargs=-1, metavar="[KIND/NAME]...")
@namespace_option("Where.  [default: the kubeconfig's, or the pod's own]")
@cluster_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(
    workloads: tuple[str, ...], *, namespace: str | None, kubeconfig: str | None, context: str | None, as_json: bool
) -> None:  # \b keeps click from joining the lines below
    """Say what drains have cost: of the pods of these workloads, or of all in the namespace, gone ones among them.

    \b
    drain report -n shop
    drain report -n shop deploy/orders     KIND is deploy, sts, ds or pod

    Servers tell it as Events on their pods, if their ServiceAccount may create events; the cluster keeps these for an hour. It
    is also in the termination message of containers that have ended, while their pods are there.

    One that has begun and whose end nobody has told, though its time is over or its pod has gone, was killed most likely.

    Exit code 0: no call was cut; 1: some were, or nobody knows; 2: an option is wrong; 69: the API server cannot be reached;
    77: we may not look.
    """  # noqa: D301 - \b is click's
    wanted = workloads_of(workloads)
    with reached("report"):
        use(kubeconfig, context)
        cluster = Objects()
        where = namespace or cluster.namespace
        pods, unseen = _pods(cluster, where)  # first: whoever has gone by now has told all that it will
        events, _ = cluster.listed(KINDS["Event"], where, {}, {"reportingComponent": COMPONENT})
    found = [
        row
        for row in reporting.rows(events, pods)
        if not wanted or any(reporting.belongs(row.pod, kind.name, name) for kind, name in wanted)
    ]
    cut = sum(row.cancelled or 0 for row in found)
    if as_json:
        told = {"namespace": where, "drains": [row.as_dict() for row in found], "cancelled": cut, "notes": unseen}
        click.echo(json.dumps(told))
    else:
        _show(found, where, unseen)
    sys.exit(FOUND if cut or any(row.clean is False for row in found) else DONE)


def _pods(cluster: Objects, namespace: str) -> tuple[list[dict[str, Any]] | None, list[str]]:
    """And why there are none: we may not see them."""
    try:
        return cluster.all_of(KINDS["Pod"], namespace), []
    except ApiError as error:
        if not forbidden(error):
            raise
        return None, [f"not looked at: {error}"]


def _show(found: Sequence[Row], namespace: str, notes: Sequence[str]) -> None:
    console = whole_lines()
    if found:
        console.print(_table(found))
    untold = sum(row.untold for row in found)
    over = [row for row in found if row.over and not row.untold]
    lossy = [row for row in over if not row.clean]
    if over:
        longest = max((row.duration for row in over if row.duration is not None), default=0.0)
        words = f"{len(over)} drain{'s' * (len(over) != 1)} in {longest:.1f} s at most, "
        cut = sum(row.cancelled or 0 for row in lossy)
        words += f"{len(lossy)} with losses: {cut} calls cut" if lossy else "no call cut"
        console.print(Text(words, "red" if lossy else "green"))
    elif not untold:
        words = f"No drain that is over is told of in namespace {printable(namespace)}: none in the last hour, or {WHY_NOT}."
        console.print(Text(words))
    if untold:
        words = f"{untold} whose end was not told: killed with SIGKILL, crashed, or the API server did not answer then"
        console.print(Text(words, "red"))
    for note in notes:
        console.print(Text(printable(note), "dim"))


def _table(found: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for name in ("when", "pod", "server", "took", "finished", "cut", "why", "goaway"):
        right, narrow = name in ("took", "finished", "cut"), name in ("when", "took", "finished", "goaway")
        table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=narrow)
    for row in found:
        cut = "-" if row.cancelled is None else str(row.cancelled)
        table.add_row(
            _ago(row.at),
            printable(row.pod),
            printable(row.server),
            _took(row),
            "-" if row.finished is None else str(row.finished),
            Text(f"{cut} {printable(row.methods)}".strip(), "bold red" if row.cancelled else ""),
            printable(row.reason),
            printable(row.goaway),
        )
    return table


def _took(row: Row) -> Text:
    if row.untold:
        return Text("not told", "bold red")
    if not row.over:
        return Text("leaving")
    return Text("-" if row.duration is None else f"{row.duration:.1f} s")


def _ago(at: datetime | None) -> str:
    if at is None:
        return "-"
    seconds = max(0.0, (datetime.now(UTC) - at).total_seconds())
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
