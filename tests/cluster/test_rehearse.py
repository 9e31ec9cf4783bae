"""`drain rehearse` with real rollouts: one that loses nothing, and four with a fault that was planted, which is found and named."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster._node.kubectl import Kubectl
from tests.cluster._scene import manifests
from tests.integration._servers.waiting import until

pytestmark = pytest.mark.own_node  # the calls come from the node, which reaches its services

PROGRAM = [sys.executable, "-c", "import sys; from drain._cli import main; sys.exit(main())", "rehearse"]
METHOD = ["--method", "drain.load.Load/Call", "--raw", ""]
APP = "orders"
BOUND = 240.0
PINGS = "keepalive_time: 1s\npermit_without_calls: true\nmax_pings_without_data: 0\n"


def put(room: Kubectl, server: manifests.Object) -> None:
    """The server, with all that belongs to it."""
    account = manifests.account("server", manifests.READ_SLICES, manifests.READ_POD)
    room.apply(*account, *manifests.services(APP), manifests.budget(APP, 2), server)
    room("rollout", "status", f"deployment/{APP}", "--timeout=120s", bound=130)


def server(image: str, *arguments: str, **more: Any) -> manifests.Object:
    return manifests.server(APP, image, "programs.serve", *arguments, **more)


def plain(made: manifests.Object) -> manifests.Object:
    """Without what says that it is drain's."""
    container = container_of(made)
    container["env"] = [each for each in container["env"] if not each["name"].startswith("DRAIN_")]
    return made


def container_of(made: manifests.Object) -> dict[str, Any]:
    found: dict[str, Any] = made["spec"]["template"]["spec"]["containers"][0]
    return found


def rehearse(room: Kubectl, folder: Path, *words: str, yes: bool = True) -> tuple[int, dict[str, Any]]:
    """(Exit code, all that was told.)"""
    assert room.namespace is not None
    told = folder / "told.json"
    command = [
        *PROGRAM,
        f"deploy/{APP}",
        "-n",
        room.namespace,
        f"--kubeconfig={room.kubeconfig}",
        *METHOD,
        *["--yes"] * yes,
    ]
    files = ["--json", str(told), "--html", str(folder / "page.html")]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KUBERNETES_")}
    done = subprocess.run(
        [*command, *files, *words], capture_output=True, text=True, timeout=BOUND, check=False, env=environ
    )
    assert told.exists(), done.stderr
    return done.returncode, json.loads(told.read_text())


def listens(pod: manifests.Object) -> bool:
    try:
        socket.create_connection((pod["status"]["podIP"], manifests.PORT), 5.0).close()
    except OSError:
        return False
    return True


def errors(told: dict[str, Any]) -> set[str]:
    return {each["rule"] for each in told["advice"] if each["severity"] == "error"}


