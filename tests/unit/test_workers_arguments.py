"""What `run_workers` refuses, at once and by name."""

import asyncio
import subprocess
import sys
import threading
from typing import Any

import pytest

import drain
from drain import _worker
from drain.errors import BindError, ConfigurationError


def serve(address: str) -> None:
    raise AssertionError("nothing is started")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"workers": 0}, "workers=0"),
        ({"workers": True}, "workers=True"),
        ({"workers": 2.0}, "workers=2.0"),
        ({"workers": 5000}, "workers=5000"),
        ({"method": "forkserver"}, "method='forkserver'"),
        ({"start_timeout": 0}, "start_timeout=0"),
        ({"start_timeout": "soon"}, "start_timeout='soon'"),
        ({"address": "unix:/tmp/x.sock", "method": "spawn"}, "Unix socket"),
    ],
)
def test_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match="(?i)" + words.replace("(", r"\(")):
        drain.run_workers(serve, **arguments)


def test_an_address_that_nobody_has() -> None:
    with pytest.raises(BindError, match="no host"):
        drain.run_workers(serve, method="spawn", address=":50051")


def test_serve_must_be_callable() -> None:
    with pytest.raises(ConfigurationError, match="serve='serve'"):
        drain.run_workers("serve")  # type: ignore[arg-type]


def test_serve_must_be_importable_to_be_spawned() -> None:
    with pytest.raises(ConfigurationError, match="cannot be sent to another process"):
        drain.run_workers(lambda address: None, method="spawn")


def test_only_in_the_main_thread() -> None:
    said: list[str] = []

    def run() -> None:
        try:
            drain.run_workers(serve, method="spawn")
        except ConfigurationError as error:
            said.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    assert "main thread" in said[0]


def test_not_on_an_event_loop() -> None:
    async def run() -> None:
        drain.run_workers(serve, method="spawn")

    with pytest.raises(ConfigurationError, match="event loop"):
        asyncio.run(run())


def test_a_worker_has_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_worker, "current", object())
    with pytest.raises(ConfigurationError, match="in a worker"):
        drain.run_workers(serve)


def test_a_fork_beside_a_thread_is_refused_by_its_name() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="cache-warmer")
    thread.start()
    try:
        with pytest.raises(ConfigurationError, match="cache-warmer"):
            drain.run_workers(serve)
    finally:
        done.set()
        thread.join()


def test_a_main_program_without_a_file_is_not_spawned() -> None:
    program = "import drain\ndef serve(a): pass\ntry: drain.run_workers(serve, method='spawn')\nexcept drain.DrainError as e: print(e)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert "without a file" in found.stdout


def test_the_parent_loads_nothing_heavy() -> None:
    program = (
        "import sys, drain; drain.run_workers; print({'grpc', 'structlog', 'kubernetes', 'asyncio'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert found.stdout == "set()\n"
