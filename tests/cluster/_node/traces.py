"""What the cluster leaves on a machine, and its removal: after a run, and before one, in case the last was killed.

Only what is ours by its place or name is touched: processes below those with our folders in their command line, mounts, addresses,
pods' network namespaces, kube-proxy's rules. Where our folder does not exist, nothing is ours.
"""

import contextlib
import ipaddress
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.cluster._node import places
from tests.integration._servers.waiting import until

END_BOUND = 20.0
COMMAND_BOUND = 30.0
_PODS = ipaddress.IPv4Network(places.PODS)


def clear() -> list[str]:
    """Remove everything. Returns what there was, in words."""
    found = left()
    if not found:
        return []
    _end_processes()
    for each in [*_mounts(), *_namespaces()]:
        _run("umount", "--lazy", each)
    for each in _namespaces():  # a pod's veth goes with it
        Path(each).unlink(missing_ok=True)
    for address in _addresses():
        _run("ip", "address", "del", f"{address}/32", "dev", "lo")
    _drop_rules()
    for book in _books():
        book.unlink(missing_ok=True)
    for folder in (places.STATE, places.RUN):
        shutil.rmtree(folder, ignore_errors=True)
    return found


def left() -> list[str]:
    """What is there, in words."""
    folders = [each for each in (places.STATE, places.RUN) if each.exists()]
    found = [f"process {pid}: {_command(pid)[:120]}" for pid in _processes()]
    found += [f"mount {each}" for each in _mounts()]
    found += [f"address {each} on lo" for each in _addresses()]
    found += [f"network namespace {each}" for each in _namespaces()]
    found += [f"chain {each}" for each in chains()] if folders else []
    found += [str(each) for each in [*folders, *_books()]]
    return found


def chains() -> list[str]:
    """kube-proxy's: ours, if our folder exists, else another Kubernetes node's."""
    saved = _run("iptables-save") + _run("ip6tables-save")
    return sorted(set(re.findall(r"^:(KUBE-\S+)", saved, re.MULTILINE)))


def sent_to() -> set[str]:
    """The pods' addresses, with ports, to which kube-proxy's rules send now."""
    return set(re.findall(r"--to-destination (\S+)", _run("iptables-save", "--table", "nat")))


def _end_processes() -> None:
    def gone() -> bool:
        there = list(_processes())
        for pid in there:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not there

    until(gone, END_BOUND, every=0.05)


def _processes() -> Iterator[int]:
    """Daemons and shims have our folders in their command line; the pods' processes are below the shims."""
    parents = {pid: parent for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if (parent := _parent(pid))}
    ours = {pid for pid in parents if any(f"{each}/" in _command(pid) for each in (places.RUN, places.STATE))}
    ours -= {os.getpid(), os.getppid()}
    while below := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= below
    return iter(sorted(ours))


def _parent(pid: int) -> int | None:
    """None: it is gone, or ended already and only waits for its parent."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return None if text[0] == "Z" else int(text[1])


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _mounts() -> list[str]:
    """The deepest first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((each for each in points if each.startswith((f"{places.STATE}/", f"{places.RUN}/"))), reverse=True)


def _addresses() -> list[str]:
    shown = _run("ip", "-o", "address", "show", "dev", "lo")
    return [each for each in places.NODES.values() if f" {each}/32 " in shown]


def _namespaces() -> list[str]:
    """containerd calls them cni-<uuid>; ours have an address of our pods, or none any more."""
    return [str(each) for each in sorted(Path("/run/netns").glob("cni-*")) if _is_ours(each.name)]


def _is_ours(name: str) -> bool:
    shown = re.findall(r" inet (\S+)/\d+ ", _run("ip", "-n", name, "-o", "-4", "address", "show", "scope", "global"))
    return all(ipaddress.IPv4Address(each) in _PODS for each in shown) and places.STATE.exists()


def _books() -> list[Path]:
    """libcni's, at a place that nobody can choose."""
    return list(Path("/var/lib/cni/results").glob(f"{places.NETWORK}-*"))


def _drop_rules() -> None:
    """All that kube-proxy made names a chain of its own; `kube-proxy --cleanup` leaves some of them."""
    for command in ("iptables", "ip6tables"):
        kept = "".join(line for line in _run(f"{command}-save").splitlines(keepends=True) if "KUBE-" not in line)
        if kept:
            _run(f"{command}-restore", text=kept)


def _run(*command: str, text: str | None = None) -> str:
    """What it prints; what goes wrong shows in what is left."""
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=COMMAND_BOUND, check=False,
            env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
        )  # fmt: skip
    except FileNotFoundError:
        return ""
    return done.stdout
