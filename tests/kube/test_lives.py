"""How long things live: one watch for a service however many channels, none when the last one goes, and processes that end."""

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from tests.integration._servers.waiting import AT_ONCE, until
from tests.kube._cluster.addresses import Addresses
from tests.kube._cluster.backends import Backends
from tests.kube._cluster.client import Connect
from tests.kube._cluster.namespace import Namespace, Slice
from tests.kube._cluster.proxy import Proxy

ROOT = Path(__file__).parents[2]


def test_200_channels_to_20_services(proxied: Namespace, proxy: Proxy, backend: Backends, connect: Connect) -> None:
    """One list and one watch for each service, and all channels work."""
    server = backend()
    services = [f"web-{number}" for number in range(20)]
    for service in services:
        proxied.put(service, Slice(name=f"{service}-1", addresses=[server.address]))
    clients = [connect(f"kubernetes:///{service}:50051") for service in services for _ in range(10)]
    for each in clients:
        assert each.call(30, wait=True) == server.address
    until(lambda: proxy.watching() == 20)
    assert {service: len(proxy.requests(service=service)) for service in services} == dict.fromkeys(services, 2)
    for each in clients:
        each.close()
    until(lambda: proxy.watching() == 0)


def test_two_ports_of_a_service_share_a_watch(
    proxied: Namespace, proxy: Proxy, backend: Backends, connect: Connect, addresses: Addresses
) -> None:
    address = addresses()
    one, two = backend(address, port=50051, name="one"), backend(address, port=50052, name="two")
    proxied.put("web", Slice(name="web-1", addresses=[address], ports={"grpc": 50051, "admin": 50052}))
    assert connect("kubernetes:///web:grpc").until_answered() == one.name
    assert connect("kubernetes:///web:50052").until_answered() == two.name
    until(lambda: proxy.watching("web") == 1)
    assert len(proxy.requests(service="web")) == 2  # a list and a watch


def test_the_watch_ends_with_the_last_channel(
    proxied: Namespace, proxy: Proxy, backend: Backends, connect: Connect
) -> None:
    server = backend()
    proxied.put("web", Slice(name="web-1", addresses=[server.address]))
    one, two = connect("kubernetes:///web:50051"), connect("kubernetes:///web:50051")
    one.until_answered()
    two.until_answered()
    until(lambda: proxy.watching("web") == 1)
    one.close()
    assert two.everyone(5) == {server.address}
    assert proxy.watching("web") == 1
    two.close()
    until(lambda: proxy.watching("web") == 0)
    three = connect("kubernetes:///web:50051")
    assert three.until_answered() == server.address


def test_a_forgotten_channel_stops_its_watch(
    proxied: Namespace, proxy: Proxy, backend: Backends, connect: Connect
) -> None:
    """Nobody closed it; it is garbage."""
    server = backend()
    proxied.put("web", Slice(name="web-1", addresses=[server.address]))
    client = connect("kubernetes:///web:50051")
    client.until_answered()
    until(lambda: proxy.watching("web") == 1)
    client.forget()
    until(lambda: proxy.watching("web") == 0)


def test_nothing_is_left_behind(proxied: Namespace, proxy: Proxy, backend: Backends, connect: Connect) -> None:
    """After a channel is closed: no thread, no socket more than before. The first channel of a process makes what stays."""
    server = backend()
    proxied.put("web", Slice(name="web-1", addresses=[server.address]))

    def once() -> tuple[int, int]:
        client = connect("kubernetes:///web:50051")
        client.until_answered()
        client.close()
        until(lambda: proxy.watching("web") == 0)
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    once()
    settled = [once() for _ in range(3)]
    until(lambda: once() <= max(settled))
    for _ in range(5):
        until(lambda: all(now <= most for now, most in zip(once(), max(settled), strict=True)))


