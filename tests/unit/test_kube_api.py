"""What requests to the Kubernetes API are made of: chunks, messages, credentials, and where the server is.

Over 300 lines: four small parts, each with its table of odd input.
"""

import itertools
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import urllib3
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.client import Configuration
from kubernetes.client.rest import RESTClientObject

from drain._core.watching import Input
from drain._kube import access, failure, pool, wire
from drain._kube.access import Access, ServiceAccountToken
from drain._kube.api import Api, configure
from drain._kube.failure import ApiError
from drain._kube.watch import Watch
from drain._kube.wire import Body, Chunks, Interrupt
from drain.errors import ConfigurationError
from tests.integration._servers.fake_api_server import FakeApiServer, endpoint_slice

SERVER = "https://10.96.0.1:443"
KUBECONFIG = """
apiVersion: v1
kind: Config
clusters:
- {name: one, cluster: {server: "https://one.example:6443/"}}
- {name: two, cluster: {server: "http://user:pass@127.0.0.1:8001"}}
users:
- {name: me, user: {token: hush}}
contexts:
- {name: first, context: {cluster: one, user: me, namespace: shop}}
- {name: second, context: {cluster: two, user: me}}
current-context: first
"""


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Neither in a cluster nor with a kubeconfig, and what is configured is forgotten afterwards."""
    for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    yield tmp_path
    configure()


# Chunks.


def chunked(*pieces: bytes) -> bytes:
    return b"".join(f"{len(each):x}\r\n".encode() + each + b"\r\n" for each in (*pieces, b""))


@given(st.lists(st.binary(min_size=1, max_size=40)), st.lists(st.integers(0, 400)))
def test_chunks_may_be_cut_anywhere(pieces: list[bytes], cuts: list[int]) -> None:
    """However the network divides them, the body is the same, and its end is seen."""
    data, chunks, body = chunked(*pieces), Chunks(), b""
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for begin, end in itertools.pairwise(places):
        body += chunks.feed(data[begin:end])
    assert body == b"".join(pieces)
    assert chunks.ended


def test_a_chunk_is_handed_on_before_it_is_whole() -> None:
    """Nothing is kept back."""
    chunks = Chunks()
    assert chunks.feed(b"a;name=value\r\nhalf") == b"half"
    assert chunks.feed(b"+half") == b"+half"
    assert not chunks.ended


@pytest.mark.parametrize("data", [b"xyz\r\n", b"-5\r\n", b"0x5\r\n", b"1_0\r\n", b"123456789\r\n", b"1" * 70_000])
def test_what_is_no_chunk_is_refused(data: bytes) -> None:
    """And does not fill the memory."""
    with pytest.raises(ValueError, match="chunk"):
        Chunks().feed(data)


class Answer:
    """As much of a urllib3 response as `Body` uses, over a real socket."""

    def __init__(self, sock: socket.socket, **headers: str) -> None:
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self._fp = type("HTTPResponse", (), {"fp": sock.makefile("rb")})()


def test_a_body_is_read_as_it_comes() -> None:
    """What came with the headers first; None when there is nothing; the end, in good order."""
    near, far = socket.socketpair()
    with near, far:
        answer = Answer(near, Transfer_Encoding="chunked")
        far.sendall(b"headers\r\n" + b"3\r\none\r\n")
        assert answer._fp.fp.readline() == b"headers\r\n"
        body = Body(answer)
        assert body.read(5) == b"one"
        assert body.read(0) is None
        assert body.read(0.01) is None
        far.sendall(b"3\r\ntwo\r\n0\r\n\r\n")
        assert body.read(5) == b"two"
        assert body.read(5) == b""


@pytest.mark.parametrize(
    ("headers", "sent", "whole"),
    [
        ({"Transfer_Encoding": "chunked"}, b"5\r\nab", False),
        ({"Transfer_Encoding": "chunked"}, b"2\r\nab\r\n", False),
        ({"Content_Length": "5"}, b"ab", False),
        ({"Content_Length": "2"}, b"ab", True),
        ({}, b"ab", True),
    ],
    ids=str,
)
def test_an_end_amid_a_body_is_no_end(headers: dict[str, str], sent: bytes, whole: bool) -> None:
    """A server that was killed did not close in good order."""
    near, far = socket.socketpair()
    with near:
        far.sendall(sent)
        far.close()
        body = Body(Answer(near, **headers))
        assert body.read(5) == b"ab"
        if whole:
            assert body.read(5) == b""
        else:
            with pytest.raises(ConnectionResetError, match="amid an answer"):
                body.read(5)


def test_without_the_private_parts_urllib3_reads() -> None:
    """A urllib3 that has changed costs coalescing, not the watch."""

    class Other:
        headers = {"Transfer-Encoding": "chunked"}

        def read1(self) -> bytes:
            return b"event"

    body = Body(Other())
    assert body.read(1) == b"event"
    assert body.read(0) is None


def test_an_interrupt_ends_a_read_and_whatever_comes_after() -> None:
    """From another thread; and a socket that is held later is shut down at once."""
    near, far = socket.socketpair()
    with near, far:
        interrupt, read = Interrupt(), []
        interrupt.hold(near)
        reader = threading.Thread(target=lambda: read.append(near.recv(1)))
        reader.start()
        interrupt.set()
        reader.join(5)
        assert read == [b""]
        assert interrupt.wait(60)
        later, other = socket.socketpair()
        with later, other:
            interrupt.hold(later)
            assert later.recv(1) == b""
        interrupt.release()


def test_what_has_come_is_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many reads it takes; the end comes behind it, and a bound on waiting returns nothing."""
    monkeypatch.setattr(wire, "_MOST_READ", 16)
    near, far = socket.socketpair()
    with near:
        watch = Watch(Answer(near, Transfer_Encoding="chunked"), SERVER, "shop", Interrupt(), 5)
        assert watch.events(0.01) == []
        event = b'{"type": "ADDED", "object": {}}\n'
        far.sendall(chunked(*[event] * 50))
        assert watch.events() == [{"type": "ADDED", "object": {}}] * 50
        for _ in range(2):
            with pytest.raises(ApiError, match="closed the watch") as raised:
                watch.events()
            assert raised.value.what is Input.CLOSED
        far.close()