def test_one_that_loses_nothing(
    room: Kubectl, image: str, tmp_path: Path, chromium: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By rollout, scale and deletion; its calls are told by pod, and its phases are."""
    put(room, server(image, "drain", "sync", prestop=["drain-prestop"]))
    picture = tmp_path / "page.png"
    monkeypatch.setenv("CHROME", str(chromium))
    code, told = rehearse(
        room, tmp_path, "--do", "restart", "--do", "scale=5", "--do", "delete=1", "--png", str(picture)
    )
    assert (code, told["verdict"], told["failed"]) == (0, "kept", 0), (told["failed_by_status"], told["evidence"])
    assert told["advice"] == []
    assert told["calls"] > 1000
    words = [each["what"] for each in told["steps"]]
    assert words == ["restarted", "scaled from 3 to 5", "scaled back to 3", "pod 1 of 1 deleted"]
    pods = {each["short"]: each for each in told["servers"]}
    assert len(pods) == 3 + 3 + 2 + 1
    left = [each for each in pods.values() if each["left"] is not None]
    called, gone = set(told["calls_by_server"]), {each["short"] for each in left}
    # Which ones kube-proxy picks is a matter of chance: some that left, and some that stayed.
    assert called <= set(pods)
    assert called & gone
    assert called - gone
    assert sum(told["calls_by_server"].values()) == told["calls"]
    assert any("got no call" in each for each in told["evidence"])  # clients do not come to those that were added
    assert len(left) == 3 + 2 + 1
    assert {code for each in left for code in each["exit_codes"].values()} == {0}
    phases = {each["phase"] for each in told["spans"]}
    assert phases == {"starting", "serving", "leaving"}
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(room.items("pods", f"app={APP}")) == 3


def test_the_hook_was_removed(room: Kubectl, image: str, tmp_path: Path) -> None:
    put(room, plain(server(image, "plain", "sync")))
    code, told = rehearse(room, tmp_path, "--rate=800", "--callers=48", "--do", "restart", "--do", "restart")
    assert (code, told["verdict"]) == (1, "lost"), told["failed_by_status"]
    assert errors(told) == {"prestop-missing"}


def test_the_grace_is_too_short(room: Kubectl, image: str, tmp_path: Path) -> None:
    """Calls of seconds, a pod that has less, and a server that would wait for them."""
    made = server(image, "drain", "sync", "--work=6", environment={"DRAIN_TERMINATION_GRACE_PERIOD": "none"})
    made["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 4
    put(room, made)
    code, told = rehearse(room, tmp_path, "--rate=20", "--timeout=30")
    assert (code, told["verdict"]) == (1, "lost"), told["failed_by_status"]
    assert errors(told) == {"grace-too-short"}
    assert any(each["killed"] for each in told["servers"])
    assert any("SIGKILL" in each for each in told["evidence"])


def test_the_readiness_probe_is_missing(room: Kubectl, image: str, tmp_path: Path) -> None:
    """New pods get connections before their server listens; by then, all old ones have left."""
    made = server(image, "drain", "sync", "--load=10", prestop=["drain-prestop"])
    del container_of(made)["readinessProbe"]
    put(room, made)
    until(lambda: all(listens(each) for each in room.items("pods", f"app={APP}")), 60.0, every=0.2)
    code, told = rehearse(room, tmp_path)
    assert (code, told["verdict"]) == (1, "lost"), told["failed_by_status"]
    assert errors(told) == {"readiness-missing"}


def test_pings_that_the_server_does_not_permit(room: Kubectl, image: str, tmp_path: Path) -> None:
    """Calls of some seconds, on connections that their clients ping once a second; they end by their age, too."""
    environment = {"DRAIN_MAX_CONNECTION_AGE": "60s"}
    put(room, server(image, "drain", "sync", "--work=8", prestop=["drain-prestop"], environment=environment))
    (tmp_path / "client.yaml").write_text(PINGS)
    words = ["--client", str(tmp_path / "client.yaml"), "--rate=20", "--timeout=30"]
    code, told = rehearse(room, tmp_path, *words)
    assert (code, told["verdict"]) == (1, "lost"), told["failed_by_status"]
    assert errors(told) == {"too-many-pings"}
    assert any("too_many_pings" in each for each in told["evidence"])


def test_nothing_is_touched_unasked(room: Kubectl, image: str, tmp_path: Path) -> None:
    """Without --yes and without a terminal; and where the method does not answer."""
    put(room, server(image, "drain", "sync", prestop=["drain-prestop"]))
    before = uids(room)
    with pytest.raises(AssertionError, match="there is nobody to ask: say --yes"):
        rehearse(room, tmp_path, yes=False)
    with pytest.raises(AssertionError, match="Nothing was changed"):
        rehearse(room, tmp_path, "--method", "drain.load.Load/Nothing")
    said = asked(room, tmp_path, "n")
    assert "will be restarted, while 16 callers make up to 200 calls a second of drain.load.Load/Call" in said
    assert said.endswith("nothing was changed\n")
    assert uids(room) == before


def asked(room: Kubectl, folder: Path, answer: str) -> str:
    """What a person at a terminal is asked, and what is said to the answer."""
    ours, theirs = os.openpty()
    command = [*PROGRAM, f"deploy/{APP}", "-n", str(room.namespace), f"--kubeconfig={room.kubeconfig}", *METHOD]
    with subprocess.Popen(command, stdin=theirs, stderr=subprocess.PIPE, text=True, cwd=folder) as process:
        os.write(ours, f"{answer}\n".encode())
        _, said = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 130, said
    return said


def uids(room: Kubectl) -> Iterable[str]:
    return sorted(each["metadata"]["uid"] for each in room.items("pods", f"app={APP}"))