SYNC = """
import sys, time
import drain
channel = drain.insecure_channel(sys.argv[1])
print(channel.unary_unary("/drain.test.Kube/Who")(b"", timeout=20, wait_for_ready=True).decode(), flush=True)
print(time.monotonic(), flush=True)
"""
AIO = """
import asyncio, sys, time
import drain.aio
async def main():
    global channel
    channel = drain.aio.insecure_channel(sys.argv[1])
    print((await channel.unary_unary("/drain.test.Kube/Who")(b"", timeout=20, wait_for_ready=True)).decode(), flush=True)
asyncio.run(main())
print(time.monotonic(), flush=True)
"""
WATCH = """
import sys, time
import drain
watching = drain.resolver.watch(sys.argv[1])
print(next(watching).endpoints[0].address, flush=True)
print(time.monotonic(), flush=True)
"""
RAISES = SYNC + "\nraise SystemExit(0)\n"


def run(script: str, target: str, **more: str) -> tuple[list[str], str, int, float]:
    """Lines of output, stderr, exit code, seconds from the last line but one to the end."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), target],
        cwd=ROOT, env={**os.environ, **more}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    ended = time.monotonic()
    *lines, last = done.stdout.splitlines() or [str(ended)]
    return lines, done.stderr, done.returncode, ended - float(last)


@pytest.mark.parametrize("script", [SYNC, AIO, WATCH, RAISES], ids=["sync", "aio", "watch", "SystemExit"])
def test_the_interpreter_ends_without_close(proxied: Namespace, proxy: Proxy, backend: Backends, script: str) -> None:
    """Exit code 0, nothing on stderr, and quick, with a channel open and its watch running."""
    server = backend()
    proxied.put("web", Slice(name="web-1", addresses=[server.address]))
    lines, stderr, code, took = run(script, "kubernetes:///web:50051")
    assert (lines, stderr, code) == ([server.address], "", 0)
    assert took < AT_ONCE
    until(lambda: proxy.watching() == 0)


def test_the_interpreter_ends_during_an_outage(proxied: Namespace, proxy: Proxy) -> None:
    """While it is being looked for."""
    script = """
    import sys, time
    import grpc
    import drain
    channel = drain.insecure_channel(sys.argv[1])
    try:
        channel.unary_unary("/drain.test.Kube/Who")(b"", timeout=20)
    except grpc.RpcError as error:
        print(error.code().name, flush=True)
    print(time.monotonic(), flush=True)
    """
    with proxy.refusing():
        lines, stderr, code, took = run(script, "kubernetes:///web:50051")
    assert (lines, stderr, code) == (["UNAVAILABLE"], "", 0)
    assert took < AT_ONCE


FORK = """
import os, sys, time
import drain
who = "/drain.test.Kube/Who"
{before}
def call():
    channel = drain.insecure_channel(sys.argv[1])
    return channel.unary_unary(who)(b"", timeout=20, wait_for_ready=True).decode()
children = []
for number in range(2):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            print(call(), flush=True)
            code = 0
        finally:
            os._exit(code)
    children.append(pid)
for pid in children:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
print(call(), flush=True)
print(time.monotonic(), flush=True)
"""


@pytest.mark.parametrize(
    "before",
    [
        "",
        "from drain._kube.api import Api; Api.shared()",
        "watching = drain.resolver.watch(sys.argv[1]); next(watching)",
    ],
    ids=["nothing made", "the API known", "a target watched"],
)
def test_children_of_a_fork_have_channels_of_their_own(
    proxied: Namespace, proxy: Proxy, backend: Backends, before: str
) -> None:
    """As with workers that are forked after the program was loaded: the parent has no channel, but may follow a target."""
    server = backend()
    proxied.put("web", Slice(name="web-1", addresses=[server.address]))
    lines, stderr, code, _ = run(FORK.format(before=before), "kubernetes:///web:50051")
    assert (lines, stderr, code) == ([server.address] * 3, "", 0)
    until(lambda: proxy.watching() == 0)
