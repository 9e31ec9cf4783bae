"""The preStop hook, as a process of its own, against real servers in theirs; and against fakes that misbehave.

Over 300 lines: one list of ways in which a server, its socket or its directory can be wrong.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drain import _runtime_dir
from drain._admin import client as admin_client
from drain._admin.client import Call, Outcome, talk
from drain._prestop import directory as looked_up
from drain._prestop import options as command_line
from drain._prestop.exits import MEANINGS, ExitError
from drain.errors import ConfigurationError
from tests.integration._servers.calls import Client
from tests.integration._servers.process import ServerProcess
from tests.integration._servers.waiting import BOUND, until
from tests.integration._workers.group import Group

Spawn = Callable[..., ServerProcess]
Clients = Callable[..., Client]
TERM = signal.SIGTERM
LONG = {"announce_min": 60, "announce_timeout": 60}  # longer than any test waits
BUSY = 3.0  # seconds: by so much a busy machine may be late; what would be wrong is 29 s
AT_ONCE = {"announce_timeout": 0}


@dataclass(frozen=True)
class Ended:
    """What a hook came to. `took`: seconds, of its whole process."""

    code: int
    stderr: str
    took: float


class Hook:
    """`python -m drain.prestop` with these arguments, running."""

    def __init__(self, *arguments: str, stderr: int = subprocess.PIPE, **environment: str) -> None:
        self._began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "drain.prestop", *arguments],
            env={**os.environ, **environment},
            stderr=stderr,
            text=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        if self.process.stderr is not None:
            self._lines.extend(iter(self.process.stderr.readline, ""))

    @property
    def stderr(self) -> str:
        return "".join(self._lines)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def until(self, *words: str) -> "Hook":
        """It has said so."""
        until(lambda: all(each in self.stderr for each in words) or not self.running)
        assert all(each in self.stderr for each in words), self.stderr
        return self

    def ended(self, within: float = BOUND) -> Ended:
        code = self.process.wait(within)
        took = time.monotonic() - self._began
        self._reader.join(BOUND)
        return Ended(code, self.stderr, took)

    def close(self) -> None:
        if self.running:
            self.process.kill()
            self.process.wait()
        self._reader.join(BOUND)
        if self.process.stderr is not None:
            self.process.stderr.close()


@pytest.fixture
def hook() -> Iterator[Callable[..., Hook]]:
    """Start hooks; all are ended after the test."""
    with ExitStack() as made:

        def start(*arguments: str, **more: Any) -> Hook:
            started = Hook(*arguments, **more)
            made.callback(started.close)
            return started

        yield start


Start = Callable[..., Hook]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run-time directory, where `spawn` has it."""
    made = tmp_path / "run"
    made.mkdir(mode=0o700, exist_ok=True)
    monkeypatch.setenv("DRAIN_RUNTIME_DIR", str(made))
    return made


