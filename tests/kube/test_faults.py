"""What a server, or something on the way to it, can answer; told by a faulty proxy in front of the real one."""

import time

import pytest

from drain._kube.reflector import Reflector
from tests.integration._servers.waiting import AT_ONCE, until
from tests.kube._cluster.backends import Backends
from tests.kube._cluster.client import Connect
from tests.kube._cluster.faults import Answer, Cut, Fault, Gone, Silent
from tests.kube._cluster.namespace import Namespace, Slice
from tests.kube._cluster.proxy import Proxy

REFUSALS = {
    "401": Answer(401, "Unauthorized"),
    "403": Answer(403, "Forbidden"),
    "410": Answer(410, "Expired"),
    "410 in the watch": Gone(),
    "429": Answer(429, "TooManyRequests", {"retry-after": "1"}),
    "500": Answer(500, "InternalError"),
    "503": Answer(503, "ServiceUnavailable"),
    "truncated": Cut(100),
    "truncated, clean end": Cut(100, clean=True),
}


@pytest.mark.parametrize("fault", REFUSALS.values(), ids=REFUSALS.keys())
def test_a_watch_that_is_refused(
    proxied: Namespace, proxy: Proxy, backend: Backends, connect: Connect, fault: Fault
) -> None:
    """Calls go on with the last good set, the server is not flooded, and the first watch that works brings what was missed."""
    one, two = backend(), backend()
    proxied.put("web", Slice(name="web-1", addresses=[one.address]))
    client = connect("kubernetes:///web:50051")
    client.until_answered()
    until(lambda: proxy.watching("web") == 1)
    with client.load() as load:
        began = time.monotonic()
        with proxy.fault(fault, "watch", times=1):
            proxy.close_watches()
            proxied.put("web", Slice(name="web-1", addresses=[two.address]))
            until(lambda: len(proxy.requests("watch", since=began)) >= 2)
        if isinstance(fault, Answer) and fault.status == 429:
            first, second = proxy.requests("watch", since=began)[:2]
            assert second.at - first.at >= 1  # as it was asked to
            assert proxy.requests("list", since=began) == []
        elapsed = time.monotonic() - began
        assert len(proxy.requests(since=began)) <= 3 + 4 * elapsed
        client.until_everyone({two.address})
    assert load.failed == []
    if fault in (REFUSALS["410"], REFUSALS["410 in the watch"]):
        assert proxy.requests("list", since=began)


LISTS = {
    "401": (Answer(401, "Unauthorized"), "401"),
    "403": (Answer(403, "Forbidden"), "may not list"),
    "429": (Answer(429, "TooManyRequests", {"retry-after": "1"}), "429"),
    "500": (Answer(500, "InternalError"), "500"),
    "truncated": (Cut(40), "broke"),
    "truncated, clean end": (Cut(40, clean=True), "JSON"),
}


@pytest.mark.parametrize(("fault", "words"), LISTS.values(), ids=LISTS.keys())
def test_a_list_that_is_refused(
    proxied: Namespace, proxy: Proxy, backend: Backends, connect: Connect, fault: Fault, words: str
) -> None:
    """A channel that never had an endpoint says why, fast, and is cured by itself."""
    server = backend()
    proxied.put("web", Slice(name="web-1", addresses=[server.address]))
    with proxy.fault(fault, "list"):
        client = connect("kubernetes:///web:50051")
        code, details, took = client.refusal()
    assert code == "UNAVAILABLE"
    assert words in details
    assert took < AT_ONCE
    assert client.until_answered() == server.address


def test_watches_that_end_cleanly(proxied: Namespace, proxy: Proxy, backend: Backends, connect: Connect) -> None:
    """As a server ends each of them every few minutes: the next one goes on where it stopped, without a list."""
    one, two = backend(), backend()
    proxied.put("web", Slice(name="web-1", addresses=[one.address]))
    client = connect("kubernetes:///web:50051")
    client.until_answered()
    until(lambda: proxy.watching("web") == 1)
    with client.load() as load:
        for wanted in (two, one, two):
            assert proxy.close_watches() == 1
            proxied.put("web", Slice(name="web-1", addresses=[wanted.address]))
            client.until_everyone({wanted.address})
            until(lambda: proxy.watching("web") == 1)
    assert load.failed == []
    assert len(proxy.requests("list")) == 1


