"""Starting, over both flavours: every kind of address and credential, starts that fail, and what is left behind: nothing.

Over 300 lines: one list of addresses and credentials, each with its fault.
"""

import gc
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

import drain
from drain import _blueprint
from drain._demo.ports import free_ports
from drain._grpc.lossless import Listener
from drain._xds.ads import ControlPlane
from drain.errors import BindError, ConfigurationError, DrainError
from drain.events import State
from tests.integration._servers.calls import PATIENCE, Client, Load, code, in_flight
from tests.integration._servers.hosted import FAST, Hosted
from tests.integration._servers.service import NAME, Service, path
from tests.integration._servers.waiting import listening_ports, until

Serve = Callable[..., Hosted]
Clients = Callable[..., Client]
AT_ONCE = replace(FAST, announce_timeout=0)


class TestAddresses:
    """What grpc listens on, we listen on, and leave."""

    @pytest.mark.parametrize(
        ("address", "targets"),
        [
            ("127.0.0.1:0", ["127.0.0.1:{}"]),
            ("[::]:0", ["127.0.0.1:{}", "[::1]:{}"]),
            ("0.0.0.0:0", ["127.0.0.1:{}"]),
            ("[::1]:0", ["[::1]:{}"]),
            ("localhost:0", ["127.0.0.1:{}", "[::1]:{}"]),
        ],
    )
    def test_port_0(self, serve: Serve, client: Clients, address: str, targets: list[str]) -> None:
        """The real number is returned at once; every address that it stands for is served, and none after the drain."""
        hosted = serve(addresses=[address], start=False)
        assert hosted.port > 0
        hosted.start()
        for target in targets:
            assert client(target.format(hosted.port)).call("Echo") == b"hello"
        report = hosted.drain().result(PATIENCE)
        assert (report.goaway, report.clean, report.errors) == ("lossless", True, ())
        for target in targets:
            assert client(target.format(hosted.port)).code("Echo", timeout=2) == "UNAVAILABLE"

    def test_start_returns_when_every_address_is_served(self, flavour: str) -> None:
        """Not when the first one is: a caller on another would be refused. Several times, since it is a race."""
        for _ in range(8):
            hosted = Hosted(flavour, addresses=["localhost:0", "127.0.0.1:0", "[::1]:0"], policy=AT_ONCE)
            try:
                hosted.start()
                for host, port in (("127.0.0.1", 0), ("::1", 0), ("127.0.0.1", 1), ("::1", 2)):
                    socket.create_connection((host, hosted.ports[port]), timeout=5).close()
            finally:
                hosted.close()

    def test_several_ports(self, serve: Serve, client: Clients, tmp_path: Path) -> None:
        """One server, many addresses, one report."""
        addresses = ["127.0.0.1:0", "[::1]:0", f"unix:{tmp_path}/a.sock:0", f"unix-abstract:drain-{os.getpid()}:0"]
        hosted = serve(addresses=addresses)
        targets = [f"127.0.0.1:{hosted.ports[0]}", f"[::1]:{hosted.ports[1]}", *addresses[2:]]
        clients = [client(target) for target in targets]
        assert [each.call("Echo") for each in clients] == [b"hello"] * 4
        assert hosted.ask(hosted.server.rotate) == 4
        assert [each.call("Echo") for each in clients] == [b"hello"] * 4
        assert hosted.drain().result(PATIENCE).clean
        assert [each.code("Echo", timeout=2) for each in clients] == ["UNAVAILABLE"] * 4

    def test_unix_socket(self, serve: Serve, client: Clients, tmp_path: Path) -> None:
        """Rotated and drained like TCP, where its name is one that xDS can say; the next server may have the path at once."""
        address = f"unix:{tmp_path}/s.sock:0"
        hosted = serve(addresses=[address])
        caller = client(address)
        (call,) = in_flight(caller, hosted.told)
        hosted.ask(hosted.server.rotate)
        assert caller.call("Echo") == b"hello"
        report = hosted.drain()
        hosted.phase(State.FINISHING)
        hosted.service.release.set()
        assert code(call) == "OK"
        assert report.result(PATIENCE).clean
        serve(addresses=[address])
        assert client(address).call("Echo") == b"hello"

    def test_any_other_unix_socket(self, serve: Serve, client: Clients, tmp_path: Path) -> None:
        """The classic way, and the reason names the cure."""
        hosted = serve(addresses=[f"unix:{tmp_path}/s.sock"], start=False)
        hosted.start("classic")
        assert "unix:/run/app.sock:0" in hosted.server.goaway_reason
        caller = client(f"unix:{tmp_path}/s.sock")
        (call,) = in_flight(caller, hosted.told)
        report = hosted.drain()
        hosted.phase(State.FINISHING)
        hosted.service.release.set()
        assert code(call) == "OK"
        assert report.result(PATIENCE).clean

    def test_a_neighbour_with_the_same_number(self, serve: Serve, client: Clients) -> None:
        """Two servers of one process on one port number of two addresses: one that leaves takes nothing from the other."""
        leaving = serve(policy=AT_ONCE)
        serve(addresses=[f"[::1]:{leaving.port}"])
        with socket.create_server(("127.0.0.2", leaving.port)) as foreign:
            leaving.drain().result(PATIENCE)
            assert client(f"[::1]:{leaving.port}").call("Echo") == b"hello"
            socket.create_connection(foreign.getsockname(), timeout=5).close()

    def test_busy(self, serve: Serve, flavour: str) -> None:
        """Known when the port is added, in grpc's class of error and in words that name the address and the remedy."""
        hosted = serve()
        with pytest.raises(BindError, match=rf"127\.0\.0\.1:{hosted.port}.*in use"):
            Hosted(flavour, addresses=[f"127.0.0.1:{hosted.port}"])
        with socket.create_server(("127.0.0.1", 0)) as foreign, pytest.raises(RuntimeError, match="in use"):
            Hosted(flavour, addresses=[f"127.0.0.1:{foreign.getsockname()[1]}"])

    def test_after_start(self, serve: Serve) -> None:
        """grpc binds nothing then; we say so."""
        hosted = serve()
        with pytest.raises(ConfigurationError, match="before start"):
            hosted.server.add_insecure_port("127.0.0.1:0")


