"""What the scenario suite shares: both flavours, servers in this process and in processes of their own, all ended afterwards."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration._servers.calls import Client
from tests.integration._servers.hosted import Hosted
from tests.integration._servers.process import ServerProcess


@pytest.fixture(params=["sync", "aio"])
def flavour(request: pytest.FixtureRequest) -> str:
    """Every scenario runs over both."""
    return str(request.param)


@pytest.fixture
def serve(flavour: str) -> Iterator[Callable[..., Hosted]]:
    """Make servers in this process, started unless `start=False`; all are ended after the test."""
    with ExitStack() as made:

        def make(*, start: bool = True, **arguments: Any) -> Hosted:
            hosted = Hosted(flavour, **arguments)
            made.callback(hosted.close)
            return hosted.start() if start else hosted

        yield make


@pytest.fixture
def client() -> Iterator[Callable[..., Client]]:
    """Make clients; all are closed after the test."""
    with ExitStack() as made:
        yield lambda *arguments: made.enter_context(Client(*arguments))


@pytest.fixture
def spawn(flavour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ServerProcess]]:
    """Start server processes with a run-time directory of their own; all are killed after the test."""
    directory = tmp_path / "run"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("DRAIN_RUNTIME_DIR", str(directory))
    with ExitStack() as made:

        def start(**settings: Any) -> ServerProcess:
            process = ServerProcess(flavour=flavour, **settings)
            made.callback(process.kill)
            return process

        yield start