def test_watches_that_are_cut(proxied: Namespace, proxy: Proxy, backend: Backends, connect: Connect) -> None:
    one, two = backend(), backend()
    proxied.put("web", Slice(name="web-1", addresses=[one.address]))
    client = connect("kubernetes:///web:50051")
    client.until_answered()
    until(lambda: proxy.watching("web") == 1)
    with client.load() as load:
        proxy.reset()
        proxied.put("web", Slice(name="web-1", addresses=[two.address]))
        client.until_everyone({two.address})
    assert load.failed == []


def test_a_half_open_connection_is_noticed(
    proxied: Namespace, proxy: Proxy, backend: Backends, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch is open and no byte comes, ever. The bound is made short here: bookmarks come once a minute."""
    defaults = Reflector.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "silence", 2.0)
    one, two = backend(), backend()
    proxied.put("web", Slice(name="web-1", addresses=[one.address]))
    client = connect("kubernetes:///web:50051")
    client.until_answered()
    until(lambda: proxy.watching("web") == 1)
    with client.load() as load, proxy.stalled():
        proxied.put("web", Slice(name="web-1", addresses=[two.address]))
        client.until_everyone({two.address}, within=10)
    assert load.failed == []


def test_a_list_that_is_never_answered(proxied: Namespace, proxy: Proxy, backend: Backends, connect: Connect) -> None:
    """Nothing waits without a limit: a call of a channel whose first list hangs ends with its deadline at the latest."""
    server = backend()
    proxied.put("web", Slice(name="web-1", addresses=[server.address]))
    with proxy.fault(Silent(), "list"):
        client = connect("kubernetes:///web:50051")
        code, _, took = client.refusal(1.0)
        assert code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        assert took < AT_ONCE
        proxy.reset()
    assert client.until_answered() == server.address


def test_a_server_that_ends_every_watch_at_once_is_not_flooded(
    proxied: Namespace, proxy: Proxy, backend: Backends, connect: Connect
) -> None:
    """One request for each step of the back-off (0.8, 1.6, 3.2 s ...), and changes are seen all the same."""
    one, two = backend(), backend()
    proxied.put("web", Slice(name="web-1", addresses=[one.address]))
    client = connect("kubernetes:///web:50051")
    client.until_answered()
    until(lambda: proxy.watching("web") == 1)
    began = time.monotonic()
    with client.load() as load:
        with proxy.fault(Cut(0, clean=True), "watch"):
            proxy.close_watches()
            until(lambda: time.monotonic() - began > 6)  # a span, not a wait for something
            asked = len(proxy.requests(since=began))
        proxied.put("web", Slice(name="web-1", addresses=[two.address]))
        client.until_everyone({two.address})
    assert 2 <= asked <= 5, [each.at - began for each in proxy.requests(since=began)]
    assert load.failed == []


def test_a_refusing_port(proxied: Namespace, proxy: Proxy, backend: Backends, connect: Connect) -> None:
    """It is asked again as soon as it listens."""
    one, two = backend(), backend()
    proxied.put("web", Slice(name="web-1", addresses=[one.address]))
    client = connect("kubernetes:///web:50051")
    client.until_answered()
    until(lambda: proxy.watching("web") == 1)
    with client.load() as load:
        with proxy.refusing():
            proxied.put("web", Slice(name="web-1", addresses=[two.address]))
            began = time.monotonic()
            until(lambda: time.monotonic() - began > 4)  # long enough that a back-off would show
        returned = time.monotonic()
        client.until_everyone({two.address})
        assert time.monotonic() - returned < 3
    assert load.failed == []


def test_a_server_a_millisecond_away(proxied: Namespace, proxy: Proxy, backend: Backends, connect: Connect) -> None:
    """Not a measure: a fresh channel's first call needs one list, and does not wait for the watch."""
    server = backend()
    proxied.put("web", Slice(name="web-1", addresses=[server.address]))
    proxy.delay(0.001)
    connect("kubernetes:///warm:50051").refusal()
    client = connect("kubernetes:///web:50051")
    began = time.monotonic()
    assert client.call(wait=True) == server.address
    assert time.monotonic() - began < AT_ONCE
    assert len(proxy.requests("list", "web")) == 1
