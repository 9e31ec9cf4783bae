"""The process that `drain doctor` runs in: grpcio, environment, PID 1, rights, threads."""

from collections.abc import Iterator

from drain._doctor import command
from drain._doctor.finding import Severity
from drain._doctor.process import Process
from drain._doctor.rule import Trip, rule
from drain._doctor.rules._sources import (
    DRAIN,
    EXEC_FORM,
    GRPCIO_ABORT,
    PERFORMANCE,
    PIDS,
    POD_TERMINATION,
    RBAC,
    READ_ONLY_ROOT,
)
from drain._settings import Settings
from drain.config import ClientPolicy, DrainPolicy, ServerKeepalive
from drain.errors import ConfigurationError

_TOLD: list[type[Settings]] = [ServerKeepalive, DrainPolicy, ClientPolicy]


@rule(
    "goaway-not-lossless",
    Process,
    Severity.WARNING,
    why="Without lossless GOAWAY a server can only announce for a fixed time and then stop: grpc marks it shut down "
    "before it tells its clients, and calls that arrive in between end CANCELLED.",
    source=GRPCIO_ABORT,
)
def goaway_not_lossless(process: Process) -> Iterator[Trip]:
    """This grpcio cannot, or not in this environment."""
    if all(process.lossless.values()):  # both flavours
        reason, remedy = next(each for each in process.lossless.values() if each is not None)
        yield Trip(f"grpcio {process.grpcio}: {reason}.", change=remedy)
        return
    for flavour, why in process.lossless.items():
        if why is not None:
            yield Trip(
                f"grpcio {process.grpcio}, {flavour} servers: {why[0]}.", change=why[1], severity=Severity.ADVICE
            )


@rule(
    "server-leaves-classic",
    Process,
    Severity.ERROR,
    why="This server will leave without lossless GOAWAY, whatever the environment could do: calls that arrive while "
    "it stops end CANCELLED.",
    source=DRAIN,
)
def server_leaves_classic(process: Process) -> Iterator[Trip]:
    """A running server that leaves the classic way, and was not told to."""
    for each in process.servers:
        if each.get("goaway") == "classic" and not str(each.get("goaway_reason")).startswith("asked for"):
            yield Trip(f"the server on {_where(each)}: {each.get('goaway_reason')}")


@rule(
    "environment-refused",
    Process,
    Severity.ERROR,
    why="drain refuses a value that cannot hold when the server, or the channel, is made: the process does not start.",
    source=POD_TERMINATION,
)
def environment_refused(process: Process) -> Iterator[Trip]:
    """A DRAIN_ variable here whose value is refused."""
    for each in _TOLD:
        try:
            each().overridden_by(process.environ)
        except ConfigurationError as error:
            yield Trip(str(error))


@rule(
    "no-place-for-sockets",
    Process,
    Severity.ERROR,
    why="drain's control plane is a Unix socket in the run-time directory. Without a place for it the server leaves "
    "the classic way, which loses calls.",
    source=READ_ONLY_ROOT,
)
def no_place_for_sockets(process: Process) -> Iterator[Trip]:
    """No run-time directory that can be trusted."""
    if process.no_place is not None:
        yield Trip(process.no_place)


@rule(
    "pid1-is-a-shell",
    Process,
    Severity.ERROR,
    why="SIGTERM goes to the container's first process. A shell that waits for its command does not pass it on, and "
    "as PID 1 it ignores it: the server learns of nothing, and is killed when the grace period is over.",
    source=EXEC_FORM,
)
def pid1_is_a_shell(process: Process) -> Iterator[Trip]:
    """A shell gets SIGTERM."""
    if process.first and command.swallows_sigterm(process.first):
        better = command.with_exec(command.shell_line(process.first) or "")
        change = f"{process.first[0]} -c '{better}'" if better else "the server itself, without a shell"
        yield Trip(f"PID 1 is `{' '.join(process.first)[:200]}`.", change=change)


@rule(
    "pid1-ignores-sigterm",
    Process,
    Severity.ERROR,
    why="The kernel gives PID 1 only those signals that it has a handler for: a program that leaves SIGTERM to its "
    "default is not ended by it, but killed when the grace period is over.",
    source=PIDS,
)
def pid1_ignores_sigterm(process: Process) -> Iterator[Trip]:
    """PID 1 has no handler for SIGTERM."""
    if process.catches is False and not command.swallows_sigterm(process.first):
        name = " ".join(process.first)[:200]
        yield Trip(f"PID 1, `{name}`, has no handler for SIGTERM.", change="server.run()  # or drain.run(server)")


@rule(
    "not-permitted",
    Process,
    Severity.WARNING,
    why="Endpoints are watched with the pod's own ServiceAccount. A client that may not has no endpoints; a server "
    "that may not leaves by who comes back alone.",
    source=RBAC,
)
def not_permitted(process: Process) -> Iterator[Trip]:
    """The API server says that this account may not."""
    if process.refused:
        change = "rules:\n  - {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}"
        yield Trip(f"this pod's account may not {', nor '.join(process.refused)}.", change=change)


@rule(
    "too-few-threads",
    Process,
    Severity.WARNING,
    why="A synchronous server works on as many calls as its pool has threads, and a stream has its thread as long as "
    "it is open. Further calls wait, their deadlines run, and while the server leaves they may be cut before they"
    " have begun.",
    source=PERFORMANCE,
)
def too_few_threads(process: Process) -> Iterator[Trip]:
    """Every thread of the pool is busy."""
    for each in process.servers:
        threads, busy = each.get("threads"), each.get("in_flight")
        if isinstance(threads, int) and isinstance(busy, int) and threads and busy >= threads:
            what = (
                f"the server on {_where(each)} has {busy} calls in flight and {threads} thread{'s' * (threads != 1)}."
            )
            yield Trip(what, change=f"futures.ThreadPoolExecutor({max(32, 2 * busy)})  # or drain.aio.server()")


def _where(status: object) -> str:
    addresses = status.get("addresses") if isinstance(status, dict) else None
    return ", ".join(map(str, addresses)) if isinstance(addresses, list | tuple) and addresses else "no address"