# Failures.


@pytest.mark.parametrize(
    ("code", "what", "message"),
    [
        (403, Input.REFUSED, 'may not watch endpointslices.discovery.k8s.io in namespace "shop" (403 Forbidden): bind a Role with the verbs list and watch on discovery.k8s.io/endpointslices to this ServiceAccount'),
        (401, Input.REFUSED, f"the API server did not accept the token (401 Unauthorized) at {SERVER}: it is expired, or of another cluster; it is read again for each attempt"),
        (404, Input.REFUSED, f"the API server at {SERVER} has no discovery.k8s.io/v1 (404 Not Found): is this a Kubernetes API server?"),
        (410, Input.GONE, f"the API server at {SERVER} no longer knows this resourceVersion (410 Gone)"),
        (429, Input.REFUSED, f"the API server at {SERVER} has too much to do and asks to wait (429 Too Many Requests): its words"),
        (503, Input.REFUSED, f"the API server at {SERVER} answered watch endpointslices.discovery.k8s.io with status 503: its words"),
        (504, Input.REFUSED, f"the API server at {SERVER} answered watch endpointslices.discovery.k8s.io with status 504: its words"),
    ],
)  # fmt: skip
def test_messages(code: int, what: Input, message: str) -> None:
    """Exactly, as a status and as an event."""
    status = {"code": code, "message": "its\n words", "details": {"retryAfterSeconds": 3}}
    for error in (
        failure.from_status(code, SERVER, "watch", "shop", said="its\n words"),
        failure.from_event(status, SERVER, "shop"),
    ):
        assert (error.what, str(error)) == (what, message)


def test_a_version_from_the_future_is_gone() -> None:
    """After a restore of etcd: 504, in the API's own words."""
    error = failure.from_status(504, SERVER, "watch", "shop", said="Timeout: Too large resource version: 9, current: 5")
    assert error.what is Input.GONE


@pytest.mark.parametrize(
    ("said", "seconds"),
    [(None, 0), ("7", 7), ("1.5", 1.5), ("-1", 0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0), ("nan", 0)],
)
def test_retry_after(said: str | None, seconds: float) -> None:
    """Seconds; whatever else it says is passed over."""
    answer = type("Response", (), {"status": 429, "headers": {} if said is None else {"Retry-After": said}})()
    assert failure.from_answer(answer, b"", SERVER, "list", "shop").retry_after == seconds


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"\xff", b'{"message": 5}', b"null"])
def test_an_error_with_any_body(body: bytes) -> None:
    """The status is what counts."""
    answer = type("Response", (), {"status": 500, "headers": {}})()
    assert "status 500" in str(failure.from_answer(answer, body, SERVER, "list", "shop"))


