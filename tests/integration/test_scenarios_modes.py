"""Lossless or classic, over both flavours: what decides it, what is said of it, and that the classic way works as well.

Over 300 lines: a part of one list of scenarios (test_scenarios.py).
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drain import _guard
from drain.errors import CapabilityError, ConfigurationError
from drain.events import AnnouncingEnded, CallsCancelled, FallbackTaken, GoawayChosen, OptionOverridden, Rotated, State
from tests.integration._servers.calls import PATIENCE, SERVING, Client, Talk, code, in_flight
from tests.integration._servers.hosted import FAST, Hosted
from tests.integration._servers.process import ServerProcess
from tests.integration._servers.service import path
from tests.integration._servers.waiting import until

Serve = Callable[..., Hosted]
Clients = Callable[..., Client]
CLASSIC = replace(FAST, goaway="classic")


class TestClassic:
    """goaway="classic": nobody is told to go, so times decide."""

    @pytest.fixture
    def classic(self, serve: Serve) -> Callable[..., Hosted]:
        """A started server that leaves the classic way."""

        def make(**arguments: Any) -> Hosted:
            hosted = serve(start=False, **{"policy": CLASSIC, **arguments})
            return hosted.start("classic")

        return make

    def test_the_phases(self, classic: Serve, client: Clients) -> None:
        """announce_delay, then refused, then quiet, then finished; a call in flight is served, and nothing is called a fallback."""
        hosted = classic()
        assert hosted.server.goaway_reason == 'asked for: goaway="classic"'
        (call,) = in_flight(client(hosted.port), hosted.told)
        future = hosted.drain()
        hosted.phase(State.FINISHING)
        assert client(hosted.port).code("Echo", timeout=2) == "UNAVAILABLE"
        hosted.service.release.set()
        report = future.result(PATIENCE)
        assert code(call) == "OK"
        assert (report.goaway, report.announcing_ended, report.rotations) == ("classic", "announce_delay", ())
        assert (report.finished, report.cancelled, report.peers_left, report.errors) == (1, 0, (), ())
        assert report.phases["announcing"] >= CLASSIC.announce_delay
        assert report.phases["closing"] >= CLASSIC.quiet_period
        assert hosted.happened(FallbackTaken) == []
        assert hosted.happened(Rotated) == []
        assert [event.goaway for event in hosted.happened(GoawayChosen)] == ["classic"]
        assert [event.why for event in hosted.happened(AnnouncingEnded)] == ["announce_delay"]

    def test_calls_that_still_come_are_served(self, classic: Serve, client: Clients) -> None:
        """On connections that are open already: through announcing and closing, until it is quiet."""
        hosted = classic()
        caller = client(hosted.port)
        caller.call("Echo")
        report = hosted.drain()
        hosted.phase(State.CLOSING)
        for _ in range(5):
            assert caller.call("Echo") == b"hello"
        assert report.result(PATIENCE).clean
        assert report.result().calls_after_goaway >= 0

    def test_never_quiet(self, classic: Serve, client: Clients) -> None:
        """A caller that never stops is waited for half of drain_timeout at most; what the stop then cuts is not hidden."""
        hosted = classic(policy=replace(CLASSIC, drain_timeout=1.0))
        caller, done = client(hosted.port), threading.Event()
        codes: list[str] = []

        def keep_calling() -> None:
            while not done.is_set():
                codes.append(caller.code("Echo", timeout=2))

        calling = threading.Thread(target=keep_calling)
        calling.start()
        until(lambda: len(codes) > 10)
        report = hosted.drain().result(PATIENCE)
        done.set()
        calling.join(PATIENCE)
        assert 0.4 <= report.phases["closing"] < 3
        assert set(codes) <= {"OK", "UNAVAILABLE", "CANCELLED"}

    def test_a_hung_handler(self, classic: Serve, client: Clients) -> None:
        """Cut and named, as in the lossless way."""
        hosted = classic(policy=replace(CLASSIC, announce_timeout=0, drain_timeout=0.6))
        (call,) = in_flight(client(hosted.port), hosted.told, method="Hang")
        report = hosted.drain().result(PATIENCE)
        assert (report.cancelled, report.cancelled_by_method) == (1, {path("Hang"): 1})
        assert hosted.happened(CallsCancelled)[0].calls == 1
        assert code(call) in ("CANCELLED", "UNAVAILABLE")

    def test_rotate_and_pause(self, classic: Serve, client: Clients) -> None:
        """rotate() cannot be had, and says why; pause() can, without a rotation."""
        hosted = classic()
        with pytest.raises(CapabilityError, match=r"rotate\(\).*classic"):
            hosted.ask(hosted.server.rotate)
        hosted.ask(hosted.server.pause)
        assert client(hosted.port).health() != SERVING
        hosted.ask(hosted.server.resume)
        assert client(hosted.port).health() == SERVING

    def test_stop(self, classic: Serve, client: Clients) -> None:
        """grpc's contract holds here, too: None cuts at once, a grace is kept."""
        hosted = classic()
        (call,) = in_flight(client(hosted.port), hosted.told)
        hosted.ask(lambda: hosted.server.stop(None))
        assert hosted.server.state is State.STOPPED
        assert code(call) in ("CANCELLED", "UNAVAILABLE")
        another = classic()
        quick = client(another.port).begin("Sleep", b"0.4")
        another.told.name("Sleep")
        another.stop(10).result(PATIENCE)
        assert code(quick) == "OK"

    def test_bidirectional_streams(self, classic: Serve, client: Clients) -> None:
        """They live on until they end."""
        hosted = classic()
        talk = Talk()
        chat = client(hosted.port).chat(iter(talk))
        talk.say(b"one")
        assert next(chat) == b"one"
        report = hosted.drain()
        hosted.phase(State.FINISHING)
        talk.say(b"two")
        assert next(chat) == b"two"
        talk.say(None)
        assert list(chat) == []
        assert report.result(PATIENCE).clean


