"""The hook's command line."""

import argparse
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import NoReturn

from drain._prestop.exits import MEANINGS, USAGE, ExitError

GRACE_PERIOD = 30.0  # seconds: Kubernetes' own default of terminationGracePeriodSeconds
_RESERVE = 1.0  # seconds of it that are left for the server's own end
_DELAY = 15.0  # seconds: what everybody's preStop sleep has
_SETTLE = 2.0  # seconds: kube-proxy syncs once a second under churn
_LONGEST = 24 * 3600.0
_REASON_LENGTH = 200  # characters, as the protocol has it
_VARIABLE = "DRAIN_TERMINATION_GRACE_PERIOD"
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_PART = r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)"

_ABOUT = """\
The preStop hook of a pod whose server uses drain: begins the drain of every server in this container, says on stderr how it goes,
and returns when all are drained. The servers then wait for SIGTERM, which Kubernetes sends next, and end at once.

  lifecycle: {preStop: {exec: {command: [python, -m, drain.prestop]}}}

With --standalone, for a server in any language that knows nothing of drain: in place of `sleep 15`, returns as soon as this pod's
endpoint is seen not ready or terminating in every EndpointSlice that has it, and has been for --settle."""


class Options(argparse.Namespace):
    """What was asked for. Durations in seconds.

    Attributes:
        timeout: the hook never takes longer. until: "drained" or "closing". sockets: paths; empty: all in the run-time directory.
        reason: goes into the report. quiet: say errors only. standalone, settle, delay: see the help.
    """

    timeout: float
    until: str
    sockets: list[str]
    reason: str
    quiet: bool
    standalone: bool
    settle: float
    delay: float


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ExitError(USAGE, f"{message}. --help tells more.")


def parsed(arguments: Sequence[str] | None, environ: Mapping[str, str] = os.environ) -> tuple[Options, list[str]]:
    """The options, and warnings to be said. Raises ExitError; SystemExit(0) for --help, which it prints."""
    warnings: list[str] = []
    given = Options()
    _parser().parse_args(arguments, given)
    if given.timeout is None:
        given.timeout = _timeout(environ, warnings)
    _check(given)
    return given, warnings


def seconds(text: str) -> float:
    """Of "25", "2.5", "25s", "1m30s", "500ms" (Go's durations). Raises ValueError."""
    text = text.strip()
    if re.fullmatch(r"\d+\.?\d*|\.\d+", text):
        value = float(text)
    elif re.fullmatch(f"({_PART})+", text):
        value = sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text))
    else:
        raise ValueError(text)
    if not math.isfinite(value) or value > _LONGEST:
        raise ValueError(text)
    return value


def _duration(text: str) -> float:
    try:
        return seconds(text)
    except ValueError:
        wanted = "seconds, or a duration such as 25s, 1m30s or 500ms; 24h at most"
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration: give {wanted}") from None


def _parser() -> argparse.ArgumentParser:
    codes = "\n".join(f"  {code:<4}{meaning}" for code, meaning in MEANINGS.items())
    parser = _Parser(
        prog="drain-prestop",
        description=_ABOUT,
        epilog=f"exit codes:\n{codes}\n  143 ended by SIGTERM",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--timeout",
        type=_duration,
        metavar="DURATION",
        help=f"return after this at the latest [${_VARIABLE} less {_RESERVE:g} s; {GRACE_PERIOD - _RESERVE:g} s without it]",
    )
    add(
        "--until",
        choices=("drained", "closing"),
        help="return when no call is in flight any more, or already when no new one is accepted [drained]",
    )
    add(
        "--socket",
        dest="sockets",
        action="append",
        default=[],
        metavar="PATH",
        help="an admin socket; may be repeated [all]",
    )
    add("--reason", metavar="TEXT", help="what the report says began the drain [preStop]")
    add("--quiet", action="store_true", help="say errors only")
    add("--standalone", action="store_true", help="ask no server: watch this pod's endpoint")
    add(
        "--settle", type=_duration, metavar="DURATION", help=f"stay so long after the endpoint has left [{_SETTLE:g} s]"
    )
    add(
        "--delay",
        type=_duration,
        metavar="DURATION",
        help=f"where the endpoint cannot be looked at: return after this, from the start on [{_DELAY:g} s]",
    )
    return parser


def _timeout(environ: Mapping[str, str], warnings: list[str]) -> float:
    written = environ.get(_VARIABLE, "").strip()
    if written and written.lower() != "none":
        try:
            whole = seconds(written)
        except ValueError:
            # The server would not have started with it; should it run all the same, its drain matters more.
            warnings.append(f"{_VARIABLE}={written!r} is not a duration: {GRACE_PERIOD:g} s are assumed")
        else:
            return max(whole - _RESERVE, whole / 2)
    return GRACE_PERIOD - _RESERVE


def _check(given: Options) -> None:
    """What fits together; and the defaults that depend on it."""
    standalone = {"--settle": given.settle, "--delay": given.delay}
    asking = {"--until": given.until, "--socket": given.sockets, "--reason": given.reason}
    if given.timeout <= 0:
        raise ExitError(USAGE, f"--timeout {given.timeout:g}: must be more than 0.")
    for name, value in (asking if given.standalone else standalone).items():
        if value not in (None, []):
            with_or_not = "cannot be used with" if given.standalone else "needs"
            raise ExitError(USAGE, f"{name} {with_or_not} --standalone.")
    for name, value in standalone.items():
        if value is not None and value > given.timeout:
            raise ExitError(
                USAGE, f"{name} {value:g}: is longer than the timeout of {given.timeout:g} s. Give a larger --timeout."
            )
    given.until = given.until or "drained"
    given.reason = "preStop" if given.reason is None else given.reason
    if not given.reason.isprintable() or not 0 < len(given.reason) <= _REASON_LENGTH:
        raise ExitError(
            USAGE, f"--reason {given.reason[:60]!r}: must be printable text of 1 to {_REASON_LENGTH} characters."
        )
    given.settle = min(_SETTLE, given.timeout) if given.settle is None else given.settle
    given.delay = min(_DELAY, given.timeout) if given.delay is None else given.delay
