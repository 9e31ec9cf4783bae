"""`drain rehearse`: a rollout, a scale or a deletion under load, before it matters; of a live workload, or a command here."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click
import grpc
from rich.console import Console
from rich.text import Text

from drain._cli import doctor as doctor_command
from drain._cli import doctor_text
from drain._cli.demo import check_writable
from drain._demo.about import about
from drain._demo.caller import Shape
from drain._demo.children import ChildFailedError
from drain._demo.results import Run
from drain._doctor import examine
from drain._doctor.finding import Finding
from drain._doctor.pair import Pair, PairError, Side, client_side, server_sides
from drain._doctor.process import Process
from drain._kube.api import configure
from drain._kube.failure import ApiError
from drain._kube.objects import Objects, forbidden, named
from drain._rehearse import calling, live, local, method, picture
from drain._rehearse.live import Action, LiveError
from drain._rehearse.method import Method, MethodError
from drain._rehearse.page import render
from drain._rehearse.result import Life, Rehearsal, Step, Verdict
from drain.errors import ConfigurationError, TargetError

LOST, MISUSED, UNFINISHED, UNREACHABLE, FORBIDDEN, INTERRUPTED = 1, 2, 3, 69, 77, 130
CODES = {Verdict.KEPT: 0, Verdict.LOST: LOST, Verdict.KILLED: LOST, Verdict.UNFINISHED: UNFINISHED}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options that both ways share.

    Attributes:
        written, data, raw, metadata, stream, timeout, lasts: the method, as it was given.
        shape: of the load. rate: calls a second, of all callers. options: channel arguments of `--client`.
        side: the client's keepalive, if a file says it.
        credentials: for TLS; None: plain text. authority: what the certificate is for, if it is not the target.
    """

    path: str
    data: str | None
    raw: bytes | None
    metadata: tuple[tuple[str, str], ...]
    stream: bool
    timeout: float
    lasts: float
    shape: Shape
    rate: float
    side: Side | None
    credentials: grpc.ChannelCredentials | None
    authority: str | None

    @property
    def options(self) -> list[tuple[str, Any]]:
        """Channel arguments."""
        name = [] if self.authority is None else [("grpc.default_authority", self.authority)]
        if self.side is None:
            return list(name)
        keepalive = self.side.keepalive
        return name + [
            (argument, round(value * 1000) if setting.kind == "duration" else int(value))
            for setting in keepalive.settings()
            if (value := getattr(keepalive, setting.name)) is not None
            for argument in setting.arguments
        ]

    def method(self, target: str) -> Method:
        """What is called there, asked of its reflection unless bytes are given. Raises MethodError: it does not answer."""
        name = [each for each in self.options if each[0] == "grpc.default_authority"]
        # Without keepalive: whether that goes well is for the rehearsal to show.
        with calling.opened(target, name, self.credentials) as channel:
            if self.raw is not None:
                request, streams = self.raw, self.stream
            else:
                request, streams = method.by_reflection(channel, self.path, self.data)
            found = Method(self.path, request, streams, self.metadata, self.timeout, self.lasts)
            if (why := calling.tried(channel, found)) is not None:
                raise MethodError(f"a first call of {self.path[1:]} to {target} failed: {why}")
            return found

    @property
    def words(self) -> str:
        """The load, for people."""
        return f"{self.shape.callers} callers make up to {self.rate:g} calls a second of {self.path[1:]}"


@click.command("rehearse", short_help="Try a rollout, a scale or a deletion under load, and see what it costs.")
@click.argument("workload", required=False, metavar="[KIND/NAME]")
@click.option("-n", "--namespace", metavar="NAME", help="Of the workload.")
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
    help="restart, scale=PODS, delete=PODS. May be repeated.",
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
@click.option("--kubeconfig", metavar="FILE", help="[default: in the cluster, else $KUBECONFIG]")
@click.option("--context", metavar="NAME", help="Of the kubeconfig.")
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
            done = _local(asked, template, processes=processes, rounds=rounds, lag=lag, grace=grace)
        else:
            assert workload is not None
            kind, name = named(workload)
            actions = [Action.read(each) for each in to_do]
            if kubeconfig or context:
                configure(kubeconfig, context=context)
            done = _live(asked, kind, namespace, name, actions, target=target, within=within, yes=yes)
    except (
        ValueError,
        MethodError,
        PairError,
        local.CommandError,
        LiveError,
        picture.PictureError,
        TargetError,
    ) as error:
        _end(str(error), MISUSED)
    except (ConfigurationError, ChildFailedError) as error:
        _end(str(error), UNREACHABLE)
    except ApiError as error:
        _end(str(error), FORBIDDEN if forbidden(error) else UNREACHABLE)
    except (KeyboardInterrupt, asyncio.CancelledError, click.Abort):
        _end("interrupted", INTERRUPTED)
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


