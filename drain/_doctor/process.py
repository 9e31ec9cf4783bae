"""The process, or container, that `drain doctor` itself runs in: facts, gathered once. Rules judge them (rules/process.py)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SIGTERM_BIT = 1 << 14  # of SigCgt: signal 15


@dataclass(frozen=True, slots=True)
class Process:
    """What is known of it.

    Attributes:
        called: for people.
        grpcio: its version. lossless: by flavour ("sync", "aio"), why not and what to do; None: it can.
        environ: the environment.
        no_place: why there is no run-time directory; None: there is one.
        first: the command line of PID 1, where this is a pod. catches: whether it catches SIGTERM; None: not known.
        in_cluster: whether this is a pod that may ask the API server.
        refused: what its account may not do, as "list endpointslices".
        unasked: why nobody could be asked for that; empty: somebody was.
        servers: what each running server tells of itself.
    """

    called: str
    grpcio: str
    lossless: Mapping[str, tuple[str, str] | None]
    environ: Mapping[str, str]
    no_place: str | None = None
    first: tuple[str, ...] = ()
    catches: bool | None = None
    in_cluster: bool = False
    refused: tuple[str, ...] = ()
    unasked: str = ""
    servers: tuple[Mapping[str, Any], ...] = field(default=())


def first_process(root: Path = Path("/proc/1")) -> tuple[tuple[str, ...], bool | None]:
    """PID 1's command line, and whether it catches SIGTERM. Of another user's process neither can be read."""
    try:
        words = tuple(filter(None, (root / "cmdline").read_bytes().decode(errors="replace").split("\0")))
        status = (root / "status").read_text()
    except OSError:
        return (), None
    caught = next((each.split()[1] for each in status.splitlines() if each.startswith("SigCgt:")), None)
    return words, None if caught is None else bool(int(caught, 16) & _SIGTERM_BIT)
