"""The reflector and the kubernetes: resolver against a fake API server that misbehaves in every way we know of.

Over 300 lines: one list of misbehaviours, and the fake server that has them.
"""

import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from kubernetes.client import Configuration

from drain._core import watching
from drain._core.slices import Slices
from drain._core.target import parse
from drain._kube import access
from drain._kube.access import Access, ServiceAccountToken
from drain._kube.api import Api
from drain._kube.reflector import Reflector
from drain._resolvers import kubernetes
from tests.integration._servers.fake_api_server import Asked, FakeApiServer, Fault, endpoint_slice
from tests.integration._servers.waiting import until

FORBIDDEN = (
    'may not list endpointslices.discovery.k8s.io in namespace "shop" (403 Forbidden): bind a Role with the verbs list and '
    "watch on discovery.k8s.io/endpointslices to this ServiceAccount"
)
MIRROR = Slices("shop/geoipd")
MISSING = 'services "geoipd" in namespace "shop": no EndpointSlice: does the service exist?'


class Heard:
    """What a reflector or resolver told, with the time. `known` is what counts now: addresses, or a failure."""

    def __init__(self) -> None:
        self.all: list[tuple[float, str, Any]] = []

    def changed(self, slices: Slices) -> None:
        self._add("endpoints", sorted(each.address for each in slices.endpoints("grpc").endpoints) if slices else [])

    def endpoints(self, endpoints: Any) -> None:
        self._add("endpoints", sorted(map(str, getattr(endpoints, "endpoints", endpoints))))

    def failed(self, message: str) -> None:
        self._add("failed", message)

    def _add(self, kind: str, what: Any) -> None:
        self.all.append((time.monotonic(), kind, what))

    def of(self, kind: str) -> list[Any]:
        return [what for _, each, what in list(self.all) if each == kind]

    def last(self) -> tuple[str, Any]:
        return self.all[-1][1:] if self.all else ("", None)

    def until(self, kind: str, what: Any, within: float = 20.0) -> float:
        """When it told that, the last time."""
        until(lambda: self.last() == (kind, what), within)
        return self.all[-1][0]

    def until_failed(self, part: str) -> float:
        until(lambda: self.last()[0] == "failed" and part in self.last()[1])
        return self.all[-1][0]


