"""Servers that restart at the same address, as Kubernetes never does and a proxy's list of servers wants it."""

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

from examples.processes import await_ready, free_address

ROOT = Path(__file__).parents[2]
BOUND = 60.0


class Server:
    """One of the examples', at an address that stays. Each life has a name of its own, `pod`."""

    def __init__(self, pod: str, module: str, **environment: str) -> None:
        self.address, self._module, self._name, self._environment = free_address(), module, pod, environment
        self._lives = itertools.count(1)
        self.start()

    def start(self) -> None:
        self.pod = f"{self._name}-{next(self._lives)}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", self._module, "--address", self.address], cwd=ROOT,
            env={**os.environ, "DRAIN_POD_NAME": self.pod, "POD_NAME": self.pod, **self._environment}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        await_ready(self.address)

    def leave(self) -> str:
        """SIGTERM, to the end. Returns its report."""
        self.process.send_signal(signal.SIGTERM)
        told, _ = self.process.communicate(timeout=BOUND)
        assert self.process.returncode == 0, told
        return told
