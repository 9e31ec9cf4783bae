"""What a server tells a real API server of its drain: Events on its pod, where it may; and `drain report`, which reads them back."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration._servers.calls import Client, code
from tests.integration._servers.process import ServerProcess
from tests.integration._servers.waiting import until
from tests.kube._cluster.cluster import Cluster
from tests.kube._cluster.namespace import RBAC, Namespace

POD, ADDRESS = "web-0", "198.19.128.7"  # nobody connects to it
QUICK = {"announce_min": 0.1, "watch_endpoint": False}
REPORT = [sys.executable, "-c", "import sys; from drain._cli import main; sys.exit(main())", "report"]
OPERATOR = "operator.kubeconfig"
Inside = Callable[..., ServerProcess]


@pytest.fixture
def inside(
    namespace: Namespace, cluster: Cluster, flavour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Inside]:
    """A server in that pod, a process with the pod's account, and a termination log as kubelet mounts it."""
    log = tmp_path / "termination-log"
    log.touch()
    with ExitStack() as made:

        def start(*, events: bool = True, port: int | None = None, **policy: Any) -> ServerProcess:
            account = namespace.account("server", (), events=events)
            namespace.pod(POD, "web", ADDRESS, account=account)
            for name, value in {
                "KUBERNETES_SERVICE_HOST": cluster.address[0],
                "KUBERNETES_SERVICE_PORT": str(port or cluster.address[1]),
                "DRAIN_SERVICE_ACCOUNT_DIR": str(
                    namespace.mount(tmp_path / "account", namespace.token(account, pod=POD))
                ),
                "DRAIN_POD_NAME": POD,
                "DRAIN_TERMINATION_LOG": str(log),
            }.items():
                monkeypatch.setenv(name, value)
            started = ServerProcess(flavour=flavour, policy=QUICK | policy)
            made.callback(started.kill)
            started.ready()
            return started

        yield start


def left(server: ServerProcess) -> dict[str, Any]:
    """SIGTERM, as kubelet sends it; its report."""
    server.signal(signal.SIGTERM)
    assert server.exit_code(60) == 0, server.stderr
    return server.report


def told(namespace: Namespace) -> list[dict[str, Any]]:
    """The events, in their order."""
    found = namespace.api.get(f"/api/v1/namespaces/{namespace.name}/events")["items"]
    return sorted(
        (each for each in found if each["reportingComponent"] == "grpc-drain"), key=lambda each: each["eventTime"]
    )


def test_a_drain_is_told_on_its_pod(namespace: Namespace, inside: Inside, tmp_path: Path) -> None:
    """With the pod's uid, by which `kubectl describe pod` finds them; and the same line is the container's last word."""
    report = left(inside())
    begun, over = told(namespace)
    uid = namespace.api.get(f"/api/v1/namespaces/{namespace.name}/pods/{POD}")["metadata"]["uid"]
    for each in (begun, over):
        about = each["involvedObject"]
        assert (about["kind"], about["name"], about["uid"]) == ("Pod", POD, uid)
        assert (each["type"], each["source"]["component"]) == ("Normal", "grpc-drain")
    assert (begun["reason"], over["reason"]) == ("Draining", "Drained")
    assert "leaves (SIGTERM): 0 calls in flight" in begun["message"]
    assert f"drained in {report['duration']:.2f} s (SIGTERM, lossless): 0 calls finished" in over["message"]
    assert (tmp_path / "termination-log").read_text() == over["message"] + "\n"


def test_calls_that_were_cut_are_a_warning(
    namespace: Namespace, inside: Inside, cluster: Cluster, tmp_path: Path
) -> None:
    server = inside(drain_timeout=0.3, quiet_period=0.1, announce_timeout=0, announce_min=0)
    with Client(server.ports[0]) as client:
        call = client.begin("Wait", timeout=60)
        server.until("begun", method="Wait")
        server.signal(signal.SIGTERM)
        server.until("drained")
        server.order("release")  # a handler that takes no notice, and for whose thread Python waits
        assert server.exit_code(60) == 0, server.stderr
        assert code(call) != "OK"
    assert server.report["cancelled"] == 1
    _, over = told(namespace)
    assert (over["type"], over["reason"]) == ("Warning", "CallsCut")
    assert "1 cancelled" in over["message"]
    done = report(namespace, cluster, tmp_path, "--json")
    assert done.returncode == 1, done.stderr
    (row,) = json.loads(done.stdout)["drains"]
    assert (row["pod"], row["cancelled"], row["clean"]) == (POD, 1, False)


def test_who_may_not_tell_is_not_held_up(namespace: Namespace, inside: Inside) -> None:
    """Nothing is told, nothing is logged as a fault, and the end comes as soon."""
    server = inside(events=False)
    drained = left(server)
    assert told(namespace) == []
    assert drained["errors"] == []
    assert "drain.event" not in server.stderr


