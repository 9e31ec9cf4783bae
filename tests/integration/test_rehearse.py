"""`drain rehearse` with commands on this machine: real processes, real signals, its exit code in a script, and nothing left behind."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from drain._demo import echo
from drain._demo.caller import Shape
from drain._demo.load import Load
from drain._rehearse import asked as asking
from drain._rehearse import method
from drain._rehearse.calling import Making, Names, opened, tried
from drain._rehearse.method import Method, MethodError
from tests.integration._servers.waiting import until

ROOT = Path(__file__).parents[2]
DRAIN = f"{sys.executable} -c 'import sys; from drain._cli import main; sys.exit(main())'"
PYTHON = sys.executable
GREETER = f"{PYTHON} -m examples.greeter.server --address 127.0.0.1:{{port}} --work 0.003"
PLAIN = f"{PYTHON} -m drain._demo.server --mode baseline --port {{port}} --name {{name}}"
DRAINED = f"{PYTHON} -m drain._demo.server --mode drain --port {{port}} --name {{name}}"
HELLO = ["--method", "examples.greeter.v1.Greeter/SayHello", "--data", '{"name": "you"}']
UNARY = ["--method", "drain.demo.Echo/Unary", "--raw", ""]
STUBBORN = """
import signal, sys, time
from concurrent import futures
import grpc
signal.signal(signal.SIGTERM, signal.SIG_IGN)
server = grpc.server(futures.ThreadPoolExecutor(32))
method = grpc.unary_unary_rpc_method_handler(lambda request, context: time.sleep(0.2) or b"x")
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", {"C": method}),))
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
server.wait_for_termination()
"""


def rehearse(folder: Path, *words: str, **named: Any) -> "subprocess.CompletedProcess[str]":
    program = [PYTHON, "-c", "import sys; from drain._cli import main; sys.exit(main())", "rehearse"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **named}
    return subprocess.run(
        [*program, "--json", "told.json", *words],
        capture_output=True, text=True, timeout=120, check=False, cwd=folder, env=environ,
    )  # fmt: skip


def told(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "told.json").read_text())
    return found


def left_behind(marker: str) -> list[str]:
    """Command lines of processes that have this in them."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = each.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if marker in line and int(each.parent.name) != os.getpid():
            found.append(line)
    return found


def test_a_server_made_with_drain(tmp_path: Path) -> None:
    """By reflection; its answers name it, its phases are told, and the page is there."""
    done = rehearse(tmp_path, "--command", GREETER, *HELLO, "--callers=8")
    assert done.returncode == 0, done.stdout + done.stderr
    found = told(tmp_path)
    assert (found["verdict"], found["failed"], found["advice"]) == ("kept", 0, [])
    assert set(found["calls_by_server"]) == {"server-1", "server-2", "server-3"}
    phases = {each["phase"] for each in found["spans"]}
    assert {"serving", "leaving", "announcing"} <= phases
    assert "stopping" not in phases
    assert len(found["steps"]) == 3
    assert found["latency"]["p99"] >= found["latency"]["p50"] > 0
    page = (tmp_path / "drain-rehearsal.html").read_text()
    assert "Every call was answered" in page
    assert "0 of " in done.stdout
    assert left_behind("examples.greeter.server") == []


