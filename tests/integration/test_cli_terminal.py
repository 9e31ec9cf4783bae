"""The command line in a real terminal: shells complete it, NO_COLOR is minded, and what takes long says so."""

import os
import pty
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests._parts import terminal
from tests._parts.making import PartMissingError
from tests._parts.terminal import Terminal
from tests.integration._servers.process import ServerProcess

PROGRAM = [sys.executable, "-c", "import sys; from drain._cli import main; sys.exit(main())"]
COLOURS = re.compile(r"\x1b\[[0-9;]*(?:3[0-7]|9[0-7]|38;5;\d+)[0-9;]*m")


@pytest.fixture
def bash(tmp_path: Path) -> Iterator[Terminal]:
    """A shell that finds `drain` as an installed program."""
    try:
        tmux = terminal.ready(lambda line: print(line, file=sys.stderr, flush=True))
    except PartMissingError as error:
        pytest.fail(f"needs tmux: {error}", pytrace=False)
    program = tmp_path / "bin" / "drain"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom drain._cli import main\nsys.exit(main())\n")
    program.chmod(0o755)
    environ = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PS1": "ready> ",
        "TERM": "xterm-256color",
        "HOME": str(tmp_path),
    }
    made = Terminal(tmux, tmp_path, ["bash", "--norc", "--noprofile", "-i"], environ)
    yield made
    made.close()


def test_bash_completes(bash: Terminal) -> None:
    """Commands, options, and their choices."""
    bash.until(lambda screen: "ready>" in screen)
    bash.type('eval "$(drain completion bash)"; clear\n')
    bash.until(lambda screen: screen.strip().startswith("ready>") and "eval" not in screen)
    bash.type("drain rep\t")
    bash.until(lambda screen: "drain report" in screen)
    bash.type("--kubec\t")
    bash.until(lambda screen: "drain report --kubeconfig" in screen)
    bash.press("C-u")
    bash.type("drain drain --until cl\t")
    bash.until(lambda screen: "--until closing" in screen)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(shell: str) -> None:
    done = subprocess.run([*PROGRAM, "completion", shell], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "_DRAIN_COMPLETE" in done.stdout


def test_another_shell_is_refused() -> None:
    done = subprocess.run([*PROGRAM, "completion", "tcsh"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "'bash', 'zsh', 'fish'" in done.stderr


def on_terminal(words: list[str], seconds: float = 20.0, **environ: str) -> str:
    """What a command writes where stdout and stderr are a terminal."""
    ours, theirs = pty.openpty()
    named = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [*PROGRAM, *words], stdout=theirs, stderr=theirs, env={**named, "TERM": "xterm-256color", **environ}
    )
    os.close(theirs)
    written, until = b"", time.monotonic() + seconds
    while time.monotonic() < until:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                break
            written += piece
        elif process.poll() is not None:
            break
    process.kill()
    process.wait(10)
    os.close(ours)
    return written.decode(errors="replace")


@pytest.mark.parametrize("flavour", ["sync"])
@pytest.mark.parametrize(
    "words", [["status"], ["top", "--once"], ["resolve", "static:///127.0.0.1:1"]], ids=lambda words: words[0]
)
def test_no_color(spawn: object, words: list[str], flavour: str) -> None:
    process: ServerProcess = spawn().ready()  # type: ignore[operator]
    coloured, plain = on_terminal(words), on_terminal(words, NO_COLOR="1")
    assert COLOURS.search(coloured) or words[0] == "resolve", coloured
    assert not COLOURS.search(plain), plain
    assert process.pid


def test_what_takes_longer_than_a_second_says_so(tmp_path: Path) -> None:
    """An API server that takes connections and says nothing; and where nobody looks nothing is written."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(
            "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], users: [{name: u, user: {}}],"
            f" clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{silent.getsockname()[1]}'}}}}]}}"
        )
        words = ["report", f"--kubeconfig={kubeconfig}"]
        assert "asking the cluster" in on_terminal(words, 6.0)
        piped = subprocess.Popen([*PROGRAM, *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        time.sleep(4)
        piped.kill()
        assert "asking" not in piped.communicate(timeout=10)[1]
