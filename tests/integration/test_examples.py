"""Each example runs as it stands, by the command that examples/README.md gives, and prints what that says.

Over 300 lines: a test for each example.
"""

import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_tools import protoc

import drain
from drain.events import WatchFailed
from examples.custom_resolver.demo import registry
from examples.custom_resolver.registry import Registry
from examples.greeter import greeter_pb2, greeter_pb2_grpc
from examples.processes import await_ready, free_address

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
GREETER = EXAMPLES / "greeter"
SERVICE = "examples.greeter.v1.Greeter"
OLDEST = "1.76.0"  # grpcio that drain supports
BOUND = 60.0
ELSEWHERE = {  # what is tested in other places, which need other things
    "proxies": "tests/proxies/test_rolling_restarts.py",
    "manifests": "tests/cluster/test_examples.py",
}
FLAVOURS = ("sync", "aio")
flavours = pytest.mark.parametrize("flavour", FLAVOURS)


def row(example: str) -> list[str]:
    """Of the table in examples/README.md: name, what it shows, the commands, what they print."""
    text = (EXAMPLES / "README.md").read_text()
    (found,) = (line for line in text.splitlines() if line.startswith(f"| [{example}]"))
    return [cell.strip() for cell in found.strip("|").split(" | ")]


def documented(example: str, flavour: str = "sync") -> list[str]:
    """The command there, without `python -m`."""
    commands = re.findall(r"`python -m ([^`]+)`", row(example)[2])
    assert len(commands) in (1, len(FLAVOURS)), commands
    return shlex.split(commands[FLAVOURS.index(flavour)])


def assert_printed(example: str, told: Sequence[str]) -> None:
    """What the table says is printed, but for the numbers."""
    for line in re.findall(r"`([^`]+)`", row(example)[3]):
        pattern = re.sub(r"\d+", r"\\d+", re.escape(line))
        assert any(re.fullmatch(pattern, each) for each in told), (line, told)


