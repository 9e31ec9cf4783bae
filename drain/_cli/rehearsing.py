"""How a rehearsal is carried out for the command: with a command here, or with a workload there, after asking."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

import click
from rich.console import Console

from drain._cli.demo import until_told
from drain._demo.about import about
from drain._demo.results import Run, Span
from drain._doctor import examine
from drain._doctor.finding import Finding
from drain._doctor.live import surroundings
from drain._doctor.pair import Pair, server_sides
from drain._doctor.process import Process
from drain._kube.objects import Kind, Objects
from drain._rehearse import calling, live, local
from drain._rehearse.asked import Asked
from drain._rehearse.live import Action, LiveError
from drain._rehearse.method import MethodError
from drain._rehearse.result import Life, Rehearsal, Step


def here(asked: Asked, template: local.Template, *, processes: int, rounds: int, lag: float, grace: float) -> Rehearsal:
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
        run = asyncio.run(until_told(runner.run()))
    steps, lives = local.steps_and_lives(run)
    words = f"{asked.words}, behind a layer-4 balancer that learns {lag:g} s late, as kube-proxy does."
    command_line = Process(
        "the command", about()["grpcio"], {"sync": None}, os.environ, first=tuple(template.words(1, "server"))
    )
    advice = examine.process(command_line).findings
    times = {1: "once", 2: "twice"}.get(rounds, f"{rounds} times")
    what = f"{processes} processes, each restarted {times} by SIGTERM"
    return _rehearsal(template.written, what, words, run, steps, lives, runner.names, advice, ())


def there(
    asked: Asked,
    kind: Kind,
    namespace: str | None,
    name: str,
    actions: Sequence[Action],
    *,
    target: str | None,
    within: float,
    yes: bool,
) -> Rehearsal:
    """A workload that runs."""
    _heed_signals()
    cluster = Objects()
    namespace = namespace or cluster.namespace
    workload = live.look(cluster, kind, namespace, name, actions)
    target = target or live.address(cluster, workload)
    around, unseen = surroundings(cluster, namespace, [(kind, name)])
    try:
        with Console(stderr=True).status(f"asking {target}", spinner="dots"):
            called = asked.method(target)
    except MethodError as error:
        raise LiveError(f"{error}. Nothing was changed.") from None
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
            raise click.Abort
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
    named = calling.UNNAMED not in run.load.calls
    if not named:  # a lane of their own, or the chart would not show them
        run = replace(run, spans=(Span(calling.UNNAMED, "serving", 0.0, run.load.duration), *run.spans))
    return Rehearsal(
        subject=subject,
        done=what,
        load=words,
        run=run,
        steps=tuple(steps),
        lives=tuple(lives),
        named=named,
        connections=names.connections,
        advice=tuple(advice),
        notes=tuple(notes),
        about=about(),
    )