class TestCredentials:
    """TLS and mTLS."""

    @pytest.fixture
    def authority(self) -> trustme.CA:
        return trustme.CA()

    @staticmethod
    def server_credentials(authority: trustme.CA, *, mutual: bool) -> grpc.ServerCredentials:
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        key, chain = certificate.private_key_pem.bytes(), b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
        roots = authority.cert_pem.bytes() if mutual else None
        return grpc.ssl_server_credentials([(key, chain)], roots, require_client_auth=mutual)

    @pytest.mark.parametrize("mutual", [False, True])
    def test_tls(self, serve: Serve, client: Clients, authority: trustme.CA, mutual: bool) -> None:
        """Rotation and drain are as lossless as without."""
        hosted = serve(credentials=self.server_credentials(authority, mutual=mutual))
        certificate = authority.issue_cert("client@example.org")
        credentials = grpc.ssl_channel_credentials(
            authority.cert_pem.bytes(),
            certificate.private_key_pem.bytes() if mutual else None,
            b"".join(pem.bytes() for pem in certificate.cert_chain_pems) if mutual else None,
        )
        caller = client(hosted.port, credentials)
        stream = caller.stream("Count", b"30")
        assert next(stream) == b"0"
        assert hosted.ask(hosted.server.rotate) == 1
        assert caller.call("Echo") == b"hello"
        report = hosted.drain()
        assert list(stream)[-1] == b"29"
        assert report.result(PATIENCE).clean
        assert report.result().goaway == "lossless"

    def test_mutual_means_mutual(self, serve: Serve, client: Clients, authority: trustme.CA) -> None:
        """A client without a certificate is turned away by ours as by grpc's own server."""
        hosted = serve(credentials=self.server_credentials(authority, mutual=True))
        anonymous = client(hosted.port, grpc.ssl_channel_credentials(authority.cert_pem.bytes()))
        assert anonymous.code("Echo", timeout=3) == "UNAVAILABLE"