@pytest.mark.parametrize(
    ("error", "what", "said"),
    [
        (urllib3.exceptions.NewConnectionError(None, "x"), Input.UNREACHABLE, "cannot reach the API server"),  # type: ignore[arg-type]
        (urllib3.exceptions.ConnectTimeoutError(None, "x"), Input.UNREACHABLE, "timed out"),
        (urllib3.exceptions.SSLError(ssl.SSLError(1, "certificate verify failed")), Input.BROKEN, "no TLS"),
        (urllib3.exceptions.ProtocolError("x", ConnectionResetError(104, "Connection reset by peer")), Input.BROKEN, "Connection reset by peer"),
        (TimeoutError("The read operation timed out"), Input.BROKEN, "timed out"),
        (urllib3.exceptions.ProxyError("x", urllib3.exceptions.NewConnectionError(None, "y")), Input.UNREACHABLE, "cannot reach"),  # type: ignore[arg-type]
    ],
    ids=lambda each: type(each).__name__,
)  # fmt: skip
def test_foreign_errors(error: Exception, what: Input, said: str) -> None:
    """Each is what the state machine takes it for, and says its root."""
    translated = failure.from_exception(error, SERVER)
    assert translated.what is what
    assert said in str(translated)


# Where the server is, and who we are.


def test_a_kubeconfig(alone: Path) -> None:
    """Its current context, or another; the namespace comes with it."""
    file = alone / "config"
    file.write_text(KUBECONFIG)
    first, second = Api(access.kubeconfig(file)), Api(access.kubeconfig(file, "second"))
    assert (first.server, first.namespace) == ("https://one.example:6443", "shop")
    assert (second.server, second.namespace) == ("http://127.0.0.1:8001", "default")
    assert first._way.headers() == {"authorization": "Bearer hush"}


def test_kubeconfigs_are_found_where_kubectl_finds_them(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KUBECONFIG, else ~/.kube/config. Read when first used, not when imported."""
    (alone / ".kube").mkdir()
    (alone / ".kube" / "config").write_text(KUBECONFIG)
    assert access.automatic().namespace == "shop"
    (alone / "other").write_text(KUBECONFIG.replace("current-context: first", "current-context: second"))
    monkeypatch.setenv("KUBECONFIG", str(alone / "other"))
    assert access.automatic().namespace == "default"


@pytest.mark.parametrize("content", [None, "", "token: [hush", "a: b", "hush", KUBECONFIG.replace("first", "hush", 1)])
def test_a_kubeconfig_that_cannot_be_used(alone: Path, content: str | None) -> None:
    """One error that names the file, and quotes nothing secret of it."""
    file = alone / "config"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=f"no Kubernetes API server is known: kubeconfig {file}") as raised:
        access.kubeconfig(file)
    assert "[hush" not in str(raised.value)


def test_nothing_is_there(alone: Path) -> None:
    """Says both ways."""
    with pytest.raises(ConfigurationError, match=r"kubeconfig .*/\.kube/config: .*KUBERNETES_SERVICE_HOST is not set"):
        access.automatic()


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What kubelet mounts."""
    directory = tmp_path / "serviceaccount"
    directory.mkdir()
    for name, content in (("token", "first\n"), ("ca.crt", "certificate"), ("namespace", "shop")):
        (directory / name).write_text(content)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(access, "SERVICE_ACCOUNT", directory)
    return directory


def test_in_a_cluster(alone: Path, account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any kubeconfig, with the token as it is at each request."""
    (alone / "config").write_text(KUBECONFIG)
    monkeypatch.setenv("KUBECONFIG", str(alone / "config"))
    way = access.automatic()
    assert (way.configuration.host, way.namespace) == ("https://[fd00::1]:443", "shop")
    assert way.configuration.ssl_ca_cert == str(account / "ca.crt")
    assert way.headers() == {"authorization": "Bearer first"}
    (account / "token").write_text("second")
    assert way.headers() == {"authorization": "Bearer second"}


def test_in_a_cluster_without_a_token(account: Path, alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said, with the most likely reason; a kubeconfig that is named is taken instead."""
    (account / "token").unlink()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(ConfigurationError, match="automountServiceAccountToken"):
        access.automatic()
    (alone / "config").write_text(KUBECONFIG)
    monkeypatch.setenv("KUBECONFIG", str(alone / "config"))
    assert access.automatic().configuration.host == "https://one.example:6443"


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("10.96.0.1", "443", "https://10.96.0.1:443"),
        ("10.96.0.1", "", "https://10.96.0.1:443"),
        ("fd00::1", "6443", "https://[fd00::1]:6443"),
        ("kubernetes.default.svc", "443", "https://kubernetes.default.svc:443"),
    ],
)
def test_the_api_server_of_a_pod(
    account: Path, monkeypatch: pytest.MonkeyPatch, host: str, port: str, url: str
) -> None:
    """As kubelet's two variables say; both a URL and what is knocked at."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    api = Api(access.in_cluster())
    assert api.server == url
    assert api.door._where == (host, int(port or 443))


@pytest.mark.parametrize("name", ["token", "ca.crt"])
@pytest.mark.parametrize("content", [None, "", " \n"])
def test_a_service_account_with_a_part_missing(account: Path, name: str, content: str | None) -> None:
    """Says which file of which directory, and what to do."""
    (account / name).unlink() if content is None else (account / name).write_text(content)
    with pytest.raises(ConfigurationError) as raised:
        access.in_cluster()
    what = "No such file or directory" if content is None else "empty"
    assert str(raised.value) == (
        f"KUBERNETES_SERVICE_HOST is set, but there is no usable ServiceAccount in {account}: {name}: {what}. "
        "Is automountServiceAccountToken off? Mount a token, or name a kubeconfig in KUBECONFIG."
    )


def test_a_token_that_cannot_be_read(alone: Path, account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was mounted to be used: it is complained of, whatever kubeconfig there is."""
    (alone / "config").write_text(KUBECONFIG)
    monkeypatch.setenv("KUBECONFIG", str(alone / "config"))
    (account / "token").unlink()
    (account / "token").symlink_to("token")
    with pytest.raises(ConfigurationError, match=r"token: Too many levels of symbolic links"):
        access.automatic()


