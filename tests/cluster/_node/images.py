"""Images, as OCI archives in the cache: a Debian base, what `examples/Dockerfile` makes of it, the tests' own programs on top.

Built for real with buildah; no registry is asked. An archive is made again when what it is made of has changed.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests._parts.making import PartMissingError, Say, cache, locked, run
from tests.cluster._node.node import PAUSE

ROOT = Path(__file__).parents[3]
PROGRAMS = ROOT / "tests" / "cluster" / "_programs"
BASE = "localhost/grpc-drain-base:1"
SHELLLESS = "localhost/grpc-drain-base-without-shell:1"
GREETER = "localhost/grpc-drain-greeter:test"
GREETER_SHELLLESS = "localhost/grpc-drain-greeter:without-shell"
LOAD = "localhost/grpc-drain-load:test"
LOADED = (GREETER_SHELLLESS, LOAD)  # what a node needs: the other one differs by its shell alone
SUITE = "bookworm"
SHELLS = ("bin/sh", "bin/bash", "bin/dash", "bin/rbash")
DRIVER = "overlay"
KEPT = 2  # archives of an image that stay in the cache


def ready(say: Say) -> dict[str, Path]:
    """The images of the tests (name -> archive), built now where that is due. Raises PartMissingError."""
    room = cache("images")
    with locked(room / "lock", "images", say):
        sources = [ROOT / each for each in ("examples", "drain", "pyproject.toml")]  # what decides how it runs
        digest = _digest([*sources, Path(__file__)])
        greeter, shellless = room / f"greeter-{digest}.tar", room / f"greeter-without-shell-{digest}.tar"
        load = room / f"load-{_digest([*sources, Path(__file__), PROGRAMS])}.tar"
        if not (greeter.exists() and shellless.exists()):
            _base(say)
            _dockerfile(GREETER, BASE, greeter, say)
            _dockerfile(GREETER_SHELLLESS, SHELLLESS, shellless, say)
        if not load.exists():
            _buildah("pull", f"oci-archive:{shellless}")  # the storage may have another day's by that name
            made = _buildah("from", "--pull-never", GREETER_SHELLLESS).strip()
            _buildah("copy", made, str(PROGRAMS), "/app/programs")
            _commit(made, LOAD, load)
        _sweep(room)
    return {GREETER: greeter, GREETER_SHELLLESS: shellless, LOAD: load}


def pause(program: Path) -> Path:
    """What holds a pod's namespaces: that program and nothing else."""
    room = cache("images")
    made = room / f"pause-{_digest([program])}.tar"
    if not made.exists():
        image(PAUSE, program, made)
    return made


def image(name: str, program: Path, archive: Path, *, base: str = "scratch") -> None:
    """An image of one program: a static one, or one that finds its libraries in `base` (a name that buildah knows)."""
    container = _buildah("from", base).strip()
    _buildah("copy", container, str(program), f"/{program.name}")
    _buildah("config", "--user=65532:65532", "--entrypoint", f'["/{program.name}"]', container)
    _commit(container, name, archive)


def _base(say: Say) -> None:
    """Debian with Python, and the same without a shell."""
    if _has(BASE) and _has(SHELLLESS):
        return
    folder = cache("images") / "rootfs"
    shutil.rmtree(folder, ignore_errors=True)
    include = "--include=python3,python3-venv"
    run(
        "Debian base image",
        ["debootstrap", "--variant=minbase", include, SUITE, str(folder), _mirror()],
        Path("/"),
        say,
    )
    for litter in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"):
        shutil.rmtree(folder / litter, ignore_errors=True)
    for name in (BASE, SHELLLESS):
        container = _buildah("from", "scratch").strip()
        _buildah("copy", container, str(folder), "/")
        _buildah("commit", "--rm", container, name)
        for each in SHELLS:
            (folder / each).unlink(missing_ok=True)
    shutil.rmtree(folder)


def _mirror() -> str:
    """Where this machine has its Debian packages from."""
    asked = ["apt-get", "indextargets", "--format", "$(URI)", "Codename: " + SUITE, "Created-By: Packages"]
    answer = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False).stdout
    found = [each.partition("dists/")[0] for each in answer.split() if f"dists/{SUITE}/main" in each]
    if not found:
        raise PartMissingError(
            f"apt knows no mirror of Debian {SUITE}, of which the base image is made: {' '.join(asked)}"
        )
    return found[0]


def _dockerfile(name: str, runtime: str, archive: Path, say: Say) -> None:
    """As a user builds it, but for where pip finds its packages: that is this machine's affair."""
    lent = [each for each in ("/etc/ssl/certs", "/etc/pip.conf") if Path(each).exists()]
    command = [
        *_command("build"),
        "--isolation=chroot",
        "--network=host",
        *(f"--volume={each}:{each}:ro" for each in lent),
        f"--build-arg=BASE={BASE}",
        f"--build-arg=RUNTIME={runtime}",
        "--pull-never",
        "--layers",
        f"--file={ROOT / 'examples' / 'Dockerfile'}",
        f"--tag={name}",
        str(ROOT),
    ]
    run(f"image {name}", command, ROOT, say, bound=900)
    _push(name, archive)


def _commit(container: str, name: str, archive: Path) -> None:
    _buildah("commit", "--rm", container, name)
    _push(name, archive)


def _push(name: str, archive: Path) -> None:
    unfinished = archive.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    _buildah("push", name, f"oci-archive:{unfinished}:{name}")
    unfinished.rename(archive)


def _has(name: str) -> bool:
    return (
        subprocess.run([*_command("inspect"), "--type=image", name], capture_output=True, check=False).returncode == 0
    )


def _buildah(*arguments: str) -> str:
    done = subprocess.run(
        [*_command(arguments[0]), *arguments[1:]], capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode != 0:
        raise PartMissingError(f"buildah {' '.join(arguments)}: {done.stderr.strip()[-1000:]}")
    return done.stdout


def _command(what: str) -> list[str]:
    """In a storage of its own."""
    room = cache("images")
    return ["buildah", f"--root={room / 'storage'}", f"--runroot={room / 'run'}", f"--storage-driver={DRIVER}", what]


def _digest(sources: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for source in sources:
        for each in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if each.is_file() and "__pycache__" not in each.parts:
                found.update(os.fsencode(each.relative_to(source.parent)) + b"\0" + each.read_bytes())
    return found.hexdigest()[:12]


def _sweep(room: Path) -> None:
    """Images of other days take a third of a gigabyte each; so does what they were made of."""
    for kind in ("greeter-[0-9a-f]*", "greeter-without-shell-*", "load-*"):
        for old in sorted(room.glob(f"{kind}.tar"), key=lambda each: each.stat().st_mtime)[:-KEPT]:
            old.unlink()
    unnamed = subprocess.run(
        [*_command("images"), "--filter", "dangling=true", "-q"], capture_output=True, text=True, check=False
    )
    for each in unnamed.stdout.split():
        subprocess.run([*_command("rmi"), each], capture_output=True, check=False)
