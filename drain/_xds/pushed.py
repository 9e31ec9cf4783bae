"""A change on its way to the streams that must hear of it."""

from collections.abc import Iterable
from concurrent.futures import Future


class Pushed:
    """A change on its way. Done when every stream that was told has answered, or is gone, or had nothing to be told.

    `future` (for asyncio: `asyncio.wrap_future`) and `wait` may be used from any thread: True if nobody refused.
    """

    def __init__(self) -> None:
        self.future: Future[bool] = Future()
        # Running: whoever waits for it in asyncio and is cancelled does not cancel it for the others.
        self.future.set_running_or_notify_cancel()
        self._waiting: set[object] = set()
        self._taken = True

    def wait(self, timeout: float) -> bool:
        """Block until done: True if everybody took it; False after `timeout` seconds, or if somebody refused."""
        try:
            return self.future.result(timeout)
        except TimeoutError:
            return False

    # On the plane's thread:

    def expect(self, streams: Iterable[object]) -> None:
        """These were told. Once, after every `answered` that needs no waiting."""
        self._waiting = set(streams)
        self._settle()

    def answered(self, stream: object, *, taken: bool) -> None:
        """The stream has taken it, or refused it; or there was nothing to tell it, or it is gone."""
        self._taken = self._taken and taken
        self._waiting.discard(stream)
        self._settle()

    def _settle(self) -> None:
        if not self._waiting and not self.future.done():
            self.future.set_result(self._taken)