class TestRegistering:
    """Handlers of every kind, interceptors, compression: what grpc's servers take, ours take."""

    def test_as_generated_code_does(self, serve: Serve, client: Clients) -> None:
        """Both calls of `add_XServicer_to_server`; each call is counted once."""
        hosted = serve(handlers=[], start=False)
        methods = hosted.service.handlers(hosted.flavour)
        hosted.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, methods),))
        hosted.server.add_registered_method_handlers(NAME, methods)
        hosted.start()
        caller = client(hosted.port)
        for _ in range(3):
            assert caller.call("Echo") == b"hello"
        assert list(caller.stream("Count", b"3")) == [b"0", b"1", b"2"]
        hosted.drain()
        report = hosted.drain().result(PATIENCE)
        assert report.clean
        until(lambda: hosted.server._blueprint.ledger.counts()[:2] == (4, 0))

    def test_no_such_handler(self, serve: Serve) -> None:
        """grpc's own error, at the same moment."""
        hosted = serve(start=False)
        with pytest.raises(AttributeError, match="GenericRpcHandler"):
            hosted.server.add_generic_rpc_handlers((object(),))

    @pytest.mark.parametrize("method", ["PlainEcho", "Written", "PlainCount", "Echo", "Count"])
    def test_kinds_of_asyncio_handlers(self, client: Clients, method: str) -> None:
        """Coroutines, generators, `context.write`, and plain functions on the migration pool: each stays what it is."""
        hosted = Hosted("aio", migration_thread_pool=futures.ThreadPoolExecutor(2), pooled=False)
        try:
            hosted.start()
            caller = client(hosted.port)
            if method in ("Echo", "PlainEcho"):
                assert caller.call(method) == b"hello"
            else:
                assert list(caller.stream(method, b"3")) == [b"0", b"1", b"2"]
            until(lambda: not hosted.open_by_method)
            assert hosted.drain().result(PATIENCE).clean
        finally:
            hosted.close()

    def test_callable_objects(self, serve: Serve, client: Clients) -> None:
        """A handler may be an object that is called, a bound method, or a partial function: as grpc has it."""
        import functools

        class Called:
            def __call__(self, request: bytes, context: Any) -> bytes:
                return b"called"

            def method(self, request: bytes, context: Any) -> bytes:
                return b"called"

        async def awaited(word: bytes, request: bytes, context: Any) -> bytes:
            return word

        hosted = serve(handlers=[], start=False)
        aio = hosted.flavour == "aio"
        methods = {
            "Object": grpc.unary_unary_rpc_method_handler(Called()),  # grpc.aio takes it for a plain function
            "Partial": grpc.unary_unary_rpc_method_handler(
                functools.partial(awaited, b"called") if aio else functools.partial(lambda word, *_: word, b"called")
            ),
            "Bound": grpc.unary_unary_rpc_method_handler(Called().method),
        }
        hosted.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, methods),))
        hosted.start()
        caller = client(hosted.port)
        assert {method: caller.call(method) for method in methods} == dict.fromkeys(methods, b"called")
        until(lambda: not hosted.open_by_method)

    def test_interceptors(self, serve: Serve, client: Clients) -> None:
        """They see every call, in order, and may answer in a handler's place."""
        seen: list[str] = []

        class Sync(grpc.ServerInterceptor):
            def intercept_service(self, continuation: Any, details: Any) -> Any:
                seen.append(details.method)
                if "Sleep" in details.method:
                    return grpc.unary_unary_rpc_method_handler(lambda request, context: b"intercepted")
                return continuation(details)

        class Async(grpc.aio.ServerInterceptor):
            async def intercept_service(self, continuation: Any, details: Any) -> Any:
                seen.append(details.method)
                if "Sleep" in details.method:

                    async def answer(request: bytes, context: Any) -> bytes:
                        return b"intercepted"

                    return grpc.unary_unary_rpc_method_handler(answer)
                return await continuation(details)

        with_interceptor = replace(FAST, announce_timeout=0)
        for hosted in self.flavoured(serve, Sync, Async, with_interceptor):
            caller = client(hosted.port)
            assert (caller.call("Echo"), caller.call("Sleep", b"9")) == (b"hello", b"intercepted")
            assert seen == [path("Echo"), path("Sleep")]
            assert hosted.drain().result(PATIENCE).clean

    @staticmethod
    def flavoured(serve: Serve, sync: Any, aio: Any, policy: Any) -> Iterator[Hosted]:
        probe = serve(start=False)
        yield serve(interceptors=[sync() if probe.flavour == "sync" else aio()], policy=policy)

    def test_compression(self, serve: Serve, client: Clients) -> None:
        """Answers are compressed as with grpc's own."""
        hosted = serve(compression=grpc.Compression.Gzip)
        caller = client(hosted.port)
        assert caller.call("Echo", b"a" * 100_000) == b"a" * 100_000
        assert hosted.drain().result(PATIENCE).clean

    def test_handlers_added_after_start(self, serve: Serve, client: Clients) -> None:
        """Generic handlers may come later, where grpc allows it."""
        hosted = serve()
        late = grpc.method_handlers_generic_handler("late.Service", Service().handlers(hosted.flavour))
        hosted.ask(lambda: hosted.server.add_generic_rpc_handlers((late,)))
        call = client(hosted.port).channel.unary_unary("/late.Service/Echo")
        assert call(b"hello", timeout=PATIENCE) == b"hello"

    def test_xds_is_refused(self, serve: Serve) -> None:
        """With the reason."""
        with pytest.raises(ConfigurationError, match="xds=True"):
            serve(xds=True)


