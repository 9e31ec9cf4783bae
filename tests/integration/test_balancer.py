"""The demo's balancer: learns late, never cuts, forwards faithfully, leaks nothing."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from drain._demo.balancer import Balancer, Learned
from drain._demo.ports import free_ports
from drain._demo.probe import HealthProbe

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Switch:
    """A probe that sees what the test says."""

    def __init__(self) -> None:
        self.serving = True

    def __call__(self, address: str) -> "Switch":
        return self

    async def observe(self) -> bool | None:
        return self.serving

    async def close(self) -> None: ...


@asynccontextmanager
async def echo() -> AsyncIterator[str]:
    """A backend that answers what it reads, and ends when its client does."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def said(balancer: Balancer, text: bytes) -> bytes:
    """What a new connection through the balancer answers; nothing, if it was closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
    try:
        writer.write(text)
        return await reader.read(len(text))
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("lag", [0.0, 0.3])
def test_it_learns_late_by_the_lag(lag: float) -> None:
    """A backend that stops serving gets new connections for exactly `lag` more seconds, and none after that."""

    async def scenario() -> None:
        probe = Switch()
        async with echo() as backend, Balancer([backend], lag=lag, probe=probe, interval=0.01) as balancer:
            await balancer.until(backend)
            probe.serving = False
            before = time.monotonic()
            answered = 0
            while balancer.table:
                answered += await said(balancer, b"x") == b"x"
                await asyncio.sleep(0.01)
            dropped = balancer.events[-1]
            assert isinstance(dropped, Learned)
            assert lag <= dropped.at - dropped.observed_at < lag + 0.2
            assert lag <= dropped.at - before < lag + 0.3
            assert answered >= 3 or not lag
            assert await said(balancer, b"x") == b""

    asyncio.run(scenario())


def test_back_before_the_news_is_through() -> None:
    """A backend that serves again within the lag is never dropped."""

    async def scenario() -> None:
        probe = Switch()
        async with echo() as backend, Balancer([backend], lag=0.3, probe=probe, interval=0.01) as balancer:
            await balancer.until(backend)
            probe.serving = False
            await asyncio.sleep(0.1)
            probe.serving = True
            await asyncio.sleep(0.4)
            assert balancer.table == (backend,)
            assert [event.listed for event in balancer.events if isinstance(event, Learned)] == [True]

    asyncio.run(scenario())


def test_it_never_cuts_a_connection() -> None:
    """A connection stays on its backend, and works, long after the backend left the table."""

    async def scenario() -> None:
        probe = Switch()
        async with echo() as backend, Balancer([backend], lag=0.0, probe=probe, interval=0.01) as balancer:
            await balancer.until(backend)
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            probe.serving = False
            while balancer.table:
                await asyncio.sleep(0.01)
            for number in range(20):
                writer.write(b"%04d" % number)
                assert await reader.readexactly(4) == b"%04d" % number
            writer.close()

    asyncio.run(scenario())


def test_a_dead_backend_in_the_table_refuses() -> None:
    """As long as the table lists a dead backend, a connection to it is closed at once."""

    async def scenario() -> None:
        async with Balancer([f"127.0.0.1:{free_ports(1)[0]}"], lag=9.0, probe=Switch()) as balancer:
            await balancer.until()
            assert await asyncio.wait_for(said(balancer, b"x"), 2) == b""

    asyncio.run(scenario())


def test_it_spreads_connections() -> None:
    """Round robin: nine connections to three backends, three each."""

    async def scenario() -> None:
        async with echo() as a, echo() as b, echo() as c, Balancer([a, b, c], probe=Switch()) as balancer:
            await balancer.until()
            for _ in range(9):
                assert await said(balancer, b"hello") == b"hello"
            assert balancer.connections == {a: 3, b: 3, c: 3}

    asyncio.run(scenario())


def test_the_end_of_one_direction_is_forwarded() -> None:
    """A client that has sent everything still gets the whole answer."""

    async def scenario() -> None:
        async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            everything = await reader.read()
            writer.write(b"%d" % len(everything))
            writer.close()

        async with await asyncio.start_server(count, "127.0.0.1", 0) as server:
            backend = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with Balancer([backend], probe=Switch()) as balancer:
                await balancer.until()
                reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
                writer.write(b"x" * 3_000_000)
                writer.write_eof()
                assert await asyncio.wait_for(reader.read(), 10) == b"3000000"
                writer.close()

    asyncio.run(scenario())


def test_what_the_backend_says_first_arrives() -> None:
    """A server that speaks at once, as HTTP/2 does with its SETTINGS, is heard from the first byte on."""

    async def scenario() -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello")
            writer.close()

        async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
            backend = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with Balancer([backend], probe=Switch()) as balancer:
                await balancer.until()
                for _ in range(50):
                    reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
                    assert await reader.read() == b"hello"
                    writer.close()

    asyncio.run(scenario())


def test_a_slow_reader_holds_up_the_sender() -> None:
    """Back-pressure: where the backend does not read, the client cannot send for ever into the balancer's memory."""

    async def scenario() -> None:
        over = asyncio.Event()

        async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await over.wait()
            writer.close()

        async with await asyncio.start_server(ignore, "127.0.0.1", 0) as server:
            backend = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with Balancer([backend], probe=Switch()) as balancer:
                await balancer.until()
                _, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
                sent = 0
                with suppress(TimeoutError):
                    while sent < 100_000_000:
                        writer.write(b"x" * 1_000_000)
                        await asyncio.wait_for(writer.drain(), 1)
                        sent += 1_000_000
                assert sent < 50_000_000
                writer.transport.abort()
            over.set()

    asyncio.run(scenario())


