"""The admin socket: what it answers and does, whom it answers, what it costs, and that nothing is left of it.

Over 300 lines: one protocol, each of whose words is said to one socket.
"""

import contextlib
import gc
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from drain import _facade, events
from drain._admin import connection, jobs, reception
from drain._admin.loop import Loop
from drain._admin.protocol import Code, Command, Request
from drain._admin.server import ORPHANED, Admin
from drain._core.lifecycle import Input
from drain._subject import Subject
from drain.events import State
from drain.report import DrainReport
from drain.status import ServerStatus
from tests.integration._servers.admin import FakeServer, FakeSubject, Talk, admin_socket, ask
from tests.integration._servers.hosted import FAST, Hosted
from tests.integration._servers.process import ServerProcess
from tests.integration._servers.service import path
from tests.integration._servers.waiting import until

Serve = Callable[..., Hosted]
END = {"kind": "end", "ok": True}


def fresh() -> type[Admin]:
    """An Admin as a new process has it, whatever other tests have left."""
    return type("Fresh", (Admin,), {"_lock": threading.Lock(), "_shared": None, "_fallback_told": False})


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "run"
    made.mkdir(mode=0o700)
    monkeypatch.setenv("DRAIN_RUNTIME_DIR", str(made))
    return made


@pytest.fixture
def admin(directory: Path, monkeypatch: pytest.MonkeyPatch) -> type[Admin]:
    made = fresh()
    monkeypatch.setattr(_facade, "Admin", made)
    return made


@pytest.fixture
def sock(directory: Path, admin: type[Admin]) -> Iterator[Path]:
    """Where servers of this test are asked; nothing may be there when it is over."""
    return admin_socket(directory, os.getpid())


def states(line: dict[str, Any]) -> list[str]:
    return [server["state"] for server in line["servers"]]


# What it answers and does.


def test_status(serve: Serve, sock: Path, client: Callable[..., Any]) -> None:
    hosted = serve()
    with grpc.insecure_channel(f"127.0.0.1:{hosted.port}") as channel:
        call = channel.unary_unary(path("Wait")).future(b"x")
        hosted.service.tell.name("Wait")
        status, end = ask(sock, "status")
        hosted.service.release.set()
        assert call.result(20) == b"x"
    assert end == END
    assert (status["kind"], status["version"], status["pid"], status["role"]) == ("status", 1, os.getpid(), "server")
    (server,) = status["servers"]
    assert server["addresses"] == [f"127.0.0.1:{hosted.port}"]
    assert (server["state"], server["in_flight"]) == ("serving", 1)
    assert server["in_flight_by_method"] == {path("Wait"): 1}
    assert len(server["peers"]) == 1
    assert server["goaway"] == "lossless"
    assert (server["time_left"], server["held"], server["report"]) == (None, False, None)


def test_pause_and_resume(serve: Serve, sock: Path) -> None:
    hosted = serve()
    assert ask(sock, "pause") == [{**END, "connections": 0}]
    assert hosted.server.state is State.PAUSED
    assert states(ask(sock, "status")[0]) == ["paused"]
    assert ask(sock, "pause") == [{**END, "connections": 0}]  # it is paused already
    assert ask(sock, "resume") == [{**END, "connections": 0}]
    assert hosted.server.state is State.SERVING


def test_rotate_tells_every_connection(serve: Serve, sock: Path) -> None:
    hosted = serve()
    with grpc.insecure_channel(f"127.0.0.1:{hosted.port}") as channel:
        assert channel.unary_unary(path("Echo"))(b"x", timeout=20) == b"x"
        assert ask(sock, "rotate", reason="spread anew") == [{**END, "connections": 1}]
    until(lambda: hosted.happened(events.Rotated))  # asyncio's subscribers are told on its loop, which may be busy
    assert len(hosted.happened(events.Rotated)) == 1


def test_rotate_is_refused_in_the_classic_way(serve: Serve, sock: Path) -> None:
    hosted = serve(start=False, policy=replace(FAST, goaway="classic")).start("classic")
    (end,) = ask(sock, "rotate")
    assert (end["ok"], end["code"], end["connections"]) == (False, "refused", 0)
    assert end["error"].startswith(f"server 0 (127.0.0.1:{hosted.port}): rotate() needs lossless GOAWAY")


