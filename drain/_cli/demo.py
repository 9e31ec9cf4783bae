"""`drain demo`: restart real servers under real load, plain and with drain, and show what each way cost."""

import asyncio
import json
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TypeVar

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from drain._cli.exits import DONE, FOUND, INTERRUPTED, UNREACHABLE, end
from drain._cli.live import live
from drain._demo.children import ChildFailedError
from drain._demo.compare import MODES, compare
from drain._demo.page import render, setting
from drain._demo.results import Demo, Settings
from drain._demo.table import rows, verdict
from drain._demo.words import WORDS

T = TypeVar("T")

MAX_LAG = 6.0  # announce_timeout is 8 s: a balancer that learns later than that cannot be waited for


@click.command("demo", short_help="Restart real servers under load: stop(grace) and drain, side by side.")
@click.option(
    "--servers", type=click.IntRange(2, 12), default=Settings().servers, show_default=True, help="Server processes."
)
@click.option(
    "--callers", type=click.IntRange(2, 200), default=16, show_default=True, help="A quarter of them streaming."
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 20),
    default=Settings().servers,
    show_default=True,
    help="Restarts of each server.",
)
@click.option(
    "--lag",
    type=click.FloatRange(0, MAX_LAG),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How late the balancer learns that a server is leaving.",
)
@click.option("--aio", is_flag=True, help="Servers on asyncio (grpc.aio) instead of threads.")
@click.option("--paired", is_flag=True, help="One run more: callers that follow the servers by drain's own channels.")
@click.option("--no-baseline", is_flag=True, help="Leave out the run with plain server.stop(grace).")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write all figures."
)
@click.option(
    "--html",
    "html_file",
    type=click.Path(dir_okay=False, path_type=Path),
    default="drain-demo.html",
    show_default=True,
    metavar="FILE",
    help="Write the page.",
)
def command(
    *,
    servers: int,
    callers: int,
    rounds: int,
    lag: float,
    aio: bool,
    paired: bool,
    no_baseline: bool,
    json_file: Path | None,
    html_file: Path,
) -> None:
    """Restart real servers under real load, first plain, then with drain.

    Starts real server processes behind a small layer-4 balancer that learns late, as kube-proxy does, lets callers that
    know nothing of drain call them without pause, and restarts every server in turn by SIGTERM: first plain grpc with
    server.stop(grace), then drain. Ends with a table, and a page to look at.

    Exit code 0: drain lost no call; 1: it lost some; 2: an option is wrong; 69: a server could not be started; 130: Ctrl-C.
    """
    check_writable("--html", html_file)
    check_writable("--json", json_file)
    settings = Settings(servers=servers, callers=callers, rounds=rounds, lag=lag, aio=aio)
    baseline, drained, both = MODES
    modes = (*([baseline] * (not no_baseline)), drained, *([both] * paired))
    try:
        with live(settings, modes) as show:
            demo = asyncio.run(until_told(compare(settings, modes, show)))
    except ChildFailedError as error:
        end("demo", str(error), UNREACHABLE)
    except (KeyboardInterrupt, asyncio.CancelledError):
        end("demo", "interrupted; its processes are gone", INTERRUPTED)
    if json_file is not None:
        json_file.write_text(json.dumps(demo.as_dict()), encoding="utf-8")
    html_file.write_text(render(demo), encoding="utf-8")
    _show(demo, [file for file in (html_file, json_file) if file is not None])
    sys.exit(FOUND if demo.lost else DONE)


async def until_told(running: Coroutine[None, None, T]) -> T:
    """SIGTERM and SIGHUP cancel it, as Ctrl-C does: its processes are ended first."""
    task = asyncio.ensure_future(running)
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


def check_writable(option: str, file: Path | None) -> None:
    """Found out now, not after a minute."""
    if file is None:
        return
    existed = file.exists()
    try:
        file.open("a").close()
    except OSError as error:
        raise click.BadParameter(f"{file} cannot be written: {error.strerror}", param_hint=option) from error
    if not existed:
        file.unlink()


def _show(demo: Demo, written: Sequence[Path]) -> None:
    """The table on stdout, and where the rest is."""
    console = Console()
    table = Table(box=box.ROUNDED, title=Text(setting(demo), style="dim"), title_justify="left")
    table.add_column("")
    for run in demo.runs:
        table.add_column(
            Text(WORDS[run.mode].name, style="bold red" if run.load.lost else "bold green"), justify="right"
        )
    for name, *values in rows(demo.runs):
        table.add_row(name, *values)
    console.print(table)
    console.print(Text(verdict(demo), style="bold red" if demo.lost else "bold"))
    for file in written:
        console.print(f"written: {file.absolute()}", soft_wrap=True, highlight=False, markup=False)
