"""The programs of a control plane: found in KUBEBUILDER_ASSETS or in the cache, else installed (etcd) and built (Kubernetes).

No image and no archive is downloaded: Kubernetes is built from its Go modules, etcd is Debian's.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

KUBERNETES = "1.37.2"
GO = "1.26.8"  # Kubernetes 1.37 wants 1.26.0 at least; used when the machine's own go is too old to fetch it by itself
PROGRAMS = ("kube-apiserver", "kube-controller-manager")
BUILD_BOUND = 3600.0  # seconds; 2 slow cores with an empty Go cache take 10 - 15 minutes
INSTALL_BOUND = 600.0

_VERSION = "k8s.io/component-base/version.gitVersion"

Say = Callable[[str], None]


class PartMissingError(Exception):
    """A program that the tests need cannot be had; the message says what was tried and what to do."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Where the programs are."""

    etcd: Path
    apiserver: Path
    controllers: Path


def cache() -> Path:
    """Where what is built stays."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "grpc-drain" / f"kubernetes-{KUBERNETES}"


def ready(say: Say) -> Parts:
    """All programs, made now where they are missing. Raises PartMissingError. Several processes may ask at once: one builds."""
    if (found := _found()) is not None:
        return found
    room = cache()
    room.mkdir(parents=True, exist_ok=True)
    with _locked(room / "lock", say):
        if _etcd() is None:
            _install("etcd-server", "etcd", say)
        missing = [each for each in PROGRAMS if _program(each) is None]
        if missing:
            _build(missing, room, say)
    if (found := _found()) is None:
        raise PartMissingError(f"etcd, {' or '.join(PROGRAMS)} is still missing after the build; look into {room}")
    return found


def _found() -> Parts | None:
    etcd, programs = _etcd(), [_program(each) for each in PROGRAMS]
    if etcd is None or programs[0] is None or programs[1] is None:
        return None
    return Parts(etcd, programs[0], programs[1])


def _program(name: str) -> Path | None:
    return _executable(name, *_assets(), cache() / "bin")


def _etcd() -> Path | None:
    return _executable("etcd", *_assets(), *(Path(each) for each in os.get_exec_path()))


def _assets() -> tuple[Path, ...]:
    given = os.environ.get("KUBEBUILDER_ASSETS")
    return (Path(given),) if given else ()


def _executable(name: str, *folders: Path) -> Path | None:
    return next((each / name for each in folders if os.access(each / name, os.X_OK)), None)


@contextlib.contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
    with path.open("w") as lock:
        end, told = time.monotonic() + BUILD_BOUND, False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise PartMissingError(f"another process holds {path} for longer than {BUILD_BOUND:g} s") from None
                if not told:
                    say(f"Another process prepares Kubernetes {KUBERNETES}; waiting for it ...")
                    told = True
                time.sleep(0.5)
        yield  # released with the file


def _install(package: str, program: str, say: Say) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise PartMissingError(
            f"{program} is missing: install Debian's {package} as root (apt-get install {package}), or set KUBEBUILDER_ASSETS "
            "to a folder with etcd, kube-apiserver and kube-controller-manager"
        )
    # Not started by the package: the tests start their own.
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package],
    ):
        _run(f"{package} (Debian): {command[1]}", command, Path("/"), quiet, INSTALL_BOUND, say)


def _build(missing: list[str], room: Path, say: Say) -> None:
    say(
        f"Building {', '.join(missing)} {KUBERNETES} from Go modules, once, into {room}: about ten minutes on two cores."
    )
    source, programs = room / "src", room / "bin"
    source.mkdir(exist_ok=True)
    programs.mkdir(exist_ok=True)
    go = _go(source, say)
    # Without cgo no C compiler is needed; the versions are fixed by what is written here, not by a workspace of the user's.
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod -buildvcs=false", "GOWORK": "off"}
    environment["GOTOOLCHAIN"] = "auto"
    (source / "tools.go").write_text(_tools())
    (source / "go.mod").write_text(_module(go, source, environment, say))
    _run("resolving modules", [go, "mod", "tidy"], source, environment, BUILD_BOUND, say)
    for name in missing:
        made = programs / f".{name}.new"
        command = [
            go,
            "build",
            "-trimpath",
            "-ldflags",
            f"-s -w -X {_VERSION}=v{KUBERNETES}",
            "-o",
            str(made),
            f"k8s.io/kubernetes/cmd/{name}",
        ]
        _run(f"building {name}", ["nice", *command], source, environment, BUILD_BOUND, say)
        made.rename(programs / name)


def _tools() -> str:
    lines = "".join(f'\t_ "k8s.io/kubernetes/cmd/{each}"\n' for each in PROGRAMS)
    return f"//go:build tools\n\npackage tools\n\nimport (\n{lines})\n"


def _module(go: str, room: Path, environment: Mapping[str, str], say: Say) -> str:
    """k8s.io/kubernetes is no library: its own go.mod points the modules it is split into at folders. We name their versions."""
    command = [go, "mod", "download", "-json", f"k8s.io/kubernetes@v{KUBERNETES}"]
    (room / "go.mod").write_text(f"module kubetools\n\ngo {GO.rpartition('.')[0]}.0\n")
    answer = _run("downloading Kubernetes", command, room, environment, BUILD_BOUND, say)
    theirs = Path(json.loads(answer[answer.index("{") : answer.rindex("}") + 1])["GoMod"]).read_text()
    staged = re.findall(r"(k8s\.io/\S+) => \./staging", theirs)
    version = f"v0.{KUBERNETES.partition('.')[2]}"
    replaced = "".join(f"\t{each} => {each} {version}\n" for each in staged)
    needs = re.search(r"^go (\S+)$", theirs, re.MULTILINE)
    assert needs is not None
    return f"module kubetools\n\ngo {needs[1]}\n\nrequire k8s.io/kubernetes v{KUBERNETES}\n\nreplace (\n{replaced})\n"


def _go(room: Path, say: Say) -> str:
    """A go that is new enough, or that fetches one that is: from 1.21 on each does that by itself."""
    if shutil.which("go") is None:
        _install("golang-go", "go", say)
    found = shutil.which("go")
    assert found is not None
    version = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True, timeout=60, check=True).stdout
    numbers = re.match(r"go(\d+)\.(\d+)", version)
    if numbers is not None and (int(numbers[1]), int(numbers[2])) >= (1, 21):
        return found
    architecture = subprocess.run([found, "env", "GOARCH"], capture_output=True, text=True, timeout=60, check=True)
    module = f"golang.org/toolchain@v0.0.1-go{GO}.linux-{architecture.stdout.strip()}"
    (room / "go.mod").write_text("module kubetools\n")
    answer = _run("downloading Go", [found, "mod", "download", "-json", module], room, os.environ, BUILD_BOUND, say)
    there = Path(json.loads(answer[answer.index("{") : answer.rindex("}") + 1])["Dir"])
    for tool in [*(there / "bin").iterdir(), *(there / "pkg" / "tool").rglob("*")]:
        if tool.is_file():  # a module's files are not executable
            tool.chmod(0o555)
    return str(there / "bin" / "go")


def _run(what: str, command: list[str], room: Path, environment: Mapping[str, str], bound: float, say: Say) -> str:
    """The command's output, with a sign of life every quarter of a minute. Raises PartMissingError."""
    began = time.monotonic()
    say(f"  {what} ...")
    with subprocess.Popen(
        command, cwd=room, env=dict(environment), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            while True:
                try:
                    output, _ = process.communicate(timeout=15)
                    break
                except subprocess.TimeoutExpired:
                    spent = time.monotonic() - began
                    if spent > bound:
                        raise PartMissingError(f"{what}: not done after {bound:g} s: {' '.join(command)}") from None
                    say(f"  {what}: {spent:.0f} s")
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        tail = "\n".join(output.splitlines()[-15:])
        raise PartMissingError(f"{what} failed ({process.returncode}): {' '.join(command)}\n{tail}")
    say(f"  {what}: done after {time.monotonic() - began:.0f} s")
    return output
