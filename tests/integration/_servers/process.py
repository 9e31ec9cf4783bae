"""A server process under test: the demo's `Child`, from the thread of a test."""

import asyncio
import json
import os
import signal
import threading
from collections.abc import Coroutine
from functools import cache
from typing import Any

from drain._demo.children import Child, Event
from tests.integration._servers.waiting import BOUND

MODULE = "tests.integration._servers.served"


class ServerProcess:
    """`served.py` with these settings, running. Kill it at the end."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self._child: Child = _ask(Child.start("server", MODULE, json.dumps(settings)))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def events(self) -> list[Event]:
        """Everything it said so far."""
        return list(self._child.events)

    @property
    def stderr(self) -> str:
        """The last lines of its stderr."""
        return self._child.stderr_tail()

    def until(self, event: str, within: float = BOUND, *, times: int = 1, **values: object) -> Event:
        """Wait for an event of that name and these values."""
        left = times

        def wanted(candidate: Event) -> bool:
            nonlocal left
            left -= candidate.items() >= values.items()
            return left == 0

        return _ask(self._child.until(event, within, where=wanted))  # type: ignore[no-any-return]

    def ready(self) -> "ServerProcess":
        """Wait until it serves."""
        self.until("phase", phase="serving")
        return self

    @property
    def ports(self) -> list[int]:
        """The ports that it has, by now."""
        return self.until("built")["ports"]  # type: ignore[return-value]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def order(self, line: str) -> None:
        """Give an order (see served.py)."""
        _loop().call_soon_threadsafe(self._child.order, line)

    def exit_code(self, within: float = BOUND) -> int:
        """Wait for its end; minus the signal that killed it, if one did."""
        return _ask(self._child.ended(within))  # type: ignore[no-any-return]

    @property
    def report(self) -> dict[str, Any]:
        """What `run()` returned."""
        return self.until("returned")["reports"][0]  # type: ignore[index, no-any-return]

    @property
    def phases(self) -> list[object]:
        """The states it went through."""
        return [event["phase"] for event in self.events if event["event"] == "phase"]

    def kill(self) -> None:
        """End it at once, whatever it is doing. Idempotent."""
        self._child.kill()
        _ask(self._child.gone())


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """The loop on which all children of this process are read."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="children", daemon=True).start()
    return loop


def _ask(question: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run_coroutine_threadsafe(question, _loop()).result(3 * BOUND)
