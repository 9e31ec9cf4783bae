"""`drain.prestop --standalone`, as a process, against a fake API server that misbehaves; and its judgement, with the time handed in.

Over 300 lines: what it sees, why it may see nothing, and what it makes of either.
"""

import contextlib
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from drain._core.own_endpoint import Standing, View
from drain._prestop.judging import PATIENCE, Judgement
from drain._prestop.options import parsed
from tests.integration._servers.fake_api_server import FakeApiServer, Fault, endpoint_slice
from tests.integration._servers.waiting import until
from tests.integration.test_prestop import Ended, Hook

ADDRESS = "10.0.0.1"
POD = f"pod-{ADDRESS}"
TOKEN = "top-secret-token"
BUSY = 3.0  # seconds: by so much a busy machine may be late; what would be wrong is 15 s or 29 s. The bench measures
DENIED = Fault(status=403)


def slices(name: str = "web-1", **conditions: bool) -> dict[str, Any]:
    """A slice that has this pod, and another one."""
    made = endpoint_slice(name, ADDRESS, "10.0.0.2")
    made["endpoints"][0]["conditions"] |= conditions
    return made


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def mount(tmp_path: Path, authority: trustme.CA) -> Path:
    """What kubelet mounts."""
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    authority.cert_pem.write_to_path(folder / "ca.crt")
    (folder / "namespace").write_text("shop")
    (folder / "token").write_text(TOKEN + "\n")
    return folder


@pytest.fixture
def api(authority: trustme.CA) -> Iterator[FakeApiServer]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = FakeApiServer(tls=context).start()
    server.put(slices())
    yield server
    if server.running:
        server.stop()


Start = Callable[..., Hook]


@pytest.fixture
def hook(api: FakeApiServer, mount: Path) -> Iterator[Start]:
    """Hooks in this pod; all are ended after the test."""
    with ExitStack() as made:

        def start(*arguments: str, **environment: str) -> Hook:
            inside = {
                "KUBERNETES_SERVICE_HOST": "127.0.0.1",
                "KUBERNETES_SERVICE_PORT": str(api.port),
                "DRAIN_SERVICE_ACCOUNT_DIR": str(mount),
                "POD_NAME": POD,
            }
            started = Hook("--standalone", *arguments, **{**inside, **environment})
            made.callback(started.close)
            return started

        yield start


def after(change: float, ended: Ended, finished: float, settle: float) -> None:
    """It returned when the change was `settle` old, and not much later."""
    assert ended.code == 0, ended.stderr
    assert settle - 0.01 <= finished - change < settle + BUSY, ended.stderr


