"""Several worker processes on one port: the way out of the GIL (grpc's own examples/python/multiprocessing), with an orderly end.

A parent that imports nothing of grpc starts the workers, each of which binds the same port (SO_REUSEPORT), and the kernel spreads
connections over them. It passes signals on, restarts what crashes, replaces workers one by one, and reports once for all.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable

from drain import _worker
from drain._grpc.addresses import reserve
from drain._settings import _seconds
from drain._workers.catching import Signals
from drain._workers.fleet import Fleet
from drain._workers.launch import Launcher, Method, refuse
from drain._workers.parent import Parent
from drain._workers.report import WorkerReport, WorkersReport
from drain.errors import ConfigurationError

__all__ = ["WorkerReport", "WorkersReport", "run_workers"]


def run_workers(
    serve: Callable[[str], object],
    *,
    workers: int | None = None,
    address: str = "[::]:50051",
    method: Method = "fork",
    start_timeout: float = 60.0,
    admin: bool = True,
) -> WorkersReport:
    """Run `serve(address)` in several processes on one port, until SIGTERM or SIGINT; drain all, and return the joint report.

    `serve` builds a `drain.server(...)` (or, by `asyncio.run`, its twin), adds the port `address`, and calls `run()`.

    SIGTERM drains all workers at once; SIGINT (Ctrl-C) does without announcing; a second one forces the end, as in `run()`, and
    is raised again. SIGHUP replaces the workers one by one, without losing a call: the successor serves before its predecessor
    leaves. A worker that ends by itself is started again, after 0.1 s, doubled each time up to 30 s. The report is printed on
    stderr. If this process is killed the kernel sends SIGTERM to the workers, and they drain.

    Args:
        serve: what each worker does. With `method="spawn"` it must be importable (a function at the top of a module).
        workers: how many. None: one for each processor that this process may use.
        address: host and port that they share. Port 0: any free one, the same for all, which `serve` is told. No Unix sockets:
            they cannot be shared.
        method: "fork" (this process must have no other thread, so it comes before the first channel or server), or "spawn":
            a fresh interpreter, which also imports your code anew when it is replaced.
        start_timeout: seconds that a worker may take until it listens. Then it is killed, and counts as failed.
        admin: open an admin socket, for the preStop hook and `drain status`, that speaks for all workers.

    Raises: ConfigurationError for what cannot work, at once; BindError if the port is taken; WorkerError if a worker ends before
    it has ever listened, in the first start: the others are drained before.

    Blocks; main thread only. Source: SO_REUSEPORT as in grpc's examples/python/multiprocessing; PID 1 as in `waitpid(2)`.
    """
    count, timeout = _checked(serve, workers, method), _positive(start_timeout)
    refuse(method, serve)
    with reserve(address) as reservation:
        if reservation.kind != "tcp":
            raise ConfigurationError(
                f"address={address!r}: a Unix socket cannot be shared by several workers. "
                'Use host and port, such as "[::]:50051".'
            )
        with Signals() as signals:
            launcher = Launcher(method, serve, reservation.address, reservation.port, signals.before)
            parent = Parent(Fleet(count, timeout), launcher, signals, reservation.release, admin=admin)
            try:
                report = parent.run()
            finally:
                if parent.last is not None and any(worker.served for worker in parent.last.workers):
                    print(parent.last.text(), file=sys.stderr, flush=True)
    if parent.forced_by is not None:
        signal.raise_signal(parent.forced_by)
    return report


def _checked(serve: object, workers: int | None, method: str) -> int:
    if _worker.current is not None:
        raise ConfigurationError(
            "run_workers() was called in a worker: call it once, in the process that is to be their parent."
        )
    if threading.current_thread() is not threading.main_thread():
        raise ConfigurationError(
            "run_workers() takes signals, which Python allows in the main thread only. Call it there."
        )
    if not callable(serve):
        raise ConfigurationError(f"serve={serve!r}: must be a function that takes the address and serves.")
    if method not in ("fork", "spawn"):
        raise ConfigurationError(f'method={method!r}: must be "fork" or "spawn".')
    if _in_event_loop():
        raise ConfigurationError(
            "run_workers() blocks, so it cannot be called on an event loop: call it before asyncio.run()."
        )
    if workers is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= 1024:
        raise ConfigurationError(
            f"workers={workers!r}: must be a whole number from 1 to 1024, or None: one for each processor."
        )
    return workers


def _positive(start_timeout: object) -> float:
    found = _seconds(start_timeout)
    if found is None or found <= 0:
        raise ConfigurationError(f"start_timeout={start_timeout!r}: must be seconds above 0, such as 60.")
    return found


def _in_event_loop() -> bool:
    asyncio = sys.modules.get("asyncio")  # whoever has a loop has imported it
    return asyncio is not None and asyncio._get_running_loop() is not None