def test_drain_streams_phases_and_reports(serve: Serve, sock: Path) -> None:
    hosted = serve()
    with grpc.insecure_channel(f"127.0.0.1:{hosted.port}") as channel:
        call = channel.unary_unary(path("Wait")).future(b"x")
        hosted.service.tell.name("Wait")
        with Talk(sock) as talk:
            talk.say("drain", reason="preStop")
            first = talk.line()
            assert (first["kind"], first["server"], first["state"]) == ("phase", 0, "announcing")
            assert 0 < first["time_left"] <= FAST.announce_timeout + FAST.finishing_time
            while talk.line()["state"] != "finishing":
                pass
            hosted.service.release.set()
            assert call.result(20) == b"x"
            *phases, report, end = talk.rest()
    assert [line["state"] for line in phases] == ["stopped"]
    assert (report["kind"], report["server"], end) == ("report", 0, END)
    assert (report["report"]["reason"], report["report"]["finished"], report["report"]["clean"]) == ("preStop", 1, True)


def test_drain_until_closing_does_not_wait_for_calls(serve: Serve, sock: Path) -> None:
    hosted = serve()
    with grpc.insecure_channel(f"127.0.0.1:{hosted.port}") as channel:
        call = channel.unary_unary(path("Wait")).future(b"x")
        hosted.service.tell.name("Wait")
        *phases, end = ask(sock, "drain", until="closing")
        assert end == END
        assert {line["kind"] for line in phases} == {"phase"}
        assert phases[-1]["state"] in ("closing", "finishing")
        assert not call.done()
        hosted.service.release.set()
        assert call.result(20) == b"x"


def test_a_drain_joins_the_one_under_way(serve: Serve, sock: Path) -> None:
    hosted = serve()
    first = hosted.drain("SIGTERM")
    hosted.phase(State.ANNOUNCING)
    *_, report, end = ask(sock, "drain", reason="preStop")
    assert end == END
    assert report["report"]["reason"] == "SIGTERM"
    assert first.result(20).reason == "SIGTERM"


def test_without_announcing(serve: Serve, sock: Path) -> None:
    serve()
    *_, report, end = ask(sock, "drain", announce=False)
    assert end == END
    assert "announcing" not in report["report"]["phases"]


@pytest.mark.parametrize("hold", [True, False])
def test_a_drain_may_hold_the_process(serve: Serve, sock: Path, hold: bool) -> None:
    hosted = serve()
    ask(sock, "drain", hold=hold)
    assert ask(sock, "status")[0]["servers"][0]["held"] is hold
    assert hosted.server._driver.hold.freed().done() is not hold
    ask(sock, "drain", hold=False)  # lets it go
    assert hosted.server._driver.hold.freed().done()


def test_a_stopped_server_still_answers(serve: Serve, sock: Path) -> None:
    hosted = serve()
    hosted.drain().result(20)
    began = time.monotonic()
    stopped, report, end = ask(sock, "drain", reason="preStop")
    assert time.monotonic() - began < 5
    assert (stopped["state"], report["report"]["reason"], end) == ("stopped", "test", END)
    assert states(ask(sock, "status")[0]) == ["stopped"]
    assert [line["kind"] for line in ask(sock, "watch")] == ["status", "end"]
    for command in ("pause", "resume", "rotate"):
        (end,) = ask(sock, command)
        assert (end["code"], f"cannot {command} a server that is stopped" in end["error"]) == ("refused", True)


def test_every_command_goes_to_every_server(serve: Serve, sock: Path) -> None:
    first, second = serve(), serve()
    assert states(ask(sock, "status")[0]) == ["serving", "serving"]
    assert ask(sock, "pause") == [{**END, "connections": 0}]
    assert (first.server.state, second.server.state) == (State.PAUSED, State.PAUSED)
    lines = ask(sock, "drain")
    assert sorted(line["server"] for line in lines if line["kind"] == "report") == [0, 1]
    assert lines[-1] == END


def test_one_that_refuses_is_named_and_the_others_obey(serve: Serve, sock: Path) -> None:
    serve()
    second = serve(start=False, policy=replace(FAST, goaway="classic")).start("classic")
    (end,) = ask(sock, "rotate")
    assert (end["code"], end["connections"]) == ("refused", 0)
    assert end["error"].startswith(f"server 1 (127.0.0.1:{second.port}): ")
    second.drain().result(20)
    assert ask(sock, "rotate") == [{**END, "connections": 0}]  # one that has left is no reason for an error