class TestRuntimeDirectory:
    """Where the control plane's socket cannot be had, the server works all the same."""

    @pytest.mark.parametrize("wrong", ["mode", "owner", "file", "long"])
    def test_refused(self, flavour: str, tmp_path: Path, wrong: str) -> None:
        """Classic, with one warning that names the directory and the remedy; `require` refuses to start."""
        directory = tmp_path / "run"
        if wrong == "file":
            directory.write_text("")
        elif wrong == "long":
            directory = tmp_path / ("x" * 100)
            directory.mkdir(mode=0o700)
        else:
            directory.mkdir(mode=0o700)
            if wrong == "owner" and os.geteuid() == 0:
                os.chown(directory, 12345, 12345)
            elif wrong == "owner":
                directory = Path("/")
            else:
                directory.chmod(0o755)
        told = self.run_server(flavour, str(directory), "auto")
        assert told["goaway"] == "classic"
        assert str(directory) in told["reason"]
        assert "DRAIN_RUNTIME_DIR" in told["reason"]
        assert told["answer"] == "hello"
        assert told["report"] == "classic"
        assert told["warnings"] == 2, "lossless GOAWAY and the admin socket, each once"
        refused = self.run_server(flavour, str(directory), "require")
        assert refused["error"] == "CapabilityError"
        assert str(directory) in refused["text"]

    @staticmethod
    def run_server(flavour: str, directory: str, goaway: str) -> dict[str, Any]:
        """A program that starts a server, calls it, drains it, and tells."""
        return run_program(flavour, before="import drain", goaway=goaway, DRAIN_RUNTIME_DIR=directory)


def run_program(flavour: str, *, before: str, goaway: str = "auto", **environment: str) -> dict[str, Any]:
    """A server in a fresh interpreter, which runs `before` first; what it says of its leaving."""
    program = f"""
{before}
import asyncio, json, logging
import drain, drain.aio, grpc
from concurrent.futures import ThreadPoolExecutor

warnings = []
class Count(logging.Handler):
    def emit(self, record): warnings.append(record.getMessage())
logging.getLogger("drain").addHandler(Count(level=logging.WARNING))
policy = drain.DrainPolicy(announce_timeout=0, quiet_period=0.05, drain_timeout=5, goaway={goaway!r})

def call(port):
    with grpc.insecure_channel(f"127.0.0.1:{{port}}") as channel:
        return channel.unary_unary("/t.T/Echo")(b"hello", timeout=10).decode()

def handler(behaviour):
    return grpc.method_handlers_generic_handler("t.T", {{"Echo": grpc.unary_unary_rpc_method_handler(behaviour)}})

def sync():
    server = drain.server(ThreadPoolExecutor(2), [handler(lambda request, context: request)], policy=policy)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    answer = call(port)
    return server, answer, server.drain().result(10)

async def aio():
    async def echo(request, context): return request
    server = drain.aio.server(None, [handler(echo)], policy=policy)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    answer = await asyncio.to_thread(call, port)
    return server, answer, await server.drain()

try:
    server, answer, report = sync() if {flavour!r} == "sync" else asyncio.run(aio())
    told = dict(goaway=server.goaway, reason=server.goaway_reason, answer=answer, report=report.goaway)
except drain.DrainError as error:
    told = dict(error=type(error).__name__, text=str(error))
print(json.dumps(dict(told, warnings=len(warnings))))
"""
    inherited = {name: value for name, value in os.environ.items() if name != _guard.VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**inherited, **environment}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


