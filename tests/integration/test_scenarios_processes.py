"""Real processes and real signals, over both flavours: how a server's process begins, is told to go, and ends.

Over 300 lines: one list of signals and of moments in which they come.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drain._demo.ports import free_ports
from tests.integration._servers.calls import PATIENCE, Client, Load, code
from tests.integration._servers.process import ServerProcess
from tests.integration._servers.service import path
from tests.integration._servers.waiting import until

Spawn = Callable[..., ServerProcess]
Clients = Callable[..., Client]
TERM, INT, KILL = signal.SIGTERM, signal.SIGINT, signal.SIGKILL
AT_ONCE = {"announce_timeout": 0}
LONG = {"announce_min": 60, "announce_timeout": 60}  # longer than any test waits
CUT = {"CANCELLED", "UNAVAILABLE"}  # what a call that we cut ends with


def begun(server: ServerProcess, client: Client, method: str, request: bytes = b"", times: int = 1) -> Any:
    """A call that is in flight, for certain."""
    call = client.begin(method, request)
    server.until("begun", method=method, times=times)
    return call


class TestRestarts:
    """The main job."""

    @pytest.mark.parametrize("announce_timeout", [0, 0.4])
    def test_rolling_restarts_under_unaware_callers(self, spawn: Spawn, announce_timeout: float) -> None:
        """Two servers restarted in turn, twice, under plain callers with no retry policy: not one call is lost."""
        ports = free_ports(2)

        def start(number: int) -> ServerProcess:
            settings = {"addresses": [f"127.0.0.1:{ports[number]}"], "name": f"server-{number}"}
            return spawn(policy={"announce_timeout": announce_timeout}, **settings).ready()

        servers = [start(0), start(1)]
        with Load(ports) as load:
            for number in (0, 1, 0, 1):
                leaving = servers[number]
                leaving.signal(TERM)
                assert leaving.exit_code() == 0
                assert leaving.report["clean"]
                assert leaving.report["goaway"] == "lossless"
                servers[number] = start(number)
                load.more(1)
        assert load.failures == []
        assert load.ok > 100

    def test_sigterm(self, spawn: Spawn, client: Clients) -> None:
        """Exit code 0, the report, every phase, the handlers of before; a call in flight is served to its end."""
        server = spawn().ready()
        call = begun(server, client(server.ports[0]), "Wait")
        server.signal(TERM)
        server.until("phase", phase="finishing")
        server.order("release")
        assert code(call) == "OK"
        assert server.exit_code() == 0
        assert server.phases == ["serving", "announcing", "closing", "finishing", "stopped"]
        assert server.report["reason"] == "SIGTERM"
        assert (server.report["finished_by_method"], server.report["forced"]) == ({path("Wait"): 1}, False)
        assert server.until("returned")["restored"] is True

    def test_an_idle_server_is_gone_at_once(self, spawn: Spawn) -> None:
        """Nothing to wait for: the process ends in a moment."""
        server = spawn(policy=AT_ONCE).ready()
        began = time.monotonic()
        server.signal(TERM)
        assert server.exit_code() == 0
        assert time.monotonic() - began < 3.0  # measured: 0.03 s; the bench has the figure

    def test_kill_9_leaves_nothing_in_the_way(self, spawn: Spawn, client: Clients, tmp_path: Path) -> None:
        """The next one takes the same port, the same Unix socket and the same run-time directory, and serves."""
        (port,) = free_ports(1)
        addresses = [f"127.0.0.1:{port}", f"unix:{tmp_path}/s.sock:0"]
        for _ in range(2):
            server = spawn(addresses=addresses).ready()
            server.until("GoawayChosen", goaway="lossless")
            caller = client(port)
            call = begun(server, caller, "Hang")
            server.signal(KILL)
            assert server.exit_code() == -KILL
            assert code(call) == "UNAVAILABLE"
            assert (tmp_path / "s.sock:0").exists()
        last = spawn(addresses=addresses).ready()
        assert client(port).call("Echo") == b"hello"
        assert client(f"unix:{tmp_path}/s.sock:0").call("Echo") == b"hello"
        last.signal(TERM)
        assert last.exit_code() == 0
        assert last.report["errors"] == []


class TestSignals:
    """Which signal, and when."""

    def test_before_ready(self, spawn: Spawn) -> None:
        """SIGTERM while the server starts: it ends in good order as soon as it can."""
        server = spawn(hold_start=True)
        server.until("starting")
        server.signal(TERM)
        server.order("go")
        assert server.exit_code() == 0
        assert server.report["reason"] == "SIGTERM"
        assert server.until("returned")["restored"] is True

    def test_sigint_skips_announcing(self, spawn: Spawn, client: Clients) -> None:
        """Ctrl-C: nobody wants to wait for a load balancer. Calls in flight are served to their end all the same."""
        server = spawn(policy=LONG).ready()
        call = begun(server, client(server.ports[0]), "Wait")
        server.signal(INT)
        server.until("phase", phase="finishing")
        server.order("release")
        assert server.exit_code() == 0
        assert code(call) == "OK"
        assert "announcing" not in server.phases
        assert (server.report["reason"], server.report["announcing_ended"]) == ("SIGINT", "skipped")

    def test_sigint_ends_announcing(self, spawn: Spawn) -> None:
        """A drain that is announcing goes on to closing."""
        server = spawn(policy=LONG).ready()
        server.order("drain slowly")
        server.until("phase", phase="announcing")
        server.signal(INT)
        assert server.exit_code() == 0
        assert (server.report["reason"], server.report["announcing_ended"]) == ("slowly", "skipped")

    def test_sigterm_joins_a_drain_under_way(self, spawn: Spawn, client: Clients) -> None:
        """It is the first signal, so it forces nothing: the drain goes on to its end, as it was begun."""
        server = spawn().ready()
        call = begun(server, client(server.ports[0]), "Wait")
        server.order("drain by the preStop hook")
        server.until("phase", phase="finishing")
        server.signal(TERM)
        server.order("rotate")  # it comes after the signal has been looked at, or at least after a while
        server.order("release")
        assert server.exit_code() == 0
        assert code(call) == "OK"
        assert (server.report["reason"], server.report["forced"]) == ("by the preStop hook", False)

    @pytest.mark.parametrize(("first", "second"), [(TERM, TERM), (TERM, INT), (INT, TERM)])
    def test_a_second_signal_forces(
        self, spawn: Spawn, client: Clients, first: signal.Signals, second: signal.Signals
    ) -> None:
        """The calls left are cancelled, and the process ends as that signal ends a process."""
        server = spawn().ready()
        call = begun(server, client(server.ports[0]), "Wait")
        server.signal(first)
        server.until("phase", phase="finishing")
        server.signal(second)
        server.until("CallsCancelled", methods={path("Wait"): 1})
        assert code(call) in CUT
        if second is INT:
            server.order("release")  # KeyboardInterrupt: Python itself waits for the threads of a sync server
        assert server.exit_code() == -second

    def test_a_second_signal_while_announcing(self, spawn: Spawn) -> None:
        """At once, whatever the phase: again and again, because two wake-ups race there."""
        for _ in range(3):
            server = spawn(policy=LONG).ready()
            server.signal(TERM)
            server.until("phase", phase="announcing")
            server.signal(TERM)
            assert server.exit_code() == -TERM
            assert "AnnouncingEnded" in {event["event"] for event in server.events}

    def test_a_handler_of_the_programs_own(self, spawn: Spawn, client: Clients) -> None:
        """It is back when the second signal is raised again; as it returns, so does run(), with the report."""
        server = spawn(handler=True).ready()
        call = begun(server, client(server.ports[0]), "Wait")
        server.signal(TERM)
        server.until("phase", phase="finishing")
        assert not [event for event in server.events if event["event"] == "own handler"]
        server.signal(TERM)
        server.until("own handler")
        server.order("release")
        assert (server.report["forced"], server.report["cancelled"]) == (True, 1)
        assert server.until("returned")["restored"] is True
        assert server.exit_code() == 0
        assert code(call) in CUT


class TestWithoutRun:
    """Programs that take signals themselves, as they did with grpc's own server."""

    def program(self, flavour: str, on_signal: str) -> "subprocess.Popen[str]":
        """It starts a server and waits for its termination; `on_signal` is what it does about signals before."""
        policy = "drain.DrainPolicy(announce_timeout=0)"
        if flavour == "sync":
            body = f"""
s = drain.server(ThreadPoolExecutor(4), policy={policy}); s.add_insecure_port('127.0.0.1:0'); s.start()
{on_signal}
print('waiting', flush=True)
print(s.wait_for_termination(), s.state.value, flush=True)
"""
        else:
            body = f"""
async def main():
    s = drain.aio.server(policy={policy}); s.add_insecure_port('127.0.0.1:0'); await s.start()
    {on_signal}
    print('waiting', flush=True)
    print(await s.wait_for_termination(), s.state.value, flush=True)
asyncio.run(main())
"""
        # The signal hits another thread than the main one: C notes it, and nothing wakes the main thread, which sleeps by then.
        strike = """
def strike():
    time.sleep(0.5)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    time.sleep(60)
"""
        imports = (
            "import asyncio, drain, drain.aio, signal, threading, time\n"
            "from concurrent.futures import ThreadPoolExecutor\n"
        )
        return subprocess.Popen(
            [sys.executable, "-c", imports + strike + body],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def test_a_handler_that_drains(self, flavour: str) -> None:
        """`signal.signal(SIGTERM, lambda *_: server.drain())`, or what asyncio has for it, whichever thread the signal hits."""
        on_signal = "signal.signal(signal.SIGTERM, lambda *_: s.drain('mine'))"
        if flavour == "aio":
            on_signal = "asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, s.drain, 'mine')"
        with self.program(flavour, f"{on_signal}; threading.Thread(target=strike, daemon=True).start()") as process:
            try:
                out, err = process.communicate(timeout=PATIENCE)
            finally:
                process.kill()
        assert (out, process.returncode) == ("waiting\nFalse stopped\n", 0), err

    def test_ctrl_c(self, flavour: str) -> None:
        """KeyboardInterrupt out of wait_for_termination, at once, as ever."""
        with self.program(flavour, "pass") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
            process.send_signal(INT)
            try:
                _, err = process.communicate(timeout=PATIENCE)
            finally:
                process.kill()
            assert process.returncode == -INT
            assert "KeyboardInterrupt" in err


class TestTogether:
    """Two servers in one process."""

    def test_run_both(self, spawn: Spawn, client: Clients) -> None:
        """One signal drains both, side by side; run() returns both reports."""
        server = spawn(servers=2)
        server.until("phase", phase="serving", times=2)
        calls = [begun(server, client(port), "Wait", times=times) for times, port in enumerate(server.ports, start=1)]
        server.signal(TERM)
        server.until("phase", phase="finishing", times=2)
        server.order("release")
        assert server.exit_code() == 0
        assert [code(call) for call in calls] == ["OK", "OK"]
        reports = server.until("returned")["reports"]
        assert [(report["reason"], report["finished"], report["clean"]) for report in reports] == [
            ("SIGTERM", 1, True)
        ] * 2

    def test_one_may_leave_earlier(self, spawn: Spawn, client: Clients) -> None:
        """The other serves on, until the signal."""
        server = spawn(servers=2)
        server.until("phase", phase="serving", times=2)
        server.order("drain the first alone")
        server.until("drained")
        assert client(server.ports[1]).call("Echo") == b"hello"
        server.signal(TERM)
        assert server.exit_code() == 0
        assert [report["reason"] for report in server.until("returned")["reports"]] == ["the first alone", "SIGTERM"]


class TestClients:
    """Clients that do not do what they should."""

    def test_a_stopped_client(self, spawn: Spawn) -> None:
        """SIGSTOP of a client: it answers nothing more, so it is given a bound, and counted in peers_left."""
        server = spawn(policy=AT_ONCE).ready()
        program = (
            "import grpc, sys\n"
            f"channel = grpc.insecure_channel('127.0.0.1:{server.ports[0]}')\n"
            f"channel.unary_unary({path('Echo')!r})(b'hello', timeout=10)\n"
            "print('called', flush=True)\n"
            "sys.stdin.read()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as caller:
            try:
                assert caller.stdout is not None
                assert caller.stdout.readline() == "called\n"
                caller.send_signal(signal.SIGSTOP)
                began = time.monotonic()
                server.signal(TERM)
                assert server.exit_code() == 0
                assert time.monotonic() - began < 8
                assert len(server.report["peers_left"]) == 1
                assert server.report["clean"]
            finally:
                caller.kill()

    def test_a_hung_handler(self, spawn: Spawn, client: Clients) -> None:
        """One that outlasts drain_timeout, and does not listen to its cancellation: run() returns in time and names it."""
        server = spawn(policy={**AT_ONCE, "drain_timeout": 0.5}).ready()
        call = begun(server, client(server.ports[0]), "Hang")
        began = time.monotonic()
        server.signal(TERM)
        server.until("drained")
        assert time.monotonic() - began < 10
        server.until("CallsCancelled", methods={path("Hang"): 1})
        server.order("release")  # Python itself waits for threads, and asyncio.run() for tasks
        assert server.exit_code() == 0
        assert (server.report["cancelled"], server.report["cancelled_by_method"]) == (1, {path("Hang"): 1})
        assert code(call) in CUT


class TestForks:
    """A process may fork after it has built its server."""

    def test_the_child_serves(self, spawn: Spawn, client: Clients) -> None:
        """Built before the fork, started in the child."""
        server = spawn(fork="child")
        child = server.until("forked", role="child")["pid"]
        server.ready()
        assert client(server.ports[0]).call("Echo") == b"hello"
        os.kill(child, TERM)  # type: ignore[arg-type]
        assert server.exit_code() == 0
        assert (server.report["goaway"], server.report["reason"]) == ("lossless", "SIGTERM")

    def test_both_serve(self, spawn: Spawn, client: Clients) -> None:
        """The parent then runs a server of its own beside it; each has its own control plane, and leaves by itself."""
        server = spawn(fork="both")
        child = server.until("forked", role="child")["pid"]
        server.until("phase", phase="serving", times=2)
        own = server.until("built", times=2)["ports"][0]
        for port in (server.ports[0], own):
            assert client(port).call("Echo") == b"hello"
        os.kill(child, TERM)  # type: ignore[arg-type]
        server.until("returned")
        assert client(own).call("Echo") == b"hello"
        server.signal(TERM)
        assert server.exit_code() == 0
        reports = [event["reports"][0] for event in server.events if event["event"] == "returned"]
        assert [(report["goaway"], report["clean"]) for report in reports] == [("lossless", True)] * 2


class TestAsyncio:
    """What only an event loop can do to us."""

    @pytest.fixture
    def flavour(self) -> str:
        return "aio"

    def test_run_is_cancelled(self, spawn: Spawn, client: Clients) -> None:
        """Its servers are stopped at once, and the cancellation goes on."""
        server = spawn(outlive=1.5).ready()
        call = begun(server, client(server.ports[0]), "Wait")
        states = server.until("cancelled")["states"]
        assert states == ["stopped"]
        assert server.exit_code() == 0
        assert code(call) in CUT
        assert server.report["reason"] == "CancelledError in run()"

    def test_run_is_cancelled_while_it_starts(self, spawn: Spawn) -> None:
        """Nothing is left listening."""
        server = spawn(outlive=0.3, hold_start=True)
        server.until("starting")
        server.until("cancelled")
        server.order("go")
        assert server.exit_code() == 0
        with socket.socket() as again:
            again.bind(("127.0.0.1", server.ports[0]))


class TestExit:
    """The end of a process that never asked for one."""

    def script(self, flavour: str, end: str) -> subprocess.CompletedProcess[str]:
        """A program that starts a server and then just does `end`."""
        if flavour == "sync":
            body = f"s = drain.server(ThreadPoolExecutor(4)); s.add_insecure_port('127.0.0.1:0'); s.start(); {end}"
        else:
            body = (
                "async def main():\n"
                f"    s = drain.aio.server(); s.add_insecure_port('127.0.0.1:0'); await s.start(); {end}\n"
                "asyncio.run(main())"
            )
        program = f"import asyncio, drain, drain.aio, gc, sys, time\nfrom concurrent.futures import ThreadPoolExecutor\n{body}"
        return subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False
        )

    @pytest.mark.parametrize("end", ["pass", "sys.exit(3)", "raise KeyError('mine')", "s.rotate(); s.subscribe(print)"])
    def test_without_stop(self, flavour: str, end: str) -> None:
        """The interpreter ends as it would without us: no thread of ours holds it up, and nothing is on stdout."""
        if flavour == "aio":
            end = end.replace("s.rotate()", "await s.rotate()")
        done = self.script(flavour, end)
        assert done.returncode == {"sys.exit(3)": 3, "raise KeyError('mine')": 1}.get(end, 0), done.stderr
        assert done.stdout == ""
        assert "Fatal" not in done.stderr
        if end == "pass":
            assert "Traceback" not in done.stderr

    def test_under_a_debugging_loop(self) -> None:
        """asyncio's own debug mode finds nothing to complain of: no slow callback, no call from a foreign thread."""
        program = (
            "import asyncio, drain.aio, logging, warnings\n"
            "warnings.simplefilter('error')\n"
            "logging.basicConfig(level='WARNING')\n"
            "async def main():\n"
            "    s = drain.aio.server(policy=drain.DrainPolicy(announce_timeout=0))\n"
            "    s.add_insecure_port('127.0.0.1:0')\n"
            "    await s.start(); await s.rotate(); await s.pause(); await s.resume()\n"
            "    print(await s.drain())\n"
            "asyncio.run(main(), debug=True)\n"
        )
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("drained in")
        complaints = [line for line in done.stderr.splitlines() if "Error" in line or "never awaited" in line]
        assert [line for line in complaints if "posix_engine" not in line and "ListenerWatcher" not in line] == []


def test_run_outside_the_main_thread(serve: Callable[..., Any]) -> None:
    """Python knows signals in the main thread only: an error that says what to do instead; nothing was started."""
    import asyncio
    import threading

    from drain.errors import ConfigurationError

    hosted = serve(start=False)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            report = hosted.server.run()
            if hosted.flavour == "aio":
                asyncio.run(report)
        except ConfigurationError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE)
    assert "main thread" in str(errors[0])
    assert "start()" in str(errors[0])
    hosted.start()


