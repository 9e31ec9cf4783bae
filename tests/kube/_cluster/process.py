"""One program of the control plane, as a process with a log."""

import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

PATIENCE = 20.0


class Process:
    """Started at once. It dies with us, even if we are killed."""

    def __init__(self, name: str, command: Sequence[str | Path], logs: Path) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        bound = shutil.which("setpriv")
        leash = [bound, "--pdeathsig", "KILL"] if bound else []
        self._command = [*leash, *(str(each) for each in command)]
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests, which end it in order
            )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """To it alone."""
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it and wait; by force if it takes too long. Any number of times."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(PATIENCE)

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it as `stop` does, and start it anew with the same command."""
        self.stop(number)
        self._process = self._start()

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        text = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(f"  {self.name}: {line[:300]}" for line in text)
