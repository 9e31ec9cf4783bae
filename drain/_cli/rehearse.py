"""`drain rehearse`: a rollout, a scale or a deletion under load, before it matters; of a live workload, or a command here."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import click
import grpc
from rich.console import Console
from rich.text import Text

from drain._cli import doctor as doctor_command
from drain._cli import doctor_text, rehearsing
from drain._cli.cluster import cluster_options, namespace_option, use, workloads_of
from drain._cli.demo import check_writable
from drain._cli.exits import DONE, FORBIDDEN, FOUND, INTERRUPTED, MISUSED, UNDECIDED, UNREACHABLE, end
from drain._demo.caller import Shape
from drain._demo.children import ChildFailedError
from drain._doctor.pair import PairError, client_side
from drain._kube.failure import ApiError
from drain._kube.objects import forbidden
from drain._rehearse import local, method, picture
from drain._rehearse.asked import Asked
from drain._rehearse.errors import RehearsalError
from drain._rehearse.live import Action
from drain._rehearse.page import render
from drain._rehearse.result import Rehearsal, Verdict
from drain.errors import ConfigurationError, TargetError

CODES = {Verdict.KEPT: DONE, Verdict.LOST: FOUND, Verdict.KILLED: FOUND, Verdict.UNFINISHED: UNDECIDED}


@click.command("rehearse", short_help="Try a rollout, a scale or a deletion under load, and see what it costs.")
@click.argument("workload", required=False, metavar="[KIND/NAME]")
@namespace_option("Of the workload.")
@click.option(
    "--command",
    "written",
    metavar="COMMAND",
    help="Instead of a workload: processes of this, here. {port} and {name} are filled in.",
)
@click.option(
    "--method",
    "called",
    required=True,
    metavar="SERVICE/METHOD",
    help="What is called: unary, or with a stream of answers.",
)
@click.option("--data", metavar="JSON", help="The request; by the server's reflection.  [default: an empty message]")
@click.option(
    "--raw", "raw_", metavar="HEX", help="The request's bytes, where there is no reflection; '' is the empty message."
)
@click.option("--stream", is_flag=True, help="With --raw: the method answers with a stream.")
@click.option(
    "--stream-for",
    type=click.FloatRange(0.1, 3600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="A stream that lasts longer is ended by its caller.",
)
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Sent with each call. May be repeated.")
@click.option("--tls", is_flag=True, help="The calls go over TLS; certificates are checked by the system's roots.")
@click.option("--ca", "ca_file", metavar="FILE", help="The same, checked by these roots (PEM).")
@click.option("--authority", metavar="NAME", help="Whom the certificate is for.  [default: the target's name]")
@click.option("--target", metavar="TARGET", help="Where the calls go.  [default: the workload's Service]")
@click.option(
    "--client",
    "client_file",
    metavar="FILE",
    help="A client's keepalive settings: the callers have them, and the doctor judges them.",
)
@click.option(
    "--callers", type=click.IntRange(1, 200), default=16, show_default=True, help="Each with a connection of its own."
)
@click.option(
    "--rate",
    type=click.FloatRange(0.1, 10_000),
    default=200.0,
    show_default=True,
    metavar="CALLS",
    help="Calls a second, of all callers.",
)
@click.option(
    "--timeout", type=click.FloatRange(0.1, 600), default=10.0, show_default=True, metavar="SECONDS", help="Of a call."
)
@click.option(
    "--do",
    "to_do",
    multiple=True,
    default=["restart"],
    show_default=True,
    metavar="ACTION",
    help="What is done: restart, scale=PODS, delete=PODS. May be repeated.",
)
@click.option(
    "--within",
    type=click.FloatRange(5, 3600),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="Each action must be over by then.",
)
@click.option("--processes", type=click.IntRange(2, 12), default=3, show_default=True, help="With --command.")
@click.option(
    "--rounds",
    type=click.IntRange(1, 20),
    default=1,
    show_default=True,
    help="With --command: restarts of each process.",
)
@click.option(
    "--lag",
    type=click.FloatRange(0, 6),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="With --command: how late the balancer learns.",
)
@click.option(
    "--grace",
    type=click.FloatRange(0.1, 600),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="With --command: killed after.",
)
@click.option(
    "--html",
    "html_file",
    type=click.Path(dir_okay=False, path_type=Path),
    default="drain-rehearsal.html",
    show_default=True,
    metavar="FILE",
    help="Write the page.",
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write all figures."
)
@click.option(
    "--png",
    "png_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a picture of the page; needs Chromium or Chrome.",
)
@cluster_options
@click.option("--yes", is_flag=True, help="Do not ask before the cluster is touched.")
def command(
    workload: str | None,
    *,
    namespace: str | None,
    written: str | None,
    target: str | None,
    to_do: tuple[str, ...],
    within: float,
    processes: int,
    rounds: int,
    lag: float,
    grace: float,
    html_file: Path,
    json_file: Path | None,
    png_file: Path | None,
    kubeconfig: str | None,
    context: str | None,
    yes: bool,
    **load: Any,
) -> None:
    """Try it under load, and write a page with the verdict.

    \b
    drain rehearse -n shop deploy/orders --method shop.Orders/Get --data '{"id": 7}'
    drain rehearse -n shop deploy/orders --method shop.Orders/Get --do scale=6 --do delete=2
    drain rehearse --command 'python server.py --port {port}' --method shop.Orders/Get

    A workload that runs is looked at first, and you are asked before anything is changed. The calls come from here: run it where
    the Service can be reached, or name a --target.

    Exit code 0: no call failed, and nothing was killed; 1: calls failed, or a server was killed; 3: it was not over in time;
    2: an option is wrong; 69: the cluster or the server cannot be reached; 77: we may not do it.
    """  # noqa: D301 - \b is click's
    if (workload is None) == (written is None):
        raise click.UsageError("give a workload, such as deploy/orders, or --command.")
    for option, file in (("--html", html_file), ("--json", json_file), ("--png", png_file)):
        check_writable(option, file)
    try:
        if png_file is not None:
            picture.browser()
        asked = _asked(**load)
        if written is not None:
            template = local.Template(written).checked()
            done = rehearsing.here(asked, template, processes=processes, rounds=rounds, lag=lag, grace=grace)
        else:
            assert workload is not None
            ((kind, name),) = workloads_of([workload])
            try:
                actions = [Action.read(each) for each in to_do]
            except ValueError as error:
                raise click.UsageError(str(error)) from None
            use(kubeconfig, context)
            done = rehearsing.there(asked, kind, namespace, name, actions, target=target, within=within, yes=yes)
    except (RehearsalError, PairError, TargetError) as error:
        end("rehearse", str(error), MISUSED)
    except (ConfigurationError, ChildFailedError) as error:
        end("rehearse", str(error), UNREACHABLE)
    except ApiError as error:
        end("rehearse", str(error), FORBIDDEN if forbidden(error) else UNREACHABLE)
    except click.Abort:
        end("rehearse", "nothing was changed", INTERRUPTED)
    except (KeyboardInterrupt, asyncio.CancelledError):
        end("rehearse", "interrupted", INTERRUPTED)
    _write(done, html_file, json_file, png_file)
    sys.exit(CODES[done.verdict])


def _asked(
    *,
    called: str,
    data: str | None,
    raw_: str | None,
    stream: bool,
    stream_for: float,
    metadata: tuple[str, ...],
    client_file: str | None,
    callers: int,
    rate: float,
    timeout: float,
    tls: bool,
    ca_file: str | None,
    authority: str | None,
) -> Asked:
    if raw_ is not None and data is not None:
        raise click.UsageError("--data and --raw are two ways to say the request: give one.")
    if stream and raw_ is None:
        raise click.UsageError("--stream goes with --raw; reflection knows by itself.")
    side = None
    if client_file is not None:
        ((name, text),) = doctor_command.read(client_file)
        side = client_side(name, text)
    return Asked(
        path=method.path_of(called),
        data=data,
        raw=None if raw_ is None else method.raw(raw_),
        metadata=method.metadata(metadata),
        stream=stream,
        timeout=timeout,
        lasts=stream_for,
        shape=Shape(callers=callers, streaming=0, interval=callers / rate, timeout=timeout),
        rate=rate,
        side=side,
        credentials=_credentials(ca_file) if tls or ca_file else None,
        authority=authority,
    )


def _credentials(ca_file: str | None) -> grpc.ChannelCredentials:
    roots = None
    if ca_file is not None:
        try:
            roots = Path(ca_file).read_bytes()
        except OSError as error:
            raise click.BadParameter(f"{ca_file}: {error.strerror}", param_hint="--ca") from None
    return grpc.ssl_channel_credentials(roots)


def _write(done: Rehearsal, html_file: Path, json_file: Path | None, png_file: Path | None) -> None:
    """The files, and the verdict on stdout."""
    written = [html_file]
    html_file.write_text(render(done), encoding="utf-8")
    if json_file is not None:
        json_file.write_text(json.dumps(done.as_dict()), encoding="utf-8")
        written.append(json_file)
    console = Console()
    for each in reversed(done.advice):
        console.print(doctor_text.finding(each, {}, 100), soft_wrap=True, highlight=False)
    for text in (*done.evidence, *done.notes):
        console.print(Text(text), soft_wrap=True)
    for status, count in done.run.load.lost_by_status.items():
        console.print(Text(f"{count:,} {status}", "red"))
    console.print(Text(done.headline, "bold green" if done.verdict is Verdict.KEPT else "bold red"), soft_wrap=True)
    if png_file is not None:
        try:
            picture.take(html_file, png_file)
            written.append(png_file)
        except picture.PictureError as error:
            click.echo(f"drain rehearse: no picture: {error}", err=True)
    for file in written:
        console.print(f"written: {file.absolute()}", soft_wrap=True, highlight=False, markup=False)