def test_watch_tells_each_change_until_all_have_stopped(serve: Serve, sock: Path) -> None:
    hosted = serve()
    with Talk(sock) as talk:
        talk.say("watch", interval=3600)
        assert states(talk.line()) == ["serving"]
        hosted.ask(hosted.server.pause)
        assert states(talk.line()) == ["paused"]
        hosted.drain()
        *seen, end = talk.rest()
    assert end == END
    assert states(seen[0]) == ["announcing"]
    assert states(seen[-1]) == ["stopped"]


def test_watch_tells_each_interval(serve: Serve, sock: Path) -> None:
    serve()
    with Talk(sock) as talk:
        talk.say("watch", interval=0.05)
        assert [states(talk.line()) for _ in range(3)] == [["serving"]] * 3


def test_replace_is_for_parents(serve: Serve, sock: Path) -> None:
    hosted = serve()
    (end,) = ask(sock, "replace")
    assert (end["code"], "replace is for the parent process of workers" in end["error"]) == ("refused", True)
    assert hosted.server.state is State.SERVING


def test_a_server_without_it(serve: Serve, sock: Path, admin: type[Admin]) -> None:
    serve(admin=False)
    assert not sock.exists()
    assert admin._shared is None


PAGE = Path(__file__).parents[2] / "docs" / "admin-protocol.md"


def test_the_documented_session(serve: Serve, sock: Path) -> None:
    """Each request of docs/admin-protocol.md is answered as the page says, in kind and shape, and in every word that matters."""
    session = PAGE.read_text().split("```text\n")[1].split("```")[0].splitlines()
    hosted = serve()
    with grpc.insecure_channel(f"127.0.0.1:{hosted.port}") as channel:
        assert channel.unary_unary(path("Echo"))(b"x", timeout=20) == b"x"
        requests = 0
        while session:
            request = session.pop(0)
            assert request.startswith("> "), request
            wanted = []
            while session and session[0].startswith("< "):
                wanted.append(json.loads(session.pop(0)[2:]))
            with Talk(sock) as talk:
                talk.sock.sendall(request[2:].encode() + b"\n")
                found = talk.rest()
            brief = [
                each for each in found if each.get("state") not in ("closing", "finishing")
            ]  # seen or not, as it happens
            assert [shape(each) for each in brief] == [shape(each) for each in wanted], request
            requests += 1
    assert requests == 9


def shape(value: Any, name: str = "") -> Any:
    """What must be the same in two answers: names, kinds, states, and the words of errors; not numbers, and nobody's address."""
    if name == "threads":  # null on asyncio
        return "number or null"
    if isinstance(value, dict):
        return {key: shape(each, key) for key, each in value.items() if key != "phases"}
    if isinstance(value, list):
        return [shape(each) for each in value[:1]]
    if isinstance(value, str) and name == "error":
        return re.sub(r"[\d.]+:\d+", "ADDRESS", value)
    if (
        isinstance(value, bool)
        or value is None
        or name in ("kind", "state", "role", "code", "reason", "goaway", "version")
    ):
        return value
    return type(value).__name__.replace("int", "number").replace("float", "number")


def test_the_documented_tables() -> None:
    """No field, command or code is missing there."""
    page = PAGE.read_text()
    assert [name for name in (f.name for f in fields(ServerStatus)) if f"`{name}`" not in page] == []
    assert [each.value for each in (*Command, *Code) if f"| `{each.value}` |" not in page] == []
    assert [name for name in Request.__dataclass_fields__ if f"| `{name}` |" not in page] == []


# A worker's connection to its parent.


@pytest.fixture
def control(admin: type[Admin]) -> Iterator[Talk]:
    ours, workers = socket.socketpair()
    admin.control(workers)
    with Talk(ours) as talk:
        yield talk


