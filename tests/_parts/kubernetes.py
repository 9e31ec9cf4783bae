"""Kubernetes' own programs: found in KUBEBUILDER_ASSETS or in the cache, else built from its Go modules. etcd is Debian's."""

import os
import re
from pathlib import Path

from tests._parts import debian, golang
from tests._parts.making import PartMissingError, Say, cache, executable, locked, on_path, run

KUBERNETES = "1.37.2"
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")

_VERSION = "k8s.io/component-base/version.gitVersion"


def ready(names: tuple[str, ...], say: Say) -> dict[str, Path]:
    """Where these programs (and etcd) are, made now if missing. Raises PartMissingError. Of several processes one builds."""
    room = cache(f"kubernetes-{KUBERNETES}")
    if None in (found := {each: _found(each, room) for each in names}).values():
        with locked(room / "lock", f"Kubernetes {KUBERNETES}", say):
            if missing := [each for each in names if _found(each, room) is None]:
                _build(missing, room, say)
        found = {each: _found(each, room) for each in names}
    return {"etcd": _etcd(say), **{name: path for name, path in found.items() if path is not None}}


def _found(name: str, room: Path) -> Path | None:
    return executable(name, *_assets(), room / "bin")


def _etcd(say: Say) -> Path:
    given = executable("etcd", *_assets()) or on_path("etcd")
    return given if given is not None else debian.ready({"etcd": "etcd-server"}, say)["etcd"]


def _assets() -> tuple[Path, ...]:
    """As controller-runtime's envtest has it: a folder with etcd and kube-apiserver."""
    given = os.environ.get("KUBEBUILDER_ASSETS")
    return (Path(given),) if given else ()


def _build(missing: list[str], room: Path, say: Say) -> None:
    say(
        f"Building {', '.join(missing)} {KUBERNETES} from Go modules, once, into {room}: ten minutes or so on two cores."
    )
    source, programs = room / "src", room / "bin"
    source.mkdir(exist_ok=True)
    programs.mkdir(exist_ok=True)
    go = golang.toolchain(source, say)
    (source / "tools.go").write_text(_tools())
    (source / "go.mod").write_text(_module(go, source, say))
    run("resolving modules", [go, "mod", "tidy"], source, say, environment=golang.environment())
    flags = f"-s -w -X {_VERSION}=v{KUBERNETES}"
    for name in missing:
        golang.build(go, f"k8s.io/kubernetes/cmd/{name}", programs / name, source, say, flags=flags)


def _tools() -> str:
    lines = "".join(f'\t_ "k8s.io/kubernetes/cmd/{each}"\n' for each in PROGRAMS)
    return f"//go:build tools\n\npackage tools\n\nimport (\n{lines})\n"


def _module(go: str, room: Path, say: Say) -> str:
    """k8s.io/kubernetes is no library: its own go.mod points the modules it is split into at folders. We name their versions."""
    theirs = Path(golang.downloaded(go, f"k8s.io/kubernetes@v{KUBERNETES}", room, say)["GoMod"]).read_text()
    staged = re.findall(r"(k8s\.io/\S+) => \./staging", theirs)
    version = f"v0.{KUBERNETES.partition('.')[2]}"
    replaced = "".join(f"\t{each} => {each} {version}\n" for each in staged)
    needs = re.search(r"^go (\S+)$", theirs, re.MULTILINE)
    if needs is None:
        raise PartMissingError(f"Kubernetes {KUBERNETES}: its go.mod names no version of Go")
    return f"module kubetools\n\ngo {needs[1]}\n\nrequire k8s.io/kubernetes v{KUBERNETES}\n\nreplace (\n{replaced})\n"