class FakeServer:
    """Listens as a server's admin socket does, and answers each connection with what it is given; then hangs up, or waits."""

    def __init__(self, path: Path, *answer: object, hangs: bool = False) -> None:
        self.asked: list[dict[str, Any]] = []
        self._answer = b"".join(
            each if isinstance(each, bytes) else json.dumps(each).encode() + b"\n" for each in answer
        )
        self._hangs, self._over = hangs, threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                line = lines.readline()
                if line:
                    self.asked.append(json.loads(line))
                    connection.sendall(self._answer)
                if self._hangs:
                    self._over.wait()

    def close(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(BOUND)


@pytest.fixture
def fake(directory: Path) -> Iterator[Callable[..., FakeServer]]:
    """Fakes by number: `admin-<number>.sock`."""
    with ExitStack() as made:

        def start(number: int, *answer: object, **more: Any) -> FakeServer:
            server = FakeServer(directory / f"admin-{number}.sock", *answer, **more)
            made.callback(server.close)
            return server

        yield start


OK = {"kind": "end", "ok": True}


class TestDrains:
    """Real servers, both flavours."""

    def test_drains_and_is_held(self, spawn: Spawn, hook: Start) -> None:
        """It returns when the server is drained, whose process then lives until SIGTERM, and ends at once."""
        server = spawn().ready()
        ended = hook().ended()
        assert ended.code == 0, ended.stderr
        assert re.search(rf"\[{server.pid}\] announcing, at most \d+ s left\n", ended.stderr)
        assert re.search(rf"\[{server.pid}\] drained in 0\.\d\d s: 0 calls finished, 0 cancelled\n", ended.stderr)
        server.until("Held")
        assert "stopped" in server.phases
        os.kill(server.pid, 0)
        again = hook().ended()
        assert (again.code, "drained in" in again.stderr) == (0, True)  # a second hook hears it, too
        assert not any(event["event"] == "returned" for event in server.events)
        began = time.monotonic()
        server.signal(TERM)
        assert server.exit_code() == 0
        assert time.monotonic() - began < 5  # 0.05 s where the machine is idle
        assert (server.report["reason"], server.report["clean"]) == ("preStop", True)

    def test_waits_for_the_calls_in_flight(self, spawn: Spawn, hook: Start, client: Clients) -> None:
        server = spawn(policy=AT_ONCE).ready()
        call = client(server.ports[0]).begin("Wait")
        server.until("begun", method="Wait")
        running = hook().until("finishing")
        server.order("release")
        ended = running.ended()
        assert call.result(BOUND) == b"hello"
        assert (ended.code, "1 calls finished, 0 cancelled" in ended.stderr) == (0, True), ended.stderr

    def test_until_closing(self, spawn: Spawn, hook: Start, client: Clients) -> None:
        """A long call may go on when it has returned."""
        server = spawn().ready()
        call = client(server.ports[0]).begin("Wait")
        server.until("begun", method="Wait")
        ended = hook("--until", "closing").ended()
        assert ended.code == 0, ended.stderr
        assert not call.done()
        assert "stopped" not in server.phases
        assert "drained in" not in ended.stderr
        server.order("release")
        assert call.result(BOUND) == b"hello"
        server.until("Held")
        server.signal(TERM)
        assert server.exit_code() == 0

    def test_several_processes_and_servers(self, spawn: Spawn, hook: Start) -> None:
        """All of them, at once: three that take 2 s each take about that long in all."""
        servers = [
            spawn(servers=count, policy={"announce_min": 2, "announce_timeout": 3}).ready() for count in (1, 2, 1)
        ]
        until(lambda: servers[1].phases.count("serving") == 2)
        ended = hook().ended()
        assert ended.code == 0, ended.stderr
        assert ended.took < 5.8
        assert ended.stderr.count("drained in") == 4
        assert f"[{servers[1].pid}] server 1: drained in" in ended.stderr
        for each in servers:
            each.signal(TERM)
            assert each.exit_code() == 0

    def test_only_the_sockets_that_are_named(self, spawn: Spawn, hook: Start, directory: Path) -> None:
        one, two = spawn().ready(), spawn().ready()
        ended = hook("--socket", str(directory / f"admin-{one.pid}.sock"), "--reason", "a rollout").ended()
        assert ended.code == 0, ended.stderr
        one.signal(TERM)
        assert one.exit_code() == 0
        assert one.report["reason"] == "a rollout"
        assert set(two.phases) <= {"starting", "serving"}

    def test_sigterm_comes_amid(self, spawn: Spawn, hook: Start) -> None:
        """As where the hook outlasts its time: the drain is joined, the process ends by itself, and that is drained."""
        server = spawn(policy={"announce_min": 1}).ready()
        running = hook().until("announcing")
        server.signal(TERM)
        assert server.exit_code() == 0
        assert running.ended().code == 0

    def test_a_server_dies_amid(self, spawn: Spawn, hook: Start) -> None:
        server = spawn(policy=LONG).ready()
        running = hook().until("announcing")
        server.signal(signal.SIGKILL)
        ended = running.ended()
        assert ended.code == 0
        assert f"[{server.pid}] hung up before" in ended.stderr
        late = hook().ended()  # what it left behind
        assert (late.code, "nobody listens there any more" in late.stderr) == (69, True), late.stderr

    def test_a_stopped_server(self, spawn: Spawn, hook: Start) -> None:
        """The others are drained; it is waited for no longer than the timeout."""
        stopped, good = spawn().ready(), spawn(policy=AT_ONCE).ready()
        stopped.signal(signal.SIGSTOP)
        try:
            ended = hook("--timeout", "1500ms").ended()
        finally:
            stopped.signal(signal.SIGCONT)
        assert ended.code == 75, ended.stderr
        assert 1.5 <= ended.took < 1.5 + BUSY
        assert f"[{stopped.pid}] has not answered: it may be stopped, or hang" in ended.stderr
        assert f"[{good.pid}] drained in" in ended.stderr

    def test_a_drain_that_takes_too_long(self, spawn: Spawn, hook: Start) -> None:
        """By its own option, or by what the pod has."""
        server = spawn(policy=LONG).ready()
        first = hook("--timeout", "1").ended()
        assert (first.code, 1 <= first.took < 1 + BUSY) == (75, True)
        assert f"[{server.pid}] is still announcing, and the timeout of 1 s is over" in first.stderr
        second = hook(DRAIN_TERMINATION_GRACE_PERIOD="2s").ended()
        assert (second.code, 1 <= second.took < 1 + BUSY) == (75, True)

    def test_workers(self, flavour: str, hook: Start, directory: Path) -> None:
        """Their parent speaks for all of them, and is held."""
        group = Group(flavour=flavour, workers=2)
        try:
            group.ready()
            ended = hook().ended()
            assert ended.code == 0, ended.stderr
            for number in range(2):
                assert f"[{group.pid}] worker {number}: drained in" in ended.stderr
            assert not group.said("returned")
            group.signal(TERM)
            assert group.exit_code() == 0
        finally:
            group.kill()


class TestMisbehaving:
    """No server can hold it, or make it fail in silence."""

    def test_what_it_asks(self, hook: Start, fake: Callable[..., FakeServer]) -> None:
        server = fake(7, OK)
        assert hook("--until", "closing", "--reason", "bye").ended().code == 0
        assert server.asked == [{"version": 1, "command": "drain", "reason": "bye", "until": "closing", "hold": True}]

    def test_news_from_a_newer_server_are_passed_over(self, hook: Start, fake: Callable[..., FakeServer]) -> None:
        fake(
            7,
            {"kind": "weather", "temperature": 3},
            {"kind": "phase", "state": "leaving", "new": []},
            {**OK, "more": 1},
        )
        ended = hook().ended()
        assert (ended.code, f"[{os.getpid()}] leaving\n" in ended.stderr) == (0, True), ended.stderr

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            (
                {"kind": "end", "ok": False, "error": "version 1 is not spoken", "code": "version"},
                "version 1 is not spoken",
            ),
            ({"kind": "end", "ok": False, "error": "not\nnow", "code": "refused"}, "refused: not now (refused)"),
            ({"kind": "end"}, "no reason given"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not this protocol"),
            (b"[1]\n", "not this protocol"),
            (b'{"kind": 7}\n', "not this protocol"),
            (b"[" * 100_000 + b"\n", "not this protocol"),
        ],
    )
    def test_refusals_and_nonsense(
        self, hook: Start, fake: Callable[..., FakeServer], answer: object, said: str
    ) -> None:
        fake(7, answer)
        fake(8, OK)  # this one is drained, which does not make the other one good
        ended = hook("--quiet").ended()
        assert (ended.code, said in ended.stderr) == (76, True), ended.stderr
        assert len(ended.stderr) < 1000

    def test_a_server_that_hangs_up(self, hook: Start, fake: Callable[..., FakeServer]) -> None:
        fake(7)
        ended = hook().ended()
        assert (ended.code, "hung up before" in ended.stderr) == (0, True)

    def test_a_server_that_talks_without_end(self, hook: Start, fake: Callable[..., FakeServer]) -> None:
        fake(7, *[{"kind": "phase", "state": "announcing", "time_left": 9}] * 5000, hangs=True)
        ended = hook("--timeout", "0.5").ended()
        assert (ended.code, ended.took < BUSY) == (75, True)

    def test_a_full_queue(self, hook: Start, directory: Path) -> None:
        """Connecting to it would wait for ever."""
        with ExitStack() as open_, ExitStack() as queued:
            listener = open_.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(directory / "admin-7.sock"))
            listener.listen(0)
            while True:
                waiting = queued.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                try:
                    waiting.connect(str(directory / "admin-7.sock"))
                except BlockingIOError:
                    break
            ended = hook("--timeout", "0.5").ended()
            assert (ended.code, 0.5 <= ended.took < BUSY) == (75, True)
            assert "[admin-7.sock] has not answered" in ended.stderr
            call = Call(str(directory / "admin-7.sock"), {"command": "drain"})
            assert not call.connect()
            # Who waited hangs up: there is room again, and it is asked after all.
            answering = threading.Thread(target=_answer_all, args=(listener,), daemon=True)
            queued.close()
            answering.start()
            assert list(talk([call], time.monotonic() + BOUND)) == []
            assert call.outcome is Outcome.DONE
            listener.shutdown(socket.SHUT_RDWR)
            answering.join(BOUND)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_it_is_told_to_end(self, hook: Start, fake: Callable[..., FakeServer], number: signal.Signals) -> None:
        """Killed by the signal, which shells and container runtimes call 128 + its number; and no traceback."""
        server = fake(7, hangs=True)
        running = hook()
        until(lambda: server.asked)
        began = time.monotonic()
        running.process.send_signal(number)
        ended = running.ended()
        assert (ended.code, ended.stderr) == (-number, "")
        assert time.monotonic() - began < BUSY

    def test_nobody_reads_what_it_says(self, hook: Start, fake: Callable[..., FakeServer]) -> None:
        """A full pipe, a closed one, and none at all."""
        fake(7, {"kind": "phase", "state": "announcing", "time_left": 9}, OK)
        read, write = os.pipe()
        os.set_blocking(write, False)
        try:
            while True:
                os.write(write, b"x" * 4096)
        except BlockingIOError:
            os.set_blocking(write, True)
        assert hook(stderr=write).ended().code == 0
        os.close(read)
        assert hook(stderr=write).ended().code == 0
        os.close(write)
        closed = ["sh", "-c", f'exec 0<&- 1>&- 2>&-; exec "{sys.executable}" -m drain.prestop']
        assert subprocess.run(closed, timeout=BOUND, check=False).returncode == 0