@pytest.mark.parametrize("content", [None, "", " \n", b"\xff\xfe"])
def test_a_service_account_without_a_namespace(account: Path, content: str | bytes | None) -> None:
    """Nothing that an API server could not do without."""
    (account / "namespace").unlink()
    if content is not None:
        (account / "namespace").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert access.in_cluster().namespace == "default"


def test_no_pod_at_all(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Says which variable."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    with pytest.raises(ConfigurationError, match="KUBERNETES_SERVICE_HOST is not set"):
        access.in_cluster()


PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize("host", ["10.96.0.1", "fd00::1", "api.shop.example"])
@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HTTPS_PROXY": PROXY},
        {"https_proxy": PROXY},
        {"HTTPS_PROXY": ""},
        {"HTTP_PROXY": PROXY},
        {"ALL_PROXY": PROXY},
        {"HTTPS_PROXY": PROXY, "ALL_PROXY": "http://other.example:1"},
        {"HTTPS_PROXY": "https://proxy.example"},
        *(
            {"HTTPS_PROXY": PROXY, "NO_PROXY": each}
            for each in [
                "*",
                "",
                "10.96.0.1",
                "10.96.0.1:443",
                "10.96.0.1:444",
                "10.96.0.0/12",
                "10.96.0.7/12",
                "10.0.0.0/33",
                "fd00::/8",
                "fd00::1",
                "example",
                ".example",
                "shop.example:443",
                "op.example",
                "API.shop.example",
                " , localhost, .shop.example ,",
            ]
        ),
        {"ALL_PROXY": PROXY, "no_proxy": "10.96.0.1,fd00::1"},
    ],
    ids=lambda each: " ".join(f"{name}={value}" for name, value in each.items()) or "none",
)
def test_proxies_are_those_of_the_kubernetes_package(
    account: Path, monkeypatch: pytest.MonkeyPatch, host: str, environment: dict[str, str]
) -> None:
    """Compared with its own: a pod that got through with the package gets through without it."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    server = access.in_cluster().configuration
    configuration = Configuration()
    configuration.host, configuration.ssl_ca_cert = server.host, server.ssl_ca_cert
    theirs, made = RESTClientObject(configuration).pool_manager, pool.made(server)
    assert type(made) is type(theirs)
    assert getattr(made, "proxy", None) == getattr(theirs, "proxy", None)
    ours, expected = (
        {
            name: value
            for name, value in each.connection_pool_kw.items()
            if value is not None and name != "socket_options"
        }
        for each in (made, theirs)
    )
    assert ours == expected


@pytest.mark.parametrize(
    "proxy", ["proxy.example:3128", "ftp://me:hush@proxy.example", "http://[hush", "socks5://me:hush@proxy.example"]
)
def test_a_proxy_that_is_none(account: Path, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """One error, which says where it comes from, and no password."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.setitem(sys.modules, "socks", None)  # PySocks is not installed
    monkeypatch.setitem(sys.modules, "urllib3.contrib.socks", None)
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY or ALL_PROXY") as raised:
        Api(access.in_cluster())
    assert "hush" not in str(raised.value)


