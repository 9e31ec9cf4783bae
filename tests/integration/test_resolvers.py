"""Watches, and the resolvers that need no cluster: static, file, dns+poll, and plugins.

Over 300 lines: one protocol, and each resolver that keeps it.
"""

import asyncio
import gc
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drain import events
from drain._core.endpoints import Endpoint, EndpointSet
from drain._core.target import Target, parse
from drain._resolvers import dns, file, static
from drain._resolvers.protocol import Listener
from drain._resolvers.watches import Watch, Watches
from drain._resolvers.watching import Watching
from drain.errors import ResolutionError, TargetError
from tests.integration._servers.waiting import until

A, B, C = (Endpoint(address=f"10.0.0.{number}", port=1) for number in (1, 2, 3))
BOUND = 10.0


class Plugin:
    """A resolver that does what the test says. One for each life of a watch."""

    made: list["Plugin"] = []

    def __init__(self, target: Target) -> None:
        self.target = target
        self.listener: Listener | None = None
        self.stopped = threading.Event()
        Plugin.made.append(self)

    def start(self, listener: Listener) -> None:
        self.listener = listener

    def stop(self) -> None:
        self.stopped.set()

    def tell(self, *endpoints: Endpoint) -> None:
        until(lambda: self.listener is not None)
        assert self.listener is not None
        self.listener.endpoints(endpoints)

    def fail(self, message: str) -> None:
        until(lambda: self.listener is not None)
        assert self.listener is not None
        self.listener.failed(message)


class World:
    """Watches of their own, and all that they tell."""

    def __init__(self) -> None:
        Plugin.made = []
        self.events: list[events.ClientEvent] = []
        self.watches = Watches(self.events.append)
        for scheme, factory in {
            "test": Plugin,
            "static": static.factory,
            "file": file.factory,
            "dns+poll": dns.factory,
        }.items():
            self.watches.register(scheme, factory, replace=False)

    def watch(self, text: str) -> Watch:
        target = parse(text, self.watches.schemes())
        assert target is not None
        self.watches.factory(target.scheme)(target)
        if target.scheme == "test":
            Plugin.made.pop()
        return self.watches.of(target)

    def follow(self, text: str) -> Watching:
        return Watching(self.watch(text))

    def plugin(self, text: str = "test:///a") -> tuple[Watching, Plugin]:
        watching = self.follow(text)
        until(lambda: len(Plugin.made) > 0 and Plugin.made[-1].listener is not None)
        return watching, Plugin.made[-1]

    def of(self, kind: type[Any]) -> list[Any]:
        return [each for each in self.events if isinstance(each, kind)]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    before = {thread for thread in threading.enumerate() if thread.name.startswith("drain-resolver")}
    yield world
    gc.collect()
    until(lambda: {t for t in threading.enumerate() if t.name.startswith("drain-resolver")} <= before)


def wheres(endpoints: EndpointSet) -> list[str]:
    return [str(each) for each in endpoints.endpoints]