class TestSeen:
    """It may look."""

    @pytest.mark.parametrize(
        ("conditions", "said"),
        [
            ({"ready": False, "serving": True, "terminating": True}, "terminating in 1 slice"),
            ({"ready": True, "serving": True, "terminating": True}, "terminating in 1 slice"),
            ({"ready": False, "serving": False}, "not ready in 1 slice"),
        ],
    )
    def test_the_endpoint_leaves(self, hook: Start, api: FakeApiServer, conditions: dict[str, bool], said: str) -> None:
        running = hook("--settle", "0.5").until("ready in 1 slice")
        until(lambda: api.count("watch") == 1)
        change = api.put(slices(**conditions))
        ended = running.ended()
        after(change, ended, time.monotonic(), 0.5)
        assert f"returns: the endpoint has left: {said}, for 0.5 s" in ended.stderr

    def test_it_has_left_already(self, hook: Start, api: FakeApiServer) -> None:
        api.put(slices(terminating=True))
        ended = hook("--settle", "300ms").ended()
        assert (ended.code, 0.3 <= ended.took < BUSY) == (0, True)

    def test_the_last_slice_counts(self, hook: Start, api: FakeApiServer) -> None:
        """Two services; and slices of others, which are none of its business."""
        api.put(slices("api-1"), endpoint_slice("db-1", "10.0.0.9"))
        running = hook("--settle", "0.3", "--delay", "1").until("ready in 2 slices")
        until(lambda: api.count("watch") == 1)
        api.put(slices(terminating=True))
        running.until("ready in 1 slice\n")
        change = api.delete("api-1")
        after(change, running.ended(), time.monotonic(), 0.3)

    def test_it_comes_back(self, hook: Start, api: FakeApiServer) -> None:
        """A probe failed once: that was not it."""
        running = hook("--settle", "2s", "--timeout", "4s").until("ready in 1 slice")
        until(lambda: api.count("watch") == 1)
        api.put(slices(ready=False))
        running.until("not ready in 1 slice")
        api.put(slices())
        ended = running.ended()
        assert (ended.code, 4 <= ended.took < 4 + BUSY) == (75, True)
        assert "the timeout of 4 s is over, and the endpoint is still ready in 1 slice" in ended.stderr

    def test_in_no_slice(self, hook: Start, api: FakeApiServer) -> None:
        api.delete("web-1")
        ended = hook("--settle", "0.2").ended()
        assert (ended.code, ended.took < BUSY) == (0, True)
        assert "has left: in no slice" in ended.stderr

    def test_a_name_that_is_only_guessed_is_not_taken_for_gone(self, hook: Start, mount: Path) -> None:
        """The host's name is not the pod's everywhere: then no slice has it, which says nothing."""
        ended = hook("--delay", "1.5", "--settle", "0", POD_NAME="").ended()
        assert (ended.code, 1.5 <= ended.took < 1.5 + BUSY) == (0, True)
        assert "DRAIN_POD_NAME" in ended.stderr
        assert "the delay of 1.5 s is over" in ended.stderr

    def test_watches_end_and_versions_expire(self, hook: Start, api: FakeApiServer) -> None:
        """Closed in good order: watched again from there. 410, in either form: listed again. Neither is an outage."""
        running = hook("--settle", "0.3").until("ready in 1 slice")
        until(lambda: api.count("watch") == 1)
        api.close_watches()
        until(lambda: api.count("watch") == 2)
        assert api.count("list") == 1
        api.forget()
        api.close_watches()
        until(lambda: api.count("list") == 2)
        until(lambda: api.count("watch") == 4)
        api.send({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}})
        until(lambda: api.count("list") == 3)
        change = api.put(slices(terminating=True))
        ended = running.ended()
        assert (ended.code, time.monotonic() - change < 2 + BUSY) == (0, True)  # its pause may have begun
        assert "cannot look" not in ended.stderr

    def test_what_changes_between_two_watches(self, hook: Start, api: FakeApiServer) -> None:
        running = hook("--settle", "0.3").until("ready in 1 slice")
        until(lambda: api.count("watch") == 1)
        api.close_watches()
        api.put(slices(terminating=True))
        ended = running.ended()
        assert (ended.code, "terminating in 1 slice" in ended.stderr) == (0, True)

    def test_the_token_is_read_for_each_request(self, hook: Start, api: FakeApiServer, mount: Path) -> None:
        running = hook("--settle", "0.2").until("ready in 1 slice")
        until(lambda: api.count("watch") == 1)
        (mount / "token").write_text("another")
        api.close_watches()
        until(lambda: api.count("watch") == 2)
        assert [each.token for each in api.asked] == [TOKEN, TOKEN, "another"]
        api.put(slices(terminating=True))
        assert running.ended().code == 0

    def test_it_may_list_but_not_watch(self, hook: Start, api: FakeApiServer) -> None:
        """Then it lists again and again, and is a moment late."""
        api.fault = lambda asked: DENIED if asked.verb == "watch" else None
        running = hook("--settle", "0.2", "--delay", "1").until("may not watch endpointslices")
        until(lambda: api.count("list") >= 4)
        assert running.running  # beyond --delay: it does know
        api.put(slices(terminating=True))
        assert running.ended().code == 0
        assert running.stderr.count("may not watch") == 1


