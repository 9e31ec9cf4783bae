"""Handing a shared port over: nobody who has knocked is turned away."""

import select
import socket
import threading
from collections.abc import Iterator

import pytest

from drain._grpc.listening import stop_listening, where
from tests.integration._servers.waiting import BOUND, until


def listener(port: int = 0) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    made.listen(64)
    return made


@pytest.fixture
def old() -> Iterator[socket.socket]:
    with listener() as made:
        yield made


def knock(port: int) -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    made.connect_ex(("127.0.0.1", port))
    return made


def connected(client: socket.socket, within: float) -> bool:
    return (
        bool(select.select([], [client], [], within)[1]) and client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    )


def test_those_who_wait_are_let_in(old: socket.socket) -> None:
    port = old.getsockname()[1]
    clients = [socket.create_connection(("127.0.0.1", port), BOUND) for _ in range(5)]
    stopping = threading.Thread(target=stop_listening, args=([where(f"127.0.0.1:{port}")],), kwargs={"hand_over": True})
    stopping.start()
    for _ in clients:
        served, _ = old.accept()
        served.sendall(b"welcome")
        served.close()
    assert [client.recv(7) for client in clients] == [b"welcome"] * 5
    stopping.join(BOUND)
    assert not stopping.is_alive()
    for client in clients:
        client.close()


def test_newcomers_knock_again_and_find_the_successor(old: socket.socket) -> None:
    port = old.getsockname()[1]
    at = where(f"127.0.0.1:{port}")
    waiting = socket.create_connection(("127.0.0.1", port), BOUND)  # holds the handover up, to its bound
    stopping = threading.Thread(target=stop_listening, args=([at],), kwargs={"hand_over": True})
    stopping.start()
    knocking: list[socket.socket] = []

    def turned_away() -> bool:
        knocking.append(knock(port))
        return not connected(knocking[-1], 0.02)

    until(turned_away, 0.2)
    stopping.join(BOUND)
    with listener(port), knocking[-1] as client:
        assert connected(client, BOUND)
    for each in (waiting, *knocking):
        each.close()


def test_nobody_is_waited_for_for_ever(old: socket.socket) -> None:
    port = old.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port), BOUND) as waiting:
        assert stop_listening([where(f"127.0.0.1:{port}")], hand_over=True) >= 1
        with pytest.raises(ConnectionResetError):
            waiting.recv(1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), BOUND)
