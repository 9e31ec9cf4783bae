"""etcd, kube-apiserver and kube-controller-manager as processes of this machine, on 127.0.0.1."""

import contextlib
import random
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import urllib3

from tests._parts import kubernetes
from tests._parts.making import Say
from tests.integration._servers.waiting import until
from tests.kube._cluster.api import Api, ApiError
from tests.kube._cluster.namespace import Namespace
from tests.kube._cluster.pki import Pki
from tests.kube._cluster.process import Process

READY_BOUND = 90.0
PROGRAMS = ("kube-apiserver", "kube-controller-manager")
ZONES = {"node-a": "zone-a", "node-b": "zone-b"}


def parts(say: Say) -> Mapping[str, Path]:
    """The programs that a cluster needs, made now where they are missing. Raises PartMissingError."""
    return kubernetes.ready(PROGRAMS, say)


class Cluster:
    """A control plane. It has nodes by name and zone, but none that runs anything: what a kubelet would say, the test says."""

    def __init__(self, programs: Mapping[str, Path], folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self.pki = Pki(folder / "pki")
        etcd, peer, port = _free_ports(3)
        self._etcd_url, self._peer_url = f"http://127.0.0.1:{etcd}", f"http://127.0.0.1:{peer}"
        self.address = ("127.0.0.1", port)
        self.url = f"https://127.0.0.1:{port}"
        self.kubeconfig = self.pki.write_kubeconfig(folder / "admin.kubeconfig", self.url, self.pki.admin)
        self.api = Api(self.url, self.pki.authority, certificate=(self.pki.admin_certificate, self.pki.admin_key))
        self._running: dict[str, Process] = {}
        self._namespaces = 0
        self._controllers_lost_it = False

    def start(self) -> "Cluster":
        """Raises AssertionError with the end of the logs if it does not come up."""
        try:
            self._start_etcd()
            self.start_apiserver()
            for name, zone in ZONES.items():
                labels = {"topology.kubernetes.io/zone": zone}
                self.api.create("/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})
            self._start_controllers()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End all processes, the last one started first, and remove the data; the logs stay in the test's folder."""
        self.api.close()
        while self._running:
            _, process = self._running.popitem()
            process.stop(signal.SIGKILL)  # nothing of theirs is needed any more, and in good order they take their time
        shutil.rmtree(self._folder / "etcd", ignore_errors=True)

    def logs(self) -> str:
        """The end of each process's log."""
        return "\n".join(each.tail() for each in self._running.values())

    def kill_apiserver(self) -> None:
        """kill -9. Its watches end in the middle, and its port refuses."""
        self._controllers_lost_it = True
        self._running.pop("kube-apiserver").stop(signal.SIGKILL)

    def start_apiserver(self, *, behind: int | None = None) -> None:
        """On the same port, with what etcd kept. Returns when it is ready.

        `behind`: on that port instead, where clients do not look. So a cluster goes on while they are cut off from it.
        """
        pki, (host, port) = self.pki, self.address
        port = port if behind is None else behind
        self.api.server = f"https://{host}:{port}"
        self._run(
            "kube-apiserver",
            self._programs["kube-apiserver"],
            f"--etcd-servers={self._etcd_url}",
            f"--bind-address={host}",
            f"--secure-port={port}",
            # No Endpoints of the API server itself: loopback addresses are refused there, and nobody looks for them.
            "--endpoint-reconciler-type=none",
            "--advertise-address=198.19.255.1",
            f"--tls-cert-file={pki.server_certificate}",
            f"--tls-private-key-file={pki.server_key}",
            f"--client-ca-file={pki.authority}",
            f"--service-account-key-file={pki.accounts_public}",
            f"--service-account-signing-key-file={pki.accounts_key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=198.19.252.0/23,fd00:198:19::/112",
            "--authorization-mode=RBAC",
            # Pods need no account here; its controller is one process less to wait for.
            "--disable-admission-plugins=ServiceAccount",
            "--profiling=false",
        )
        try:
            until(self._ready, READY_BOUND, every=0.02)
        except AssertionError as error:
            raise AssertionError(f"kube-apiserver is not ready:\n{self.logs()}") from error

    @contextlib.contextmanager
    def out_of_reach(self) -> Iterator[Callable[[], float]]:
        """The API server is killed for its clients; what the test does to the cluster is done all the same.

        Gives what brings it back; that returns the time.monotonic() at which it was ready.
        """
        self.kill_apiserver()
        self.start_apiserver(behind=_free_ports(1)[0])
        returned: list[float] = []

        def back() -> float:
            returned.append(self.restart_apiserver())
            return returned[0]

        try:
            yield back
        finally:
            if not returned:
                back()

    def restart_apiserver(self) -> float:
        """kill -9 and a new one. Returns the time.monotonic() at which it was ready."""
        self.kill_apiserver()
        self.start_apiserver()
        return time.monotonic()

    def namespace(self) -> Namespace:
        """A fresh one. It is not deleted: it goes with the cluster."""
        self._namespaces += 1
        name = f"test-{self._namespaces}"
        self.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
        return Namespace(name, self.api, self.pki, self._refresh_controllers)

    def _start_etcd(self) -> None:
        self._run(
            "etcd",
            self._programs["etcd"],
            f"--data-dir={self._folder / 'etcd'}",
            f"--listen-client-urls={self._etcd_url}",
            f"--advertise-client-urls={self._etcd_url}",
            f"--listen-peer-urls={self._peer_url}",
            f"--initial-advertise-peer-urls={self._peer_url}",
            f"--initial-cluster=default={self._peer_url}",
            "--unsafe-no-fsync",
        )

    def _start_controllers(self) -> None:
        self._run(
            "kube-controller-manager",
            self._programs["kube-controller-manager"],
            f"--kubeconfig={self.kubeconfig}",
            # The slices' controller, and the one that deletes the slices of a deleted service.
            "--controllers=endpointslice-controller,garbage-collector-controller",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=1000",
            "--kube-api-burst=1000",
        )

    def _refresh_controllers(self) -> None:
        """After an outage they wait out a back-off of up to 30 s, which no scenario is about: new ones begin at once."""
        if self._controllers_lost_it:
            self._controllers_lost_it = False
            self._running["kube-controller-manager"].restart(signal.SIGKILL)

    def _run(self, name: str, program: Path, *arguments: str) -> None:
        self._running[name] = Process(name, [program, *arguments], self._folder)

    def _ready(self) -> bool:
        for each in self._running.values():
            assert each.alive, f"{each.name} ended:\n{self.logs()}"
        try:
            return bool(self.api.get("/readyz") == "ok")
        except ApiError as error:
            if error.status in (401, 403):
                raise  # it will not become better
            return False
        except urllib3.exceptions.HTTPError:
            return False


def _free_ports(count: int) -> list[int]:
    """Below the range from which the kernel takes ports for connections: a server that was killed finds its own again."""
    found: list[int] = []
    with_sockets: list[socket.socket] = []
    try:
        while len(found) < count:
            each = socket.socket()
            with_sockets.append(each)
            port = random.randrange(20000, 32000)
            try:
                each.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    finally:
        for each in with_sockets:
            each.close()
    return found
