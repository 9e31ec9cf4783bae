"""What took part, and where."""

import datetime
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests._parts import kubernetes, proxies
from tests.bench import _peer
from tests.cluster._node import images
from tests.cluster._node.node import Node


def about(node: Node, programs: Mapping[str, Path], rounds: int) -> dict[str, object]:
    """Name -> version, and the machine."""
    return {
        "date": datetime.date.today().isoformat(),
        "rounds": rounds,
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, {_memory() / 2**30:.0f} GB, Linux {platform.release()}",
        "Kubernetes": kubernetes.KUBERNETES,
        **_in_image(node),
        **{name: each.partition("==")[2] for name, each in proxies.WHEELS.items()},
        **{name: _said(programs[name]) for name in proxies.DEBIAN},
        **_of_modules((_peer.SOURCES / "go.mod").read_text()),
    }


def _in_image(node: Node) -> dict[str, str]:
    """Of what runs in the pods."""
    code = "import platform, grpc; print(platform.python_version(), grpc.__version__)"
    python, grpcio = node.ctr("run", "--rm", images.LOAD, "versions", "/opt/venv/bin/python", "-c", code).split()
    return {"Python": python, "grpcio": grpcio}


def _said(program: Path) -> str:
    done = subprocess.run([program, "-v"], capture_output=True, text=True, check=True, timeout=30)
    found = re.search(r"\d+(\.\d+)+\S*", done.stdout + done.stderr)
    return found.group() if found else "?"


def _of_modules(text: str) -> dict[str, str]:
    names = {"google.golang.org/grpc": "grpc-go", "github.com/sercand/kuberesolver/v6": "kuberesolver"}
    found = dict(re.findall(r"^\s*(?:require )?(\S+) v(\S+)", text, re.MULTILINE))
    return {name: found[module] for module, name in names.items()}


def _memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