def _answer_all(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, connection.makefile("rb") as lines:
            if lines.readline():
                connection.sendall(json.dumps(OK).encode() + b"\n")


class TestNobodyThere:
    """At once, and saying where it looked."""

    def test_no_directory(self, hook: Start, tmp_path: Path) -> None:
        ended = hook(DRAIN_RUNTIME_DIR=str(tmp_path / "none")).ended()
        assert (ended.code, str(tmp_path / "none") in ended.stderr) == (69, True)
        assert "DRAIN_RUNTIME_DIR" in ended.stderr
        assert not (tmp_path / "none").exists()

    def test_no_socket(self, hook: Start, directory: Path) -> None:
        (directory / "xds-7.sock").touch()
        ended = hook().ended()
        assert (ended.code, f"no drain server found in {directory}" in ended.stderr) == (69, True)

    def test_what_a_killed_server_left(self, hook: Start, directory: Path, fake: Callable[..., FakeServer]) -> None:
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(directory / "admin-6.sock"))
        (directory / "admin-5.sock").touch()
        ended = hook().ended()
        assert (ended.code, "passed over: admin-5.sock" in ended.stderr) == (69, True), ended.stderr
        fake(7, OK)
        ended = hook().ended()
        assert ended.code == 0
        assert ended.stderr.count("admin-6.sock nobody listens there any more") == 1

    def test_a_named_socket_that_is_not_there(self, hook: Start, directory: Path) -> None:
        missing, long = str(directory / "admin-9.sock"), "/" + "x" * 200
        ended = hook("--socket", missing, "--socket", long).ended()
        assert (ended.code, missing in ended.stderr, "too long" in ended.stderr) == (69, True, True), ended.stderr

    @pytest.mark.parametrize("mode", [0o755, 0o710])
    def test_a_directory_that_lets_others_in(self, hook: Start, directory: Path, mode: int) -> None:
        directory.chmod(mode)
        ended = hook().ended()
        assert (ended.code, f"mode {mode:04o} lets others in. chmod 700" in ended.stderr) == (77, True)

    def test_a_link_to_a_directory(self, hook: Start, directory: Path, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(directory)
        ended = hook(DRAIN_RUNTIME_DIR=str(tmp_path / "link")).ended()
        assert (ended.code, "is a link or a file" in ended.stderr) == (77, True)

    def test_another_users_directory(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        mine = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
        with pytest.raises(
            ExitError, match=rf"{directory}: belongs to user {mine}, not to us \({mine + 1}\)"
        ) as raised:
            looked_up.directory()
        assert raised.value.code == 77

    def test_another_users_socket(
        self, fake: Callable[..., FakeServer], directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server, mine = fake(7, OK), os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
        call = Call(str(directory / "admin-7.sock"), {"command": "drain"})
        assert list(talk([call], time.monotonic() + BOUND)) == []
        assert (call.outcome, server.asked) == (Outcome.FOREIGN, [])

    def test_another_containers_socket(
        self, fake: Callable[..., FakeServer], directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The kernel tells process 0 of one whose pid namespace we cannot see. It is not ours to drain, unless it is named."""
        server = fake(7, OK)
        monkeypatch.setattr(admin_client, "_peer", lambda sock: (0, os.geteuid()))
        where, request = str(directory / "admin-7.sock"), {"command": "drain"}
        call, named = Call(where, request), Call(where, request, anywhere=True)
        assert list(talk([call], time.monotonic() + BOUND)) == []
        assert (call.outcome, server.asked) == (Outcome.ELSEWHERE, [])
        assert list(talk([named], time.monotonic() + BOUND)) == []
        assert (named.outcome, len(server.asked)) == (Outcome.DONE, 1)

    def test_the_directory_is_the_servers_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is looked for where servers make it, and judged as they judge it."""
        for name in ("TEMP", "TMP"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr(tempfile, "tempdir", None)
        cases: list[dict[str, str]] = [
            {},
            {"XDG_RUNTIME_DIR": str(tmp_path / "session")},
            {"XDG_RUNTIME_DIR": str(tmp_path / "session"), "DRAIN_RUNTIME_DIR": str(tmp_path / "ours")},
            {"XDG_RUNTIME_DIR": "", "DRAIN_RUNTIME_DIR": ""},
            {"DRAIN_RUNTIME_DIR": str(tmp_path / "volume")},
        ]
        (tmp_path / "volume").mkdir()
        (tmp_path / "volume").chmod(0o2777)  # as kubelet mounts an emptyDir
        for environ in cases:
            made = _runtime_dir.runtime_dir(environ)
            assert looked_up.directory({"TMPDIR": str(tmp_path), **environ}) == str(made)
            made.chmod(0o750)
            with pytest.raises(ConfigurationError):
                _runtime_dir.runtime_dir(environ)
            with pytest.raises(ExitError):
                looked_up.directory({"TMPDIR": str(tmp_path), **environ})
            made.chmod(0o700)


class TestCommandLine:
    """What may be said, and what is said of the rest."""

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--timeout", "soon"], "'soon' is not a duration"),
            (["--timeout", "-1"], "--timeout"),
            (["--timeout", "0"], "--timeout 0: must be more than 0"),
            (["--timeout", "inf"], "not a duration"),
            (["--timeout", "25h"], "24h at most"),
            (["--timeout", "1m!30s"], "not a duration"),
            (["--until", "stopped"], "closing"),
            (["--fast"], "--fast"),
            (["now"], "now"),
            (["--tim", "3"], "--tim"),
            (["--settle", "3"], "--settle needs --standalone"),
            (["--delay", "0"], "--delay needs --standalone"),
            (["--standalone", "--until", "drained"], "--until cannot be used with --standalone"),
            (["--standalone", "--socket", "x"], "--socket cannot be used with --standalone"),
            (["--standalone", "--delay", "20", "--timeout", "10"], "--delay 20: is longer than the timeout of 10 s"),
            (["--reason", ""], "--reason ''"),
            (["--reason", "a\nb"], "--reason"),
            (["--reason", "x" * 201], "1 to 200 characters"),
        ],
    )
    def test_bad_arguments(self, arguments: list[str], said: str) -> None:
        with pytest.raises(ExitError) as raised:
            command_line.parsed(arguments, {})
        assert raised.value.code == 64
        assert said in str(raised.value)

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("25", 25), ("2.5", 2.5), (".5", 0.5), ("25s", 25), ("1m30s", 90), ("500ms", 0.5), ("1.5m", 90)],
    )
    def test_durations(self, text: str, seconds: float) -> None:
        assert command_line.parsed(["--timeout", text], {})[0].timeout == seconds

    @pytest.mark.parametrize(
        ("grace", "timeout"), [(None, 29), ("", 29), ("none", 29), ("60", 59), ("1m30s", 89), ("1", 0.5), ("60 s", 29)]
    )
    def test_the_pods_grace_period(self, grace: str | None, timeout: float) -> None:
        """A wrong one is said; the drain matters more."""
        environ = {} if grace is None else {"DRAIN_TERMINATION_GRACE_PERIOD": grace}
        options, warnings = command_line.parsed([], environ)
        assert options.timeout == timeout
        assert len(warnings) == (grace == "60 s")

    def test_short_timeouts_shorten_the_other_defaults(self) -> None:
        options, _ = command_line.parsed(["--standalone", "--timeout", "1"], {})
        assert (options.settle, options.delay) == (1, 1)

    def test_the_documentation_has_every_option_and_exit_code(self) -> None:
        page = (Path(__file__).parents[2] / "docs" / "prestop.md").read_text(encoding="utf-8")
        codes = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
        assert codes == {*MEANINGS, 128 + signal.SIGTERM}
        told = set(re.findall(r"^\| `(--[a-z]+)", page, re.MULTILINE))
        known = {name for action in command_line._parser()._actions for name in action.option_strings}
        assert told == known - {"-h", "--help"}

    def test_as_a_process(self, hook: Start) -> None:
        """Exit codes, and --help on stdout."""
        assert hook("--timeout", "soon").ended().code == 64
        helped = subprocess.run(
            [sys.executable, "-m", "drain.prestop", "--help"], capture_output=True, text=True, timeout=BOUND, check=True
        )
        for word in ("--standalone", "exit codes", "69", "DRAIN_TERMINATION_GRACE_PERIOD"):
            assert word in helped.stdout
        assert helped.stderr == ""


def test_it_imports_nothing_dear(fake: Callable[..., FakeServer]) -> None:
    """The standard library, and of it only what costs little; of ours nothing that needs more."""
    fake(7, OK)
    program = (
        "import json, sys\nfrom drain.prestop import main\ncode = main(['--quiet'])\n"
        "print(json.dumps([code, sorted(sys.modules)]))"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=BOUND, check=True)
    code, modules = json.loads(done.stdout)
    assert code == 0
    tops = {name.partition(".")[0] for name in modules}
    birth = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"],
        stdout=subprocess.PIPE,
        text=True,
        timeout=BOUND,
        check=True,
    )
    inborn = {name.partition(".")[0] for name in birth.stdout.split()}
    assert tops - inborn - sys.stdlib_module_names == {"drain"}
    dear = {
        "dataclasses",
        "inspect",
        "pathlib",
        "tempfile",
        "logging",
        "asyncio",
        "threading",
        "subprocess",
        "ssl",
        "http",
    }
    assert not tops & dear
    assert {name for name in modules if name.startswith("drain.")} == {
        "drain._admin",
        "drain._admin.client",
        "drain._guard",
        "drain._prestop",
        "drain._prestop.directory",
        "drain._prestop.exits",
        "drain._prestop.hook",
        "drain._prestop.options",
        "drain._prestop.stderr",
        "drain.prestop",
    }
