"""One program with workers.

    python -m tests.integration._workers.program '{"flavour": "aio", "method": "spawn", "workers": 2, ...}'

All its processes print JSON lines to one stdout: "phase" for each state of a worker's server, "begun" for calls that take their time,
"signals" when a worker's run() has taken its signals, and the parent "returned" with the report, or "failed" with the error.
"""

import asyncio
import functools
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent import futures
from dataclasses import asdict, dataclass, field
from typing import Any

import drain
from drain import _worker
from drain.events import Event, StateChanged
from tests.integration._servers.hosted import FAST
from tests.integration._servers.service import Service


@dataclass
class Settings:
    """What a scenario wants of the group."""

    flavour: str
    method: str = "fork"
    workers: int | None = 2
    address: str = "127.0.0.1:0"
    policy: dict[str, Any] = field(default_factory=dict)
    options: list[tuple[str, Any]] = field(default_factory=list)
    start_timeout: float = 30.0
    fails: dict[str, str] = field(default_factory=dict)  # worker's number -> how it fails, see below
    marks: str = ""  # a folder in which each start leaves a file
    subreaper: bool = False
    elsewhere: bool = False  # the workers' servers do not take the address that they are given
    orphan: bool = False  # a worker leaves a process behind
    channel: bool = False  # a live channel in the parent, before the fork

    @property
    def drain_policy(self) -> drain.DrainPolicy:
        """Fast, but for what is set."""
        return drain.DrainPolicy(**{**asdict(FAST), **self.policy})


def emit(event: str, **values: object) -> None:
    """One write, so that the lines of several processes do not mix."""
    os.write(1, (json.dumps({"event": event, **values}, default=str) + "\n").encode())


def serve(settings: Settings, address: str) -> None:
    """One worker."""
    assert _worker.current is not None
    number = _worker.current.number
    emit("started", number=number, pid=os.getpid(), address=address, at=time.monotonic())
    starts = 0
    if settings.marks:
        starts = sum(name.startswith(f"{number}-") for name in os.listdir(settings.marks))
        with open(os.path.join(settings.marks, f"{number}-{os.getpid()}"), "x"):
            pass
    fail(settings.fails.get(str(number), ""), starts)
    if settings.orphan:
        left = subprocess.run(["sh", "-c", "sleep 0.3 >/dev/null & echo $!"], stdout=subprocess.PIPE, check=True)
        emit("orphan", pid=int(left.stdout))
    address = "127.0.0.1:0" if settings.elsewhere else address
    service = Service(lambda method: emit("begun", method=method, number=number, pid=os.getpid()))
    handlers = service.generic(settings.flavour, f"{number}:{os.getpid()}")
    options = [tuple(option) for option in settings.options]
    if settings.flavour == "sync":
        serve_on(drain.server(futures.ThreadPoolExecutor(16), handlers, options=options, policy=settings.drain_policy),
                 service, address, number).run()  # fmt: skip
    else:
        asyncio.run(serve_aio(settings, handlers, options, service, address, number))
    emit("ending", number=number, pid=os.getpid())


async def serve_aio(
    settings: Settings, handlers: Any, options: Any, service: Service, address: str, number: int
) -> None:
    """The twin."""
    made = drain.aio.server(handlers=handlers, options=options, policy=settings.drain_policy)
    await serve_on(made, service, address, number).run()


def serve_on(server: Any, service: Service, address: str, number: int) -> Any:
    """A server with its port."""
    service.server = server
    server.add_insecure_port(address)

    def tell(event: Event) -> None:
        if isinstance(event, StateChanged):
            emit("phase", phase=event.state.value, number=number, pid=os.getpid(), goaway=server.goaway)

    server.subscribe(tell)
    return server


def fail(how: str, starts: int) -> None:
    """`starts`: how many of this number there were before."""
    first, _, how = how.partition(":")
    if how and starts < int(first):
        return
    match how:
        case "raise":
            raise LookupError("no database")
        case "exit":
            os._exit(7)
        case "sys.exit":
            sys.exit("nothing to do")
        case "return":
            os._exit(0)
        case "hang":
            threading.Event().wait()
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "":
            return


def main() -> None:
    """The parent."""
    settings = Settings(**json.loads(sys.argv[1]))
    logging.basicConfig(level=logging.INFO, format="%(process)d %(message)s", stream=sys.stderr)
    if settings.subreaper:
        import ctypes

        ctypes.CDLL(None).prctl(36, 1)
    if settings.channel:
        import grpc

        channel = grpc.insecure_channel("127.0.0.1:1")
        assert channel
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)]
    try:
        report = drain.run_workers(
            functools.partial(serve, settings),
            workers=settings.workers,
            address=settings.address,
            method=settings.method,  # type: ignore[arg-type]
            start_timeout=settings.start_timeout,
        )
    except drain.DrainError as error:
        emit("failed", error=str(error), type=type(error).__name__)
        sys.exit(1)
    after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)]
    emit("returned", report=report.as_dict(), restored=before == after, threads=threading.active_count())


if __name__ == "__main__":
    main()