def test_it_leaks_no_file_descriptor() -> None:
    """Served, refused, reset by the client and open at the end: afterwards the process has as many files as before."""

    async def scenario() -> None:
        dead = f"127.0.0.1:{free_ports(1)[0]}"
        async with echo() as backend, Balancer([backend, dead], probe=Switch()) as balancer:
            await balancer.until()
            open_at_the_end = [await asyncio.open_connection("127.0.0.1", balancer.port) for _ in range(10)]
            for _ in range(100):
                await said(balancer, b"x")
                with socket.create_connection(("127.0.0.1", balancer.port)) as hasty:
                    hasty.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close by reset
            assert balancer.open_connections < 100
        for _, writer in open_at_the_end:
            writer.close()

    def files() -> int:
        return len(os.listdir("/proc/self/fd"))

    asyncio.run(scenario())  # what is loaded and opened once and for all
    before = files()
    asyncio.run(scenario())
    assert files() <= before


def test_it_looks_at_real_grpc_health() -> None:
    """SERVING is listed, NOT_SERVING is dropped, SERVING again listed, dead dropped; no health service at all: alive."""

    async def server(port: int, servicer: health.aio.HealthServicer | None) -> grpc.aio.Server:
        server = grpc.aio.server()
        if servicer is not None:
            health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        return server

    async def scenario() -> None:
        port, bare_port = free_ports(2)
        servicer = health.aio.HealthServicer()
        await servicer.set("", SERVING)
        running, bare = await server(port, servicer), await server(bare_port, None)
        watched, other = f"127.0.0.1:{port}", f"127.0.0.1:{bare_port}"
        async with asyncio.timeout(20), Balancer([watched, other], lag=0.0, probe=HealthProbe) as balancer:
            await balancer.until(watched, other)
            await servicer.set("", NOT_SERVING)
            await balancer.until(other)
            await servicer.set("", SERVING)
            await balancer.until(watched, other)
            await running.stop(0)
            await balancer.until(other)
            running = await server(port, servicer)
            await balancer.until(watched, other)
        await running.stop(0)
        await bare.stop(0)

    asyncio.run(scenario())