def _local(
    asked: Asked, template: local.Template, *, processes: int, rounds: int, lag: float, grace: float
) -> Rehearsal:
    """Processes of a command, here."""
    if asked.credentials is not None:
        raise click.UsageError("--tls and --ca go with a workload: the balancer asks for health in plain text.")
    with Console(stderr=True).status("starting", spinner="dots") as status:
        runner = local.Local(
            template,
            processes=processes,
            rounds=rounds,
            lag=lag,
            grace=grace,
            method=asked.method,
            shape=asked.shape,
            options=asked.options,
            on_progress=lambda progress: status.update(progress.step),
        )
        run = asyncio.run(_until_told(runner.run()))
    steps, lives = local.steps_and_lives(run)
    words = f"{asked.words}, behind a layer-4 balancer that learns {lag:g} s late, as kube-proxy does."
    command_line = Process(
        "the command", about()["grpcio"], {"sync": None}, os.environ, first=tuple(template.words(1, "server"))
    )
    advice = examine.process(command_line).findings
    times = {1: "once", 2: "twice"}.get(rounds, f"{rounds} times")
    what = f"{processes} processes, each restarted {times} by SIGTERM"
    return _rehearsal(template.written, what, words, run, steps, lives, runner.names, advice, ())


async def _until_told(running: Coroutine[None, None, Run]) -> Run:
    """SIGTERM and SIGHUP cancel it, as Ctrl-C does: its processes are ended first."""
    task = asyncio.ensure_future(running)
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


def _live(
    asked: Asked,
    kind: Any,
    namespace: str | None,
    name: str,
    actions: Sequence[Action],
    *,
    target: str | None,
    within: float,
    yes: bool,
) -> Rehearsal:
    """A workload that runs."""
    from drain._doctor.live import surroundings  # noqa: PLC0415

    _heed_signals()
    cluster = Objects()
    namespace = namespace or cluster.namespace
    workload = live.look(cluster, kind, namespace, name, actions)
    target = target or live.address(cluster, workload)
    around, unseen = surroundings(cluster, namespace, [(kind, name)])
    try:
        called = asked.method(target)
    except MethodError as error:
        _end(f"{error}. Nothing was changed.", UNREACHABLE)
    done = ", then ".join(each.words for each in actions)
    click.echo(
        f"{workload.called}, {workload.replicas} pods, of the cluster at {cluster.server}: will be {done}, "
        f"while {asked.words} to {target}.",
        err=True,
    )
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("there is nobody to ask: say --yes to have it done.")
        if not click.confirm("Go on?", err=True):
            _end("nothing was changed", INTERRUPTED)
    with Console(stderr=True).status("load begins", spinner="dots") as status:
        rehearser = live.Rehearser(cluster, workload, within=within, on_step=status.update)
        making = calling.Making(called, rehearser.names, asked.options, asked.credentials)
        run, steps, lives = rehearser.run(target, making, asked.shape, actions)
    advice = list(examine.manifests(around).findings)
    if asked.side is not None:
        for side in server_sides(around):
            advice += examine.pair(Pair(side, asked.side)).findings
    notes = [f"not looked at: {each}" for each in unseen]
    if rehearser.pods.trouble:
        notes.append(f"pods were not seen all the time: {rehearser.pods.trouble}")
    words = f"{asked.words} to {target}."
    return _rehearsal(workload.called, done, words, run, steps, lives, rehearser.names, examine.ordered(advice), notes)


def _heed_signals() -> None:
    """SIGTERM and SIGHUP end it as Ctrl-C does: what was scaled is scaled back. One that is ignored (nohup) stays so."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, interrupt)


def _rehearsal(
    subject: str,
    what: str,
    words: str,
    run: Run,
    steps: Sequence[Step],
    lives: Sequence[Life],
    names: calling.Names,
    advice: Sequence[Finding],
    notes: Sequence[str],
) -> Rehearsal:
    return Rehearsal(
        subject=subject,
        done=what,
        load=words,
        run=run,
        steps=tuple(steps),
        lives=tuple(lives),
        named=calling.UNNAMED not in run.load.calls,
        connections=names.connections,
        advice=tuple(advice),
        notes=tuple(notes),
        about=about(),
    )


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
    for step in done.steps:
        if step.unfinished:
            console.print(Text(f"{step.what}: {step.unfinished}", "bold red"), soft_wrap=True)
    if png_file is not None:
        try:
            picture.take(html_file, png_file)
            written.append(png_file)
        except picture.PictureError as error:
            click.echo(f"drain rehearse: no picture: {error}", err=True)
    for file in written:
        console.print(f"written: {file.absolute()}", soft_wrap=True, highlight=False, markup=False)


def _end(text: str, code: int) -> NoReturn:
    click.echo(f"drain rehearse: {text}", err=True)
    sys.exit(code)
