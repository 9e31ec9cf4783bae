"""The whole cluster: a control plane and its nodes, brought up and taken down in order."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import urllib3

from tests._parts import coredns, debian, kubernetes, pause
from tests._parts.making import PartMissingError, Say
from tests.cluster._node import images, places, settings, traces
from tests.cluster._node.kubectl import Kubectl
from tests.cluster._node.node import PAUSE, Node
from tests.integration._servers.waiting import until
from tests.kube._cluster.api import Api, ApiError
from tests.kube._cluster.pki import Pki
from tests.kube._cluster.process import Process

READY_BOUND = 90.0
DEBIAN = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
}


def impossible() -> str:
    """Why this machine can never be a node; empty: it can."""
    if os.geteuid() == 0 and Path("/proc/self/ns/net").exists():
        return ""
    return "a Kubernetes node needs Linux and root; KUBECONFIG=... IMAGE=... make test-cluster runs them in a cluster of yours"


def parts(say: Say) -> Mapping[str, Path]:
    """The programs that a cluster needs, made now where they are missing. Raises PartMissingError."""
    if why := impossible():
        raise PartMissingError(why)
    found = debian.ready(DEBIAN, say)
    if not (places.PLUGINS / "ptp").exists():
        debian.install(["containernetworking-plugins"], say)
    made = {"coredns": coredns.ready(say), "pause": pause.ready(say)}
    return {**found, **kubernetes.ready(kubernetes.PROGRAMS, say), **made}


class Cluster:
    """There can be one on a machine: its addresses and folders are fixed."""

    def __init__(self, programs: Mapping[str, Path]) -> None:
        self._programs = programs
        self._lock = socket.socket(socket.AF_UNIX)
        self._running: dict[str, Process] = {}
        self.nodes: dict[str, Node] = {}
        self._images: dict[str, Path] = {}
        self._forwarded = ""

    def start(self, say: Say) -> "Cluster":
        """Up with one node, in a quarter of a minute. Raises AssertionError with the end of the logs."""
        self._alone()
        try:
            self._start(say)
        except BaseException:
            self.stop()
            raise
        return self

    def _alone(self) -> None:
        try:
            self._lock.bind("\0grpc-drain-cluster")  # an abstract name: it goes with the process
        except OSError:
            raise AssertionError("another run of tests has the cluster of this machine: wait for it") from None

    def _start(self, say: Say) -> None:
        if killed := traces.clear():
            say(f"  removed what a killed run had left: {len(killed)} things, {killed[0]} ...")
        if foreign := traces.chains():
            raise AssertionError(
                f"this machine is a Kubernetes node already (iptables has {foreign[0]}): KUBECONFIG=... make test-cluster"
            )
        places.STATE.mkdir(parents=True)
        places.RUN.mkdir(parents=True)
        self._forwarded = _sysctl("net/ipv4/ip_forward", "1")
        subprocess.run(["ip", "address", "replace", f"{places.CONTROL}/32", "dev", "lo"], check=True, timeout=10)
        self.pki = Pki(places.STATE / "pki", places.CONTROL, places.API_SERVICE)
        self.url = f"https://{places.CONTROL}:{places.API_PORT}"
        self.kubeconfig = self._known_as("admin", self.pki.admin)
        self.kubectl = Kubectl(self._programs["kubectl"], self.kubeconfig)
        self.api = Api(self.url, self.pki.authority, certificate=(self.pki.admin_certificate, self.pki.admin_key))
        self._start_etcd()
        self.start_apiserver()
        self._start_the_rest()
        say("  control plane is up")
        self.load(PAUSE, images.pause(self._programs["pause"]))
        self.add_node("node1")
        say("  node is ready")

    def load(self, name: str, archive: Path) -> None:
        """An image for all nodes, now and later."""
        self._images[name] = archive
        for node in self.nodes.values():
            node.load(archive)

    def add_node(self, name: str) -> Node:
        """One more, ready."""
        node = self.nodes[name] = Node(name, self._programs, self.pki, self.url)
        node.start(self._images)
        until(lambda: self._is_ready(node), READY_BOUND, every=0.1)
        return node

    def remove_node(self, name: str) -> None:
        """Its pods are gone when this is called."""
        self.nodes.pop(name).stop()
        self.kubectl("delete", "node", name)

    def kill_apiserver(self) -> None:
        """kill -9. Its watches end in the middle, and its port refuses."""
        self._running.pop("kube-apiserver").stop(signal.SIGKILL)

    def restart(self, *names: str) -> None:
        """What follows the API server asks it at once then, and not only when its back-off is over."""
        for name in names:
            self._running[name].restart()

    @contextlib.contextmanager
    def behind(self, name: str) -> Iterator[None]:
        """It learns nothing, and does nothing, meanwhile."""
        self._running[name].send(signal.SIGSTOP)
        try:
            yield
        finally:
            self._running[name].send(signal.SIGCONT)

    def stop(self) -> None:
        """Pods, then kubelets, then the rest, then every trace. Raises AssertionError if something is left."""
        try:
            if "kube-apiserver" in self._running:
                self._end_pods()
        finally:
            for node in self.nodes.values():
                node.stop()
            while self._running:
                _, process = self._running.popitem()
                process.stop(
                    signal.SIGKILL
                )  # nothing of theirs is needed any more, and in good order they take their time
            traces.clear()
            if self._forwarded:
                _sysctl("net/ipv4/ip_forward", self._forwarded)
            self._lock.close()
        until(lambda: not traces.left(), 10.0, every=0.2)

    def logs(self) -> str:
        """The end of each process's log."""
        return "\n".join([*(each.tail() for each in self._running.values()), *(n.logs() for n in self.nodes.values())])

    def _end_pods(self) -> None:
        """In order, so that runc unmounts and unlinks what it made; a bound, because what is left is cleared anyway."""
        everything = ("deployments,daemonsets,statefulsets,replicasets,jobs,pods", "--all", "--all-namespaces")
        self.kubectl.attempt("delete", *everything, "--wait=false", "--grace-period=1", "--force")
        end = time.monotonic() + 10
        while time.monotonic() < end and any(node.ctr("tasks", "ls", "-q").strip() for node in self.nodes.values()):
            time.sleep(0.2)

    def _start_etcd(self) -> None:
        client, peer = f"http://127.0.0.1:{_free_port()}", f"http://127.0.0.1:{_free_port()}"
        self._etcd = client
        self._run(
            "etcd",
            f"--data-dir={places.STATE / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        )

    def start_apiserver(self) -> None:
        """With what etcd kept. Returns when it is ready."""
        pki = self.pki
        self._run(
            "kube-apiserver",
            f"--etcd-servers={self._etcd}",
            f"--bind-address={places.CONTROL}",
            f"--advertise-address={places.CONTROL}",
            f"--secure-port={places.API_PORT}",
            f"--tls-cert-file={pki.server_certificate}",
            f"--tls-private-key-file={pki.server_key}",
            f"--client-ca-file={pki.authority}",
            f"--service-account-key-file={pki.accounts_public}",
            f"--service-account-signing-key-file={pki.accounts_key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-cluster-ip-range={places.SERVICES}",
            "--authorization-mode=Node,RBAC",
            f"--kubelet-client-certificate={pki.admin_certificate}",
            f"--kubelet-client-key={pki.admin_key}",
            "--kubelet-preferred-address-types=InternalIP",
            "--allow-privileged=true",
            "--profiling=false",
        )
        until(self._serves, READY_BOUND, every=0.05)

    def _start_the_rest(self) -> None:
        self._run(
            "kube-controller-manager",
            f"--kubeconfig={self._known_as('controllers', self.pki.user('system:kube-controller-manager'))}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            f"--service-account-private-key-file={self.pki.accounts_key}",
            f"--root-ca-file={self.pki.authority}",
            "--controllers=*,-node-ipam-controller",
            "--bind-address=127.0.0.1",
            f"--secure-port={_free_port()}",
        )
        self._run(
            "kube-scheduler",
            f"--kubeconfig={self._known_as('scheduler', self.pki.user('system:kube-scheduler'))}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={_free_port()}",
        )
        proxy = places.STATE / "kube-proxy.yaml"
        proxy.write_text(settings.proxy(self._known_as("proxy", self.pki.user("system:kube-proxy"))))
        self._run("kube-proxy", f"--config={proxy}")
        written = places.STATE / "Corefile"
        written.write_text(settings.corefile(self.kubeconfig))
        self._run("coredns", "-conf", str(written))

    def _run(self, name: str, *arguments: str) -> None:
        self._running[name] = Process(name, [self._programs[name], *arguments], places.STATE)

    def _known_as(self, name: str, user: dict[str, str]) -> Path:
        return self.pki.write_kubeconfig(places.STATE / f"{name}.kubeconfig", self.url, user)

    def _serves(self) -> bool:
        for each in self._running.values():
            assert each.alive, f"{each.name} ended:\n{self.logs()}"
        try:
            return bool(self.api.get("/readyz") == "ok")
        except (ApiError, urllib3.exceptions.HTTPError):
            return False

    def _is_ready(self, node: Node) -> bool:
        try:
            found = self.api.get(f"/api/v1/nodes/{node.name}")
            # A pod needs its namespace's account; a fresh cluster's comes a moment after the API server.
            self.api.get("/api/v1/namespaces/default/serviceaccounts/default")
        except ApiError:
            return False
        conditions = {each["type"]: each["status"] for each in found.get("status", {}).get("conditions", ())}
        return conditions.get("Ready") == "True"


def _sysctl(name: str, value: str) -> str:
    """Set it. Returns what it was."""
    path = Path("/proc/sys") / name
    before = path.read_text().strip()
    if before != value:
        path.write_text(value)
    return before


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
