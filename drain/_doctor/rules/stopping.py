"""How a container is told to stop, and whether anything lets the cluster learn of it first."""

from collections.abc import Iterator

from drain._doctor import command
from drain._doctor.fields import get, mappings, text, texts
from drain._doctor.finding import Severity
from drain._doctor.model import Workload
from drain._doctor.rule import Trip, rule
from drain._doctor.rules._sources import EXEC_FORM, HOOKS, POD_TERMINATION, READ_ONLY_ROOT
from drain._doctor.rules.budget import announces, policy
from drain._settings import text as seconds_text


@rule(
    "prestop-missing",
    Workload,
    Severity.ERROR,
    why="Kubernetes sends SIGTERM at the same moment at which it begins to tell the cluster that the pod leaves. A "
    "server that stops then refuses the connections that still come. (A server made with drain announces first; "
    "its variables say here that it is one.)",
    source=POD_TERMINATION,
)
def prestop_missing(workload: Workload) -> Iterator[Trip]:
    """Neither a hook nor drain."""
    for each in workload.servers:
        if each.prestop is None and not each.drains:
            what = f'container "{each.name}" has no preStop hook, and nothing says that its server is made with drain.'
            change = (
                "lifecycle:\n  preStop: {exec: {command: [drain-prestop, --standalone]}}  # or sleep: {seconds: 15}\n"
                "# or, with a server made with drain, which needs no hook:\n"
                f'env: [{{name: DRAIN_TERMINATION_GRACE_PERIOD, value: "{workload.grace}"}}]'
            )
            yield Trip(what, (*each.path, "lifecycle"), change)


@rule(
    "announces-nothing",
    Workload,
    Severity.ERROR,
    why="With announce_timeout=0 the server closes at once. Whoever has not learned of it yet, behind kube-proxy or a"
    " proxy, is refused: it is for servers that another hook has waited for, and for those that nothing is "
    "balanced to.",
    source=POD_TERMINATION,
)
def announces_nothing(workload: Workload) -> Iterator[Trip]:
    """Announcing is skipped, and no hook waits in its place."""
    for each in workload.servers:
        made = policy(each) if each.drains else None
        waits = each.prestop is not None and not each.prestop.asks_drain
        if made is not None and not made.announce_timeout and not waits:
            what = f'container "{each.name}" has DRAIN_ANNOUNCE_TIMEOUT=0.'
            yield Trip(what, each.variable_path("DRAIN_ANNOUNCE_TIMEOUT"), 'value: "8"')


@rule(
    "prestop-sleep-with-drain",
    Workload,
    Severity.ADVICE,
    why="A server made with drain leaves as soon as the cluster has learned of it. A sleep before only delays it: "
    "nothing is announced to clients meanwhile.",
    source=HOOKS,
)
def prestop_sleep_with_drain(workload: Workload) -> Iterator[Trip]:
    """A sleep that drain makes unnecessary."""
    for each in workload.servers:
        hook = each.prestop
        if announces(each) and hook is not None and hook.does == "sleep":
            what = (
                f'container "{each.name}" sleeps {seconds_text(hook.seconds or 0)} in its hook before its drain begins.'
            )
            yield Trip(what, each.prestop_path, "preStop: {exec: {command: [drain-prestop]}}  # or no hook at all")


@rule(
    "shell-pid1",
    Workload,
    Severity.ERROR,
    why="SIGTERM goes to the container's first process. A shell that waits for its command does not pass it on, and "
    "as PID 1 it ignores it: the server learns of nothing, and is killed when the grace period is over.",
    source=EXEC_FORM,
)
def shell_pid1(workload: Workload) -> Iterator[Trip]:
    """A shell gets SIGTERM, and not the server."""
    for each in workload.servers:
        shell = command.swallows_sigterm(each.argv)
        if shell is None:
            continue
        key = "args" if shell in texts(each.body, "args") else "command"
        words = texts(each.body, key)
        line = command.with_exec(words[-1])
        change = (
            f"{key}: [{', '.join([*words[:-1], _quoted(line)])}]"
            if line
            else f"{key}: [...]  # the server itself, without a shell"
        )
        what = f'container "{each.name}" runs `{shell} -c`, which stays between SIGTERM and the server.'
        yield Trip(what, (*each.path, key), change)


@rule(
    "stop-signal",
    Workload,
    Severity.ERROR,
    why="drain, and grpc's own examples, leave in good order on SIGTERM. SIGKILL cannot be caught; SIGINT is taken "
    "for a person at a terminal, and skips announcing.",
    source=HOOKS,
)
def stop_signal(workload: Workload) -> Iterator[Trip]:
    """Another signal than SIGTERM."""
    for each in workload.servers:
        signal = text(each.body, "lifecycle", "stopSignal")
        if signal and signal != "SIGTERM":
            what = f'container "{each.name}" is stopped with {signal}.'
            yield Trip(what, (*each.path, "lifecycle", "stopSignal"), "stopSignal: SIGTERM")


@rule(
    "no-runtime-dir",
    Workload,
    Severity.ERROR,
    why="drain's control plane is a Unix socket in the run-time directory. Without a place for it the server leaves "
    "the classic way, which loses calls, and its hook finds nobody to ask.",
    source=READ_ONLY_ROOT,
)
def no_runtime_dir(workload: Workload) -> Iterator[Trip]:
    """A read-only root file system, and nothing mounted where drain's sockets are."""
    for each in workload.servers:
        if not each.drains or get(each.body, "securityContext", "readOnlyRootFilesystem") is not True:
            continue
        wanted = (
            each.environ.get("DRAIN_RUNTIME_DIR") or each.environ.get("XDG_RUNTIME_DIR") or each.environ.get("TMPDIR")
        )
        places = [wanted] if wanted else ["/tmp", "/var/tmp", "/usr/tmp"]  # noqa: S108 - where Python looks
        mounts = [
            text(mount, "mountPath").rstrip("/") or "/"
            for _, mount in mappings(each.body, "volumeMounts")
            if get(mount, "readOnly") is not True
        ]
        if any(place == mount or place.startswith(f"{mount}/") for place in places for mount in mounts):
            continue
        what = f'container "{each.name}" has a read-only root file system, and no volume on {places[0]}.'
        mount = f"volumeMounts: [{{name: tmp, mountPath: {places[0]}}}]"
        change = f"{mount}\n# and in the pod: volumes: [{{name: tmp, emptyDir: {{}}}}]"
        yield Trip(what, (*each.path, "volumeMounts"), change)


def _quoted(line: str) -> str:
    return "'" + line.replace("'", "''") + "'"
