"""Asking the servers of this machine over their admin sockets: what `status`, `rotate`, `pause`, `resume` and `drain` share.

Exit codes: 0 all did it; 1 some refused, failed, or did not answer; 69 nobody is there to ask; 77 the run-time directory is not
ours.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import click

from drain import _runtime_dir
from drain._admin.client import Call, Outcome, sockets, talk
from drain._cli.exits import DONE, FORBIDDEN, FOUND, UNREACHABLE, end
from drain.errors import ConfigurationError

STATUS_BOUND = 3.0  # seconds for a status: one that takes longer hangs
ASK_BOUND = 15.0  # seconds for a rotation, a pause, a resume; the server gives up after 10
_NOBODY_TEXT = "no admin socket in {}. Is a server running, as this user, and with the same DRAIN_RUNTIME_DIR?"

F = TypeVar("F", bound=Callable[..., Any])


def socket_option(command: F) -> F:
    """`--socket`, which all have."""
    text = "Ask there; may be repeated.  [default: all in the run-time directory]"
    return click.option("--socket", "given", multiple=True, metavar="PATH", help=text)(command)


def paths(command: str, given: Sequence[str]) -> list[str]:
    """The sockets to ask. Exits where there is none, or where they lie in a directory that others may write to."""
    if given:
        return list(given)
    try:
        directory, found = _runtime_dir.where(), there()
    except ConfigurationError as error:
        end(command, str(error), FORBIDDEN)
    if not found:
        end(command, _NOBODY_TEXT.format(directory), UNREACHABLE)
    return found


def there() -> list[str]:
    """The sockets in the run-time directory. Raises ConfigurationError where it is not ours."""
    if not os.path.lexists(_runtime_dir.where()):  # asking is no reason to make it
        return []
    return sockets(str(_runtime_dir.runtime_dir()))


def interval_option(text: str) -> Callable[[F], F]:
    """`--interval`, of what goes on."""
    seconds = click.FloatRange(0.1, 3600)
    return click.option("--interval", type=seconds, default=1.0, show_default=True, metavar="SECONDS", help=text)


def json_option(command: F) -> F:
    """`--json`, for what is told of each process."""
    return click.option("--json", "as_json", is_flag=True, help="JSON, one process a line.")(command)


def named(call: Call, line: Mapping[str, Any] | None = None) -> str:
    """The process in the words of every line that is printed."""
    pid = line.get("pid") if line is not None else call.pid
    return f"[{pid}]" if pid else f"[{os.path.basename(call.path)}]"


def statuses(found: Sequence[str]) -> tuple[list[tuple[Call, dict[str, Any]]], list[Call]]:
    """(Who answered, and what; who did not.)"""
    calls = [Call(path, {"command": "status"}, anywhere=True) for path in found]
    told = [(call, line) for call, line in talk(calls, time.monotonic() + STATUS_BOUND) if line["kind"] == "status"]
    answered = {id(call) for call, _ in told}
    return told, [call for call in calls if id(call) not in answered]


def without_led(found: Sequence[str]) -> list[str]:
    """Without the workers whose parent is there too: it passes on what it is asked, and twice is once too often."""
    told, _ = statuses(found)
    led = {
        worker.get("pid")
        for _, line in told
        if line.get("role") == "parent"
        for worker in line.get("workers") or ()
        if isinstance(worker, dict)
    }
    dropped = {call.path for call, line in told if line.get("role") == "worker" and line.get("pid") in led}
    return [path for path in found if path not in dropped]


def ask(
    command: str, found: Sequence[str], request: Mapping[str, object], *, within: float, given: bool
) -> tuple[list[Call], Iterator[tuple[Call, dict[str, Any]]]]:
    """Ask all at once: the calls, and their lines as they come."""
    calls = [Call(path, request, anywhere=given) for path in found]
    return calls, talk(calls, time.monotonic() + within)


def conclude(command: str, calls: Sequence[Call], *, given: bool) -> NoReturn:
    """Say who did not do it, and exit with the code that sums it up."""
    # A file that a killed process left is no server, and neither is one of another container that shares the directory.
    passed_over = () if given else (Outcome.ABSENT, Outcome.ELSEWHERE)
    for call in calls:
        if call.outcome is not Outcome.DONE:
            what = "passed over" if call.outcome in passed_over else _words(call)
            about = call.error if call.outcome is Outcome.REFUSED else f"{call.path} {call.error}"
            click.echo(f"drain {command}: {named(call)} {what}: {about}", err=True)
    counted = [call for call in calls if call.outcome not in passed_over]
    if not counted or all(call.outcome is Outcome.ABSENT for call in counted):
        end(command, "nobody is there to ask.", UNREACHABLE)
    if all(call.outcome is Outcome.FOREIGN for call in counted):
        sys.exit(FORBIDDEN)
    sys.exit(DONE if all(call.outcome is Outcome.DONE for call in counted) else FOUND)


def _words(call: Call) -> str:
    return {Outcome.REFUSED: call.code or "refused", Outcome.LATE: "no answer"}.get(
        call.outcome or Outcome.LATE, "failed"
    )


def simply(command: str, given: Sequence[str], done: Callable[[dict[str, Any]], str], *, as_json: bool) -> NoReturn:
    """A command that is asked of all and answered with one line: `done` makes it of the last one."""
    found = paths(command, given)
    found = found if given else without_led(found)
    request = {"command": command, "reason": f"drain {command}"}
    calls, lines = ask(command, found, request, within=ASK_BOUND, given=bool(given))
    for _ in lines:
        pass
    for call in calls:
        if as_json:
            click.echo(ended_json(call))
        elif call.outcome is Outcome.DONE:
            click.echo(f"{named(call)} {done(call.end)}")
    conclude(command, calls, given=bool(given))


def ended_json(call: Call, **more: object) -> str:
    """How a call ended, on one line."""
    about = {"pid": call.pid, "socket": call.path, "outcome": call.outcome.value if call.outcome is not None else None}
    told = {name: value for name, value in call.end.items() if name not in ("kind", "id")}
    return json.dumps({**about, "error": call.error, **told, **more})


def connections(number: object) -> str:
    """A number of connections, in words."""
    return "1 connection" if number == 1 else f"{number} connections"


def printable(text: object) -> str:
    """What a server said, fit for a terminal."""
    return "".join(char if char.isprintable() else "?" for char in str(text))
