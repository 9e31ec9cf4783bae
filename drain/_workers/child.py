"""What a worker's process does: knows who it is, runs the user's `serve`, and says its last words.

A worker that is spawned begins here too: `python -c "from drain._workers.child import spawned; spawned(FD)"`.
"""

import contextlib
import ctypes
import os
import pickle
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import spawn
from typing import Any

from drain import _worker

_PR_SET_PDEATHSIG = 1
_MOST_WORDS = 2000  # characters of last words

importing = False  # the user's main module is being imported again, by a spawned worker


@dataclass(frozen=True, slots=True)
class Birth:
    """What a worker is born with."""

    number: int
    address: str
    port: int
    parent: int  # its pid


def work(birth: Birth, serve: Callable[[str], object], control: socket.socket, news: socket.socket) -> int:
    """Be a worker to the end. Returns the exit code."""
    _worker.current = worker = _worker.Worker(birth.number, control, birth.port, news)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _leave_it_to_the_parent)
    if not _die_with(birth.parent):
        return 1
    try:
        return _served(worker, birth, serve)
    finally:
        worker.tell(kind="ending")


def _served(worker: _worker.Worker, birth: Birth, serve: Callable[[str], object]) -> int:
    try:
        serve(birth.address)
    except SystemExit as end:
        return _exit_code(worker, end)
    except BaseException as error:  # the root of the process
        traceback.print_exc()
        worker.tell(kind="words", words="".join(traceback.format_exception_only(error)).strip()[:_MOST_WORDS])
        return 1
    return 0


def _exit_code(worker: _worker.Worker, end: SystemExit) -> int:
    """As the interpreter has it."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    worker.tell(kind="words", words=str(end.code)[:_MOST_WORDS])
    return 1


def _leave_it_to_the_parent(number: int, frame: object) -> None:
    """Ctrl-C and a closed terminal reach the whole group of processes.

    A handler rather than SIG_IGN, which programs that we run would inherit.
    """


def _die_with(parent: int) -> bool:
    """SIGTERM when the parent dies, from the kernel (prctl(2)): `run()` drains then. False if it is dead already.

    The end of the control connection says so too, but only to a worker that listens to it.
    """
    with contextlib.suppress(OSError, AttributeError):  # not Linux, or forbidden: that end must do
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == parent


def forked(run: Callable[[], int]) -> None:
    """The life of a process that was forked just now; does not return.

    Never back into the caller's frames: they are the parent's, and so are its exit handlers.
    """
    import atexit  # noqa: PLC0415 - only here
    import logging  # noqa: PLC0415

    code = 1
    try:
        atexit._clear()
        code = run()
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as any interpreter's end does
            atexit._run_exitfuncs()
            logging.shutdown()
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
        finally:
            os._exit(code)


def spawned(packet: int, control: int, news: int) -> None:
    """The life of a process that was spawned: everything it must know comes through descriptors."""
    global importing
    with os.fdopen(packet, "rb") as source:
        preparation: dict[str, Any] = pickle.load(source)  # noqa: S301  # our own parent's
        importing = True
        told = socket.socket(fileno=news)
        try:
            spawn.prepare(preparation)
            birth, serve = pickle.load(source)  # noqa: S301
        except BaseException as error:
            traceback.print_exc()
            words = "".join(traceback.format_exception_only(error)).strip()
            _worker.Worker(0, told, 0, told).tell(kind="words", words=words[:_MOST_WORDS])
            sys.exit(1)
        importing = False
    sys.exit(work(birth, serve, socket.socket(fileno=control), told))