def test_a_plain_server_and_a_script_that_minds(tmp_path: Path) -> None:
    """The exit code stops a pipeline, as it should."""
    script = tmp_path / "pipeline.sh"
    words = f"--command '{PLAIN}' --method drain.demo.Echo/Unary --raw '' --rate 800 --callers 32 --rounds 3"
    script.write_text(f"set -e\n{DRAIN} rehearse {words} --json told.json\necho deployed > deployed\n")
    done = subprocess.run(["sh", str(script)], capture_output=True, text=True, timeout=240, check=False, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert not (tmp_path / "deployed").exists()
    found = told(tmp_path)
    assert found["verdict"] == "lost"
    assert sum(found["failed_by_status"].values()) == found["failed"] > 0


def test_streams(tmp_path: Path) -> None:
    """Eight messages each, by raw bytes."""
    words = ["--method", "drain.demo.Echo/Stream", "--raw", b"8".hex(), "--stream", "--callers=6"]
    done = rehearse(tmp_path, "--command", DRAINED, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert told(tmp_path)["latency"]["p50"] > 0.15


def test_streams_without_an_end(tmp_path: Path) -> None:
    """Ended by their callers, which is no failure."""
    words = [
        "--method",
        "drain.demo.Echo/Stream",
        "--raw",
        b"100000".hex(),
        "--stream",
        "--stream-for=0.5",
        "--callers=6",
    ]
    done = rehearse(tmp_path, "--command", DRAINED, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert told(tmp_path)["calls"] > 30


def test_one_that_does_not_mind_sigterm(tmp_path: Path) -> None:
    """It is killed when its grace is over, and the report says so."""
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    words = [
        "--command",
        f"{PYTHON} stubborn.py {{port}}",
        "--method",
        "a.B/C",
        "--raw",
        "",
        "--grace=1",
        "--processes=2",
    ]
    done = rehearse(tmp_path, *words)
    assert done.returncode == 1, done.stdout + done.stderr
    found = told(tmp_path)
    assert all(each["killed"] and each["left"] > 0.9 for each in found["servers"])
    assert any("SIGKILL" in each for each in found["evidence"])
    assert found["calls_by_server"].keys() == {"answered"}  # nobody says who
    page = (tmp_path / "drain-rehearsal.html").read_text()
    drawn = re.findall(r'<polygon class="s\d" points="([^"]*)"', page)
    heights = {point.split(",")[1] for points in drawn for point in points.split()}
    assert len(heights) > 1, "the calls are not drawn"
    assert left_behind("stubborn.py") == []


def test_a_shell_in_between_is_told(tmp_path: Path) -> None:
    """By the doctor, beside what came of it."""
    command = f'sh -c "{DRAINED}; true"'
    done = rehearse(tmp_path, "--command", command, *UNARY, "--grace=2", "--processes=2", "--callers=4")
    assert [each["rule"] for each in told(tmp_path)["advice"]] == ["pid1-is-a-shell"], done.stderr
    assert done.returncode == 1
    assert left_behind("drain._demo.server --mode drain --port") == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "Missing option '--method'"),
        (UNARY, 2, "give a workload, such as deploy/orders, or --command"),
        (["deploy/x", "--command", PLAIN, *UNARY], 2, "give a workload"),
        (["--command", PLAIN, "--method", "Echo"], 2, "is no method"),
        (["--command", PLAIN, "--method", "a/b", "--raw", "x"], 2, "is not hexadecimal"),
        (["--command", PLAIN, "--method", "a/b", "--raw", "", "--data", "{}"], 2, "give one"),
        (["--command", "python server.py", *UNARY], 2, "write {port}"),
        (["--command", f"{PYTHON} -c pass {{port}}", *UNARY], 69, "ended before it served"),
        (["--command", PLAIN, "--method", "drain.demo.Echo/Unary"], 2, "it has no reflection"),
        (["--command", GREETER, "--method", "examples.greeter.v1.Greeter/Hi"], 2, "it has Chat, SayHello"),
        (["--command", GREETER, "--method", "a.B/C"], 2, "knows no service 'a.B'"),
        (["--command", GREETER, "--method", "examples.greeter.v1.Greeter/Chat"], 2, "takes a stream of requests"),
        (["--command", GREETER, *HELLO[:2], "--data", '{"nam": 1}'], 2, "is no examples.greeter.v1.HelloRequest"),
        (
            ["--command", PLAIN, "--method", "drain.demo.Echo/None", "--raw", ""],
            2,
            "a first call of drain.demo.Echo/None",
        ),
        (["deploy/x", *UNARY, "--do", "explode"], 2, "write restart, scale=PODS"),
        (["cronjob/x", *UNARY], 2, "write KIND/NAME"),
        (["--command", PLAIN, *UNARY, "--html", "/nowhere/x.html"], 2, "cannot be written"),
        (["--command", PLAIN, *UNARY, "--client", "/nowhere/x.yaml"], 65, "No such file"),
    ],
    ids=lambda value: " ".join(value)[-60:] if isinstance(value, list) else None,
)
def test_what_cannot_be(tmp_path: Path, words: list[str], code: int, said: str) -> None:
    done = rehearse(tmp_path, *words)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "told.json").exists()


def test_a_picture_without_a_browser(tmp_path: Path) -> None:
    done = rehearse(tmp_path, "--command", PLAIN, *UNARY, "--png", "x.png", CHROME="nothing-of-that-name")
    assert (done.returncode, "needs Chromium or Chrome" in done.stderr) == (2, True)


def test_over_tls() -> None:
    """The callers themselves: a server with a certificate of its own authority."""
    authority = trustme.CA()
    certificate = authority.issue_cert("orders.shop")
    key, chain = certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes()
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((echo.handler("server-1"),))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)]))
    server.start()
    names = Names()
    names.add("server-1", "1")
    roots = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    making = Making(Method("/drain.demo.Echo/Unary"), names, [("grpc.default_authority", "orders.shop")], roots)
    try:
        with opened(f"127.0.0.1:{port}", making.options, roots) as channel:
            assert tried(channel, making.method) is None
        load = Load(f"127.0.0.1:{port}", Shape(callers=3, streaming=0), making)
        load.start()
        until(lambda: load.ok > 30)
        result = load.stop()
    finally:
        server.stop(0)
    assert (result.lost, set(result.calls), names.connections) == (0, {"1"}, {"1": 3})


def test_a_server_that_comes_a_moment_later(reserved: socket.socket) -> None:
    """As a Service does that was made just now: refused at first."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((echo.handler("server-1"),))
    target = f"127.0.0.1:{reserved.getsockname()[1]}"

    def come() -> None:
        server.add_insecure_port(target)
        server.start()

    later = threading.Timer(0.7, come)
    later.start()
    try:
        assert asked().method(target).path == "/drain.demo.Echo/Unary"
    finally:
        later.join()
        server.stop(0)


def test_a_server_that_does_not_come(reserved: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "CONNECTED", 0.3)
    with pytest.raises(
        MethodError, match=r"a first call of drain\.demo\.Echo/Unary to .* failed: UNAVAILABLE.*refused"
    ):
        asked().method(f"127.0.0.1:{reserved.getsockname()[1]}")


@pytest.fixture
def reserved() -> Iterator[socket.socket]:
    """A port of our own where nobody listens yet."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        yield held


def asked() -> asking.Asked:
    """As with UNARY."""
    return asking.Asked(
        path="/drain.demo.Echo/Unary",
        data=None,
        raw=b"",
        metadata=(),
        stream=False,
        timeout=5.0,
        lasts=5.0,
        shape=Shape(callers=1, streaming=0),
        rate=1.0,
        side=None,
        credentials=None,
        authority=None,
    )


def test_reflection_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that accepts and is silent costs the bound, and no more."""
    monkeypatch.setattr(method, "BOUND", 0.5)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        grpc.insecure_channel(f"127.0.0.1:{silent.getsockname()[1]}") as channel,
        pytest.raises(MethodError, match=r"no answer within 0\.5 s"),
    ):
        method.by_reflection(channel, "/a.B/C", None)
