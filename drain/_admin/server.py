"""The admin socket of this process. (Stub.)"""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

from drain import events
from drain._core.lifecycle import Input
from drain.report import DrainReport
from drain.status import ServerStatus


class Administered(Protocol):
    """A server as the admin socket sees it: `drain._facade.Subject`."""

    @property
    def alive(self) -> bool: ...
    def status(self) -> ServerStatus: ...
    def request(self, what: Input, reason: str) -> "Future[int]": ...
    def leave(self, reason: str, *, announce: bool = True, hold: bool = False) -> "Future[DrainReport]": ...
    def replace(self, reason: str) -> "Future[DrainReport]": ...


class Admin:
    """One for each process."""

    @classmethod
    def register(cls, subject: Administered, tell: Callable[[events.Event], None]) -> None:
        """A server that listens now. Opens the socket with the first one; a socket that cannot be had is a FallbackTaken."""
