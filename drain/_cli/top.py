"""`drain top`: a live view of servers while they serve and leave: of this machine's, or of those in pods."""

import json
import sys
import threading
import time

import click
from rich.console import Console
from rich.live import Live

from drain._cli.asking import interval_option, socket_option, there
from drain._cli.cluster import cluster_options, namespace_option, reached, use, workloads_of
from drain._cli.exits import FORBIDDEN, INTERRUPTED, UNREACHABLE, end
from drain._cli.gathering import Board, Pods, Shown, local
from drain._cli.top_text import frame
from drain._kube.objects import Objects
from drain.errors import ConfigurationError

_FIRST = 10.0  # seconds that `--once` waits for whoever is to be shown
_SETTLED = 0.5  # seconds without news after which all have told


@click.command("top", short_help="A live view of servers, here or in pods, while they serve and leave.")
@click.argument("workloads", nargs=-1, metavar="[KIND/NAME]...")
@namespace_option("Servers in pods: of these workloads, or of all in it.")
@click.option("-c", "--container", metavar="NAME", help="Of the pods.  [default: their default one]")
@cluster_options
@click.option("--once", is_flag=True, help="One look; so it is, too, where the output is no terminal.")
@click.option("--json", "as_json", is_flag=True, help="One look, as a JSON object.")
@interval_option("At each change of state, and this often.")
@socket_option
def command(
    workloads: tuple[str, ...],
    *,
    namespace: str | None,
    container: str | None,
    kubeconfig: str | None,
    context: str | None,
    once: bool,
    as_json: bool,
    interval: float,
    given: tuple[str, ...],
) -> None:  # \b keeps click from joining the lines below
    """A live view: state, time left, calls in flight by method, connections by peer, endpoints, last events. Ctrl-C ends it.

    \b
    drain top                              the servers of this machine, or container
    drain top -n shop deploy/orders        those in the pods of a workload (KIND is deploy, sts, ds or pod)

    In pods it runs `python -m drain._admin.relay`, which needs drain there and nothing else; you need get and list of what is
    named and of pods, and `create` and `get` on pods/exec.

    Exit code 0; 2: an option is wrong; 69: nobody is there to ask, or the API server cannot be reached; 77: we may not look; 130:
    Ctrl-C.
    """  # noqa: D301 - \b is click's
    in_pods = bool(workloads or namespace or container or kubeconfig or context)
    if in_pods and given:
        raise click.UsageError("--socket is for servers here, the others are for servers in pods.")
    board, stopped, console = Board(), threading.Event(), Console()
    once = once or as_json or not console.is_terminal
    interval = max(interval, 1.0) if once else interval  # one look is over when there is no news any more
    if in_pods:
        source = _pods(board, workloads, namespace, container, kubeconfig, context, interval, stopped).run
    else:
        _somebody(given)

        def source() -> None:
            local(board, given, interval, stopped)

    thread = threading.Thread(target=source, name="drain-top", daemon=True)
    thread.start()
    try:
        if once:
            _once(board, console, as_json=as_json)
        else:
            _live(board, console, thread)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        stopped.set()


def _somebody(given: tuple[str, ...]) -> None:
    try:
        if not (given or there()):
            end(
                "top",
                "no admin socket here: no server runs, as this user, with the same DRAIN_RUNTIME_DIR.",
                UNREACHABLE,
            )
    except ConfigurationError as error:
        end("top", str(error), FORBIDDEN)


def _pods(
    board: Board,
    workloads: tuple[str, ...],
    namespace: str | None,
    container: str | None,
    kubeconfig: str | None,
    context: str | None,
    interval: float,
    stopped: threading.Event,
) -> Pods:
    wanted = workloads_of(workloads)
    with reached("top"):
        use(kubeconfig, context)
        cluster = Objects()
        where = namespace or cluster.namespace
        for kind, name in wanted:  # said before a screen is cleared
            cluster.get(kind, where, name)
    return Pods(board, cluster, where, wanted, container, interval, stopped)


def _live(board: Board, console: Console, source: threading.Thread) -> None:
    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        while source.is_alive():
            board.news.clear()
            live.update(frame(_shown(board), board.notes, time.strftime("%H:%M:%S")), refresh=True)
            board.news.wait(1.0)
            time.sleep(0.1)  # ten frames a second are enough


def _once(board: Board, console: Console, *, as_json: bool) -> None:
    until = time.monotonic() + _FIRST
    while time.monotonic() < until:
        board.news.clear()
        quiet = not board.news.wait(min(_SETTLED, until - time.monotonic()))
        if quiet and not board.expected and (board.shown() or board.notes):
            break
    shown = _shown(board)
    if as_json:
        told = [{"process": each.name, "error": each.error, **each.line} for each in shown]
        click.echo(json.dumps({"processes": told, "notes": list(board.notes)}))
    else:
        console.print(frame(shown, board.notes, time.strftime("%H:%M:%S")))
    if not any(each.line for each in shown):
        end("top", "no server has answered.", UNREACHABLE)


def _shown(board: Board) -> list[Shown]:
    return [each for _, each in board.shown()]