class TestUnseen:
    """It may not look, or cannot: --delay, as `sleep` would."""

    def check(self, ended: Ended, said: str) -> None:
        assert ended.code == 0, ended.stderr
        assert 1 <= ended.took < 1 + BUSY, ended.stderr
        assert said in ended.stderr
        assert "the delay of 1 s is over, and the endpoint cannot be looked at" in ended.stderr
        assert TOKEN not in ended.stderr

    @pytest.mark.parametrize(
        ("fault", "said"),
        [
            (DENIED, 'may not list endpointslices in namespace "shop" (403 Forbidden): bind a Role'),
            (Fault(status=401), "401 Unauthorized"),
            (Fault(status=500), "answered list with status 500: told to"),
            (Fault(mute=True), "nobody has answered yet"),
            (Fault(raw=b"no JSON"), "cannot be understood: JSONDecodeError"),
            (Fault(raw=b"[]"), "cannot be understood"),
            (Fault(raw=b'{"items": 3}'), "cannot be understood"),
            (Fault(raw=b'{"items": [', then="cut"), "cannot be understood"),
            (Fault(raw=b'{"items": [', then="hang"), "nobody has answered yet"),
        ],
    )
    def test_the_api_server_says_no(self, hook: Start, api: FakeApiServer, fault: Fault, said: str) -> None:
        api.fault = lambda asked: fault
        self.check(hook("--delay", "1").ended(), said)

    @pytest.mark.parametrize(
        ("token", "said"), [("", "holds no token"), ("a\nb", "holds no token"), ("\N{BULLET}", "holds no token")]
    )
    def test_bad_tokens(self, hook: Start, mount: Path, token: str, said: str) -> None:
        (mount / "token").write_text(token)
        self.check(hook("--delay", "1").ended(), said)

    def test_no_token(self, hook: Start, mount: Path) -> None:
        (mount / "token").unlink()
        self.check(hook("--delay", "1").ended(), "no ServiceAccount token")

    def test_no_authority(self, hook: Start, mount: Path) -> None:
        (mount / "ca.crt").unlink()
        self.check(hook("--delay", "1").ended(), "ca.crt: No such file or directory")

    def test_another_authority(self, hook: Start, mount: Path) -> None:
        """Nobody else is told the token."""
        trustme.CA().cert_pem.write_to_path(mount / "ca.crt")
        self.check(hook("--delay", "1").ended(), "no TLS with the API server")

    def test_no_pod(self, hook: Start) -> None:
        self.check(hook("--delay", "1", KUBERNETES_SERVICE_HOST="").ended(), "this is no pod")

    def test_a_port_that_is_none(self, hook: Start) -> None:
        self.check(
            hook("--delay", "1", KUBERNETES_SERVICE_PORT="https").ended(), "KUBERNETES_SERVICE_PORT is no number"
        )

    def test_the_api_server_is_down(self, hook: Start, api: FakeApiServer) -> None:
        api.stop()
        self.check(hook("--delay", "1").ended(), "cannot be reached: Connection refused")

    def test_what_listens_there_says_nothing(self, hook: Start) -> None:
        """Not even TLS."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            port = listener.getsockname()[1]
            self.check(hook("--delay", "1", KUBERNETES_SERVICE_PORT=str(port)).ended(), "nobody has answered yet")

    def test_no_delay_and_the_shortest_timeout(self, hook: Start, api: FakeApiServer) -> None:
        api.fault = lambda asked: Fault(mute=True)
        assert hook("--delay", "0").ended().took < BUSY
        assert hook("--timeout", "0.2").ended().took < BUSY

    def test_it_comes_up_in_time(self, hook: Start, api: FakeApiServer) -> None:
        api.stop()
        running = hook("--settle", "0.2").until("cannot look")
        api.put(slices(terminating=True))
        api.start()
        ended = running.ended()
        assert (ended.code, "has left: terminating in 1 slice" in ended.stderr, ended.took < 2 + BUSY) == (
            0,
            True,
            True,
        )

    def test_it_goes_down_amid(self, hook: Start, api: FakeApiServer) -> None:
        """What was seen before says nothing of now: --delay, and a moment's patience where that is over."""
        running = hook("--delay", "1").until("ready in 1 slice")
        until(lambda: api.count("watch") == 1)
        api.stop()
        began = time.monotonic()
        ended = running.ended()
        assert (ended.code, "the delay of 1 s is over" in ended.stderr) == (0, True)
        assert PATIENCE - 0.1 <= time.monotonic() - began < PATIENCE + BUSY

    def test_told_to_end(self, hook: Start, api: FakeApiServer) -> None:
        running = hook().until("ready in 1 slice")
        running.process.send_signal(signal.SIGTERM)
        assert running.ended().code == -signal.SIGTERM

    def test_how_often_it_asks(self, hook: Start, api: FakeApiServer) -> None:
        """An API server in trouble is not made worse: 0.2, 0.4, 0.8, 1.6, 2 s, each up to half shorter."""
        api.fault = lambda asked: Fault(status=500)
        assert hook("--delay", "3").ended().code == 0
        assert 3 <= len(api.asked) <= 8


