"""The cluster itself. First of all tests: the one that all others use is begun here, over the remains of one that was killed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests._parts import kubernetes
from tests.cluster._node import images, places, traces
from tests.cluster._node.cluster import Cluster
from tests.cluster._node.kubectl import Kubectl
from tests.cluster._scene import manifests

ROOT = Path(__file__).parents[2]
BOUND = 120.0

pytestmark = pytest.mark.own_node


def test_it_survives_a_run_that_was_killed(request: pytest.FixtureRequest) -> None:
    """kill -9 of what holds a cluster in which a pod runs: what is left of it (first asserted) does not matter to the next one."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.cluster", "up"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        try:
            said = next((line for line in holder.stdout if line.startswith("up, ")), "")
            assert said, f"it ended with {holder.wait(BOUND)}"
            _run_a_pod(Kubectl(kubernetes.ready(("kubectl",), print)["kubectl"], places.STATE / "admin.kubeconfig"))
        finally:
            holder.kill()
    left = traces.left()
    for kind in ("process", "mount", "address", "network namespace", "chain KUBE-"):
        assert any(each.startswith(kind) for each in left), f"no {kind} is left: this shows nothing of it\n{left}"
    cluster: Cluster = request.getfixturevalue("cluster")
    assert cluster.kubectl("get", "nodes", "-o", "name") == "node/node1\n"
    assert cluster.kubectl.within("default").items("pods") == []


def _run_a_pod(kubectl: Kubectl) -> None:
    room = kubectl.within("default")
    room.apply(
        *manifests.account("server"),
        manifests.server("web", images.LOAD, "programs.serve", "drain", "sync", replicas=1),
    )
    room("rollout", "status", "deployment/web", "--timeout=60s", bound=70)