@contextmanager
def nothing_left() -> Iterator[None]:
    """Whatever is done in here leaves no listening port, no source in the control plane, no thread."""
    ControlPlane.shared()
    ports, sources = listening_ports(), set(ControlPlane.shared()._sources._by_prefix)
    threads = set(threading.enumerate())
    yield
    gc.collect()
    until(lambda: listening_ports() <= ports)
    until(lambda: set(ControlPlane.shared()._sources._by_prefix) <= sources)
    until(lambda: not [t for t in threading.enumerate() if t not in threads and t.name != "test-loop"])


class TestFailedStarts:
    """An exception in start says what is wrong, and leaves nothing behind."""

    def failed(self, flavour: str, error: type[BaseException], match: str, **arguments: Any) -> None:
        """Start a server that cannot start; afterwards its address is free, and the server is STOPPED."""
        with nothing_left():
            hosted = Hosted(flavour, **arguments)
            try:
                with pytest.raises(error, match=match):
                    hosted.start()
                assert hosted.server.state is State.STOPPED
                report = hosted.drain().result(PATIENCE)
                assert report.reason.startswith("start failed: ")
                with pytest.raises(ValueError, match="already"):
                    hosted.start()
                port = hosted.port
            finally:
                hosted.close()
            del hosted
            gc.collect()
        Hosted(flavour, addresses=[f"127.0.0.1:{port}"]).close()

    def test_no_interceptor(self, flavour: str) -> None:
        """grpc.aio looks at them when its server is built; grpc's own error."""
        if flavour == "sync":
            return  # grpc.server takes anything, and fails at the first call
        self.failed(flavour, ValueError, "Interceptor must be", interceptors=[object()])

    def test_no_credentials(self, flavour: str) -> None:
        """Something that is no credentials at all."""
        self.failed(flavour, (TypeError, AttributeError), ".", credentials="secret")  # type: ignore[arg-type]

    def test_no_option(self, flavour: str) -> None:
        """A value that grpc does not take."""
        self.failed(flavour, (TypeError, ValueError), ".", options=[("grpc.max_send_message_length", object())])

    def test_in_the_midst(self, flavour: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever it is, and wherever it comes: here after grpc's own server was started."""

        def broken(self: Any) -> bool:
            raise MemoryError("in the midst of it")

        monkeypatch.setattr(_blueprint.Blueprint, "listens", broken)
        self.failed_then_healed(flavour, monkeypatch)

    def failed_then_healed(self, flavour: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with nothing_left():
            hosted = Hosted(flavour, health_address="127.0.0.1:0")
            try:
                with pytest.raises(MemoryError, match="in the midst"):
                    hosted.start()
            finally:
                hosted.close()
            del hosted
        monkeypatch.undo()

    def test_the_listener_never_comes(self, serve: Serve, client: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
        """The control plane does not answer: classic, with one warning, and the server works."""
        monkeypatch.setattr("drain._server.LISTEN_TIMEOUT", 0.3)
        monkeypatch.setattr("drain.aio.LISTEN_TIMEOUT", 0.3)
        monkeypatch.setattr(Listener, "resource", lambda *_: None)
        hosted = serve(start=False)
        hosted.start("classic")
        assert "did not take its Listener" in hosted.server.goaway_reason
        assert client(hosted.port).call("Echo") == b"hello"
        assert len(hosted.happened(drain.events.FallbackTaken)) == 1
        assert hosted.drain().result(PATIENCE).goaway == "classic"

    def test_the_listener_is_refused(self, serve: Serve, client: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
        """C-core sends a NACK: it is not waited for any longer, and its words are in the reason."""
        from drain._xds import messages
        from drain._xds import xds_pb2 as pb

        def no_filters(self: Listener, type_url: str, name: str) -> bytes:
            return bytes(messages._any(messages.LISTENER, pb.Listener(name=name)).SerializeToString())

        monkeypatch.setattr(Listener, "resource", no_filters)
        hosted = serve(start=False)
        began = time.monotonic()
        hosted.start("classic")
        assert time.monotonic() - began < 6
        assert client(hosted.port).call("Echo") == b"hello"

    def test_run_of_two_where_one_fails(self, flavour: str) -> None:
        """The other one, started or not, is ended, and its address is free."""
        (a, b) = free_ports(2)
        bad = "options=[('grpc.max_send_message_length', object())]"
        for first, second in (("", bad), (bad, "")):
            make = "drain.server(ThreadPoolExecutor(2), %s)" if flavour == "sync" else "drain.aio.server(%s)"
            run = "drain.run(x, y)" if flavour == "sync" else "asyncio.run(both())"
            program = (
                "import asyncio, drain, drain.aio, socket\n"
                "from concurrent.futures import ThreadPoolExecutor\n"
                f"x = {make % first}; x.add_insecure_port('127.0.0.1:{a}')\n"
                f"y = {make % second}; y.add_insecure_port('127.0.0.1:{b}')\n"
                "async def both(): await drain.aio.run(x, y)\n"
                f"try: {run}\n"
                "except (TypeError, ValueError) as error: pass\n"
                "print(x.state.value, y.state.value)\n"
                f"for port in ({a}, {b}): socket.create_server(('127.0.0.1', port)).close()\n"
            )
            done = subprocess.run(
                [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False
            )
            assert (done.returncode, done.stdout) == (0, "stopped stopped\n"), done.stderr


class TestLeaks:
    """What a process keeps of servers that are gone: nothing."""

    def test_cycles(self, flavour: str) -> None:
        """Twenty servers in turn, served, rotated, drained: no thread and no descriptor more than after the third."""

        def cycle() -> None:
            hosted = Hosted(flavour, policy=AT_ONCE, health_address="127.0.0.1:0")
            hosted.start()
            with Client(hosted.port) as caller:
                assert caller.call("Echo") == b"hello"
                assert caller.health() == 1
                hosted.ask(hosted.server.rotate)
                assert hosted.drain().result(PATIENCE).clean
            hosted.close()

        def counts() -> tuple[int, int]:
            gc.collect()
            return threading.active_count(), len(os.listdir("/proc/self/fd"))

        for _ in range(3):
            cycle()
        threads, descriptors = counts()
        for _ in range(17):
            cycle()

        def settled() -> bool:
            now = counts()
            return now[0] <= threads + 1 and now[1] <= descriptors + 4

        until(settled, every=0.2)

    def test_dropped_without_stop(self, flavour: str, client: Clients) -> None:
        """A server that nobody refers to any more is gone, as grpc's own is, and its port is free; rotated before or not."""
        for asked in ("", "rotate", "pause"):
            with nothing_left():
                hosted = Hosted(flavour, handlers=[])
                hosted.start()
                if asked:
                    hosted.ask(getattr(hosted.server, asked))
                dropped, port = weakref.ref(hosted.server), hosted.port
                gc.disable()
                try:
                    hosted.service.server = None
                    hosted.ask(lambda: setattr(hosted, "server", None))  # noqa: B023  # on its loop: grpc.aio wants that
                    until(lambda: dropped() is None)  # noqa: B023
                finally:
                    gc.enable()
                until(lambda: port not in listening_ports())  # noqa: B023
                hosted.close_rest()

    def test_never_started(self, flavour: str) -> None:
        """Its address is free again."""
        hosted = Hosted(flavour, handlers=[])
        port = hosted.port
        hosted.service.server = hosted.server = None
        gc.collect()
        socket.create_server(("127.0.0.1", port)).close()
        hosted.close_rest()

    def test_many_at_once(self, serve: Serve) -> None:
        """Five servers of one process, drained at the same time, each with callers of its own: none disturbs another."""
        hosted = [serve(policy=replace(FAST, announce_timeout=0.5)) for _ in range(5)]
        loads = [Load([each.port], callers=2, streaming=1) for each in hosted]
        for load in loads:
            load.__enter__()
        reports = [each.drain() for each in hosted[:4]]
        for report in reports:
            assert report.result(PATIENCE).clean
        loads[4].more(2)
        for load in loads:
            load.__exit__()
        assert loads[4].failures == []
        assert hosted[4].server.state is State.SERVING


def test_started_at_the_same_time(serve: Serve, client: Clients) -> None:
    """Six servers, started from six threads: each counts its own calls, and no other's."""
    hosted = [serve(start=False) for _ in range(6)]
    threads = [threading.Thread(target=each.start) for each in hosted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    for calls, each in enumerate(hosted, start=1):
        for _ in range(calls):
            assert client(each.port).call("Echo") == b"hello"
    assert [each.server._driver._hands.gauge.flow().begun for each in hosted] == [1, 2, 3, 4, 5, 6]


def test_drained_servers_cannot_be_started(serve: Serve) -> None:
    """A server has one life."""
    hosted = serve(policy=AT_ONCE)
    hosted.drain().result(PATIENCE)
    with pytest.raises((DrainError, ValueError)):
        hosted.start()
