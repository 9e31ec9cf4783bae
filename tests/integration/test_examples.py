"""Each example runs as it stands, by the command that examples/README.md gives."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_tools import protoc

from examples.greeter import greeter_pb2, greeter_pb2_grpc
from examples.processes import await_ready, free_address

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SERVICE = "examples.greeter.v1.Greeter"
BOUND = 60.0
ELSEWHERE = {  # what is tested in other places, which need other things
    "proxies": "tests/proxies/test_rolling_restarts.py",
    "manifests": "tests/cluster/test_examples.py",
}
flavours = pytest.mark.parametrize("flavour", ["sync", "aio"])


def lines(*command: str, exit_code: int = 0) -> list[str]:
    """What a program prints, to its end."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == exit_code, done.stderr[-3000:]
    return done.stdout.splitlines()


@contextmanager
def served(module: str, pod: str = "", **environment: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """A server of the examples: its address, and the process, killed at the end unless it has ended."""
    address = free_address()
    environment |= {"DRAIN_POD_NAME": pod} if pod else {}
    with subprocess.Popen(
        [sys.executable, "-m", module, "--address", address],
        cwd=ROOT, env={**os.environ, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        killer = threading.Timer(BOUND, process.kill)
        killer.start()
        try:
            await_ready(address)
            yield address, process
        finally:
            killer.cancel()
            process.kill()


@flavours
def test_greeter(flavour: str) -> None:
    """It greets, is healthy, describes itself, and leaves with a report."""
    with served(f"examples.greeter.{'aio_' * (flavour == 'aio')}server", "pod-7") as (address, process):
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
        assert re.match(r"drained in \d+\.\d\d s \(SIGTERM, lossless\)", told), told


@flavours
def test_client(flavour: str) -> None:
    """Two servers, one of which leaves meanwhile: no call fails, and both have answered."""
    module = f"examples.client.{'aio_' * (flavour == 'aio')}client"
    server, soon_over = (
        "examples.greeter.server",
        {"DRAIN_ANNOUNCE_TIMEOUT": "1"},
    )  # a static target sends it clients to its end
    with served(server, "a", **soon_over) as (a, leaving), served(server, "b") as (b, _):
        soon = threading.Timer(1.5, leaving.send_signal, (signal.SIGTERM,))
        soon.start()
        told = lines(module, f"static:///{a},{b}", "--duration", "4", "--rate", "50")
    assert (match := re.fullmatch(r"(\d+) calls, 0 failed, 2 pods answered", told[-1])), told
    assert int(match[1]) > 50
    assert re.fullmatch(r"a \d+, b \d+", told[0]), told
    answered = [line for line in told[:-1] if line != "nobody answered"]
    assert re.fullmatch(r"b \d+", answered[-1]), told


@flavours
def test_streaming(flavour: str) -> None:
    """Streams end on each server in turn, and all messages are answered."""
    told = lines("examples.streaming.demo", *(["--aio"] if flavour == "aio" else []))
    assert "all of 300 messages were answered" in told
    assert "all of 3 messages were answered" in told
    assert sum("the server ended the stream" in line for line in told) >= 2, told
    assert sum("UNAVAILABLE, drain-reason: SIGTERM" in line for line in told) == 2, told


@flavours
def test_tls(flavour: str) -> None:
    """Who has a certificate of the authority is answered, by both servers; a stranger by none."""
    told = lines("examples.tls.demo", *(["--aio"] if flavour == "aio" else []))
    for line in ("a client: 10 answers, exit code 0", "  Hello, you! From a.", "  Hello, you! From b."):
        assert line in told, told
    assert any(re.match(r"a stranger: 0 answers, exit code [1-9]", line) for line in told), told


def test_workers() -> None:
    told = lines("examples.workers.demo")
    expected = ["2 workers answered", "2 others answered after SIGHUP", "exit code 0"]
    assert [line for line in told if line in expected] == expected, told


def test_custom_resolver() -> None:
    two, one = lines("examples.custom_resolver.demo")[:2]
    assert re.fullmatch(r"two servers: a answered \d+, b answered \d+", two)
    assert re.fullmatch(r"one server: a answered \d+(, b answered \d)?", one)


def test_prestop(tmp_path: Path) -> None:
    """The server serves; the hook's copy runs in a Python that has nothing else, and is back after its delay."""
    with served("examples.prestop.server") as (address, process):
        with grpc.insecure_channel(address) as channel:
            greeter_pb2_grpc.GreeterStub(channel).SayHello(greeter_pb2.HelloRequest(name="you"), timeout=5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(BOUND) == 0
    folder = tmp_path / "hook"
    assert lines("examples.prestop.hook", str(folder)) == [f"the hook: python3 {folder} --standalone"]
    bare = [sys.executable, "-S", "-E", str(folder), "--standalone", "--delay", "0.3"]
    done = subprocess.run(bare, env={}, capture_output=True, text=True, timeout=BOUND, check=False)
    assert done.returncode == 0, done.stderr
    assert "returns: the delay of 0.3 s is over" in done.stderr


def test_the_generated_code_is_up_to_date(tmp_path: Path) -> None:
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
    assert found == wanted, "examples/README.md has the command"
    text = (EXAMPLES / "greeter" / "greeter_pb2_grpc.py").read_text()
    assert "GRPC_GENERATED_VERSION = '1.76.0'" in text, "the oldest grpcio that drain supports"


def test_every_example_is_told_of_and_tested() -> None:
    there = {each.name for each in EXAMPLES.iterdir() if each.is_dir() and not each.name.startswith("__")}
    told = (EXAMPLES / "README.md").read_text()
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    for name in sorted(there):
        assert f"[{name}]({name})" in told, name
        if name in ELSEWHERE:
            assert (ROOT / ELSEWHERE[name]).exists(), name
        else:
            assert name in tests, name
