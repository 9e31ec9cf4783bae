"""Looking at the pod's own endpoint, against a fake API server behind TLS that misbehaves as it is told.

Over 300 lines: one list of misbehaviours, and the pod that meets them.
"""

import json
import os
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from drain._core.own_endpoint import Standing, View
from drain._kube.own_endpoint import Look, look
from tests.integration._servers.fake_api_server import Asked, FakeApiServer, Fault, endpoint_slice
from tests.integration._servers.waiting import until

ADDRESS = "10.0.0.1"
LISTED = endpoint_slice("geoipd-1", ADDRESS)
READY = View(Standing.LISTED, "ready in 1 slice")
GONE = View(Standing.LEFT, "terminating in 1 slice")
NOT_OURS = Fault(status=403)


def terminating(name: str = "geoipd-1") -> dict[str, Any]:
    raw = endpoint_slice(name, ADDRESS)
    raw["endpoints"][0]["conditions"] = {"ready": False, "serving": True, "terminating": True}
    return raw


class Seen:
    """What a look told. `views`: each at the moment at which it was told of."""

    def __init__(self) -> None:
        self.views: list[View] = []
        self._ready = threading.Event()
        began = look(self._changed)
        assert began is not None, "there is a pod around us"
        self.look: Look = began
        self._ready.set()

    def _changed(self) -> None:
        self._ready.wait()
        self.views.append(self.look.view())

    def until(self, standing: Standing, why: str = "") -> View:
        """Wait until it was told so."""
        return self._until(lambda view: view.standing is standing and why in view.why)

    def until_grace(self) -> float | None:
        return self._until(lambda view: view.grace is not None).grace

    def _until(self, wanted: Callable[[View], bool]) -> View:
        until(lambda: bool(self.views) and wanted(self.views[-1]))
        return self.views[-1]


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name in ("drain-own-endpoint", "drain-kube-shop")]


def sockets(port: int) -> int:
    """Those of this process's that are open to an API server, being connected or left behind unconnected."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            if not stat.S_ISSOCK(os.stat(int(name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as each:
                if each.family == socket.AF_INET and each.type == socket.SOCK_STREAM:
                    found += _towards(each) == port
        except OSError:  # closed since it was listed
            continue
    return found


def _towards(sock: socket.socket) -> int | None:
    try:
        return int(sock.getpeername()[1])
    except OSError:  # not connected yet, or not any more: /proc knows
        return _unconnected(sock)


def _unconnected(sock: socket.socket) -> int | None:
    inode = str(os.fstat(sock.fileno()).st_ino)
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return next((int(row[2].partition(":")[2], 16) for row in rows if row[9] == inode), None)


class Cluster:
    """A fake API server, and what it says of the pod itself: `pod` is the answer to `get pods`; `endpoints` to list and watch."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self.server = FakeApiServer(tls=tls).start()
        self.pod: Fault = NOT_OURS
        self.endpoints: Callable[[Asked], Fault | None] = lambda asked: None
        self._answered: list[Fault] = []
        self.server.fault = self._judge

    def _judge(self, asked: Asked) -> Fault | None:
        if "/pods/" not in asked.path:
            return self.endpoints(asked)
        self._answered.append(self.pod)
        return self._answered[-1]

    def asked(self, part: str) -> list[Asked]:
        return [each for each in list(self.server.asked) if part in each.path]

    @property
    def pods(self) -> int:
        """How often the pod was asked for, and what to answer was chosen."""
        return len(self._answered)