def test_a_server_that_trickles(hook: Start, authority: trustme.CA) -> None:
    """A byte now and then keeps each read short of its limit; the whole has one all the same."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    over = threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        # The hook hangs up when it has had enough.
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.recv(4096)
            wrapped.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while not over.wait(0.05):
                wrapped.sendall(b" ")

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        try:
            ended = hook("--delay", "1", KUBERNETES_SERVICE_PORT=str(listener.getsockname()[1])).ended()
        finally:
            over.set()
            thread.join(5)
    assert (ended.code, 1 <= ended.took < 1 + BUSY) == (0, True)


LISTED, LEFT = View(Standing.LISTED, "ready in 1 slice"), View(Standing.LEFT, "terminating in 1 slice")


class TestJudgement:
    """Settle 2, delay 15, timeout 29, from 100 on."""

    @pytest.fixture
    def judgement(self) -> Judgement:
        return Judgement(parsed(["--standalone"], {})[0], 100.0)

    def test_nothing_is_seen(self, judgement: Judgement) -> None:
        assert judgement.due == 115
        judgement.unseen("403", 101)
        judgement.seen(View(), 102)
        assert judgement.due == 115
        judgement.unseen("403", 103)
        assert judgement.verdict(115) == (0, "the delay of 15 s is over, and the endpoint cannot be looked at: 403")

    def test_listed_and_left(self, judgement: Judgement) -> None:
        judgement.seen(LISTED, 101)
        assert judgement.due == 129
        assert judgement.verdict(129)[0] == 75
        judgement.seen(LEFT, 105)
        judgement.seen(LEFT, 106)
        assert judgement.due == 107
        judgement.seen(LISTED, 106.5)
        assert judgement.due == 129
        judgement.seen(LEFT, 128)
        assert judgement.due == 129
        assert judgement.verdict(129) == (0, "the endpoint has left: terminating in 1 slice, for 1.0 s")

    def test_an_outage_after_it_has_left(self, judgement: Judgement) -> None:
        """It stays left."""
        judgement.seen(LEFT, 105)
        judgement.unseen("down", 106)
        assert judgement.due == 107

    def test_an_outage_while_it_is_listed(self, judgement: Judgement) -> None:
        judgement.seen(LISTED, 101)
        judgement.unseen("down", 102)
        judgement.unseen("still down", 110)
        assert judgement.due == 115
        judgement.seen(LISTED, 114)
        judgement.unseen("down again", 120)
        judgement.unseen("down again", 121)
        assert judgement.due == 120 + PATIENCE
        assert judgement.verdict(122)[0] == 0
        judgement.seen(LISTED, 128)
        judgement.unseen("down again", 128.5)
        assert judgement.due == 129
