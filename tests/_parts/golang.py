"""A Go that is new enough, and programs built from modules."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests._parts import debian
from tests._parts.making import PartMissingError, Say, cache, locked, run

GO = "1.26.8"  # Kubernetes 1.37 wants 1.26.0 at least; used when the machine's own go is too old to fetch it by itself


def environment() -> Mapping[str, str]:
    """Without cgo no C compiler is needed; versions are fixed by what is written here, not by a workspace of the user's."""
    fixed = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod -buildvcs=false", "GOWORK": "off", "GOTOOLCHAIN": "auto"}
    return {**os.environ, **fixed}


def build(go: str, package: str, made: Path, room: Path, say: Say, *, flags: str = "-s -w") -> None:
    """`go build`, in `room`, where go.mod is; the program appears under its name when it is whole."""
    unfinished = made.with_name(f".{made.name}.new")
    command = ["nice", go, "build", "-trimpath", "-ldflags", flags, "-o", str(unfinished), package]
    run(f"building {made.name}", command, room, say, environment=environment())
    unfinished.rename(made)


def program(name: str, sources: dict[str, str], package: str, say: Say, *, version: str) -> Path:
    """A program of one small module of ours (file -> text): from the cache, else built now. Raises PartMissingError."""
    room = cache(f"{name}-{version}")
    made = room / name
    if made.exists():
        return made
    with locked(room / "lock", name, say):
        if not made.exists():
            say(f"Building {name} {version} from Go modules, once, into {room}.")
            source = room / "src"
            source.mkdir(exist_ok=True)
            for file, text in sources.items():
                (source / file).write_text(text)
            go = toolchain(source, say)
            run(f"{name}: resolving modules", [go, "mod", "tidy"], source, say, environment=environment())
            build(go, package, made, source, say)
    return made


def toolchain(room: Path, say: Say) -> str:
    """A go that is new enough, or that fetches one that is: from 1.21 on each does that by itself."""
    found = shutil.which("go") or str(debian.ready({"go": "golang-go"}, say)["go"])
    version = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True, timeout=60, check=True).stdout
    numbers = re.match(r"go(\d+)\.(\d+)", version)
    if numbers is not None and (int(numbers[1]), int(numbers[2])) >= (1, 21):
        return found
    architecture = subprocess.run([found, "env", "GOARCH"], capture_output=True, text=True, timeout=60, check=True)
    there = downloaded(found, f"golang.org/toolchain@v0.0.1-go{GO}.linux-{architecture.stdout.strip()}", room, say)
    folder = Path(there["Dir"])
    for tool in [*(folder / "bin").iterdir(), *(folder / "pkg" / "tool").rglob("*")]:
        if tool.is_file():  # a module's files are not executable
            tool.chmod(0o555)
    return str(folder / "bin" / "go")


def downloaded(go: str, module: str, room: Path, say: Say) -> dict[str, str]:
    """What `go mod download` says of it: Dir, GoMod ... Raises PartMissingError."""
    if not (room / "go.mod").exists():
        (room / "go.mod").write_text("module tools\n")
    answer = run(
        f"downloading {module}", [go, "mod", "download", "-json", module], room, say, environment=environment()
    )
    try:
        found: dict[str, str] = json.loads(answer[answer.index("{") : answer.rindex("}") + 1])
    except ValueError as error:
        raise PartMissingError(f"go mod download {module} answered {answer[:500]!r}") from error
    return found