def deleted(grace: int | None, ago: float = 0) -> Fault:
    """The pod, which was deleted so long ago with so much grace; None: nobody has deleted it."""
    meta: dict[str, Any] = {"name": f"pod-{ADDRESS}"}
    if grace is not None:
        at = datetime.now(UTC) + timedelta(seconds=grace - ago)
        meta |= {"deletionGracePeriodSeconds": grace, "deletionTimestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ")}
    return Fault(raw=json.dumps({"metadata": meta}).encode())


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process is a pod's, as far as its environment says."""
    (tmp_path / "token").write_text("hush")
    (tmp_path / "namespace").write_text("shop")
    for name in [each for each in os.environ if each.endswith(("_PROXY", "_proxy"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DRAIN_SERVICE_ACCOUNT_DIR", str(tmp_path))
    monkeypatch.setenv("DRAIN_POD_NAME", f"pod-{ADDRESS}")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    return tmp_path


@pytest.fixture
def cluster(pod: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(pod / "ca.crt")
    made = Cluster(context)
    made.server.put(LISTED)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(made.server.port))
    yield made
    if made.server.running:
        made.server.stop()


@pytest.fixture
def see() -> Iterator[Callable[[], Seen]]:
    """Begin to look; when the test is over nothing of it may be left."""
    with ExitStack() as ends:

        def start() -> Seen:
            seen = Seen()
            ends.callback(seen.look.stop)
            return seen

        yield start
    until(lambda: not threads())


def test_it_leaves(cluster: Cluster, see: Callable[[], Seen]) -> None:
    """One list, one watch, and every change at once."""
    seen = see()
    seen.until(Standing.LISTED)
    until(lambda: cluster.server.count("watch") == 1)
    cluster.server.put(terminating())
    seen.until(Standing.LEFT)
    assert seen.views == [READY, GONE]
    asked = cluster.asked("endpointslices")
    assert [each.verb for each in asked] == ["list", "watch"]
    assert {each.path for each in asked} == {"/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"}
    assert not [each for each in asked if "labelSelector" in each.query], "of all services"
    assert {each.token for each in cluster.server.asked} == {"hush"}


def test_every_service_must_let_it_go(cluster: Cluster, see: Callable[[], Seen]) -> None:
    cluster.server.put(endpoint_slice("other-1", ADDRESS))
    seen = see()
    seen.until(Standing.LISTED, "2 slices")
    cluster.server.put(terminating())
    seen.until(Standing.LISTED, "1 slice")
    cluster.server.delete("other-1")
    seen.until(Standing.LEFT, "terminating in 1 slice")


@pytest.mark.parametrize("verb", ["list", "watch"])
def test_it_may_not_look(cluster: Cluster, see: Callable[[], Seen], verb: str) -> None:
    """Says which verb is missing; and when it may, it looks."""
    cluster.endpoints = lambda asked: Fault(status=403) if asked.verb == verb else None
    seen = see()
    why = seen.until(Standing.UNKNOWN, f'may not {verb} endpointslices.discovery.k8s.io in namespace "shop"').why
    assert "bind a Role with the verbs list and watch" in why
    cluster.endpoints = lambda asked: None
    seen.until(Standing.LISTED)


def test_what_it_may_only_list_is_news_each_time(cluster: Cluster, see: Callable[[], Seen]) -> None:
    """Without watch nothing of it is relied on: what was listed may have changed since."""
    cluster.endpoints = lambda asked: Fault(status=403) if asked.verb == "watch" else None
    seen = see()
    seen.until(Standing.UNKNOWN, "may not watch")
    assert seen.views[0] == READY


def test_the_server_is_down_when_the_drain_begins(cluster: Cluster, see: Callable[[], Seen]) -> None:
    cluster.server.stop()
    seen = see()
    seen.until(Standing.UNKNOWN, f"cannot reach the API server at {cluster.server.url}: Connection refused")
    cluster.server.start()
    seen.until(Standing.LISTED)


def test_the_server_goes_down_in_the_middle(cluster: Cluster, see: Callable[[], Seen]) -> None:
    """Nobody can have learned otherwise meanwhile, so it stands as it was last seen; when the server is back, what happened counts."""
    seen = see()
    seen.until(Standing.LISTED)
    cluster.server.stop()
    why = seen.until(Standing.LISTED, "cannot reach the API server").why
    assert why.startswith("ready in 1 slice when last seen; ")
    cluster.endpoints = lambda asked: Fault(status=503)
    cluster.server.start()
    why = seen.until(Standing.LISTED, "status 503").why
    assert why.startswith("ready in 1 slice when last seen; the API server")
    cluster.endpoints = lambda asked: None
    cluster.server.put(terminating())
    seen.until(Standing.LEFT, "terminating in 1 slice")
    assert Standing.UNKNOWN not in {each.standing for each in seen.views}


@pytest.mark.parametrize("status", [401, 403])
def test_what_it_may_no_longer_see_is_not_relied_on(cluster: Cluster, see: Callable[[], Seen], status: int) -> None:
    """Others may look, and learn what we do not."""
    seen = see()
    seen.until(Standing.LISTED)
    cluster.server.stop()
    cluster.endpoints = lambda asked: Fault(status=status)
    cluster.server.start()
    assert seen.until(Standing.UNKNOWN, str(status)).why.startswith(("may not", "the API server did not accept"))


def test_who_has_left_does_not_come_back_because_nobody_answers(cluster: Cluster, see: Callable[[], Seen]) -> None:
    """An outage amid a drain must not begin the wait again."""
    cluster.server.put(terminating())
    seen = see()
    seen.until(Standing.LEFT)
    until(lambda: cluster.server.count("watch") == 1)
    cluster.server.stop()
    cluster.endpoints = lambda asked: Fault(status=500)
    cluster.server.start()
    until(lambda: len([each for each in cluster.asked("endpointslices") if each.verb == "watch"]) >= 3)
    assert seen.views == [GONE]
    cluster.endpoints = lambda asked: None
    cluster.server.put(LISTED)
    seen.until(Standing.LISTED)


def test_no_usable_account(cluster: Cluster, pod: Path, see: Callable[[], Seen]) -> None:
    """Said once, in its own words."""
    (pod / "ca.crt").unlink()
    seen = see()
    seen.until(Standing.UNKNOWN, f"no usable ServiceAccount in {pod}: ca.crt: No such file or directory")
    assert len(seen.views) == 1


def test_a_certificate_of_somebody_else(cluster: Cluster, pod: Path, see: Callable[[], Seen]) -> None:
    """No token goes there."""
    trustme.CA().cert_pem.write_to_path(pod / "ca.crt")
    see().until(Standing.UNKNOWN, f"no TLS with the API server at {cluster.server.url}")
    assert cluster.server.asked == []


# How long the pod has.


def test_grace_at_first_look(cluster: Cluster, see: Callable[[], Seen]) -> None:
    """As a preStop hook finds it: deleted already."""
    cluster.pod = deleted(4)
    cluster.server.put(terminating())
    seen = see()
    seen.until(Standing.LEFT)
    grace = seen.until_grace()
    assert grace is not None
    assert 2 <= grace < 4, "the time that asking took is gone"
    assert [each.path for each in cluster.asked("/pods/")] == [f"/api/v1/namespaces/shop/pods/pod-{ADDRESS}"]
    assert seen.views[-1] == View(GONE.standing, GONE.why, grace)


def test_what_is_left_of_it(cluster: Cluster, see: Callable[[], Seen]) -> None:
    """By the API server's own clock."""
    cluster.pod = deleted(30, ago=20)
    grace = see().until_grace()
    assert grace is not None
    assert 7 <= grace <= 10


def test_grace_when_it_is_deleted(cluster: Cluster, see: Callable[[], Seen]) -> None:
    """After a drain by hand: looked for once more, and not while the pod is only not ready."""
    cluster.pod = deleted(None)
    seen = see()
    seen.until(Standing.LISTED)
    until(lambda: cluster.pods == 1)
    unready = endpoint_slice("geoipd-1", ADDRESS)
    unready["endpoints"][0]["conditions"] = {"ready": False, "serving": True, "terminating": False}
    cluster.server.put(unready)
    seen.until(Standing.LEFT, "not ready")
    assert cluster.pods == 1
    cluster.pod = deleted(4)
    cluster.server.put(terminating())
    assert seen.until_grace() == 4
    seen.until(Standing.LEFT, "terminating")
    assert cluster.pods == 2


@pytest.mark.parametrize("first", [Fault(status=500), Fault(raw=b"{"), Fault(raw=b"[]"), Fault(raw=b"", then="cut")])
def test_an_answer_that_is_none_is_asked_for_again(cluster: Cluster, see: Callable[[], Seen], first: Fault) -> None:
    """When the deletion is seen; the endpoint's part is not disturbed."""
    cluster.pod = first
    seen = see()
    seen.until(Standing.LISTED)
    until(lambda: cluster.pods == 1)
    cluster.pod = deleted(4)
    cluster.server.put(terminating())
    assert seen.until_grace() == 4
    assert Standing.UNKNOWN not in {each.standing for each in seen.views}


def test_the_server_was_down_when_the_pod_was_asked_for(cluster: Cluster, see: Callable[[], Seen]) -> None:
    cluster.server.stop()
    cluster.pod = deleted(4)
    cluster.server.put(terminating())
    seen = see()
    seen.until(Standing.UNKNOWN, "cannot reach")
    cluster.server.start()
    seen.until(Standing.LEFT)
    grace = seen.until_grace()
    assert grace is not None
    assert 2 <= grace <= 4


def test_whose_pod_may_not_be_read(cluster: Cluster, see: Callable[[], Seen]) -> None:
    """Nobody hears of it, and it is not asked for over and over: what is configured counts."""
    seen = see()
    seen.until(Standing.LISTED)
    cluster.server.put(terminating())
    seen.until(Standing.LEFT)
    until(lambda: cluster.pods == 2)
    seen.look.stop()
    until(lambda: not threads())
    assert seen.views == [READY, GONE]
    assert cluster.pods == 2


# The end.


def stopped(seen: Seen) -> None:
    """At once; and afterwards nothing is told."""
    began = time.monotonic()
    seen.look.stop()
    seen.look.stop()
    assert time.monotonic() - began < 0.9  # waiting for threads would take a second
    told = len(seen.views)
    until(lambda: not threads())
    assert len(seen.views) == told


def test_stop_leaves_nothing(cluster: Cluster, see: Callable[[], Seen]) -> None:
    cluster.pod = deleted(4)
    seen = see()
    seen.until(Standing.LISTED)
    seen.until_grace()
    until(lambda: cluster.server.count("watch") == 1)
    assert sockets(cluster.server.port) > 0
    stopped(seen)
    assert sockets(cluster.server.port) == 0
    cluster.server.put(terminating())
    assert seen.look.view().standing is Standing.LISTED


@pytest.mark.parametrize("part", ["/pods/", "endpointslices", ""])
def test_stop_while_an_answer_hangs(cluster: Cluster, see: Callable[[], Seen], part: str) -> None:
    """Of the pod, of the list, or of both: a read would wait for 30 s."""
    cluster.server.fault = lambda asked: (
        Fault(mute=True) if part in asked.path else deleted(None) if "/pods/" in asked.path else None
    )
    seen = see()
    until(lambda: cluster.asked("/pods/"))
    until(lambda: cluster.asked("endpointslices"))
    began = time.monotonic()
    stopped(seen)
    assert time.monotonic() - began < 5, "not only at the time-out"
    assert sockets(cluster.server.port) == 0


def test_stop_while_it_rests(cluster: Cluster, see: Callable[[], Seen]) -> None:
    cluster.endpoints = lambda asked: Fault(status=429, headers={"Retry-After": "50"})
    seen = see()
    seen.until(Standing.UNKNOWN, "429")
    began = time.monotonic()
    stopped(seen)
    assert time.monotonic() - began < 5


def test_stop_before_it_has_begun(cluster: Cluster, see: Callable[[], Seen]) -> None:
    """A drain that is over at once."""
    seen = see()
    stopped(seen)


@pytest.fixture(params=["connect", "TLS"])
def mute(request: pytest.FixtureRequest, pod: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """An API server whose machine takes no connection, or takes it and says nothing."""
    trustme.CA().cert_pem.write_to_path(pod / "ca.crt")
    with ExitStack() as made:
        listener = made.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0 if request.param == "connect" else 16)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(listener.getsockname()[1]))
        if request.param == "connect":
            for _ in range(3):  # its queue is full: what else comes is not answered
                each = made.enter_context(socket.socket())
                each.setblocking(False)
                each.connect_ex(listener.getsockname())
        yield int(listener.getsockname()[1])


def test_stop_while_a_connection_is_made(mute: int, see: Callable[[], Seen]) -> None:
    """At once; the thread ends with its connection, whose time-out is 5 s."""
    here = sockets(mute)
    seen = see()
    until(lambda: len(threads()) == 2)
    until(lambda: sockets(mute) > here)
    stopped(seen)
    assert sockets(mute) == here
    assert seen.views == []
