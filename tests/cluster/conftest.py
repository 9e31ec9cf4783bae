"""One cluster for a session: of this machine, or yours with --kubeconfig and --image. What a test makes is in a namespace of its own."""

import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests._parts import browser, helm
from tests._parts.making import PartMissingError, on_path
from tests.cluster._node import cluster as made_here
from tests.cluster._node import images
from tests.cluster._node.kubectl import Kubectl
from tests.cluster._scene import manifests
from tests.cluster._scene.scene import Scene, both_flavours

_HERE = Path(__file__).parent
_ready: dict[str, Any] = {}
_missing: list[str] = []
_not_run: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kubeconfig", help="run in this cluster, which exists; needs --image")
    parser.addoption("--image", help=f"what is {images.LOAD} here, where that cluster's nodes find it")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "own_node: needs the node's own processes: not in a cluster that exists")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ours = [each for each in items if _HERE in each.path.parents]
    first = [each for each in ours if each.path.name == "test_harness.py"]  # it kills a cluster, and there can be one
    items[:] = [*first, *(each for each in items if each not in first)]
    if config.getoption("--kubeconfig", None):
        cannot = [each for each in ours if each.get_closest_marker("own_node")]
        why = "their node is of another's cluster"
    elif made_here.impossible() and not os.environ.get("CI"):
        cannot, why = ours, made_here.impossible()
    else:
        return
    if cannot:
        config.hook.pytest_deselected(items=cannot)
        items[:] = [each for each in items if each not in cannot]
        _not_run.extend((f"{len(cannot)} TESTS OF tests/cluster DID NOT RUN: {why}", *(each.name for each in cannot)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """At the end, where it is seen. (With CI=true they fail instead.)"""
    if _not_run:
        terminalreporter.section(_not_run[0], red=True, bold=True)
        terminalreporter.write_line(", ".join(_not_run[1:]))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what is missing here: it may take half an hour, and a fixture would be cut by the tests' timeout."""
    config = session.config
    if config.option.collectonly or not any(_HERE in each.path.parents for each in session.items):
        return
    capture = config.pluginmanager.getplugin("capturemanager")
    with ExitStack() as shown:
        if capture is not None:
            shown.enter_context(capture.global_and_fixture_disabled())
        try:
            _ready["helm"] = helm.ready(_say)
            if config.getoption("--kubeconfig", None) is None:
                _ready["programs"] = made_here.parts(_say)
                _ready["images"] = images.ready(_say)
                _ready["browser"] = browser.ready(_say)
        except PartMissingError as error:
            _missing.append(str(error))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[made_here.Cluster]:
    """This machine's. Tests that use it are marked `own_node`."""
    if _missing:
        pytest.fail(f"tests/cluster needs a real Kubernetes node: {_missing[0]}", pytrace=False)
    made = made_here.Cluster(_ready["programs"]).start(_say)
    try:
        for name in images.LOADED:
            made.load(name, _ready["images"][name])
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="session")
def kubectl(request: pytest.FixtureRequest) -> Kubectl:
    """Of the cluster, whichever it is."""
    given = request.config.getoption("--kubeconfig", None)
    if given is None:
        found: Kubectl = request.getfixturevalue("cluster").kubectl
        return found
    program = on_path("kubectl")
    if program is None or not os.access(given, os.R_OK) or not request.config.getoption("--image"):
        pytest.fail(f"--kubeconfig={given}: needs kubectl on PATH, that file, and --image", pytrace=False)
    return Kubectl(program, Path(given))


@pytest.fixture(scope="session")
def image(request: pytest.FixtureRequest) -> str:
    """Of servers and callers."""
    return str(request.config.getoption("--image", None) or images.LOAD)


@pytest.fixture(scope="session")
def helm_program() -> Path:
    if _missing:
        pytest.fail(f"tests/cluster needs helm: {_missing[0]}", pytrace=False)
    found: Path = _ready["helm"]
    return found


@pytest.fixture(scope="session")
def chromium() -> Path:
    """For pictures."""
    if _missing:
        pytest.fail(f"tests/cluster needs Chromium: {_missing[0]}", pytrace=False)
    found: Path = _ready["browser"]
    return found


@pytest.fixture(scope="module")
def scene(kubectl: Kubectl, image: str) -> Iterator[Scene]:
    """Servers of both flavours, and their callers, for all tests of a module that disturb them."""
    made = both_flavours(kubectl.within(f"drain-{uuid.uuid4().hex[:6]}"), image)
    yield made
    made.close()


@pytest.fixture
def room(kubectl: Kubectl) -> Iterator[Kubectl]:
    """A namespace of the test's own, deleted afterwards."""
    found = kubectl.within(f"drain-{uuid.uuid4().hex[:6]}")
    kubectl.apply(manifests.namespace(str(found.namespace)))
    yield found
    kubectl.attempt("delete", "namespace", str(found.namespace), "--wait=false")
