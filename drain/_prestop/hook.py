"""Asks all servers of this container to drain, at once, and waits until they have."""

import os
from collections.abc import Sequence
from typing import Any

from drain._admin.client import Call, Outcome, sockets, talk
from drain._prestop.directory import directory
from drain._prestop.exits import DRAINED, NOT_OURS, PROTOCOL, TIMEOUT, UNAVAILABLE, ExitError
from drain._prestop.options import Options
from drain._prestop.stderr import Stderr

# The worst of what became of the calls is the exit code, in this order.
_CODES = (
    (Outcome.LATE, TIMEOUT),
    (Outcome.REFUSED, PROTOCOL),
    (Outcome.GARBLED, PROTOCOL),
    (Outcome.FOREIGN, NOT_OURS),
    (Outcome.DONE, DRAINED),
    (Outcome.GONE, DRAINED),  # what has ended takes no call any more, which is what we wait for
)
_ASK_WHERE = "Does the server listen, with admin=True, as this user and with the same DRAIN_RUNTIME_DIR?"


def drain(options: Options, stderr: Stderr, began: float) -> int:
    """Returns the exit code, by `began` (of time.monotonic()) plus the timeout at the latest.

    Raises ExitError where there is nobody to ask.
    """
    paths = list(dict.fromkeys(options.sockets)) or _found()
    request = {"command": "drain", "reason": options.reason, "until": options.until, "hold": True}
    calls = [Call(path, request, anywhere=bool(options.sockets)) for path in paths]
    states: dict[Call, str] = {}
    parents: set[Call] = set()
    for call, line in talk(calls, began + options.timeout):
        if line["kind"] == "phase":
            states[call] = str(line.get("state"))
            if "pid" in line:  # a worker's, told by its parent
                parents.add(call)
        if text := _told(line):
            stderr.say(f"[{_name(call)}] {_who(line, call in parents)}{text}")
    return _ended(calls, states, options, stderr)


def _found() -> list[str]:
    where = directory()
    try:
        paths = sockets(where)
    except OSError as error:
        raise ExitError(NOT_OURS, f"run-time directory {where}: {error.strerror}") from error
    if not paths:
        raise ExitError(UNAVAILABLE, f"no drain server found in {where}. {_ASK_WHERE}")
    return paths


def _who(line: dict[str, Any], worker: bool) -> str:
    """Which one of a process's, where there may be several."""
    number = line.get("server")
    return f"{'worker' if worker else 'server'} {number}: " if number or (worker and number is not None) else ""


def _told(line: dict[str, Any]) -> str:
    """A line of an answer, for people. What a newer server may say besides is passed over."""
    if line["kind"] == "phase" and line.get("state") != "stopped":  # its report says that
        left = line.get("time_left")
        bound = f", at most {left:.0f} s left" if isinstance(left, int | float) else ""
        return f"{line.get('state')}{bound}"
    if line["kind"] == "report" and isinstance(report := line.get("report"), dict):
        duration = report.get("duration")
        took = f" in {duration:.2f} s" if isinstance(duration, int | float) else ""
        return f"drained{took}: {report.get('finished')} calls finished, {report.get('cancelled')} cancelled"
    return ""


def _ended(calls: Sequence[Call], states: dict[Call, str], options: Options, stderr: Stderr) -> int:
    for call in calls:
        if call.outcome is Outcome.LATE:
            state = f"is still {states[call]}" if call in states else "has not answered: it may be stopped, or hang"
            stderr.error(f"[{_name(call)}] {state}, and the timeout of {options.timeout:g} s is over")
        elif call.outcome is Outcome.GONE:
            stderr.error(
                f"[{_name(call)}] hung up before it said that it is drained: its process has ended, or is about to"
            )
        elif call.outcome is Outcome.REFUSED:
            stderr.error(f"[{_name(call)}] refused: {call.error} ({call.code})")
        elif call.outcome in (Outcome.GARBLED, Outcome.FOREIGN):
            stderr.error(f"[{_name(call)}] {call.error}")
    passed_over = [call for call in calls if call.outcome in (Outcome.ABSENT, Outcome.ELSEWHERE)]
    if passed_over:
        stderr.say("passed over: " + "; ".join(f"{_name(call)} {call.error}" for call in passed_over))
    outcomes = {call.outcome for call in calls}
    for outcome, code in _CODES:
        if outcome in outcomes:
            return code
    raise ExitError(UNAVAILABLE, f"no drain server answers at {', '.join(call.path for call in calls)}. {_ASK_WHERE}")


def _name(call: Call) -> str:
    return str(call.pid) if call.pid else os.path.basename(call.path)
