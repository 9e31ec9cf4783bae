"""`drain demo` as a user runs it: real processes, real signals; whatever happens, no process is left behind."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from drain import _cli
from drain._cli import demo as command
from drain._demo.children import Child, ChildFailedError
from drain._demo.results import Demo, LoadResult, Restart, Run, Settings, Span

DRAIN = [sys.executable, "-c", "import sys; from drain._cli import main; sys.exit(main())"]
QUICK = ["demo", "--servers=2", "--callers=6", "--rounds=1", "--lag=0.5"]


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for it."""
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return met


def status(pid: int) -> list[str]:
    """State and parent of a process; nothing if it is gone. A zombie is gone: it runs no more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [] if fields[0] in "ZX" else fields[:2]


def children(pid: int) -> set[int]:
    """The living children of a process."""
    found = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return {child for child in found if status(child)[1:] == [str(pid)]}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], set[int]]]:
    """A demo with all its processes up (two servers, balancer, load), and their ids."""
    demo = subprocess.Popen(
        [*DRAIN, *QUICK, "--rounds=20"], cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        assert until(lambda: len(children(demo.pid)) == 4, 30)
        time.sleep(1.5)  # into the first restart
        yield demo, children(demo.pid)
    finally:
        demo.kill()
        demo.wait()


@pytest.mark.parametrize(
    "flags", [["--json=demo.json"], ["--json=demo.json", "--aio", "--no-baseline"]], ids=["sync", "aio"]
)
def test_drain_loses_nothing(tmp_path: Path, flags: Sequence[str]) -> None:
    """Every server restarted under load: exit code 0, no call lost, JSON and page written and said where."""
    done = subprocess.run(
        [*DRAIN, *QUICK, *flags], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "demo.json").read_text())
    drained = result["runs"][-1]
    assert (result["lost"], drained["mode"], len(result["runs"])) == (0, "drain", 1 if "--no-baseline" in flags else 2)
    assert result["totals"]["drain"]["calls"] > 500
    assert [restart["exit_code"] for restart in drained["restarts"]] == [0, 0]
    assert all(restart["report"]["goaway"] == "lossless" for restart in drained["restarts"])
    assert {span["phase"] for span in drained["spans"]} >= {
        "serving",
        "announcing",
        "closing",
        "finishing",
        "restarting",
    }
    assert len(drained["listed"]) > len(drained["restarts"])
    page = (tmp_path / "drain-demo.html").read_text()
    assert page.count("<svg") == len(result["runs"])
    assert f"written: {tmp_path}/drain-demo.html" in done.stdout
    assert "drain: 0 of" in done.stdout
    assert done.stderr == ""  # quiet where no terminal is


@pytest.mark.parametrize("flags", [[], ["--aio"]], ids=["sync", "aio"])
def test_paired_loses_nothing(tmp_path: Path, flags: Sequence[str]) -> None:
    """Callers on drain's own channels, and no balancer: nobody learns late, so nobody is waited for."""
    wanted = [*DRAIN, *QUICK, "--paired", "--no-baseline", "--json=demo.json", *flags]
    done = subprocess.run(wanted, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "demo.json").read_text())
    assert (result["lost"], [run["mode"] for run in result["runs"]]) == (0, ["drain", "paired"])
    paired = result["runs"][-1]
    assert result["totals"]["paired"]["calls"] > 500
    assert set(paired["load"]["calls"]) == {"server-1", "server-2"}, "both were used"
    assert [restart["report"]["goaway"] for restart in paired["restarts"]] == ["lossless", "lossless"]
    assert (paired["listed"], {span["phase"] for span in paired["spans"]} & {"announcing"}) == ([], set())
    assert "drain on both sides: 0 of" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(running: tuple[subprocess.Popen[bytes], set[int]], number: int) -> None:
    """Ctrl-C (and SIGTERM) in mid-run: it says so, exits with 130, and not one of its processes is left."""
    demo, started = running
    demo.send_signal(number)
    _, errors = demo.communicate(timeout=10)
    assert (demo.returncode, b"interrupted" in errors, b"Traceback" in errors) == (130, True, False)
    assert not [pid for pid in started if status(pid)]


def test_killed(running: tuple[subprocess.Popen[bytes], set[int]]) -> None:
    """`kill -9` of the demo: its processes notice, and are gone within five seconds."""
    demo, started = running
    demo.kill()
    demo.wait()
    assert until(lambda: not any(map(status, started)), 5), [pid for pid in started if status(pid)]


def fake(lost: int) -> Demo:
    """A made-up result in which drain lost that many calls: real runs lose none, so exit code 1 needs one."""
    load = LoadResult(0.0, 1.0, 0.1, {"server-1": (9,) * 11}, {"UNAVAILABLE": (lost, *[0] * 10)}, (), 0, 0, 0, 0, 0.1)
    restart = Restart("server-1", 1, 0.2, 0.3, 0.4, 0.5, 0)
    clean = Run("drain", replace(load, failed={}), (restart,), (Span("server-1", "serving", 0, 1),), ())
    return Demo(Settings(), (replace(clean, load=load) if lost else clean,), {})


@pytest.mark.parametrize(("lost", "code"), [(0, 0), (3, 1)])
def test_exit_code_by_what_drain_lost(
    lost: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One lost call makes the exit code 1; the page and the table are there all the same."""

    async def made_up(*_: object) -> Demo:
        return fake(lost)

    monkeypatch.setattr(command, "compare", made_up)
    assert _cli.main(["demo", "--html", str(tmp_path / "page.html")]) == code
    assert f"drain: {lost} of" in capsys.readouterr().out
    assert (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--servers=1"], "1 is not in the range"),
        (["--lag=60"], "60.0 is not in the range"),
        (["--rounds=many"], "'many' is not a valid integer"),
        (["--html=/nowhere/page.html"], "/nowhere/page.html cannot be written: No such file"),
        (["--json=/proc/demo.json"], "/proc/demo.json cannot be written"),
        (["--html=/"], "is a directory"),
        (["--colour"], "No such option"),
    ],
)
def test_bad_options(flags: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Told at once, by name, before anything is started."""
    assert _cli.main(["demo", *flags]) == 2
    assert said in capsys.readouterr().err


def test_a_process_that_fails_is_quoted() -> None:
    """A process that does not come up ends the wait at once, with the end of its stderr."""

    async def scenario() -> None:
        child = await Child.start("server-1", "drain._demo.server", "--mode=nonsense")
        await child.until("serving", 30)

    with pytest.raises(ChildFailedError, match=r"server-1 ended with exit code 2 before .*\n(.*\n)*.*invalid choice"):
        asyncio.run(scenario())