class TestImportOrder:
    """grpcio 1.85.1 must not find its core loaded before the guard."""

    def test_grpc_first(self, flavour: str) -> None:
        """Classic, one warning, and the remedy is in the reason."""
        told = run_program(flavour, before="import grpc")
        assert (told["goaway"], told["report"], told["answer"], told["warnings"]) == ("classic", "classic", "hello", 1)
        assert "imported before drain" in told["reason"]
        assert "drain exec" in told["reason"]

    def test_grpc_first_where_lossless_is_required(self, flavour: str) -> None:
        """It refuses to start, and says why."""
        told = run_program(flavour, before="import grpc", goaway="require")
        assert told["error"] == "CapabilityError"
        assert "imported before drain" in told["text"]

    def test_grpc_first_in_a_cured_environment(self, flavour: str) -> None:
        """`drain exec`, or the chart, has set the variable: all is well."""
        told = run_program(flavour, before="import grpc", goaway="require", **{_guard.VARIABLE: _guard.CURE})
        assert (told["goaway"], told["report"], told["warnings"]) == ("lossless", "lossless", 0)

    def test_drain_first(self, flavour: str) -> None:
        """The usual case."""
        told = run_program(flavour, before="import drain", goaway="require")
        assert (told["goaway"], told["report"], told["answer"], told["warnings"]) == (
            "lossless",
            "lossless",
            "hello",
            0,
        )

    def test_set_too_late(self, flavour: str) -> None:
        """os.environ after grpc was loaded cures nothing, and is not believed: it would abort the process."""
        before = f"import grpc, os; os.environ[{_guard.VARIABLE!r}] = {_guard.CURE!r}"
        assert run_program(flavour, before=before)["goaway"] == "classic"


class TestOptions:
    """The user's own channel arguments."""

    def test_channelz_off(self, serve: Serve, client: Clients) -> None:
        """grpc.enable_channelz=0: the ledger alone counts; calls in flight are waited for, and cut ones named."""
        hosted = serve(options=[("grpc.enable_channelz", 0)])
        calls = in_flight(client(hosted.port), hosted.told, calls=2)
        future = hosted.drain()
        hosted.phase(State.FINISHING)
        hosted.service.release.set()
        report = future.result(PATIENCE)
        assert [code(call) for call in calls] == ["OK", "OK"]
        assert (report.goaway, report.in_flight_at_start, report.finished, report.clean) == ("lossless", 2, 2, True)

    def test_a_clash_is_told(self, serve: Serve) -> None:
        """The user's value is the one that counts."""
        hosted = serve(options=[("grpc.max_connection_age_ms", 60_000)])
        (event,) = hosted.happened(OptionOverridden)
        assert (event.name, event.used) == ("grpc.max_connection_age_ms", 60_000)

    def test_those_that_drain_rests_on(self, serve: Serve) -> None:
        """Refused when the server is made."""
        with pytest.raises(ConfigurationError, match="drain_grace_time"):
            serve(options=[("grpc.experimental.server_config_change_drain_grace_time_ms", 1000)])

    def test_a_shared_port(self, serve: Serve, client: Clients) -> None:
        """grpc.so_reuseport=1: two servers on one port; who leaves, leaves its callers to the other."""
        options = [("grpc.so_reuseport", 1)]
        first = serve(options=options, policy=replace(FAST, announce_timeout=0))
        process = ServerProcess(
            flavour=first.flavour,
            addresses=[f"127.0.0.1:{first.port}"],
            options=options,
            policy={"announce_timeout": 0},
        )
        try:
            process.ready()
            assert first.drain().result(PATIENCE).clean
            for _ in range(5):
                with Client(first.port) as caller:
                    assert caller.call("Echo") == b"hello"
        finally:
            process.kill()

    def test_the_environment_wins(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        """DRAIN_GOAWAY=classic, whatever the program says."""
        monkeypatch.setenv("DRAIN_GOAWAY", "classic")
        hosted = serve(start=False)
        hosted.start("classic")
        assert hosted.server.goaway == "classic"