class TestWatch:
    def test_one_resolver_for_all_who_follow(self, world: World) -> None:
        one, plugin = world.plugin()
        two = world.follow("test:///a")
        plugin.tell(A, B, A)
        assert wheres(one.next(BOUND)) == wheres(two.next(BOUND)) == ["10.0.0.1:1", "10.0.0.2:1"]
        assert (len(Plugin.made), [each.users for each in world.watches.snapshots()]) == (1, [2])
        late = world.follow("test:///a")
        assert len(late.next(0)) == 2, "what is known is there at once"
        for each in (one, two):
            each.close()
            each.close()
        assert not plugin.stopped.is_set()
        late.close()
        assert plugin.stopped.wait(BOUND)
        assert world.watches.snapshots() == ()

    def test_a_new_life_begins_with_nothing(self, world: World) -> None:
        watching, plugin = world.plugin()
        plugin.tell(A)
        watching.close()
        assert plugin.stopped.wait(BOUND)
        again, second = world.plugin()
        assert second is not plugin
        plugin.tell(B)  # told after its stop: passed over
        with pytest.raises(TimeoutError, match=r"test:///a: no news within 0\.05 s"):
            again.next(0.05)
        second.tell(C)
        assert wheres(again.next(BOUND)) == ["10.0.0.3:1"]
        again.close()

    def test_events(self, world: World) -> None:
        watching, plugin = world.plugin()
        plugin.tell(A, B)
        plugin.tell(A, B)
        plugin.tell(A, Endpoint(address="10.0.0.2", port=1, ready=False), C)
        plugin.tell(C)
        assert [(e.added, e.removed, e.total, e.ready) for e in world.of(events.EndpointsChanged)] == [
            (2, 0, 2, 2), (2, 0, 3, 2), (0, 2, 1, 1),
        ]  # fmt: skip
        assert [(e.endpoint, e.ready) for e in world.of(events.EndpointAdded)] == [
            ("10.0.0.2:1", False),
            ("10.0.0.3:1", True),
        ]
        assert [e.endpoint for e in world.of(events.EndpointRemoved)] == ["10.0.0.1:1", "10.0.0.2:1"]
        watching.close()

    def test_failure_keeps_the_last_set_and_its_age(self, world: World) -> None:
        watching, plugin = world.plugin()
        plugin.tell(A)
        plugin.fail("no\n answer")
        plugin.fail("no answer")
        now = watching.snapshot
        assert (now.failure, now.stale, wheres(now.endpoints or EndpointSet())) == ("no answer", True, ["10.0.0.1:1"])
        assert now.age is not None
        assert now.failing_for is not None
        assert now.as_dict()["endpoints"] == ["10.0.0.1:1"]
        assert [(e.reason, e.endpoints) for e in world.of(events.WatchFailed)] == [("no answer", 1)]
        assert [e.reason for e in world.of(events.EndpointsStale)] == ["no answer"]
        plugin.tell(A)
        assert (watching.snapshot.failure, watching.snapshot.stale) == (None, False)
        assert [e.target for e in world.of(events.WatchRecovered)] == ["test:///a"]
        watching.close()

    def test_a_factory_or_a_start_that_raises_is_a_failure(self, world: World) -> None:
        class Bad(Plugin):
            def start(self, listener: Listener) -> None:
                raise OSError("no such host")

        world.watches.register("bad", Bad, replace=False)
        watching = world.follow("bad:///a")
        with pytest.raises(ResolutionError, match="bad:///a: no such host"):
            watching.next(BOUND)
        watching.close()

    def test_a_user_that_raises_harms_nobody(self, world: World) -> None:
        def bad() -> None:
            raise RuntimeError("mine")

        watch = world.watch("test:///a")
        leave = watch.use(bad)
        watching, plugin = world.plugin()
        plugin.tell(A)
        assert len(watching.next(BOUND)) == 1
        leave()
        watching.close()

    def test_forked_children_begin_with_none(self, world: World) -> None:
        watching, plugin = world.plugin()
        plugin.tell(A)
        if (child := os.fork()) == 0:
            os._exit(0 if world.watches.snapshots() == () else 1)
        assert os.waitpid(child, 0)[1] == 0
        watching.close()


class TestWatching:
    def test_the_newest_counts(self, world: World) -> None:
        watching, plugin = world.plugin()
        plugin.tell(A)
        plugin.tell(A, B)
        plugin.tell(C)
        assert wheres(next(watching)) == ["10.0.0.3:1"]
        watching.close()

    def test_a_failure_raises_until_there_is_a_set(self, world: World) -> None:
        watching, plugin = world.plugin()
        plugin.fail("not yet")
        with pytest.raises(ResolutionError, match=r"test:///a: not yet"):
            watching.next(BOUND)
        plugin.tell()
        assert len(watching.next(BOUND)) == 0
        plugin.fail("again")
        with pytest.raises(TimeoutError):
            watching.next(0.05)
        watching.close()

    def test_close_ends_who_waits(self, world: World) -> None:
        watching, _ = world.plugin()
        found: list[EndpointSet] = []
        waiting = threading.Thread(target=lambda: found.extend(watching))
        waiting.start()
        watching.close()
        waiting.join(BOUND)
        assert (waiting.is_alive(), found) == (False, [])

    def test_garbage_is_not_followed(self, world: World) -> None:
        watching, plugin = world.plugin()
        del watching
        gc.collect()
        assert plugin.stopped.wait(BOUND)

    def test_asyncio(self, world: World) -> None:
        async def scenario() -> None:
            with world.follow("test:///a") as watching:
                await asyncio.to_thread(until, lambda: len(Plugin.made) > 0)
                plugin = Plugin.made[-1]
                asyncio.get_running_loop().call_later(0.05, plugin.tell, A)
                found = []
                async for each in watching:
                    found.append(wheres(each))
                    if len(found) == 2:
                        threading.Timer(0.05, watching.close).start()
                    threading.Timer(0.05, plugin.tell, [B]).start()
                assert found == [["10.0.0.1:1"], ["10.0.0.2:1"]]

        asyncio.run(asyncio.wait_for(scenario(), BOUND))


