"""Programs that Debian has."""

import os
import shutil
from pathlib import Path

from tests._parts.making import PartMissingError, Say, on_path, run

INSTALL_BOUND = 600.0


def ready(programs: dict[str, str], say: Say) -> dict[str, Path]:
    """Where these programs are (program -> package), installed now if they are missing. Raises PartMissingError."""
    if missing := {name: package for name, package in programs.items() if on_path(name) is None}:
        install(sorted(set(missing.values())), say)
    found = {name: on_path(name) for name in programs}
    if lost := [name for name, path in found.items() if path is None]:
        raise PartMissingError(f"{', '.join(lost)}: not on PATH, although {', '.join(missing.values())} was installed")
    return {name: path for name, path in found.items() if path is not None}


def install(packages: list[str], say: Say) -> None:
    """Raises PartMissingError: not root, no apt-get, or it failed."""
    names = " ".join(packages)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise PartMissingError(f"missing, and only root on Debian can have it installed here: apt-get install {names}")
    # Services are not started by their packages: the tests start their own.
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    patient = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    bounded = {"environment": quiet, "bound": INSTALL_BOUND}
    run("Debian: update", [*patient, "update"], Path("/"), say, **bounded)  # type: ignore[arg-type]
    wanted = [*patient, "install", "-y", "--no-install-recommends", *packages]
    run(f"Debian: {names}", wanted, Path("/"), say, **bounded)  # type: ignore[arg-type]