def test_an_api_server_that_does_not_answer(inside: Inside, namespace: Namespace) -> None:
    """It takes the connection, and says nothing: half a second, and no more."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = inside(port=silent.getsockname()[1])
        began = time.monotonic()
        drained = left(server)
        assert (
            time.monotonic() - began < drained["duration"] + 0.5 + 5.0
        )  # the rest is the process's own end, on a busy machine
    assert drained["errors"] == []
    assert told(namespace) == []


def test_nobody_is_told_where_that_is_not_wanted(namespace: Namespace, inside: Inside) -> None:
    left(inside(kubernetes_events=False))
    assert told(namespace) == []


# `drain report`.


def reader(namespace: Namespace, cluster: Cluster, tmp_path: Path, rules: list[dict[str, Any]]) -> None:
    """A kubeconfig of somebody who may do that, in OPERATOR."""
    name, api = "operator", namespace.api
    api.create(f"/api/v1/namespaces/{namespace.name}/serviceaccounts", {"metadata": {"name": name}})
    api.create(f"{RBAC}/namespaces/{namespace.name}/roles", {"metadata": {"name": name}, "rules": rules})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace.name}
    binding = {"metadata": {"name": name}, "roleRef": role, "subjects": [subject]}
    api.create(f"{RBAC}/namespaces/{namespace.name}/rolebindings", binding)
    for rule in rules:
        namespace._until_allowed(name, "list", True, "", rule["resources"][0])
    namespace.kubeconfig(tmp_path / OPERATOR, cluster.url, {"token": namespace.token(name)})


def report(
    namespace: Namespace, cluster: Cluster, tmp_path: Path, *arguments: str, may: tuple[str, ...] = ("events", "pods")
) -> "subprocess.CompletedProcess[str]":
    rules = [{"apiGroups": [""], "resources": [each], "verbs": ["list"]} for each in may]
    reader(namespace, cluster, tmp_path, rules)
    return again(namespace, tmp_path, *arguments)


def again(namespace: Namespace, tmp_path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """With the account of before."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("KUBERNETES_", "DRAIN_"))}
    return subprocess.run(
        [*REPORT, "-n", namespace.name, f"--kubeconfig={tmp_path / OPERATOR}", *arguments],
        capture_output=True, text=True, timeout=60, check=False, env=environ | {"COLUMNS": "160"},
    )  # fmt: skip


def test_the_report(namespace: Namespace, inside: Inside, cluster: Cluster, tmp_path: Path) -> None:
    """Of a pod that has gone, and of containers that have ended in one that is there."""
    left(inside())
    (line,) = (tmp_path / "termination-log").read_text().splitlines()
    namespace.remove(POD)
    namespace.pod("api-0", "api", "198.19.128.9")
    ended = {
        "terminated": {
            "exitCode": 0,
            "message": line + "\n",
            "finishedAt": "2026-01-01T00:00:00Z",
            "containerID": "x://1",
        }
    }
    status = {
        "name": "main",
        "image": "none",
        "imageID": "",
        "ready": False,
        "restartCount": 1,
        "state": {"waiting": {}},
    }
    path = f"/api/v1/namespaces/{namespace.name}/pods/api-0/status"
    namespace.api.patch(path, {"status": {"containerStatuses": [status | {"lastState": ended}]}})
    done = report(namespace, cluster, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 drains in" in done.stdout, done.stdout
    assert "no call cut" in done.stdout
    rows = [row.split() for row in done.stdout.splitlines() if "lossless" in row]
    assert {cells[3] for cells in rows} == {POD, "api-0"}, done.stdout


def test_one_that_was_killed(namespace: Namespace, inside: Inside, cluster: Cluster, tmp_path: Path) -> None:
    """SIGKILL amid its drain: it cannot tell, and that is told."""
    server = inside(announce_min=10, announce_timeout=12)
    server.signal(signal.SIGTERM)
    until(lambda: told(namespace))
    done = report(namespace, cluster, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "leaving" in done.stdout
    server.kill()
    namespace.remove(POD)
    done = again(namespace, tmp_path)
    assert done.returncode == 1, done.stderr
    assert "1 whose end was not told" in done.stdout
    (row,) = json.loads(again(namespace, tmp_path, "--json").stdout)["drains"]
    assert (row["untold"], row["clean"], row["reason"]) == (True, False, "SIGTERM")


def test_of_one_workload(namespace: Namespace, inside: Inside, cluster: Cluster, tmp_path: Path) -> None:
    left(inside())
    done = report(namespace, cluster, tmp_path, "sts/web", "--json")
    told_ = json.loads(done.stdout)
    assert [row["pod"] for row in told_["drains"]] == [POD]
    assert (told_["drains"][0]["where"], told_["drains"][0]["goaway"], told_["cancelled"]) == ("Event", "lossless", 0)


@pytest.mark.parametrize("flavour", ["sync"])
def test_whoever_may_not_see_events_is_told_so(
    namespace: Namespace, cluster: Cluster, tmp_path: Path, flavour: str
) -> None:
    done = report(namespace, cluster, tmp_path, may=("pods",))
    assert done.returncode == 77
    assert "may not list events" in done.stderr


@pytest.mark.parametrize("flavour", ["sync"])
def test_nothing_to_tell(namespace: Namespace, cluster: Cluster, tmp_path: Path, flavour: str) -> None:
    """And pods may not be seen: that is said, and no fault."""
    done = report(namespace, cluster, tmp_path, may=("events",))
    assert done.returncode == 0, done.stderr
    assert "No drain that is over is told of" in done.stdout
    assert "not looked at: may not list pods" in done.stdout.replace("\n", " ")


def test_a_token_of_another_pod_is_not_believed(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from drain._core.own_endpoint import Pod
    from drain._kube.notices import own_uid

    account = namespace.account("server", ())
    namespace.pod(POD, "web", ADDRESS, account=account)
    monkeypatch.setenv(
        "DRAIN_SERVICE_ACCOUNT_DIR", str(namespace.mount(tmp_path / "a", namespace.token(account, pod=POD)))
    )
    assert len(own_uid(Pod(namespace.name, POD))) == 36
    assert own_uid(Pod(namespace.name, "web-1")) == ""
    monkeypatch.setenv("DRAIN_SERVICE_ACCOUNT_DIR", str(namespace.mount(tmp_path / "b", namespace.token(account))))
    assert own_uid(Pod(namespace.name, POD)) == ""
    (tmp_path / "b" / "token").write_text("no token")
    assert own_uid(Pod(namespace.name, POD)) == ""
