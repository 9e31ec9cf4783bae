"""The grpc environment guard: runs before grpc is imported, and costs nothing.

In grpcio 1.84.0 - 1.85.3 an xDS-enabled server aborts the whole process (`Check failed: has_value()`) on any call that ends
without initial metadata. The experiment `xds_server_filter_chain_per_route` is the cause; switching it off cures it, but only
if the variable is in the environment before grpc's core reads it, when it is first imported. So `import drain` before
`import grpc` is enough, `drain exec -- COMMAND` does it for a program that cannot be changed, and where neither was done
`drain._grpc.capability` finds out here and keeps to the classic way.
"""

import importlib.util
import os
import re
import sys

VARIABLE = "GRPC_EXPERIMENTS"
EXPERIMENT = "xds_server_filter_chain_per_route"
CURE = f"-{EXPERIMENT}"

# What this process can know of the moment when grpc's core read the variable. None: protect() has not run.
cured: bool | None = None


def with_cure(value: str | None) -> str:
    """The variable's value with the cure appended, unless what is there already ends up with the experiment off."""
    if value is not None and is_cured(value):
        return value
    return f"{value},{CURE}" if value else CURE


def is_cured(value: str | None) -> bool:
    """Whether a value of GRPC_EXPERIMENTS switches the experiment off. The last word on it counts, as in grpc's core."""
    words = [word.strip() for word in (value or "").split(",")]
    mine = [word for word in words if word.lstrip("-") == EXPERIMENT]
    return bool(mine) and mine[-1] == CURE


def protect() -> None:
    """Set the cure if grpc has not been imported yet; otherwise note whether the process was born with it."""
    global cured
    if cured is not None:
        return
    if "grpc._cython.cygrpc" in sys.modules:
        cured = is_cured(at_birth())
    elif _older_than_the_ailment():
        cured = False
    else:
        os.environ[VARIABLE] = with_cure(os.environ.get(VARIABLE))
        cured = True


def _older_than_the_ailment() -> bool:
    """True of grpcio before 1.84: it needs no cure, and before 1.82 it would complain of an unknown experiment on stderr.

    Found from the name of the installed distribution's folder: asking importlib.metadata would cost more than all of drain.
    """
    found = importlib.util.find_spec("grpc")
    if found is None or found.origin is None:
        return False
    try:
        names = os.listdir(os.path.dirname(os.path.dirname(found.origin)))
    except OSError:
        return False
    versions = [match for name in names if (match := re.fullmatch(r"grpcio-(\d+)\.(\d+)\..*\.dist-info", name))]
    return len(versions) == 1 and (int(versions[0][1]), int(versions[0][2])) < (1, 84)


def at_birth() -> str | None:
    """The variable as it was when the process began: what `os.environ` says now may have come after grpc looked."""
    try:
        with open("/proc/self/environ", "rb") as environ:
            entries = environ.read().split(b"\0")
    except OSError:  # not Linux: nothing is known, so nothing is assumed
        return None
    prefix = f"{VARIABLE}=".encode()
    return next((entry[len(prefix) :].decode(errors="replace") for entry in entries if entry.startswith(prefix)), None)