def test_logs_go_to_the_logger_and_nowhere_else(flavour: str) -> None:
    """Events on the logger "drain" as key=value; nothing on stdout; without configuration only warnings, on stderr."""
    run = "drain.run(s)" if flavour == "sync" else "asyncio.run(s.run())"
    make = "drain.server(ThreadPoolExecutor(2), policy=p)" if flavour == "sync" else "drain.aio.server(policy=p)"
    program = (
        "import asyncio, drain, drain.aio, logging, os, signal, sys, threading\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "if len(sys.argv) > 1: logging.basicConfig(level='INFO', format='LOG %(name)s %(levelname)s %(message)s')\n"
        "p = drain.DrainPolicy(announce_min=0, rotation_interval=0.15, return_window=0.1)\n"
        f"s = {make}\n"
        "s.add_insecure_port('127.0.0.1:0')\n"
        "s.subscribe(lambda e: getattr(e, 'state', None) is drain.State.SERVING and os.kill(os.getpid(), signal.SIGTERM))\n"
        f"{run}\n"
    )

    def output(*arguments: str) -> tuple[str, list[str]]:
        command = [sys.executable, "-c", program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
        return done.stdout, done.stderr.splitlines()

    stdout, stderr = output("configured")
    lines = [line for line in stderr if line.startswith("LOG drain ")]
    assert stdout == ""
    assert {line.split()[2] for line in lines} == {"INFO"}
    for said in ("drain.goaway_chosen", "drain.rotated", "drain.announcing_ended", "drain.drained", "state='closing'"):
        assert any(said in line for line in lines), said
    stdout, stderr = output()
    assert stdout == ""
    assert not [line for line in stderr if "drain." in line and ".cc:" not in line]


def test_no_zombie_is_left(spawn: Spawn) -> None:
    """The suite itself cleans up: a server that is killed is gone."""
    server = spawn().ready()
    server.kill()
    until(lambda: not Path(f"/proc/{server.pid}").exists())
