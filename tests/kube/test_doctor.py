"""`drain doctor` on what a real API server has, and with what a real account may see."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kube._cluster.cluster import Cluster
from tests.kube._cluster.namespace import RBAC, Namespace

GOOD = Path(__file__).parents[1] / "unit" / "doctor" / "good" / "drain-server.yaml"
PROGRAM = [sys.executable, "-c", "import sys; from drain._cli import main; sys.exit(main())", "doctor"]
ROOTS = {
    "Deployment": "apis/apps/v1", "HorizontalPodAutoscaler": "apis/autoscaling/v2", "PodDisruptionBudget": "apis/policy/v1",
    "Service": "api/v1", "ServiceAccount": "api/v1", "Role": "apis/rbac.authorization.k8s.io/v1",
    "RoleBinding": "apis/rbac.authorization.k8s.io/v1",
}  # fmt: skip
READ = [
    {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets", "daemonsets"], "verbs": ["get", "list"]},
    {"apiGroups": [""], "resources": ["services", "serviceaccounts"], "verbs": ["list"]},
    {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": ["list"]},
    {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": ["list"]},
    {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses"], "verbs": ["list"]},
]


def put(namespace: Namespace, *, without: tuple[str, ...] = ()) -> None:
    """The good manifest, in this namespace; kinds may be left out."""
    for each in yaml.safe_load_all(GOOD.read_text().replace("namespace: shop", f"namespace: {namespace.name}")):
        if each["kind"] not in without:
            plural = each["kind"].lower() + "s"
            namespace.api.create(f"/{ROOTS[each['kind']]}/namespaces/{namespace.name}/{plural}", each)


def account(namespace: Namespace, rules: list[dict[str, Any]], *, reviews: bool) -> dict[str, Any]:
    """A user for a kubeconfig, who may do that; `reviews`: and ask what others may."""
    name, api = "doctor", namespace.api
    api.create(f"/api/v1/namespaces/{namespace.name}/serviceaccounts", {"metadata": {"name": name}})
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace.name}
    group = "rbac.authorization.k8s.io"
    api.create(f"{RBAC}/namespaces/{namespace.name}/roles", {"metadata": {"name": name}, "rules": rules})
    role = {"apiGroup": group, "kind": "Role", "name": name}
    binding = {"metadata": {"name": name}, "roleRef": role, "subjects": [subject]}
    api.create(f"{RBAC}/namespaces/{namespace.name}/rolebindings", binding)
    if reviews:
        whole = f"doctor-{namespace.name}"
        rule = {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]}
        api.create(f"{RBAC}/clusterroles", {"metadata": {"name": whole}, "rules": [rule]})
        role = {"apiGroup": group, "kind": "ClusterRole", "name": whole}
        binding = {"metadata": {"name": whole}, "roleRef": role, "subjects": [subject]}
        api.create(f"{RBAC}/clusterrolebindings", binding)
    namespace._until_allowed(name, "list", True, "apps", "deployments")
    return {"token": namespace.token(name)}


def doctor(kubeconfig: Path, *words: str, **named: str) -> "subprocess.CompletedProcess[str]":
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KUBERNETES_")}
    return subprocess.run(
        [*PROGRAM, "--kubeconfig", str(kubeconfig), "--json", *words],
        capture_output=True, text=True, timeout=60, check=False, env={**environ, **named},
    )  # fmt: skip


def found(kubeconfig: Path, *words: str) -> tuple[int, dict[str, str], dict[str, Any]]:
    """(Exit code, rule -> severity, all that was told.)"""
    done = doctor(kubeconfig, *words)
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)
    return done.returncode, {each["rule"]: each["severity"] for each in told["findings"]}, told


@pytest.fixture
def kubeconfig(cluster: Cluster, namespace: Namespace, tmp_path: Path) -> Path:
    user = account(namespace, READ, reviews=True)
    return namespace.kubeconfig(tmp_path / "config", cluster.url, user)


def test_a_good_one(kubeconfig: Path, namespace: Namespace) -> None:
    """Also with all the defaults that the API server has put in."""
    put(namespace)
    code, rules, told = found(kubeconfig, "-n", namespace.name, "deploy/orders")
    assert (code, rules, told["notes"]) == (0, {}, [])
    assert told["judged"] == [f"Deployment {namespace.name}/orders"]
    code, rules, told = found(kubeconfig, "-n", namespace.name)  # all of the namespace
    assert (code, rules) == (0, {})
    assert len(told["judged"]) == 2


def test_what_was_changed_by_hand(kubeconfig: Path, namespace: Namespace) -> None:
    put(namespace)
    api, root = namespace.api, f"/apis/apps/v1/namespaces/{namespace.name}/deployments/orders"
    api.patch(root, {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}})
    api.patch(f"/api/v1/namespaces/{namespace.name}/services/orders", {"spec": {"sessionAffinity": "ClientIP"}})
    code, rules, told = found(kubeconfig, "-n", namespace.name, "deploy/orders")
    assert (code, rules) == (3, {"all-at-once": "error", "session-affinity": "warning"})
    assert {each["source_file"] for each in told["findings"]} == {"the cluster"}


def test_rights_are_asked_for(kubeconfig: Path, namespace: Namespace) -> None:
    """Of the account that the pods have, by whoever may ask: no Role needs to be read."""
    put(namespace, without=("RoleBinding",))
    code, rules, _ = found(kubeconfig, "-n", namespace.name, "deploy/orders")
    assert (code, rules) == (1, {"rbac-missing": "warning"})
    code, rules, _ = found(kubeconfig, "-n", namespace.name, "deploy/web")  # a client has no endpoints then
    assert (code, rules) == (3, {"rbac-missing": "error"})


def test_who_may_see_little(cluster: Cluster, namespace: Namespace, tmp_path: Path) -> None:
    """What cannot be looked at is told; what can is judged."""
    put(namespace, without=("RoleBinding",))
    few = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list"]}]
    kubeconfig = namespace.kubeconfig(tmp_path / "few", cluster.url, account(namespace, few, reviews=False))
    code, rules, told = found(kubeconfig, "-n", namespace.name, "deploy/orders")
    assert (code, rules) == (1, {"single-replica": "warning"})  # the autoscaler was not seen
    assert len(told["notes"]) == 5
    assert any("may not list horizontalpodautoscalers.autoscaling" in each for each in told["notes"])


def test_who_may_see_nothing(cluster: Cluster, namespace: Namespace, tmp_path: Path) -> None:
    put(namespace)
    kubeconfig = namespace.kubeconfig(tmp_path / "none", cluster.url, {"token": namespace.token(namespace.account())})
    done = doctor(kubeconfig, "-n", namespace.name, "deploy/orders")
    assert done.returncode == 77
    assert f'may not get deployments.apps in namespace "{namespace.name}"' in done.stderr


def test_there_is_no_such_thing(kubeconfig: Path, namespace: Namespace) -> None:
    done = doctor(kubeconfig, "-n", namespace.name, "deploy/none")
    assert done.returncode == 69
    assert 'deployments.apps "none" not found (404 Not Found)' in done.stderr


def test_in_a_pod(cluster: Cluster, namespace: Namespace, tmp_path: Path) -> None:
    """As the pod's own account (SelfSubjectAccessReview): with its right, and without one verb of it."""
    host, port = cluster.url.removeprefix("https://").split(":")
    for verbs, rules in ((("list", "watch"), []), (("list",), ["not-permitted"])):
        name = "-".join(verbs)
        folder = namespace.mount(tmp_path / name, namespace.token(namespace.account(name, verbs)))
        environ = {
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": port,
            "DRAIN_SERVICE_ACCOUNT_DIR": str(folder),
            "DRAIN_RUNTIME_DIR": str(tmp_path / "alone"),
        }
        done = subprocess.run(
            [*PROGRAM, "--json"], capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environ}
        )
        told = json.loads(done.stdout)
        named = [each["rule"] for each in told["findings"] if not each["rule"].startswith("pid1")]  # this machine's
        assert named == rules
        assert not any("not looked at" in each for each in told["notes"])
