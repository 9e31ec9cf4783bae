"""One node: containerd and kubelet."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.cluster._node import places, settings
from tests.integration._servers.waiting import until
from tests.kube._cluster.pki import Pki
from tests.kube._cluster.process import Process

PAUSE = "localhost/grpc-drain-pause:1"
START_BOUND = 60.0
CTR_BOUND = 120.0


class Node:
    """Its folders are its own: two kubelets with one containerd would end each other's pods."""

    def __init__(self, name: str, programs: Mapping[str, Path], pki: Pki, server: str) -> None:
        self.name, self.address = name, places.NODES[name]
        self._programs, self._pki = programs, pki
        self._state, self._run = places.STATE / name, places.RUN / name
        self._socket = self._run / "containerd.sock"
        self._kubeconfig = pki.write_kubeconfig(
            places.STATE / f"{name}.kubeconfig", server, pki.user(f"system:node:{name}", "system:nodes")
        )
        self._processes: list[Process] = []

    def start(self, images: Mapping[str, Path]) -> None:
        """Returns when containerd has these images (name -> archive) and kubelet is running; pods may take a little longer."""
        for folder in (self._state / "cni", self._run):
            folder.mkdir(parents=True)
        subprocess.run(["ip", "address", "replace", f"{self.address}/32", "dev", "lo"], check=True, timeout=10)
        (self._state / "cni" / "10-pods.conflist").write_text(settings.cni())
        written = settings.containerd(
            self._socket, self._state / "containerd", self._run / "state", self._state / "cni", PAUSE
        )
        (self._state / "containerd.toml").write_text(written)
        self._start("containerd", "-c", self._state / "containerd.toml")
        until(self._answers, START_BOUND, every=0.05)
        for archive in images.values():
            self.load(archive)
        (self._state / "kubelet.yaml").write_text(
            settings.kubelet(self.address, self._socket, self._state / "logs", self._pki.authority)
        )
        self._start(
            "kubelet",
            f"--kubeconfig={self._kubeconfig}",
            f"--config={self._state / 'kubelet.yaml'}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.address}",
            f"--root-dir={self._state / 'kubelet'}",
            f"--cert-dir={self._state / 'kubelet-pki'}",
        )

    def load(self, archive: Path) -> None:
        """An image, from an OCI archive."""
        # Unpacked now: pods that start at once would each do it for themselves, and take a minute.
        self.ctr("images", "import", str(archive))

    def ctr(self, *arguments: str) -> str:
        """containerd's own client, in the namespace of Kubernetes."""
        done = subprocess.run(
            ["ctr", "-a", str(self._socket), "-n", "k8s.io", *arguments],
            capture_output=True, text=True, timeout=CTR_BOUND, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"ctr {' '.join(arguments)}: {done.stderr[-500:]}"
        return done.stdout

    def kill(self, container: str, program: str, number: signal.Signals) -> bool:
        """A signal, from outside, to the processes of a container that have this in their command line. False: there is none."""
        listed = self.ctr("tasks", "ps", container).splitlines()[1:]
        chosen = [pid for pid in (int(each.split()[0]) for each in listed) if program in _command(pid)]
        for pid in chosen:
            os.kill(pid, number)
        return bool(chosen)

    def stop(self) -> None:
        """kubelet first: it would make again what is taken away."""
        while self._processes:
            self._processes.pop().stop()

    def logs(self) -> str:
        """The end of each process's log."""
        return "\n".join(each.tail() for each in self._processes)

    def _start(self, program: str, *arguments: str | Path) -> None:
        self._processes.append(Process(program, [self._programs[program], *arguments], self._state))

    def _answers(self) -> bool:
        for each in self._processes:
            assert each.alive, f"{each.name} ended:\n{self.logs()}"
        try:
            self.ctr("version")
        except AssertionError as error:
            print(error, file=sys.stderr)
            return False
        return True


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # it has ended
        return ""
