"""`drain doctor`: what would lose calls in a manifest, a live workload, a keepalive pair, this process; and what to change."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from drain._cli import doctor_text
from drain._cli.cluster import cluster_options, namespace_option, reached, use, workloads_of
from drain._cli.exits import DONE, FOUND, MISUSED, UNDECIDED, UNREADABLE, end
from drain._doctor import examine, pair
from drain._doctor.examine import Examined
from drain._doctor.finding import Severity
from drain._doctor.model import Surroundings, Thing
from drain._doctor.reading import Document, Unreadable, documents
from drain._doctor.rule import RULES

MOST = 64 * 1024 * 1024  # bytes of a file


@click.command("doctor", short_help="Say what would lose calls in a manifest, a workload, or this process.")
@click.argument("workloads", nargs=-1, metavar="[KIND/NAME]...")
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    metavar="FILE",
    help="A manifest, or a folder of them; - is stdin. May be repeated.",
)
@namespace_option("Of live workloads: all of it, unless KIND/NAME names some.")
@click.option(
    "--server",
    "server_file",
    metavar="FILE",
    help="A server's keepalive settings, in any language's names. With --client.",
)
@click.option("--client", "client_file", metavar="FILE", help="A client's. With --server.")
@cluster_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--explain", "explained", metavar="RULE", help="What a rule says, and who says so; `all` lists them.")
def command(
    workloads: tuple[str, ...],
    *,
    files: tuple[str, ...],
    namespace: str | None,
    server_file: str | None,
    client_file: str | None,
    kubeconfig: str | None,
    context: str | None,
    as_json: bool,
    explained: str | None,
) -> None:  # \b keeps click from joining the lines below
    """Say what would lose calls, why, and the lines to change.

    \b
    drain doctor -f deploy.yaml            a manifest
    helm template . | drain doctor -f -    what helm makes
    drain doctor -n shop deploy/greeter    a live workload (KIND is deploy, sts, ds or pod)
    drain doctor                           the process or container it runs in
    drain doctor --server s.yaml --client c.go

    Exit code 0: nothing but advice; 1: warnings; 3: errors (calls will be lost); 2: an option is wrong; 65: something cannot
    be read; 69: the API server cannot be reached; 77: we may not look there.
    """  # noqa: D301 - \b is click's
    if explained is not None:
        _explain(explained)
    live = bool(workloads or namespace)
    pairing = bool(server_file or client_file)
    if (bool(files) + live + pairing) > 1:
        raise click.UsageError("give one of -f FILE, -n NAMESPACE [KIND/NAME], or --server FILE --client FILE.")
    notes: list[str] = []
    if files:
        examined, sources = _files(files)
    elif pairing:
        examined, sources = _pair(server_file, client_file)
    elif live:
        examined, sources = _live(workloads, namespace, kubeconfig, context, notes), {}
    else:
        examined, sources = _process(notes), {}
    if as_json:
        click.echo(json.dumps({**doctor_text.as_dict(examined), "notes": notes}))
    else:
        doctor_text.show(examined, sources, notes, complete=bool(files or live))
    sys.exit(code(examined))


def code(examined: Examined) -> int:
    """The exit code."""
    if examined.worst is Severity.ERROR:
        return UNDECIDED
    if examined.unreadable:
        return UNREADABLE
    return FOUND if examined.worst is Severity.WARNING else DONE


def _files(names: Sequence[str]) -> tuple[Examined, dict[str, list[str]]]:
    found: list[Document] = []
    bad: list[Unreadable] = []
    sources: dict[str, list[str]] = {}
    for name, written in (pair_ for each in names for pair_ in read(each)):
        sources[name] = written.splitlines()
        some, unreadable = documents(written, name)
        found += some
        bad += unreadable
    around = Surroundings(tuple(Thing(each) for each in found))
    return examine.manifests(around, bad), sources


def read(name: str) -> list[tuple[str, str]]:
    """A file, or all manifests in a folder. Exits where one cannot be read."""
    if name == "-":
        return [("-", _decoded("-", sys.stdin.buffer.read(MOST + 1)))]
    path = Path(name)
    try:
        if path.is_dir():
            inside = sorted(
                each for each in path.rglob("*") if each.suffix in (".yaml", ".yml", ".json") and each.is_file()
            )
            if not inside:
                end("doctor", f"{name}: no .yaml, .yml or .json file in it.", MISUSED)
            return [(str(each), _content(each)) for each in inside]
        return [(name, _content(path))]
    except OSError as error:
        end("doctor", f"{name}: {error.strerror}", UNREADABLE)


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return _decoded(str(path), file.read(MOST + 1))


def _decoded(name: str, raw: bytes) -> str:
    if len(raw) > MOST:
        end("doctor", f"{name}: larger than {MOST // 1024 // 1024} MiB. Split it.", UNREADABLE)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        end("doctor", f"{name}: not UTF-8 (byte {error.start})", UNREADABLE)


def _pair(server_file: str | None, client_file: str | None) -> tuple[Examined, dict[str, list[str]]]:
    if server_file is None or client_file is None:
        raise click.UsageError("--server and --client need each other.")
    (server,), (client,) = read(server_file), read(client_file)
    try:
        made = pair.Pair(pair.server_side(*server), pair.client_side(*client))
    except pair.PairError as error:
        end("doctor", str(error), UNREADABLE)
    return examine.pair(made), {name: written.splitlines() for name, written in (server, client)}


def _live(
    workloads: Sequence[str], namespace: str | None, kubeconfig: str | None, context: str | None, notes: list[str]
) -> Examined:
    from drain._doctor import live  # noqa: PLC0415 - it brings grpc, which a manifest does not need
    from drain._kube.objects import Objects  # noqa: PLC0415

    wanted = workloads_of(workloads)
    with reached("doctor"):
        use(kubeconfig, context)
        cluster = Objects()
        around, unseen = live.surroundings(cluster, namespace or cluster.namespace, wanted)
        notes += (f"not looked at: {each}" for each in unseen)
        return examine.manifests(around)


def _process(notes: list[str]) -> Examined:
    from drain._doctor import live  # noqa: PLC0415 - see above
    from drain._kube.objects import Objects  # noqa: PLC0415

    found = live.process(Objects)
    notes.append(
        f"looked at {found.called}: grpcio {found.grpcio}, {len(found.servers)} running server{'s' * (len(found.servers) != 1)}"
    )
    if found.unasked:
        notes.append(f"not looked at: {found.unasked}")
    return examine.process(found)


def _explain(name: str) -> NoReturn:
    if name == "all":
        doctor_text.list_rules(RULES.values())
    elif name in RULES:
        doctor_text.explain(RULES[name])
    else:
        raise click.BadParameter(
            f"{name!r} is no rule; `drain doctor --explain all` lists them.", param_hint="--explain"
        )
    sys.exit(DONE)
