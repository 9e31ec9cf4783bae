"""When connections began, as far as looking now and then can tell (drain/_grpc/ages.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from drain._grpc import ages
from drain._grpc.ages import Ages

SERVER = 7
LIMIT = 100.0


class World:
    """A server's connections, and a clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.open: dict[int, str] = {}
        self.asked: list[int] = []
        self.told = 0

    def clock(self) -> float:
        return self.now

    def sockets(self, server: int, start: int) -> Iterator[list[tuple[int, str]]]:
        assert server == SERVER
        self.asked.append(start)
        found = [each for each in sorted(self.open.items()) if each[0] >= start]
        for page in range(0, max(1, len(found)), 500):
            self.told += len(found[page : page + 500])
            yield found[page : page + 500]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def made(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ages]:
    monkeypatch.setattr(ages, "INTERVAL", 3600.0)  # the test looks by itself
    monkeypatch.setattr(ages, "_BREATH", 0.0)
    made = Ages(LIMIT, world.sockets, world.clock)
    made.start(SERVER)
    yield made
    made.stop()


def test_a_connection_began_after_the_last_look(world: World, made: Ages) -> None:
    world.now += 10
    world.open[1] = "ipv4:a:1"
    made.look(SERVER)
    world.now += 5
    assert made.left("ipv4:a:1") == pytest.approx(90 - 15), "it may be as old as the server"
    world.now += 1
    world.open[2] = "ipv4:a:2"
    made.look(SERVER)
    assert made.left("ipv4:a:1") == pytest.approx(90 - 16)
    assert made.left("ipv4:a:2") == pytest.approx(90 - 6), "it was not there 6 s ago"


def test_one_that_was_not_seen_yet_is_younger_than_the_last_look(world: World, made: Ages) -> None:
    world.now += 10
    made.look(SERVER)
    world.now += 0.7
    assert made.left("ipv4:a:1") == pytest.approx(90 - 0.7)


def test_never_below_0(world: World, made: Ages) -> None:
    world.open[1] = "ipv4:a:1"
    made.look(SERVER)
    world.now += 91
    assert made.left("ipv4:a:1") == 0


def test_only_what_is_new_is_asked_for(world: World, made: Ages) -> None:
    world.open |= {number: f"ipv4:a:{number}" for number in range(1, 3001)}
    made.look(SERVER)
    made.look(SERVER)  # so many are counted once: do all of them live?
    told = world.told
    world.open[3001] = "ipv4:a:3001"
    made.look(SERVER)
    assert world.told == told + 1
    assert world.asked[-1] == 3001


def test_a_port_that_is_used_again_is_another_connection(world: World, made: Ages) -> None:
    world.open[1] = "ipv4:a:1"
    made.look(SERVER)
    world.now += 50
    made.look(SERVER)
    del world.open[1]
    world.open[2] = "ipv4:a:1"
    made.look(SERVER)
    assert made.left("ipv4:a:1") == pytest.approx(90)


def test_what_has_gone_is_forgotten_and_what_lives_is_not(world: World, made: Ages) -> None:
    """However many connections come and go, what is remembered is bounded by those that live."""
    world.open[0] = "ipv4:stays:1"
    for number in range(1, 20_001):
        world.open[number] = f"ipv4:a:{number}"
        if number % 100 == 0:
            made.look(SERVER)
            world.open = {0: world.open[0]}
            world.now += 0.1
            assert len(made._began) <= 1300
    assert made.left("ipv4:stays:1") == pytest.approx(90 - 20)


def test_without_a_limit_nothing_is_looked_at(world: World) -> None:
    made = Ages(None, world.sockets, world.clock)
    made.start(SERVER)
    made.look(SERVER)
    assert made.left("ipv4:a:1") is None
    assert world.asked == []


def test_who_cannot_look_knows_nothing(world: World) -> None:
    """Channelz is off, or nobody knows which server is ours."""
    made = Ages(LIMIT, world.sockets, world.clock)
    made.start(None)
    assert made.left("ipv4:a:1") is None


def test_unix_sockets_have_no_names(made: Ages) -> None:
    assert made.left("unix:") is None


def test_after_its_end_nothing_is_known(world: World, made: Ages) -> None:
    world.open[1] = "ipv4:a:1"
    made.look(SERVER)
    made.stop()
    made.stop()
    assert made.left("ipv4:a:1") is None
    made.look(SERVER)
    assert made.left("ipv4:a:1") is None