def test_through_a_proxy_its_door_is_knocked_at(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own may be out of reach from here."""
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert Api(access.in_cluster()).door._where == ("proxy.example", 3128)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", None])
def test_a_token_that_is_being_replaced(tmp_path: Path, content: bytes | None) -> None:
    """The last good one serves meanwhile."""
    file = tmp_path / "token"
    file.write_text("good")
    token = ServiceAccountToken(file)
    assert token.headers() == {"authorization": "Bearer good"}
    file.unlink() if content is None else file.write_bytes(content)
    assert token.headers() == {"authorization": "Bearer good"}


def test_configure(alone: Path, account: Path) -> None:
    """A file, a context, a directory, an object, a namespace: for what is used from then on."""
    (alone / "config").write_text(KUBECONFIG)
    configure(alone / "config", context="second")
    second = Api.shared()
    assert second is Api.shared()
    assert second.server == "http://127.0.0.1:8001"
    configure(str(alone / "config"), namespace="other")
    assert (Api.shared().server, Api.shared().namespace) == ("https://one.example:6443", "other")
    configure(service_account=account)
    assert Api.shared().namespace == "shop"
    configure(second._way.configuration)
    assert (Api.shared().server, Api.shared().namespace) == (second.server, "default")


def test_a_server_that_is_no_url() -> None:
    """One error, which shows the form, and no password."""
    configuration = type("Configuration", (), {"host": "ftp://me:hush@host"})()
    with pytest.raises(ConfigurationError, match="'ftp://host': must be https://HOST:PORT"):
        Api(Access(configuration, "default", dict))


def test_a_token_renewed_by_a_kubeconfig(alone: Path) -> None:
    """After 401 its files are read again; whether there is anything newer decides about another try."""
    file = alone / "config"
    file.write_text(KUBECONFIG)
    api = Api(access.kubeconfig(file))
    refused: dict[str, Any] = api._way.headers()
    assert not api._renewed(refused)
    file.write_text(KUBECONFIG.replace("hush", "newer"))
    assert api._renewed(refused)
    assert api._way.headers() == {"authorization": "Bearer newer"}


def test_the_clients_package_is_imported_late() -> None:
    """It takes 0.3 s and more: whoever has no kubernetes: target in use does not pay for it, nor for its HTTP layer."""
    code = (
        "import sys; from drain._core.target import parse; from drain._resolvers import kubernetes; "
        "kubernetes.factory(parse('kubernetes:///geoipd', ['kubernetes'])); "
        "sys.exit(bool({'kubernetes', 'urllib3'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


READ_BY_A_POD = """
import sys, threading
from drain._kube.api import Api
from drain._kube import access
from drain._kube.own_endpoint import look
api = Api(access.in_cluster())
from drain._kube.wire import Interrupt
assert [each["metadata"]["name"] for each in api.list("shop", None, Interrupt())["items"]] == ["geoipd-1"]
seen = threading.Event()
watched = look(seen.set)
assert seen.wait(20), "nothing was seen"
assert watched.view().why == "ready in 1 slice", watched.view()
watched.stop()
sys.exit(sorted(name for name in sys.modules if name.partition(".")[0] in ("kubernetes", "yaml", "grpc")) or 0)
"""


def test_a_pod_reads_slices_without_the_clients_package(tmp_path: Path) -> None:
    """Over TLS, in a fresh interpreter: its import would hold up a drain, with calls in flight, for half a second."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    (tmp_path / "token").write_text("hush")
    (tmp_path / "namespace").write_text("shop")
    server = FakeApiServer(tls=context).start()
    try:
        server.put(endpoint_slice("geoipd-1", "10.0.0.1"))
        environment = {
            "PATH": os.environ["PATH"],
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(server.port),
            "DRAIN_SERVICE_ACCOUNT_DIR": str(tmp_path),
            "POD_NAME": "pod-10.0.0.1",
        }
        command = [sys.executable, "-c", READ_BY_A_POD]
        done = subprocess.run(command, env=environment, timeout=60, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert {each.token for each in server.asked} == {"hush"}
    finally:
        server.stop()
