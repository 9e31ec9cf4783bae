"""Starting a worker's process: by fork, or by a fresh interpreter (spawn). The caller has one thread."""

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import spawn
from pathlib import Path
from typing import Any, Literal

from drain._workers import child
from drain._workers.child import Birth
from drain.errors import ConfigurationError

Method = Literal["fork", "spawn"]
_ALL = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}


@dataclass(frozen=True, slots=True)
class Launched:
    """A process that was started, and the parent's ends of its two connections; both do not block."""

    pid: int
    control: socket.socket
    news: socket.socket


@dataclass(frozen=True, slots=True)
class Launcher:
    """How workers are started.

    Attributes:
        method: "fork" or "spawn". serve: the user's. address, port: what the workers share.
        before: signal handlers as they were before the parent took them: a forked worker gets them back.
    """

    method: Method
    serve: Callable[[str], object]
    address: str
    port: int
    before: Mapping[int, Any]

    def start(self, number: int, forget: Sequence[Callable[[], object]]) -> Launched:
        """Start one. `forget`: closes what is the parent's, in a fork. Raises OSError where no process is to be had."""
        control, its_control = socket.socketpair()
        news, its_news = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        its_news.setblocking(False)
        birth = Birth(number, self.address, self.port, os.getpid())
        with contextlib.ExitStack() as undo:
            undo.callback(control.close)
            undo.callback(news.close)
            with its_control, its_news:
                if self.method == "fork":
                    pid = self._fork(birth, its_control, its_news, [*forget, control.close, news.close])
                else:
                    pid = self._spawn(birth, its_control, its_news)
            undo.pop_all()
        control.setblocking(False)
        news.setblocking(False)
        return Launched(pid, control, news)

    def _fork(
        self, birth: Birth, control: socket.socket, news: socket.socket, forget: Sequence[Callable[[], object]]
    ) -> int:
        for stream in (sys.stdout, sys.stderr):  # what is in their buffers would be printed by both
            with contextlib.suppress(Exception):
                stream.flush()
        # A signal must not meet the parent's handlers in the child.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ALL)
        try:
            pid = os.fork()
            if pid == 0:
                child.forked(lambda: self._be_born(birth, control, news, forget, mask))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return pid

    def _be_born(
        self,
        birth: Birth,
        control: socket.socket,
        news: socket.socket,
        forget: Sequence[Callable[[], object]],
        mask: set[int | signal.Signals],
    ) -> int:
        signal.set_wakeup_fd(-1)
        for number, handler in self.before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        for close in forget:
            close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one that is pending; the worker's own handler comes next
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return child.work(birth, self.serve, control, news)

    def _spawn(self, birth: Birth, control: socket.socket, news: socket.socket) -> int:
        # A file, not a pipe: nobody need wait for the child to read it.
        with tempfile.TemporaryFile() as packet:
            preparation = spawn.get_preparation_data(f"worker-{birth.number}")
            preparation.pop("authkey", None)  # of multiprocessing's own, which refuses to be sent
            pickle.dump(preparation, packet)
            pickle.dump((birth, self.serve), packet)
            packet.flush()
            packet.seek(0)
            numbers = (packet.fileno(), control.fileno(), news.fileno())
            program = f"from drain._workers.child import spawned; spawned({', '.join(map(str, numbers))})"
            flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
            process = subprocess.Popen([sys.executable, *flags, "-c", program], pass_fds=numbers)
        process.returncode = 0  # it is we who wait for it, all of them alike
        return process.pid


def refuse(method: str, serve: Callable[[str], object]) -> None:
    """Raise ConfigurationError for what cannot be started that way, here and now."""
    if child.importing:
        raise ConfigurationError(
            "run_workers() was called while a spawned worker imported your main module. Call it under "
            '`if __name__ == "__main__":`, as with multiprocessing.'
        )
    if method == "fork":
        if others := other_threads():
            raise ConfigurationError(
                f'method="fork": this process has other threads ({", ".join(others)}), and a fork would leave locks '
                "held that nobody releases. Call run_workers() before you make channels, servers or threads, or use "
                'method="spawn".'
            )
        return
    try:
        pickle.dumps(serve)
    except Exception as error:
        raise ConfigurationError(
            f'method="spawn": serve={serve!r} cannot be sent to another process ({error}). Use a function at the top '
            "of a module, or functools.partial of one with arguments that can be pickled."
        ) from error
    main = sys.modules["__main__"]
    importable = getattr(main, "__spec__", None) is not None or Path(getattr(main, "__file__", "") or "").is_file()
    if not importable and _of_main(serve):
        raise ConfigurationError(
            f'method="spawn": serve={serve!r} is in a main program without a file, which a worker cannot import. '
            "Put it into a module."
        )


def _of_main(serve: Any) -> bool:
    while hasattr(serve, "func"):  # functools.partial
        serve = serve.func
    return getattr(serve, "__module__", None) == "__main__"


def other_threads() -> list[str]:
    """The names of threads beside this one: Python's, and those of libraries such as grpc's core."""
    named = {thread.native_id: thread.name for thread in threading.enumerate()}
    found = []
    for task in os.listdir("/proc/self/task") if os.path.isdir("/proc/self/task") else ():
        if (thread := int(task)) != threading.get_native_id():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                comm = Path(f"/proc/self/task/{task}/comm").read_text(encoding="utf-8", errors="replace").strip()
                found.append(named.get(thread) or (f"grpc's {comm}" if _is_grpcs(comm) else comm))
    return sorted(found)


def _is_grpcs(comm: str) -> bool:
    return comm.startswith(("grpc_", "event_engine", "lifeguard", "timer"))
