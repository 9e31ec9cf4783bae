"""A real terminal that can be read: tmux, with a server of its own."""

import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests._parts import debian
from tests._parts.making import Say

_BOUND = 20.0


def ready(say: Say) -> Path:
    """Raises PartMissingError."""
    return debian.ready({"tmux": "tmux"}, say)["tmux"]


class Terminal:
    """One command in a terminal of that size. Close it at the end."""

    def __init__(
        self,
        tmux: Path,
        folder: Path,
        words: Sequence[str],
        environ: Mapping[str, str],
        width: int = 120,
        height: int = 40,
    ) -> None:
        self._tmux, self._socket, self._code = tmux, folder / "tmux", folder / "exit code"
        given = " ".join(f"{name}={shlex.quote(value)}" for name, value in environ.items())
        # The size is the terminal's own, whatever the tests were started in.
        line = f"env -u COLUMNS -u LINES {given} {shlex.join(words)}; echo $? > {shlex.quote(str(self._code))}"
        self._do("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), line)

    def screen(self) -> str:
        """What is on it now; empty: the command has ended."""
        done = subprocess.run(
            [self._tmux, "-S", self._socket, "capture-pane", "-p"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
        return done.stdout if done.returncode == 0 else ""

    def until(self, condition: Callable[[str], object], within: float = _BOUND) -> str:
        """The screen as soon as it is so."""
        deadline = time.monotonic() + within
        while not condition(screen := self.screen()):
            assert time.monotonic() < deadline, f"not within {within:g} s:\n{screen}"
            time.sleep(0.05)
        return screen

    def press(self, key: str) -> None:
        """As tmux names keys: "C-c"."""
        self._do("send-keys", key)

    def type(self, text: str) -> None:
        """As it stands; a newline is Enter, a tab is Tab."""
        self._do("send-keys", "-l", "--", text)

    def exit_code(self, within: float = _BOUND) -> int:
        """Of the command, when it has ended."""
        deadline = time.monotonic() + within
        while not (self._code.exists() and self._code.read_text().strip()):
            assert time.monotonic() < deadline, f"it has not ended within {within:g} s:\n{self.screen()}"
            time.sleep(0.05)
        return int(self._code.read_text())

    def close(self) -> None:
        """End whatever runs in it. Idempotent."""
        subprocess.run([self._tmux, "-S", self._socket, "kill-server"], capture_output=True, timeout=10, check=False)

    def _do(self, *words: str) -> None:
        subprocess.run([self._tmux, "-S", self._socket, *words], capture_output=True, timeout=10, check=True)
