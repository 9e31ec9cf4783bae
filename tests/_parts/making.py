"""How a part is made: in one folder of the cache, by one process at a time, within a bound, and never silently."""

import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

BUILD_BOUND = 3600.0  # seconds; Kubernetes on 2 slow cores with an empty Go cache takes 10 - 20 minutes

Say = Callable[[str], None]


class PartMissingError(Exception):
    """A program that the tests need cannot be had; the message says what was tried and what to do."""


def cache(*names: str) -> Path:
    """Where what is made stays: a folder, made if need be."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(home).expanduser().joinpath("grpc-drain", *names)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def executable(name: str, *folders: Path) -> Path | None:
    """The first folder's that has it."""
    return next((each / name for each in folders if os.access(each / name, os.X_OK)), None)


def on_path(name: str) -> Path | None:
    """A user's PATH seldom has the folders of daemons."""
    return executable(name, *map(Path, os.get_exec_path()), Path("/usr/local/sbin"), Path("/usr/sbin"), Path("/sbin"))


@contextlib.contextmanager
def locked(path: Path, what: str, say: Say) -> Iterator[None]:
    """One process at a time; the others wait, and say so. Raises PartMissingError."""
    with path.open("w") as lock:
        end, told = time.monotonic() + BUILD_BOUND, False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise PartMissingError(f"another process holds {path} for longer than {BUILD_BOUND:g} s") from None
                if not told:
                    say(f"Another process prepares {what}; waiting for it ...")
                    told = True
                time.sleep(0.5)
        yield  # released with the file


def run(
    what: str, command: list[str], room: Path, say: Say, *,
    environment: Mapping[str, str] = os.environ, bound: float = BUILD_BOUND,
) -> str:  # fmt: skip
    """The command's output, with a sign of life every quarter of a minute. Raises PartMissingError."""
    began = time.monotonic()
    say(f"  {what} ...")
    try:
        process = subprocess.Popen(
            command, cwd=room, env=dict(environment), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    except OSError as error:
        raise PartMissingError(f"{what}: {error}") from error
    with process:
        try:
            while True:
                try:
                    output, _ = process.communicate(timeout=15)
                    break
                except subprocess.TimeoutExpired:
                    spent = time.monotonic() - began
                    if spent > bound:
                        raise PartMissingError(f"{what}: not done after {bound:g} s: {' '.join(command)}") from None
                    say(f"  {what}: {spent:.0f} s")
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        tail = "\n".join(output.splitlines()[-15:])
        raise PartMissingError(f"{what} failed ({process.returncode}): {' '.join(command)}\n{tail}")
    say(f"  {what}: done after {time.monotonic() - began:.0f} s")
    return output
