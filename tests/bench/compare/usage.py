"""The CPU that processes have used, as the kernel counts it."""

import os
from collections.abc import Iterable
from pathlib import Path

from tests.bench.compare.ways import APP
from tests.cluster._node.node import Node
from tests.cluster._scene.scene import Scene
from tests.proxies._fronts import Front

TICKS = os.sysconf("SC_CLK_TCK")


def serving(scene: Scene, node: Node, front: Front | None) -> float:
    """Seconds so far: the servers' containers, the proxy with its workers, and the callers' sidecars."""
    pids = _with_children([front.pid]) if front is not None else []
    for pod in scene.kubectl.items("pods"):
        status = pod["status"]
        pids += _of(node, status.get("initContainerStatuses", ()))
        if pod["metadata"]["labels"]["app"] == APP:
            pids += _of(node, status.get("containerStatuses", ()))
    return seconds(pids)


def calling(scene: Scene, node: Node) -> float:
    """Seconds so far, of the callers' own containers."""
    found = []
    for pod in scene.kubectl.items("pods", "role=caller"):
        found += _of(node, pod["status"].get("containerStatuses", ()))
    return seconds(found)


def seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes. Raises OSError: one has ended."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def _of(node: Node, statuses: Iterable[dict[str, str]]) -> list[int]:
    found = []
    for each in statuses:
        rows = node.ctr("tasks", "ps", each["containerID"].rpartition("/")[2]).splitlines()[1:]
        found += [int(row.split()[0]) for row in rows]
    return found


def _with_children(pids: list[int]) -> list[int]:
    """nginx works in children of the process that was started."""
    found = list(pids)
    for pid in found:  # it grows
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found