@pytest.fixture(params=["http", "https"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FakeApiServer]:
    """A fake API server with one slice of one endpoint."""
    context = None
    if request.param == "https":
        import ssl

        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    made = FakeApiServer(tls=context).start()
    made.put(endpoint_slice("geoipd-1", "10.0.0.1"))
    yield made
    made.fault = lambda asked: None
    if made.running:
        made.stop()


plain = pytest.mark.parametrize("server", ["http"], indirect=True)


@pytest.fixture
def api(server: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    (tmp_path / "token").write_text("first")
    (tmp_path / "namespace").write_text("shop")
    if server.tls is not None:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
        way = access.in_cluster(tmp_path)
    else:
        configuration = Configuration()
        configuration.host = server.url
        way = Access(configuration, "shop", ServiceAccountToken(tmp_path / "token").headers)
    made = Api(way)
    yield made
    made.close()


@pytest.fixture
def reflect(api: Api) -> Iterator[Callable[..., Heard]]:
    """Start reflectors; all are stopped afterwards, and must then be gone."""
    with ExitStack() as ends:

        def start(**arguments: Any) -> Heard:
            heard = Heard()
            reflector = Reflector(api, "shop", "geoipd", heard.changed, heard.failed, mirror=MIRROR, **arguments)
            ends.callback(lambda: until(lambda: not reflector.alive))
            ends.callback(reflector.stop)
            reflector.start()
            heard.reflector = reflector  # type: ignore[attr-defined]
            return heard

        yield start


@pytest.fixture
def long_lived(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch counts as having lived after 50 ms."""
    monkeypatch.setattr(watching, "EARLY", 0.05)


def only(verb: str, fault: Fault, times: int = 1_000) -> Callable[[Asked], Fault | None]:
    """This fault for the first so many requests of a kind."""
    left = [times]

    def judged(asked: Asked) -> Fault | None:
        if asked.verb != verb or not left[0]:
            return None
        left[0] -= 1
        return fault

    return judged


def watching_since(server: FakeApiServer, times: int = 1) -> None:
    until(lambda: server.count("watch") >= times)


def test_it_follows(server: FakeApiServer, reflect: Callable[..., Heard]) -> None:
    """One list, one watch, and every change is told at once."""
    heard = reflect()
    heard.until("endpoints", ["10.0.0.1"])
    watching_since(server)
    at = server.put(endpoint_slice("geoipd-2", "10.0.0.2", "10.0.0.3"))
    assert heard.until("endpoints", ["10.0.0.1", "10.0.0.2", "10.0.0.3"]) - at < 5
    server.put(endpoint_slice("geoipd-2", "10.0.0.3"))
    heard.until("endpoints", ["10.0.0.1", "10.0.0.3"])
    server.delete("geoipd-1")
    heard.until("endpoints", ["10.0.0.3"])
    server.put(endpoint_slice("geoipd-2"))
    heard.until("endpoints", [])
    assert (server.count("list"), server.count("watch"), heard.of("failed")) == (1, 1, [])
    listed, watched = server.asked
    assert listed.path == "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
    assert listed.query == {"labelSelector": "kubernetes.io/service-name=geoipd"}
    assert watched.query["allowWatchBookmarks"] == "1" or watched.query["allowWatchBookmarks"] == "true"
    assert 300 <= int(watched.query["timeoutSeconds"]) <= 600
    assert {each.token for each in server.asked} == {"first"}


def test_a_clean_close_begins_a_new_watch(
    server: FakeApiServer, reflect: Callable[..., Heard], long_lived: None
) -> None:
    """From the last version, bookmarks included, at once and without another list. Nothing fails."""
    heard = reflect()
    heard.until("endpoints", ["10.0.0.1"])
    watching_since(server)
    server.put(endpoint_slice("geoipd-2", "10.0.0.2"))
    heard.until("endpoints", ["10.0.0.1", "10.0.0.2"])
    server.bookmark()
    version = str(server.version)
    until(lambda: heard.reflector.version == version)  # type: ignore[attr-defined]
    time.sleep(watching.EARLY)  # so that it has lived
    server.close_watches()
    watching_since(server, 2)
    assert server.asked[-1].query["resourceVersion"] == version
    server.put(endpoint_slice("geoipd-2"))
    heard.until("endpoints", ["10.0.0.1"])
    assert (server.count("list"), heard.of("failed")) == (1, [])


@plain
def test_a_server_that_closes_every_watch_is_not_flooded(server: FakeApiServer, reflect: Callable[..., Heard]) -> None:
    """One request for each step of the back-off (at least 0.6, 1.2, 2.4 s), and what changed is seen with each."""
    server.fault = only("watch", Fault(raw=b""))
    began = time.monotonic()
    heard = reflect()
    until(lambda: server.count("watch") == 4)
    assert time.monotonic() - began > 0.6 + 1.2 + 2.4
    assert server.count("list") == 1
    assert heard.of("failed") == []


@plain
def test_a_dead_connection_is_given_up(server: FakeApiServer, reflect: Callable[..., Heard]) -> None:
    """No byte for long, and no end either: it is opened again. Three times as long, since bookmarks are not promised."""
    server.fault = only("watch", Fault(raw=b"", then="hang"), times=1)
    heard = reflect(silence=0.2)
    watching_since(server, 2)
    server.put(endpoint_slice("geoipd-2", "10.0.0.2"))
    heard.until("endpoints", ["10.0.0.1", "10.0.0.2"])
    assert server.count("list") == 1
    assert "for 0.6 s" in heard.of("failed")[0]


@plain
def test_a_watch_that_had_bookmarks_is_given_up_sooner(server: FakeApiServer, reflect: Callable[..., Heard]) -> None:
    """Where they come, they come every minute."""
    heard = reflect(silence=0.3)
    heard.until("endpoints", ["10.0.0.1"])
    watching_since(server)
    server.send({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(server.version)}}})
    until(lambda: heard.of("failed"))
    assert "for 0.3 s" in heard.of("failed")[0]


@pytest.mark.parametrize("how", ["status", "event"])
@plain
def test_gone_lists_again_at_once(server: FakeApiServer, reflect: Callable[..., Heard], how: str) -> None:
    """410, as a status or in the stream, is no failure."""
    heard = reflect()
    heard.until("endpoints", ["10.0.0.1"])
    watching_since(server)
    at = time.monotonic()
    if how == "event":
        server.send({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}})
    else:
        server.put(endpoint_slice("geoipd-2", "10.0.0.2"))
        server.forget()
        server.close_watches()
    until(lambda: server.count("list") == 2)
    assert time.monotonic() - at < 2.0
    heard.until("endpoints", ["10.0.0.1", "10.0.0.2"] if how == "status" else ["10.0.0.1"])
    assert heard.of("failed") == []


@plain
def test_gone_again_and_again_is_not_a_flood(server: FakeApiServer, reflect: Callable[..., Heard]) -> None:
    """A server that knows no version at all is asked as seldom as one that fails."""
    server.fault = only("watch", Fault(410))
    began = time.monotonic()
    reflect()
    until(lambda: server.count("list") >= 4)
    assert time.monotonic() - began > 0.6 + 1.2


@plain
def test_too_many_requests_waits_and_does_not_list(server: FakeApiServer, reflect: Callable[..., Heard]) -> None:
    """429 with Retry-After: as long as it says; the list is still good."""
    server.fault = only("watch", Fault(429, {"Retry-After": "2"}), times=1)
    heard = reflect()
    watching_since(server, 2)
    first, second = (each.at for each in server.asked if each.verb == "watch")
    assert 2.0 <= second - first < 6.0
    assert server.count("list") == 1
    assert "asks to wait (429 Too Many Requests)" in heard.of("failed")[0]
    heard.until("endpoints", ["10.0.0.1"])


@pytest.mark.parametrize("verb", ["list", "watch"])
@plain
def test_a_server_error_is_told_and_got_over(server: FakeApiServer, reflect: Callable[..., Heard], verb: str) -> None:
    """500: said once, with the server's words; afterwards what is known is told again."""
    server.fault = only(verb, Fault(500), times=2)
    heard = reflect()
    heard.until_failed("status 500: told to")
    heard.until("endpoints", ["10.0.0.1"])
    assert len(heard.of("failed")) == 1
    assert server.count(verb) == 3


@pytest.mark.parametrize("verb", ["list", "watch"])
@plain
def test_a_missing_verb_is_named(server: FakeApiServer, reflect: Callable[..., Heard], verb: str) -> None:
    """403 names it and the remedy, and ends when the Role is bound."""
    server.fault = only(verb, Fault(403), times=2)
    heard = reflect()
    heard.until("failed", FORBIDDEN.replace("may not list", f"may not {verb}"))
    assert heard.of("endpoints") == ([] if verb == "list" else [["10.0.0.1"]])
    heard.until("endpoints", ["10.0.0.1"])


def test_a_rotated_token_is_read_again_at_once(
    server: FakeApiServer, reflect: Callable[..., Heard], tmp_path: Path
) -> None:
    """A request that meets 401 while the file is replaced is repeated with the new one, without a pause or a failure."""

    def judged(asked: Asked) -> Fault | None:
        if asked.token == "second":
            return None
        (tmp_path / "token").write_text("second")
        return Fault(401)

    server.fault = judged
    heard = reflect()
    heard.until("endpoints", ["10.0.0.1"])
    assert heard.of("failed") == []


@plain
def test_a_refused_token_is_said_and_tried_again(
    server: FakeApiServer, reflect: Callable[..., Heard], tmp_path: Path
) -> None:
    """401 for good: told without the token; the file is read for each attempt."""
    server.fault = lambda asked: None if asked.token == "good" else Fault(401)
    heard = reflect()
    heard.until_failed("did not accept the token (401 Unauthorized)")
    assert "first" not in heard.last()[1]
    (tmp_path / "token").write_text("good\n")
    heard.until("endpoints", ["10.0.0.1"])


LATER = endpoint_slice("geoipd-2", "10.0.0.2")


@pytest.mark.parametrize(
    ("verb", "fault", "said"),
    [
        ("list", Fault(raw=b'{"items": [{"meta'), "no JSON"),
        ("list", Fault(raw=b'["no list"]'), "no JSON"),
        ("list", Fault(raw=b'{"items": ["text"]}'), "AttributeError"),
        ("list", Fault(raw=b'{"items": []', then="cut"), "broke"),
        ("watch", Fault(raw=b'{"type": "ADDED", "object": {"meta'), "amid an event"),
        ("watch", Fault(raw=b'{"type": "ADDED", "object": {"meta', then="cut"), "amid an answer"),
        ("watch", Fault(raw=b"<html>\n", then="hang"), "an event that is none"),
        ("watch", Fault(raw=b'{"type": "ADDED", "object": null}\n', then="hang"), "an event that is none"),
        ("watch", Fault(raw=b'{"type": "BORN", "object": {}}\n', then="hang"), "an event that is none"),
        ("watch", Fault(raw=b'{"type": "ERROR", "object": {}}\n', then="hang"), "status 500"),
        ("watch", Fault(raw=b'{"type": "ADDED", "object": {"metadata": 5}}\n', then="hang"), "AttributeError"),
    ],
    ids=str,
)
@plain
def test_garbage_is_told_and_got_over(
    server: FakeApiServer, reflect: Callable[..., Heard], verb: str, fault: Fault, said: str
) -> None:
    """Whatever it sends: what was known stays, the failure is told, and the next watch brings what was missed."""
    server.fault = only(verb, fault, times=1)
    heard = reflect()
    heard.until_failed(said)
    server.put(LATER)
    heard.until("endpoints", ["10.0.0.1", "10.0.0.2"])
    assert server.count("list") == (2 if verb == "list" else 1)


@plain
def test_events_before_the_end_of_a_watch_count(server: FakeApiServer, reflect: Callable[..., Heard]) -> None:
    """A good event and a bad one in the same breath: the good one is told."""
    import json

    good = json.dumps({"type": "ADDED", "object": LATER | {"metadata": {"name": "geoipd-2", "resourceVersion": "200"}}})
    server.fault = only("watch", Fault(raw=good.encode() + b"\nbad\n", then="hang"), times=1)
    heard = reflect()
    heard.until_failed("an event that is none")
    assert heard.of("endpoints")[-1] == ["10.0.0.1", "10.0.0.2"]


def test_an_outage(server: FakeApiServer, reflect: Callable[..., Heard], long_lived: None) -> None:
    """What was known stays known, and what changed meanwhile is seen within 2 s of the server's return."""
    heard = reflect()
    heard.until("endpoints", ["10.0.0.1"])
    watching_since(server)
    server.stop()
    heard.until_failed("cannot reach the API server at")
    assert "Connection refused" in heard.last()[1]
    time.sleep(3)  # an outage: by then a back-off would have grown
    server.put(endpoint_slice("geoipd-2", "10.0.0.2"))
    server.start()
    at = time.monotonic()
    assert heard.until("endpoints", ["10.0.0.1", "10.0.0.2"]) - at < 2.0
    assert server.count("list") == 1


@pytest.mark.parametrize("status", [403, 500, 503, 429])
@plain
def test_a_server_that_has_just_returned_is_asked_again_soon(
    server: FakeApiServer, reflect: Callable[..., Heard], long_lived: None, status: int
) -> None:
    """A kube-apiserver refuses for some seconds after its start: seen within 2 s of its first answer all the same."""
    heard = reflect()
    heard.until("endpoints", ["10.0.0.1"])
    watching_since(server)
    server.stop()
    heard.until_failed("cannot reach")
    refusing = True
    server.fault = lambda asked: Fault(status) if refusing else None
    server.put(endpoint_slice("geoipd-2", "10.0.0.2"))
    server.start()
    before = server.count("watch")
    until(lambda: server.count("watch") >= before + 5)
    refusing = False
    at = time.monotonic()
    assert heard.until("endpoints", ["10.0.0.1", "10.0.0.2"]) - at < 2.0
    tries = [each.at for each in server.asked[before + 1 :]]
    pauses = [later - each for each, later in itertools.pairwise(tries)]
    assert max(pauses) < 1.5
    assert min(pauses) > 0.5


@plain
def test_many_share_one_door(server: FakeApiServer, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many reflectors wait for a server, it is knocked at about twice a second."""
    server.stop()
    knocks = []
    connect = socket.create_connection

    def counted(where: Any, *arguments: Any, **named: Any) -> Any:
        knocks.append(time.monotonic())
        return connect(where, *arguments, **named)

    monkeypatch.setattr("drain._kube.door.socket.create_connection", counted)
    heard = [Heard() for _ in range(20)]
    reflectors = [Reflector(api, "shop", "geoipd", each.changed, each.failed, mirror=MIRROR) for each in heard]
    for reflector in reflectors:
        reflector.start()
    for each in heard:
        each.until_failed("cannot reach")
    until(lambda: len(knocks) >= 5)
    assert knocks[4] - knocks[0] > 4 * 0.2
    server.start()
    for each in heard:
        each.until("endpoints", ["10.0.0.1"], within=5)
    for reflector in reflectors:
        reflector.stop()
    until(lambda: not any(reflector.alive for reflector in reflectors))


@plain
def test_a_flood_is_coalesced(server: FakeApiServer, reflect: Callable[..., Heard]) -> None:
    """2,000 events at once are told in far fewer sets, and the last set is right."""
    heard = reflect()
    heard.until("endpoints", ["10.0.0.1"])
    watching_since(server)
    server.put(*(endpoint_slice(f"geoipd-{n % 20}", f"10.0.{n % 20}.{n % 250}") for n in range(2_000)))
    expected = sorted({f"10.0.{n % 20}.{n % 250}" for n in range(1_980, 2_000)})
    heard.until("endpoints", expected)
    assert len(heard.of("endpoints")) < 1_000, (
        "on a busy machine they come piecemeal; without coalescing there are 2,000"
    )


@plain
def test_a_slice_that_comes_back_at_once_was_never_away(server: FakeApiServer, reflect: Callable[..., Heard]) -> None:
    """The last slice deleted and made anew by its controller a moment later: nobody is told of an empty service."""
    heard = reflect()
    heard.until("endpoints", ["10.0.0.1"])
    watching_since(server)
    server.delete("geoipd-1")
    time.sleep(0.05)  # the controller
    server.put(endpoint_slice("geoipd-3", "10.0.0.1", "10.0.0.9"))
    heard.until("endpoints", ["10.0.0.1", "10.0.0.9"])
    assert [] not in heard.of("endpoints")


def test_versions_that_go_back_are_listed_anew(server: FakeApiServer, reflect: Callable[..., Heard]) -> None:
    """After a restore of etcd the watch would wait for versions that are long in coming."""
    heard = reflect()
    heard.until("endpoints", ["10.0.0.1"])
    watching_since(server)
    server.send({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "7"}}})
    until(lambda: server.count("list") == 2)


@pytest.mark.parametrize("where", ["read", "answer"])
def test_stop_ends_a_blocked_read(server: FakeApiServer, api: Api, where: str) -> None:
    """Within a second, with its thread and its socket, whether it waits for an event or for an answer."""
    if where == "answer":
        server.fault = only("watch", Fault(mute=True))
    heard = Heard()
    reflector = Reflector(api, "shop", "geoipd", heard.changed, heard.failed, mirror=MIRROR)
    reflector.start()
    heard.until("endpoints", ["10.0.0.1"])
    watching_since(server)
    began = time.monotonic()
    reflector.stop()
    assert time.monotonic() - began < 1.0
    assert not reflector.alive
    assert heard.of("failed") == []


@pytest.mark.parametrize("server", ["https"], indirect=True)
def test_stop_ends_a_blocked_handshake(server: FakeApiServer, api: Api) -> None:
    """A port that accepts and says nothing: TLS waits, and can be stopped."""
    server.stop()
    with socket.create_server(("127.0.0.1", server.port)) as silent:
        heard = Heard()
        reflector = Reflector(api, "shop", "geoipd", heard.changed, heard.failed, mirror=MIRROR)
        reflector.start()
        silent.settimeout(5)
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(1)  # its hello
            began = time.monotonic()
            reflector.stop()
            assert time.monotonic() - began < 1.0
            assert not reflector.alive


@plain
def test_stop_does_not_wait_for_a_connection(server: FakeApiServer, api: Api) -> None:
    """A connection that is being made cannot be ended, and `stop` returns all the same."""
    server.stop()
    with socket.socket() as full, ExitStack() as waiting:
        full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        full.bind(("127.0.0.1", server.port))
        full.listen(0)
        for _ in range(4):  # its queue is full now: the next one waits
            each = waiting.enter_context(socket.socket())
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", server.port))
        reflector = Reflector(api, "shop", "geoipd", lambda slices: None, lambda message: None, mirror=MIRROR)
        reflector.start()
        began = time.monotonic()
        reflector.stop()
        assert time.monotonic() - began < 3
    until(lambda: not reflector.alive)


@plain
def test_nothing_is_left_behind(server: FakeApiServer, api: Api) -> None:
    """Neither threads nor descriptors, after 30 lives."""

    def live() -> None:
        heard = Heard()
        reflector = Reflector(api, "shop", "geoipd", heard.changed, heard.failed, mirror=MIRROR)
        reflector.start()
        heard.until("endpoints", ["10.0.0.1"])
        until(lambda: reflector.version)
        reflector.stop()
        assert not reflector.alive

    def ours() -> tuple[int, int]:
        names = [each.name for each in threading.enumerate()]
        return sum(name.startswith("drain") for name in names), len(os.listdir("/proc/self/fd"))

    def all_closed() -> bool:
        server.close_watches()  # it does not look whether anybody is there
        return not server.open

    live()
    api.close()
    until(all_closed)
    before = ours()
    for _ in range(30):
        live()
    api.close()
    until(all_closed)  # the server's ends are in this process, too
    until(lambda: ours() == before, within=5)


# The resolver.


@pytest.fixture
def resolve(server: FakeApiServer, api: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Heard]]:
    """Start resolvers of this process's API server."""
    monkeypatch.setattr(Api, "_shared", api)
    with ExitStack() as ends:

        def start(text: str) -> Heard:
            target = parse(text, ["kubernetes"])
            assert target is not None
            heard, resolver = Heard(), kubernetes.factory(target)
            resolver.start(heard)
            stop = ends.enter_context(ExitStack())
            stop.callback(resolver.stop)
            heard.stop = stop.close  # type: ignore[attr-defined]
            return heard

        yield start
    assert not kubernetes._state.feeds


@plain
def test_one_watch_for_all_targets_of_a_service(server: FakeApiServer, resolve: Callable[[str], Heard]) -> None:
    """Ports and spellings share it; the last one to leave ends it."""
    texts = ["kubernetes:///geoipd:grpc", "kubernetes:///geoipd.shop:9200", "kubernetes://shop/geoipd"]
    all_heard = [resolve(text) for text in texts * 3]
    for heard in all_heard:
        heard.until("endpoints", ["10.0.0.1:9200"])
    watching_since(server)
    server.put(endpoint_slice("geoipd-2", "10.0.0.2"))
    for heard in all_heard:
        heard.until("endpoints", ["10.0.0.1:9200", "10.0.0.2:9200"])
    assert (server.count("list"), server.count("watch")) == (1, 1)
    for heard in all_heard[:-1]:
        heard.stop()  # type: ignore[attr-defined]
    server.put(endpoint_slice("geoipd-2"))
    all_heard[-1].until("endpoints", ["10.0.0.1:9200"])
    assert all_heard[0].last() == ("endpoints", ["10.0.0.1:9200", "10.0.0.2:9200"])
    all_heard[-1].stop()  # type: ignore[attr-defined]
    until(lambda: not any(each.name == "drain-kube-geoipd" for each in threading.enumerate()))


@plain
def test_a_wrong_port_fails_until_there_is_one(server: FakeApiServer, resolve: Callable[[str], Heard]) -> None:
    """It names those there are; another target of the same service is not concerned."""
    wrong, right = resolve("kubernetes:///geoipd:metrics"), resolve("kubernetes:///geoipd:9200")
    wrong.until("failed", 'port "metrics" of shop/geoipd: no such port; there are: grpc (9200)')
    right.until("endpoints", ["10.0.0.1:9200"])
    server.put(endpoint_slice("geoipd-2", "10.0.0.2", port=9090, port_name="metrics"))
    wrong.until("endpoints", ["10.0.0.2:9090"])
    right.until("endpoints", ["10.0.0.1:9200"])


@plain
def test_an_unknown_service_fails_until_it_exists(server: FakeApiServer, resolve: Callable[[str], Heard]) -> None:
    """Deleted, its addresses are taken away first; recreated, it is followed again."""
    server.delete("geoipd-1")
    heard = resolve("kubernetes:///geoipd:9200")
    heard.until("failed", MISSING)
    assert heard.of("endpoints") == []
    server.put(endpoint_slice("geoipd-1", "10.0.0.1"))
    heard.until("endpoints", ["10.0.0.1:9200"])
    server.put(endpoint_slice("geoipd-1"))
    heard.until("endpoints", [])  # emptied: an answer, not a failure
    server.put(endpoint_slice("geoipd-1", "10.0.0.1"))
    heard.until("endpoints", ["10.0.0.1:9200"])
    server.delete("geoipd-1")
    heard.until("failed", MISSING)
    assert heard.of("endpoints")[-1] == []
    server.put(endpoint_slice("geoipd-9", "10.0.0.9"))
    heard.until("endpoints", ["10.0.0.9:9200"])


@plain
def test_who_comes_during_an_outage_gets_both(server: FakeApiServer, resolve: Callable[[str], Heard]) -> None:
    """The last good set, and what is wrong."""
    first = resolve("kubernetes:///geoipd:9200")
    first.until("endpoints", ["10.0.0.1:9200"])
    watching_since(server)
    server.stop()
    first.until_failed("cannot reach")
    second = resolve("kubernetes:///geoipd:grpc")
    second.until_failed("cannot reach")
    assert second.of("endpoints") == [["10.0.0.1:9200"]]
    server.start()
    second.until("endpoints", ["10.0.0.1:9200"])


@plain
def test_the_api_server_is_looked_for_again(
    server: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No configuration at first: said, and cured by itself when there is one."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    file = tmp_path / "config"
    monkeypatch.setenv("KUBECONFIG", str(file))
    monkeypatch.setattr(Api, "_shared", None)
    target = parse("kubernetes:///geoipd", ["kubernetes"])
    assert target is not None
    heard, resolver = Heard(), kubernetes.factory(target)
    resolver.start(heard)
    heard.until_failed(f"no Kubernetes API server is known: kubeconfig {file}")
    file.write_text(
        f"""
apiVersion: v1
kind: Config
clusters: [{{name: fake, cluster: {{server: "{server.url}"}}}}]
users: [{{name: me, user: {{token: secret}}}}]
contexts: [{{name: here, context: {{cluster: fake, user: me, namespace: shop}}}}]
current-context: here
"""
    )
    heard.until("endpoints", ["10.0.0.1:9200"])
    resolver.stop()
    assert {each.token for each in server.asked} == {"secret"}


@plain
def test_a_forked_child_has_a_watch_of_its_own(server: FakeApiServer, resolve: Callable[[str], Heard]) -> None:
    """It uses none of its parent's connections, and stopping what it inherited does nothing."""
    heard = resolve("kubernetes:///geoipd:9200")
    heard.until("endpoints", ["10.0.0.1:9200"])
    watching_since(server)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            heard.stop()  # type: ignore[attr-defined]
            Api.use(lambda: _plain_way(server.url))
            own = Heard()
            target = parse("kubernetes:///geoipd:9200", ["kubernetes"])
            assert target is not None
            resolver = kubernetes.factory(target)
            resolver.start(own)
            own.until("endpoints", ["10.0.0.1:9200"], within=10)
            resolver.stop()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    server.put(endpoint_slice("geoipd-2", "10.0.0.2"))
    heard.until("endpoints", ["10.0.0.1:9200", "10.0.0.2:9200"])
    assert server.count("list") == 2
    assert heard.of("failed") == []


def _plain_way(url: str) -> Access:
    configuration = Configuration()
    configuration.host = url
    return Access(configuration, "shop", dict)
