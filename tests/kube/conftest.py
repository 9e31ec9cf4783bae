"""The cluster is started once for a session; what a test makes in it is its own, in a namespace of its own."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import drain
from drain._kube import api
from tests._parts.making import PartMissingError
from tests.integration._servers.waiting import until
from tests.kube._cluster.addresses import Addresses, on_lo
from tests.kube._cluster.backends import Backend
from tests.kube._cluster.client import Client, Loop
from tests.kube._cluster.cluster import Cluster, parts
from tests.kube._cluster.follow import Followed
from tests.kube._cluster.namespace import Namespace
from tests.kube._cluster.proxy import Proxy

_HERE = Path(__file__).parent
_missing: list[str] = []


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what is missing here: it may take a quarter of an hour, and a fixture would be cut by the tests' timeout."""
    if session.config.option.collectonly or not any(_HERE in each.path.parents for each in session.items):
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with ExitStack() as shown:
        if capture is not None:
            shown.enter_context(capture.global_and_fixture_disabled())
        try:
            parts(lambda line: print(line, file=sys.stderr, flush=True))
        except PartMissingError as error:
            _missing.append(str(error))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if _missing:
        pytest.fail(f"tests/kube needs a real Kubernetes API server: {_missing[0]}", pytrace=False)
    made = Cluster(parts(print), tmp_path_factory.mktemp("cluster")).start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def addresses() -> Iterator[Addresses]:
    """Each call gives another address that is this machine's."""
    with on_lo() as block:
        yield block


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def namespace(cluster: Cluster) -> Namespace:
    return cluster.namespace()


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[Proxy]:
    """In front of the API server, and without a fault so far."""
    made = Proxy(cluster.address, cluster.pki)
    yield made
    made.close()


@pytest.fixture
def backend(addresses: Addresses) -> Iterator[Callable[..., Backend]]:
    """Start servers, on addresses of their own where none is given; all are stopped after the test."""
    with ExitStack() as made:

        def start(address: str | None = None, **arguments: Any) -> Backend:
            server = Backend(address or addresses(), **arguments)
            made.callback(server.stop)
            return server

        yield start


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """From here on channels of this process follow this API server, as this user. Returns the kubeconfig."""
    for name in [each for each in os.environ if each.startswith("KUBERNETES_")]:
        monkeypatch.delenv(name)

    def point(namespace: Namespace, server: str, **user: Any) -> Path:
        path = namespace.kubeconfig(tmp_path / f"{namespace.name}.kubeconfig", server, user)
        monkeypatch.setenv("KUBECONFIG", str(path))
        api.configure()
        return path

    yield point
    api.configure()


@pytest.fixture
def reader(cluster: Cluster, namespace: Namespace, use: Callable[..., Path]) -> Namespace:
    """The test's namespace, and this process may read its slices, straight from the API server."""
    use(namespace, cluster.url, token=namespace.token(namespace.account()))
    return namespace


@pytest.fixture
def proxied(proxy: Proxy, namespace: Namespace, use: Callable[..., Path]) -> Namespace:
    """The test's namespace, and this process may read its slices, through the proxy."""
    use(namespace, proxy.url, token=namespace.token(namespace.account()))
    return namespace


@pytest.fixture
def quiet() -> Iterator[None]:
    """After each test nothing is followed any more: nothing leaks, and the next test's "web" is not taken for this one's."""
    yield
    gc.collect()  # an error that was caught holds its call, in a cycle with its traceback, and grpc's calls hold their channel
    until(lambda: drain.resolver.snapshot() == ())


@pytest.fixture
def follow(quiet: None) -> Iterator[Callable[[str], Followed]]:
    """Follow targets without a channel; all are let go after the test."""
    with ExitStack() as made:

        def start(target: str) -> Followed:
            followed = Followed(target)
            made.callback(followed.close)
            return followed

        yield start


@pytest.fixture(params=["sync", "aio"])
def flavour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def connect(flavour: str, loop: Loop, quiet: None) -> Iterator[Callable[..., Client]]:
    """Make channels; all are closed after the test."""
    with ExitStack() as made:

        def make(target: str, **arguments: Any) -> Client:
            client = Client(flavour, loop, target, **arguments)
            made.callback(client.close)
            return client

        yield make