def test_a_parent_asks_again_and_again(control: Talk, serve: Serve, sock: Path) -> None:
    control.say("status", id=1)
    assert (control.line()["servers"], control.line()) == ([], {"kind": "end", "id": 1, "ok": True})
    control.say("drain", id=2)
    assert (control.line()["code"]) == "refused"  # nobody listens yet
    hosted = serve()
    control.say("status", id="b")
    assert (states(control.line()), control.line()) == (["serving"], {"kind": "end", "id": "b", "ok": True})
    control.say("replace", id=3, reason="next one").say("status", id=4)  # interleaved
    lines = [control.line()]
    while len([line for line in lines if line["kind"] == "end"]) < 2:
        lines.append(control.line())
    assert {line["id"] for line in lines} == {3, 4}
    (report,) = [line["report"] for line in lines if line["kind"] == "report"]
    assert (report["reason"], "announcing" in report["phases"]) == ("next one", False)
    assert hosted.server.state is State.STOPPED


def test_a_parent_waits_for_the_server(control: Talk, serve: Serve) -> None:
    control.say("watch", id=1, interval=3600)
    assert control.line()["servers"] == []
    hosted = serve()
    assert states(control.line()) == ["serving"]
    hosted.drain()
    lines = [control.line()]
    while lines[-1]["kind"] != "end":
        lines.append(control.line())
    assert states(lines[-2]) == ["stopped"]


def test_the_end_of_the_parent_is_the_end_of_all(control: Talk, serve: Serve) -> None:
    hosted = serve()
    control.close()
    hosted.phase(State.STOPPED)
    assert hosted.server.status().reason == ORPHANED
    late = serve()
    late.phase(State.STOPPED)
    assert late.server.status().reason == ORPHANED


def test_a_parent_can_ask_where_no_socket_is_to_be_had(
    serve: Serve, directory: Path, sock: Path, admin: type[Admin]
) -> None:
    directory.chmod(0o755)
    hosted = serve(start=False)
    hosted.ask(hosted.server.start)
    ours, workers = socket.socketpair()
    admin.control(workers)  # it comes later, and must find the server that was there before
    with Talk(ours) as talk:
        assert states(talk.say("status", id=1).line()) == ["serving"]
        talk.line()
    hosted.phase(State.STOPPED)


def test_a_server_that_only_its_parent_may_ask(sock: Path, admin: type[Admin]) -> None:
    server = FakeServer()
    admin.register(FakeSubject(server), lambda _: None, listen=False)
    assert not sock.exists()
    ours, workers = socket.socketpair()
    admin.control(workers)
    with Talk(ours) as talk:
        assert states(talk.say("status", id=1).line()) == ["serving"]


def test_what_a_parent_says_wrong_is_answered(control: Talk, serve: Serve) -> None:
    serve()
    control.say("nonsense", id=5)
    assert (control.line()["id"]) == 5
    control.say("status", id=6)
    assert control.line()["id"] == 6


# Whom it answers.


def test_nobody_else_can_even_see_it(serve: Serve, sock: Path, directory: Path) -> None:
    serve()
    assert stat.S_IMODE(sock.lstat().st_mode) == 0o600
    assert stat.S_IMODE(directory.lstat().st_mode) == 0o700