class TestStatic:
    def test_addresses(self, world: World) -> None:
        with world.follow("static:///10.0.0.1:50051,[fd00::1]:50052,10.0.0.1:50051") as watching:
            assert wheres(watching.next(BOUND)) == ["10.0.0.1:50051", "[fd00::1]:50052"]

    def test_names(self, world: World) -> None:
        with world.follow("static:///localhost:50051,10.0.0.1:1") as watching:
            assert wheres(watching.next(BOUND)) == ["10.0.0.1:1", "127.0.0.1:50051"]

    @pytest.mark.parametrize(
        "text", ["static:///", "static://10.0.0.1:1", "static:///10.0.0.1", "static:///10.0.0.1:1?x=1"]
    )
    def test_bad(self, world: World, text: str) -> None:
        with pytest.raises(TargetError, match=r"static:///10.0.0.1:50051"):
            world.watch(text)


class TestDns:
    def test_follows(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """With a stand-in for the system's resolver, whose answers are what changes."""
        answers: list[Any] = [
            ["10.0.0.1"],
            ["10.0.0.1", "10.0.0.2", "fd00::1"],
            socket.gaierror(socket.EAI_AGAIN, "Try again"),
        ]
        asked = []

        def getaddrinfo(host: str, port: int, family: int, kind: int) -> list[Any]:
            asked.append((host, port, family, kind))
            answer = answers[0]
            if isinstance(answer, Exception):
                raise answer
            return [(socket.AF_INET, kind, 6, "", (address, port)) for address in answer]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        with world.follow("dns+poll:///geoipd:9200?interval=100ms") as watching:
            assert wheres(watching.next(BOUND)) == ["10.0.0.1:9200"]
            answers.pop(0)
            assert wheres(watching.next(BOUND)) == ["10.0.0.1:9200", "10.0.0.2:9200"], "one family"
            answers.pop(0)
            until(lambda: watching.snapshot.failure == "DNS: geoipd: Try again")
            assert watching.snapshot.stale
            answers[0] = socket.gaierror(socket.EAI_NODATA, "No address associated with hostname")
            assert wheres(watching.next(BOUND)) == [], "the name is there, and has no address"
            answers[0] = ["fd00::2%eth0"]
            assert wheres(watching.next(BOUND)) == ["[fd00::2]:9200"]
        assert set(asked) == {("geoipd", 9200, socket.AF_UNSPEC, socket.SOCK_STREAM)}

    def test_the_real_one(self, world: World) -> None:
        with world.follow("dns+poll:///localhost:1") as watching:
            assert wheres(watching.next(BOUND)) == ["127.0.0.1:1"]
        with (
            world.follow("dns+poll:///no-such-host.invalid:1") as watching,
            pytest.raises(ResolutionError, match=r"DNS: no-such-host"),
        ):
            watching.next(BOUND)

    @pytest.mark.parametrize(
        "text",
        [
            "dns+poll://8.8.8.8/a:1",
            "dns+poll:///a",
            "dns+poll:///a:1?interval=1ms",
            "dns+poll:///a:1?interval=x",
            "dns+poll:///a:1?family=4",
        ],
    )
    def test_bad(self, world: World, text: str) -> None:
        with pytest.raises(TargetError, match=r"dns\+poll:///HOST:PORT"):
            world.watch(text)


class TestFile:
    def test_follows(self, world: World, tmp_path: Path) -> None:
        path = tmp_path / "endpoints.yaml"
        path.write_text("- 10.0.0.1:1\n- '[fd00::1]:1'\n")
        with world.follow(f"file://{path}") as watching:
            assert wheres(watching.next(BOUND)) == ["10.0.0.1:1", "[fd00::1]:1"]
            path.write_text("endpoints: [{address: 10.0.0.2, port: 1, zone: a, ready: false, weight: 3}]")
            (found,) = watching.next(BOUND).endpoints
            assert found == Endpoint(address="10.0.0.2", port=1, zone="a", ready=False, serving=False, weight=3)
            path.write_text('{"endpoints": ["10.0.0.3:1"]}')  # JSON is YAML
            assert wheres(watching.next(BOUND)) == ["10.0.0.3:1"]
            path.write_text("[]")
            assert wheres(watching.next(BOUND)) == []

    def test_same_size_and_quickly(self, world: World, tmp_path: Path) -> None:
        path = tmp_path / "endpoints.yaml"
        path.write_text("- 10.0.0.1:1\n")
        with world.follow(f"file://{path}") as watching:
            watching.next(BOUND)
            for number in range(2, 9):
                path.write_text(f"- 10.0.0.{number}:1\n")
            until(lambda: wheres(watching.snapshot.endpoints or EndpointSet()) == ["10.0.0.8:1"])

    def test_symlink_swap(self, world: World, tmp_path: Path) -> None:
        """As a ConfigMap is updated: the directory behind `..data` is another one."""
        for name, address in (("one", "10.0.0.1:1"), ("two", "10.0.0.2:1")):
            (tmp_path / name).mkdir()
            (tmp_path / name / "endpoints.yaml").write_text(f"- {address}\n")
        (tmp_path / "..data").symlink_to("one")
        (tmp_path / "endpoints.yaml").symlink_to("..data/endpoints.yaml")
        with world.follow(f"file://{tmp_path}/endpoints.yaml") as watching:
            assert wheres(watching.next(BOUND)) == ["10.0.0.1:1"]
            (tmp_path / "new").symlink_to("two")
            (tmp_path / "new").rename(tmp_path / "..data")
            assert wheres(watching.next(BOUND)) == ["10.0.0.2:1"]

    @pytest.mark.parametrize(
        ("content", "what"),
        [
            ("{", "not YAML"),
            ("a: b", "must be a list of endpoints"),
            ("- host:1", "endpoint 1 ('host:1'): 'host' is no IP address"),
            ("- 10.0.0.1:1\n- 10.0.0.1", "endpoint 2 ('10.0.0.1'): target"),
            ("- {address: 10.0.0.1}", "missing 1 required keyword-only argument: 'port'"),
            ("- {address: 10.0.0.1, port: 1, redy: true}", "unknown: redy (there is address,"),
            ("- {address: 10.0.0.1, port: 1, ready: 'no'}", "ready must be true or false"),
            ("- {address: 10.0.0.1, port: 70000}", "must be a whole number from 1 to 65535"),
            ("- 5", 'must be "ADDRESS:PORT" or a mapping'),
        ],
    )
    def test_a_broken_file_keeps_the_last_good_set(self, world: World, tmp_path: Path, content: str, what: str) -> None:
        path = tmp_path / "endpoints.yaml"
        path.write_text("- 10.0.0.1:1\n")
        with world.follow(f"file://{path}") as watching:
            watching.next(BOUND)
            path.write_text(content)
            until(lambda: watching.snapshot.failure is not None)
            assert what in (watching.snapshot.failure or "")
            assert str(path) in (watching.snapshot.failure or "")
            assert watching.snapshot.stale
            path.write_text("- 10.0.0.1:1\n")
            until(lambda: watching.snapshot.failure is None)

    def test_gone_and_back(self, world: World, tmp_path: Path) -> None:
        path = tmp_path / "endpoints.yaml"
        with world.follow(f"file://{path}") as watching:
            with pytest.raises(ResolutionError, match=r"endpoints\.yaml: No such file or directory"):
                watching.next(BOUND)
            path.mkdir()
            with pytest.raises(ResolutionError, match="not a file"):
                watching.next(BOUND)
            path.rmdir()
            path.write_text("- 10.0.0.1:1\n")
            until(lambda: watching.snapshot.endpoints is not None)

    @pytest.mark.parametrize("text", ["file://etc/endpoints.yaml", "file:///", "file:///a?x=1"])
    def test_bad(self, world: World, text: str) -> None:
        with pytest.raises(TargetError, match="file:///etc/endpoints"):
            world.watch(text)