def lines(*command: str) -> list[str]:
    """What a program prints, to its end."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


@contextmanager
def running(*command: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """A program, killed at the end unless it has ended, and after a bound at the latest."""
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT, env={**os.environ, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        killer = threading.Timer(BOUND, process.kill)
        killer.start()
        try:
            yield process
        finally:
            killer.cancel()
            process.kill()


@contextmanager
def served(module: str, pod: str, **environment: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """A server of the examples: its address, and the process."""
    address = free_address()
    with running(module, "--address", address, DRAIN_POD_NAME=pod, **environment) as process:
        await_ready(address)
        yield address, process


@flavours
def test_greeter(flavour: str) -> None:
    """It greets, is healthy, describes itself, and leaves with a report."""
    (module,) = documented("greeter", flavour)
    with served(module, "pod-7") as (address, process):
        with grpc.insecure_channel(address) as channel:
            reply = greeter_pb2_grpc.GreeterStub(channel).SayHello(greeter_pb2.HelloRequest(name="you"), timeout=5)
            assert (reply.message, reply.pod) == ("Hello, you!", "pod-7")
            health = health_pb2_grpc.HealthStub(channel)
            for name in ("", "liveness", SERVICE):
                answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING, name
            reflected = ProtoReflectionDescriptorDatabase(channel)
            assert {SERVICE, "grpc.health.v1.Health"} <= set(reflected.get_services())
            assert reflected.FindFileContainingSymbol(SERVICE).service[0].name == "Greeter"
        process.send_signal(signal.SIGTERM)
        told, _ = process.communicate(timeout=BOUND)
        assert process.returncode == 0
        assert_printed("greeter", told.splitlines())


@flavours
def test_client(flavour: str) -> None:
    """Two servers, one of which leaves meanwhile: no call fails, and both have answered."""
    module, target, *_ = documented("client", flavour)
    assert target.startswith("static:///127.0.0.1:50051"), "where a greeter listens by itself"
    # A static target sends it callers to its end, so it would announce as long as it may.
    with (
        served("examples.greeter.server", "greeter-0", DRAIN_ANNOUNCE_TIMEOUT="1") as (a, leaving),
        served("examples.greeter.server", "greeter-1") as (b, _),
        running(module, f"static:///{a},{b}", "--rate", "50") as client,
    ):
        told: list[str] = []

        def until(pattern: str) -> None:
            while not told or not re.fullmatch(pattern, told[-1]):
                line = client.stdout.readline() if client.stdout else ""
                assert line, told  # it has ended, or was killed after the bound
                told.append(line.rstrip("\n"))

        until(r"greeter-0 \d+, greeter-1 \d+")
        leaving.send_signal(signal.SIGTERM)
        assert leaving.wait(BOUND) == 0
        until(r"greeter-1 \d+")
        client.send_signal(signal.SIGTERM)
        until(r"\d+ calls, 0 failed, 2 pods answered")
        assert client.wait(BOUND) == 0


@flavours
def test_client_as_documented(flavour: str) -> None:
    """For as long as it is told."""
    module, _, *options = documented("client", flavour)
    with served("examples.greeter.server", "greeter-0") as (address, _):
        told = lines(module, f"static:///{address}", *options)
    assert_printed("client", told)
    assert re.fullmatch(r"\d+ calls, 0 failed, 1 pods answered", told[-1]), told


@flavours
def test_streaming(flavour: str) -> None:
    """Streams end on each server in turn, and all messages are answered."""
    told = lines(*documented("streaming", flavour))
    assert_printed("streaming", told)
    assert "all of 300 messages were answered" in told
    assert "all of 3 messages were answered" in told
    assert sum("the server ended the stream" in line for line in told) >= 2, told
    assert sum("UNAVAILABLE, drain-reason: SIGTERM" in line for line in told) == 2, told


@flavours
def test_tls(flavour: str) -> None:
    """Who has a certificate of the authority is answered, by both servers; a stranger by none."""
    told = lines(*documented("tls", flavour))
    assert_printed("tls", told)
    for line in ("a client: 10 answers, exit code 0", "  Hello, you! From a.", "  Hello, you! From b."):
        assert line in told, told
    assert any(re.match(r"a stranger: 0 answers, exit code [1-9]", line) for line in told), told


def test_workers() -> None:
    told = lines(*documented("workers"))
    expected = ["2 workers answered", "2 others answered after SIGHUP", "exit code 0"]
    assert [line for line in told if line in expected] == expected, told
    assert_printed("workers", told)


def test_custom_resolver() -> None:
    told = lines(*documented("custom_resolver"))
    assert_printed("custom_resolver", told)
    assert "one server: a answered 20" in told


def test_a_registry_that_answers_nonsense_is_asked_again() -> None:
    """What is known stays, until there is a good answer; IPv6 is one."""
    addresses: list[object] = ["127.0.0.1:1"]
    failures: queue.Queue[WatchFailed] = queue.Queue()
    drain.resolver.register("registry", Registry, replace=True)
    unsubscribe = drain.resolver.subscribe(
        lambda event: failures.put(event) if isinstance(event, WatchFailed) else None
    )
    try:
        with registry(addresses) as port, drain.resolver.watch(f"registry://127.0.0.1:{port}/greeter") as watching:
            assert [str(each) for each in watching.next(BOUND)] == ["127.0.0.1:1"]
            addresses[:] = [7]
            assert failures.get(timeout=BOUND).endpoints == 1
            addresses[:] = ["[::1]:2"]
            assert [str(each) for each in watching.next(BOUND)] == ["[::1]:2"]
    finally:
        unsubscribe()


def test_prestop(tmp_path: Path) -> None:
    """The server serves; the hook's copy runs in a Python that has nothing else, and is back after its delay."""
    with served("examples.prestop.server", "") as (address, process):
        with grpc.insecure_channel(address) as channel:
            greeter_pb2_grpc.GreeterStub(channel).SayHello(greeter_pb2.HelloRequest(name="you"), timeout=5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(BOUND) == 0
    folder = tmp_path / "hook"
    module, documented_folder = documented("prestop")
    told = lines(module, str(folder))
    assert_printed("prestop", [line.replace(str(folder), documented_folder) for line in told])

    def hook(*arguments: str) -> tuple[int, str]:
        bare = [sys.executable, "-S", "-E", str(folder), *arguments]  # nothing installed is to be seen
        done = subprocess.run(
            bare, cwd=tmp_path, env={"DRAIN_RUNTIME_DIR": str(tmp_path / "none")},
            capture_output=True, text=True, timeout=BOUND, check=False,
        )  # fmt: skip
        return done.returncode, done.stderr

    code, said = hook("--standalone", "--delay", "0.3")
    assert code == 0, said
    assert "returns: the delay of 0.3 s is over" in said
    code, said = hook("--timeout", "5")  # for servers made with drain it would do, too
    assert code == 69, said
    assert "no drain server" in said


def test_the_generated_code_is_up_to_date(tmp_path: Path) -> None:
    """With greeter.proto; and it is of the oldest version, so that every later one accepts it."""
    made = tmp_path / "greeter.bin"
    assert protoc.main(["protoc", f"-I{ROOT}", f"--descriptor_set_out={made}", "examples/greeter/greeter.proto"]) == 0
    (wanted,) = descriptor_pb2.FileDescriptorSet.FromString(made.read_bytes()).file
    found = descriptor_pb2.FileDescriptorProto()
    greeter_pb2.DESCRIPTOR.CopyToProto(found)
    wanted.ClearField("source_code_info")
    for file in (wanted, found):
        for message in file.message_type:
            for field in message.field:
                field.ClearField("json_name")
    assert found == wanted, "greeter.proto has the command"

    kinds = {(False, False): "unary_unary", (True, True): "stream_stream"}
    methods = {
        (kinds[each.client_streaming, each.server_streaming], f"/{SERVICE}/{each.name}")
        for each in wanted.service[0].method
    }
    text = (GREETER / "greeter_pb2_grpc.py").read_text()
    assert set(re.findall(r"= channel\.(\w+)\(\s+'(\S+)'", text)) == methods
    typed = (GREETER / "greeter_pb2.pyi").read_text()
    for message in wanted.message_type:
        slots = ", ".join(f'"{field.name}"' for field in message.field)
        assert re.search(rf"class {message.name}\(.*\):\n    __slots__ = \({re.escape(slots)},?\)", typed), message.name


def test_versions_are_the_oldest_that_drain_supports() -> None:
    """Of generated code, of what it needs, of the command that makes it, and of what README says of it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = OLDEST.removesuffix(".0")
    assert f"grpcio>={oldest}" in project["dependencies"]
    assert f"grpcio-reflection>={oldest}" in (EXAMPLES / "requirements.txt").read_text().splitlines()
    assert f"GRPC_GENERATED_VERSION = '{OLDEST}'" in (GREETER / "greeter_pb2_grpc.py").read_text()
    assert f"pip install grpcio-tools=={OLDEST}\n" in (GREETER / "greeter.proto").read_text()
    protobuf = re.search(r"Protobuf Python Version: (\S+)", (GREETER / "greeter_pb2.py").read_text())
    assert protobuf is not None
    assert (
        f"grpcio-tools {oldest}: it runs with that grpcio and\nprotobuf {protobuf[1]}"
        in (EXAMPLES / "README.md").read_text()
    )


def test_every_example_is_told_of_and_tested() -> None:
    there = {each.name for each in EXAMPLES.iterdir() if each.is_dir() and not each.name.startswith("__")}
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    for name in sorted(there):
        assert row(name)[0] == f"[{name}]({name})"
        if name in ELSEWHERE:
            assert (ROOT / ELSEWHERE[name]).exists(), name
        else:
            assert name in tests, name


def test_every_program_that_is_named_is_there() -> None:
    """In docstrings, READMEs, manifests and the Dockerfile."""
    named: set[str] = set()
    for path in (*EXAMPLES.rglob("*"), ROOT / "README.md"):
        if path.suffix in {".py", ".md", ".yaml", ".proto", ".txt"} or path.name == "Dockerfile":
            named |= set(re.findall(r"(?:python -m |args: \[|CMD \[\"|or )(examples(?:\.\w+)+)", path.read_text()))
    assert len(named) > 10, named
    assert [each for each in sorted(named) if find_spec(each) is None] == []