def test_another_user_is_refused(serve: Serve, admin: type[Admin], monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.geteuid() == 0, "this test becomes another user, so it needs root"
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:  # which anybody may enter, unlike pytest's own
        monkeypatch.setenv("DRAIN_RUNTIME_DIR", directory)
        serve()
        sock = admin_socket(Path(directory), os.getpid())
        os.chmod(directory, 0o755)  # both doors are opened, so that it is the kernel's word on the peer that counts
        sock.chmod(0o666)
        end = json.loads(as_nobody(sock, b'{"version": 1, "command": "drain"}\n'))
        assert (end["ok"], end["code"]) == (False, "refused")
        assert end["error"] == "user 65534 may not ask here: only user 0, who runs the server, may."
        assert states(ask(sock, "status")[0]) == ["serving"]


def as_nobody(sock: Path, request: bytes) -> bytes:
    """What another user is answered there."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.settimeout(20)
                stranger.connect(str(sock))
                with contextlib.suppress(BrokenPipeError):
                    stranger.sendall(request)
                os.write(writer, stranger.recv(4096))
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answered:
        found = answered.read()
    os.waitpid(child, 0)
    return found


@pytest.mark.parametrize("flaw", ["open", "foreign", "file"])
def test_a_directory_that_is_not_ours_alone_is_not_used(
    flaw: str, serve: Serve, directory: Path, sock: Path, admin: type[Admin]
) -> None:
    if flaw == "file":
        directory.rmdir()
        directory.write_text("")
    elif flaw == "open":
        directory.chmod(0o755)
    else:
        os.chown(directory, 65534, 65534)
    first = serve(start=False)
    first.ask(first.server.start)  # it runs on; lossless GOAWAY may not be had there either
    second = serve(start=False)
    second.ask(second.server.start)
    told = [e for e in first.happened(events.FallbackTaken) if e.what == "the admin socket"]
    assert [e.instead for e in told] == ["preStop and drain status cannot reach this process"]
    assert str(directory) in told[0].reason
    assert "DRAIN_RUNTIME_DIR" in told[0].remedy
    assert [e for e in second.happened(events.FallbackTaken) if e.what == "the admin socket"] == []  # once
    assert not sock.exists()


def test_it_is_tried_again_with_the_next_server(serve: Serve, directory: Path, sock: Path) -> None:
    directory.chmod(0o755)
    first = serve(start=False)
    first.ask(first.server.start)
    directory.chmod(0o700)
    serve()
    assert sock.exists()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a test can wait for."""
    monkeypatch.setattr(connection, "REQUEST_BOUND", 0.5)
    monkeypatch.setattr(connection, "ANSWER_BOUND", 0.5)


@pytest.mark.parametrize("sent", [b"", b'{"version": 1, "comm'])
def test_a_silent_client_is_dropped(sent: bytes, serve: Serve, sock: Path, short: None) -> None:
    serve()
    with Talk(sock) as silent:
        silent.sock.sendall(sent)
        assert ask(sock, "status")[-1] == END  # others are served meanwhile
        (end,) = silent.rest()
    assert (end["code"], end["error"]) == ("usage", "no request within 0.5 s. Send one line at once.")


def test_slow_drops_do_not_prolong_it(serve: Serve, sock: Path, short: None) -> None:
    serve()
    with Talk(sock) as slow:
        began = time.monotonic()
        slow.sock.settimeout(0.05)
        heard = b""
        while not heard:
            assert time.monotonic() - began < 10
            slow.sock.send(b" ")
            try:
                heard = slow.sock.recv(4096)
            except TimeoutError:
                continue
        assert json.loads(heard)["code"] == "usage"


@pytest.mark.parametrize(
    "sent", [b"x" * (1 << 20), b"\x00\xff\n" * 1000, b"GET / HTTP/1.1\r\n\r\n", b"\n", b"{}\n" * 9]
)
def test_garbage_is_answered_and_dropped(sent: bytes, serve: Serve, sock: Path) -> None:
    serve()
    with Talk(sock) as stranger:
        try:
            stranger.sock.sendall(sent)
        except (BrokenPipeError, ConnectionResetError):  # it was not read to its end
            assert len(sent) > 64 * 1024
        answer = json.loads(stranger._lines.readline())
    assert (answer["ok"], answer["code"]) == (False, "version" if sent.startswith(b"{") else "usage")
    assert ask(sock, "status")[-1] == END


def test_a_client_that_hangs_up_leaves_nothing(serve: Serve, sock: Path, admin: type[Admin]) -> None:
    hosted = serve()
    for command in (None, "watch", "status"):
        with Talk(sock) as talk:
            if command is not None:
                talk.say(command, interval=3600)
    assert admin._shared is not None
    running = admin._shared._loop
    until(lambda: not running.connected)
    assert hosted.server.state is State.SERVING


def test_a_client_may_shut_down_its_side_and_wait(serve: Serve, sock: Path) -> None:
    serve()
    with Talk(sock) as talk:
        talk.say("drain")
        talk.sock.shutdown(socket.SHUT_WR)
        assert talk.rest()[-1] == END


def test_a_watcher_that_does_not_read_is_dropped(
    serve: Serve, sock: Path, admin: type[Admin], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ANSWER_BOUND", 2.0)  # forty lines, if they piled up
    hosted = serve()
    running = loop_of(admin)
    with Talk(sock) as lazy:
        lazy.say("watch", interval=0.05)
        (watcher,) = until(lambda: list(running._reception._connections))
        watcher.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the kernel's least: a few lines fill it
        most = 0
        while not watcher.gone:
            assert states(ask(sock, "status")[0]) == ["serving"]
            most = max(most, len(watcher._outgoing))
        assert 0 < most < 3_000  # what is not read does not pile up: this is the rest of one line or two
    assert hosted.server.state is State.SERVING


def loop_of(admin: type[Admin]) -> Loop:
    assert admin._shared is not None
    return admin._shared._loop


def test_a_seventeenth_client_is_told_to_wait(serve: Serve, sock: Path) -> None:
    serve()
    talks = [Talk(sock) for _ in range(reception.MOST_CONNECTIONS)]
    with Talk(sock) as one_more:
        (end,) = one_more.rest()
    assert (end["code"], end["error"]) == (
        "refused",
        "16 clients are connected already. End one, or try again later.",
    )
    talks.pop().close()
    until(lambda: served(sock))
    for talk in talks:
        talk.close()


def served(sock: Path) -> bool:
    try:
        return ask(sock, "status")[-1] == END
    except OSError:  # refused before it had asked
        return False


def test_watchers_leave_room_for_a_preStop_hook(serve: Serve, sock: Path) -> None:
    serve()
    watching = [Talk(sock).say("watch") for _ in range(reception.MOST_WATCHES)]
    for talk in watching:
        assert talk.line()["kind"] == "status"
    (end,) = ask(sock, "watch")
    assert (end["code"], end["error"]) == ("refused", "12 clients are watching already. End one, or ask for status.")
    assert ask(sock, "drain")[-1] == END
    for talk in watching:
        talk.close()


def test_without_a_file_descriptor_left_clients_wait(
    serve: Serve, sock: Path, admin: type[Admin], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve()
    assert admin._shared is not None
    listener = admin._shared._socket
    assert listener is not None
    attempts = []

    def none_left() -> None:
        attempts.append(time.monotonic())
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(listener, "accept", none_left)
    with Talk(sock) as talk:
        talk.say("status")
        until(lambda: len(attempts) == 2)
        monkeypatch.undo()
        assert talk.rest()[-1] == END
    assert attempts[1] - attempts[0] >= 0.4  # and not at once again and again


def test_a_request_that_breaks_something_harms_nobody(
    serve: Serve, sock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosted = serve()
    with Talk(sock) as other, monkeypatch.context() as patch:
        for method in ("status", "request", "leave"):
            patch.setattr(Subject, method, lambda *_, **__: 1 / 0)
        for command in ("status", "watch", "drain", "rotate"):
            (end,) = ask(sock, command)
            assert (end["code"], end["error"]) == ("failed", "ZeroDivisionError: division by zero")
        patch.undo()
        assert states(other.say("status").line()) == ["serving"]
    assert hosted.server.state is State.SERVING


# What is left of it, and what it costs.


def thread_of(admin: type[Admin]) -> threading.Thread:
    assert admin._shared is not None
    return admin._shared._thread


def test_with_the_last_server_it_is_gone(flavour: str, sock: Path, admin: type[Admin]) -> None:
    first, second = Hosted(flavour).start(), Hosted(flavour).start()
    thread = thread_of(admin)
    first.close()
    gc.collect()
    assert ask(sock, "status")[-1] == END
    assert thread_of(admin) is thread  # one for both
    second.close()
    gc.collect()
    thread.join(20)
    assert not thread.is_alive()
    assert admin._shared is None
    assert not sock.exists()


def test_hundreds_of_servers_leave_nothing(sock: Path, admin: type[Admin], directory: Path) -> None:
    descriptors: set[int] = set()
    for number in range(200):
        servers = [FakeServer() for _ in range(1 + number % 3)]
        for server in servers:
            admin.register(FakeSubject(server), lambda _: None)
        assert len(ask(sock, "status")[0]["servers"]) == len(servers)
        thread = thread_of(admin)
        del server, servers
        thread.join(20)
        assert not thread.is_alive()
        assert list(directory.iterdir()) == []
        descriptors.add(len(os.listdir("/proc/self/fd")))
    assert len(descriptors) == 1


def test_servers_that_come_and_go_at_once_are_all_answered_for(sock: Path, admin: type[Admin]) -> None:
    """The thread may be about to end when the next server comes: that one must still be heard."""

    def come_and_go() -> None:
        for _ in range(300):
            server = FakeServer()
            admin.register(FakeSubject(server), failures.append)
            if not sock.exists():
                failures.append("no socket")
            del server

    failures: list[object] = []
    crowd = [threading.Thread(target=come_and_go) for _ in range(4)]
    for each in crowd:
        each.start()
    for each in crowd:
        each.join(60)
    assert failures == []
    until(lambda: admin._shared is None)
    assert not sock.exists()


def test_an_idle_socket_costs_no_wake_up(sock: Path, admin: type[Admin]) -> None:
    server = FakeServer()
    admin.register(FakeSubject(server), lambda _: None)
    assert ask(sock, "status")[-1] == END
    thread = thread_of(admin)
    assert until(
        lambda: not wakes_within(1.0, thread)
    )  # the second in which the last client was seen off does not count


def wakes_within(seconds: float, thread: threading.Thread) -> int:
    """How often it goes to sleep again in that time."""

    def switches() -> int:
        status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
        return int(status.split("voluntary_ctxt_switches:")[1].split()[0])

    before = switches()
    threading.Event().wait(seconds)
    return switches() - before


def test_nothing_waits_behind_a_stuck_client(serve: Serve, sock: Path) -> None:
    """What is asked costs what it costs, however many others say nothing."""
    serve()
    silent = [Talk(sock) for _ in range(reception.MOST_CONNECTIONS - 1)]
    began = time.monotonic()
    assert ask(sock, "status")[-1] == END
    assert time.monotonic() - began < 5
    for talk in silent:
        talk.close()


# Other processes.


def test_at_the_end_of_the_process_it_is_gone(spawn: Callable[..., ServerProcess]) -> None:
    process = spawn().ready()
    sock = admin_socket(Path(os.environ["DRAIN_RUNTIME_DIR"]), process.pid)
    until(sock.exists)
    assert ask(sock, "drain", reason="bye", hold=False)[-1] == END
    assert process.exit_code() == 0
    assert process.report["reason"] == "bye"
    assert not sock.exists()


def test_a_held_process_waits_for_sigterm(spawn: Callable[..., ServerProcess]) -> None:
    process = spawn().ready()
    sock = admin_socket(Path(os.environ["DRAIN_RUNTIME_DIR"]), process.pid)
    until(sock.exists)
    assert ask(sock, "drain", reason="preStop")[-1] == END
    assert ask(sock, "status")[0]["servers"][0]["held"] is True
    began = time.monotonic()
    process.signal(signal.SIGTERM)
    assert process.exit_code() == 0
    assert time.monotonic() - began < 5
    assert process.report["reason"] == "preStop"


ENDING = """
import os, sys
from concurrent.futures import Future
from drain._admin.server import Admin
from drain.report import DrainReport
from tests.integration._servers.admin import FakeServer, FakeSubject
class Leaving(FakeSubject):
    def leave(self, reason, *, announce=True, hold=False):
        print("leaving", flush=True)
        return report
report, server = Future(), FakeServer()
Admin.register(Leaving(server), print)
print(os.getpid(), flush=True)
sys.stdin.readline()
report.set_result(DrainReport("test", "lossless", {}, "nobody came back"))
"""


def test_who_waits_for_a_drain_hears_of_its_end_though_the_process_ends(directory: Path) -> None:
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", ENDING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            with Talk(admin_socket(directory, int(process.stdout.readline()))) as talk:
                talk.say("drain")
                assert process.stdout.readline() == "leaving\n"
                process.stdin.write("end\n")
                assert [line["kind"] for line in talk.rest()] == ["report", "end"]
            assert process.wait(20) == 0


def test_a_drain_asked_while_sigterms_is_under_way_joins_it_and_holds_nothing(
    spawn: Callable[..., ServerProcess],
) -> None:
    process = spawn().ready()
    sock = admin_socket(Path(os.environ["DRAIN_RUNTIME_DIR"]), process.pid)
    until(sock.exists)
    with grpc.insecure_channel(f"127.0.0.1:{process.ports[0]}") as channel:
        call = channel.unary_unary(path("Wait")).future(b"x")
        process.until("begun", method="Wait")
        process.signal(signal.SIGTERM)
        process.until("phase", phase="announcing")
        with Talk(sock) as talk:
            assert talk.say("drain", reason="preStop", hold=True).line()["kind"] == "phase"
            process.order("release")
            *_, report, end = talk.rest()
        assert call.result(20) == b"x"
    assert (report["report"]["reason"], end) == ("SIGTERM", END)
    assert process.exit_code() == 0  # SIGTERM has come already: nothing is waited for


FORKING = """
import os, sys
from drain._admin.server import Admin
from tests.integration._servers.admin import FakeServer, FakeSubject
mine = FakeServer()
Admin.register(FakeSubject(mine), print)
print(os.getpid(), flush=True)
sys.stdin.readline()  # a client has connected
child = os.fork()
if child == 0:
    theirs = FakeServer()
    Admin.register(FakeSubject(theirs), print)
    print(os.getpid(), flush=True)
    sys.stdin.readline()
else:
    os.waitpid(child, 0)
    print("waited", flush=True)
    sys.stdin.readline()
"""


def test_a_forked_child_begins_anew(directory: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FORKING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        try:
            sock = admin_socket(directory, int(parent.stdout.readline()))
            with Talk(sock) as watcher:
                watcher.say("watch", interval=0.05).line()
                parent.stdin.write("go on\n")
                childs = admin_socket(directory, int(parent.stdout.readline()))
                for asked in (sock, childs):
                    assert ask(asked, "status")[0]["pid"] == int(asked.stem.removeprefix("admin-"))
                assert watcher.line()["pid"] == parent.pid
                os.kill(parent.pid, signal.SIGSTOP)  # it does not look when its child ends
                parent.stdin.write("end\n")
                until(lambda: not childs.exists())
                assert sock.exists()
                os.kill(parent.pid, signal.SIGKILL)
                watcher.rest()  # ends: nobody else holds the connection
        finally:
            parent.kill()


def refuses(sock: Path) -> bool:
    try:
        Talk(sock).close()
    except ConnectionRefusedError:
        return True
    return False


ORPHAN = """
import os, signal, sys, time
from drain._admin.server import Admin
from tests.integration._servers.admin import FakeServer, FakeSubject
mine = FakeServer()
Admin.register(FakeSubject(mine), print)
print(os.getpid(), flush=True)
sys.stdin.readline()
if os.fork() == 0:
    print("forked", flush=True)
    sys.stdin.readline()
    os._exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_child_does_not_keep_its_parents_socket_open(directory: Path) -> None:
    """Else a client of the parent, which is dead, would wait for an answer until the child ends."""
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        sock = admin_socket(directory, int(parent.stdout.readline()))
        with Talk(sock) as watcher:
            watcher.say("watch", interval=3600).line()
            parent.stdin.write("go on\n")
            assert parent.stdout.readline() == "forked\n"
            assert watcher.rest() == []
        until(lambda: refuses(sock))  # its descriptors are closed one after the other
        parent.stdin.write("end\n")


# Servers that do strange things.


class Answering(FakeSubject):
    """Answers with futures that the test completes."""

    def __init__(self, server: FakeServer) -> None:
        super().__init__(server)
        self.done: Future[int] = Future()
        self.report: Future[DrainReport] = Future()

    def request(self, what: Input, reason: str) -> "Future[int]":
        return self.done

    def leave(self, reason: str, *, announce: bool = True, hold: bool = False) -> "Future[DrainReport]":
        return self.report


@pytest.fixture
def answering(admin: type[Admin]) -> Iterator[Answering]:
    server = FakeServer()
    subject = Answering(server)
    admin.register(subject, lambda _: None)
    yield subject
    del server


def test_a_rotation_that_is_never_done(answering: Answering, sock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "DONE_BOUND", 0.3)
    (end,) = ask(sock, "rotate")
    assert (end["code"], end["error"]) == ("failed", "server 0 (no address): not done within 0.3 s, it may still be")


def test_a_rotation_that_fails(answering: Answering, sock: Path) -> None:
    answering.done.set_exception(TimeoutError())
    (end,) = ask(sock, "rotate")
    assert (end["code"], end["error"]) == ("failed", "server 0 (no address): TimeoutError")


def test_a_drain_that_fails(answering: Answering, sock: Path) -> None:
    answering.report.set_exception(ValueError("books do not balance"))
    (end,) = ask(sock, "drain")
    assert (end["code"], end["error"]) == ("failed", "server 0 (no address): books do not balance")


def test_a_server_that_is_dropped_before_it_was_drained(admin: type[Admin], sock: Path) -> None:
    server = FakeServer()
    admin.register(Answering(server), lambda _: None)
    with Talk(sock) as talk:
        talk.say("drain")
        until(lambda: loop_of(admin).answering)
        del server
        (end,) = talk.rest()
    assert (end["code"], end["error"]) == ("failed", "server 0: was dropped before it was drained")
