"""May this process say goodbye the lossless way? Decided once per process and flavour, never guessed.

What a grpcio version can do is known by measurement (KNOWN; tests/versions checks every row), and where it is not known a
bounded probe in a subprocess of the same interpreter finds out: it starts such a server, fires every bad ending at it, rotates
and drains it (probe.py). Only a yes turns lossless GOAWAY on; anything else is the classic way, with the reason and the remedy.
"""

import enum
import functools
import json
import os
import subprocess
import sys
from dataclasses import dataclass

import grpc

from drain import _guard
from drain._runtime_dir import runtime_dir
from drain.errors import ConfigurationError

PROBE_TIMEOUT = 30.0


class Needs(enum.Enum):
    """What a grpcio version needs for lossless GOAWAY."""

    NOTHING = "nothing"
    CURE = "the environment guard"
    NEWER = "a newer grpcio"


# Measured, each of them, with probe.py: tests/versions keeps watch over the edges. Before 1.82 grpc.aio cannot be given a config
# fetcher; from 1.84 on an xDS server aborts the process without the cure.
_OLD = ("1.76.0", "1.78.0", "1.78.2", "1.80.0", "1.80.1", "1.81.0", "1.81.2")
_GOOD = ("1.82.1", "1.82.3", "1.83.0", "1.83.1", "1.83.2")
_AILING = ("1.84.0", "1.84.1", "1.84.2", "1.85.0", "1.85.1", "1.85.3")
_BOTH = {**dict.fromkeys(_GOOD, Needs.NOTHING), **dict.fromkeys(_AILING, Needs.CURE)}
KNOWN: dict[str, dict[str, Needs]] = {
    "sync": {**dict.fromkeys(_OLD, Needs.NOTHING), **_BOTH},
    "aio": {**dict.fromkeys(_OLD, Needs.NEWER), **_BOTH},
}
_RUN_PROBE = "from drain._grpc import probe; import sys; probe.main(sys.argv[1])"
_PLACE = "set DRAIN_RUNTIME_DIR to a folder of your own"
_SWITCH_ON = "import drain before grpc, or start the program with `drain exec -- COMMAND`"


@dataclass(frozen=True, slots=True)
class Capability:
    """The verdict: `lossless` or not, `reason` for people, `remedy` where one is known."""

    lossless: bool
    reason: str
    remedy: str = ""


@functools.cache
def capability(flavour: str) -> Capability:
    """What this process can do for "sync" or "aio" servers. May run a subprocess, once (an unknown grpcio only)."""
    version = grpc.__version__
    needs = KNOWN[flavour].get(version)
    if needs is Needs.NOTHING:
        return Capability(True, f"grpcio {version} is known to be good")
    if needs is Needs.NEWER:
        return Capability(
            False,
            f"grpcio {version} has no way to send GOAWAY without loss from {flavour} servers",
            "use grpcio 1.82 or newer",
        )
    if needs is Needs.CURE and _guard.cured:
        return Capability(
            True, f"grpcio {version} is known to be good with {_guard.VARIABLE}={_guard.CURE}, which is in force"
        )
    if needs is Needs.CURE:
        return Capability(False, f"grpc {version} was imported before drain, without {_guard.VARIABLE}={_guard.CURE}: "
                                 "with it an xDS server would abort the process", _SWITCH_ON)  # fmt: skip
    return _probe(flavour, version)


def _probe(flavour: str, version: str) -> Capability:
    """Ask a subprocess in the same condition as this one: cured or not."""
    environ = {key: value for key, value in os.environ.items() if key != _guard.VARIABLE}
    if (experiments := os.environ.get(_guard.VARIABLE) if _guard.cured else _guard.at_birth()) is not None:
        environ[_guard.VARIABLE] = experiments
    command = [sys.executable, "-c", ("" if _guard.cured else "import grpc; ") + _RUN_PROBE, flavour]
    remedy = "use a grpcio version of README's table" if _guard.cured else _SWITCH_ON
    try:
        runtime_dir()  # the probe has a control plane, too, and whoever has no place for that is to hear of it by name
    except ConfigurationError as error:
        return Capability(False, f"grpcio {version} is not known, and there is no place to probe it: {error}", _PLACE)
    try:
        done = subprocess.run(command, env=environ, capture_output=True, timeout=PROBE_TIMEOUT, check=False, text=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Capability(False, f"grpcio {version} is not known, and the probe did not answer: {error}", remedy)
    try:
        verdict = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return Capability(
            False, f"grpcio {version} is not known, and the probe died (exit code {done.returncode})", remedy
        )
    if verdict.get("lossless") is True:
        return Capability(True, f"grpcio {version} is not known, but passed the probe")
    return Capability(False, f"grpcio {version} is not known, and failed the probe: {verdict.get('reason')}", remedy)
