"""One connection of the admin socket: its buffers, and how long it may keep us waiting. Nothing here blocks.

A client asks once and reads until we hang up; the parent of a worker asks as often as it likes and stays. A client that says
nothing, or reads nothing, is dropped; a parent is not, because its going means something else.
"""

import select
import socket
from contextlib import suppress

from drain._admin.answering import Job
from drain._admin.protocol import MOST_LINE, Code, failed

REQUEST_BOUND = 5.0  # seconds for the whole request
ANSWER_BOUND = 5.0  # seconds without reading anything of what is there for him
MOST_JOBS = 64  # requests of one parent that are not answered yet
_CHUNK = 64 * 1024


class Connection:
    """For the thread that serves it only.

    Args:
        sock: connected, non-blocking; ours from now on. now: seconds of time.monotonic(). control: whether it is a parent's.
    """

    def __init__(self, sock: socket.socket, now: float, *, control: bool = False) -> None:
        self.sock, self.control = sock, control
        self.jobs: list[Job] = []
        self.deaf = False  # nothing comes any more: he has hung up, or shut down his side
        self.gone = False
        self.watches = False
        self._asked = False
        self._incoming, self._outgoing = bytearray(), bytearray()
        self._ask_until: float | None = None if control else now + REQUEST_BOUND
        self._read_until: float | None = None

    @property
    def answering(self) -> bool:
        """Whether somebody still waits for the end of an answer."""
        return bool(self.jobs or self._outgoing) or (self._asked and not self.control)

    @property
    def writing(self) -> bool:
        """Whether something is still to be written."""
        return bool(self._outgoing)

    @property
    def until(self) -> float | None:
        """When our patience ends; None: we do not wait for him."""
        return self._ask_until if self._ask_until is not None else self._read_until

    def receive(self) -> list[bytes]:
        """Requests that are complete now. Sets `deaf` or `gone` where nothing more comes."""
        try:
            data = self.sock.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            self.gone = True
            return []
        if not data:
            self.deaf = True
            # Whoever has asked may shut down his side and wait for the answer, as socat does.
            self.gone = self.control or not self._asked
            return []
        if self._asked:  # one request is all; what follows is passed over
            return []
        self._incoming += data
        *lines, rest = self._incoming.split(b"\n")
        self._incoming = rest
        if not self.control and lines:
            self._asked, self._ask_until = True, None
            self._incoming = bytearray()
            lines = lines[:1]
        if any(len(line) > MOST_LINE for line in [*lines, rest]):
            self.say(failed(Code.USAGE, f"the request is longer than {MOST_LINE} bytes. Send one short line."))
            self._asked, self._ask_until, self._incoming = True, None, bytearray()
            self.gone = self.control  # where its next request begins nobody knows
            return []
        return [bytes(line) for line in lines if line.strip() or not self.control]

    def say(self, line: bytes) -> None:
        """Write a line, as soon as it can be."""
        self._outgoing += line

    def flush(self, now: float) -> None:
        """Write what can be written. Sets `gone` where nobody reads any more."""
        written = 0
        try:
            while self._outgoing:
                written = self.sock.send(self._outgoing[:_CHUNK])
                del self._outgoing[:written]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.gone = True
        if not self._outgoing or self.control:
            self._read_until = None
        elif written or self._read_until is None:
            self._read_until = now + ANSWER_BOUND

    def settle(self, now: float) -> None:
        """Sets `gone` where all is said, where he has hung up, or where our patience has ended."""
        if self.deaf and _hung_up(self.sock):
            self.gone = True
        answered = not self.control and self._asked and not self.jobs and not self._outgoing
        if answered or (self.until is not None and now >= self.until):
            if self._ask_until is not None and now >= self._ask_until:
                with suppress(OSError):
                    self.sock.send(failed(Code.USAGE, f"no request within {REQUEST_BOUND:g} s. Send one line at once."))
            self.gone = True


def _hung_up(sock: socket.socket) -> bool:
    """Whether the other end is closed, and not merely its sending side."""
    looking = select.poll()
    looking.register(sock, 0)
    return any(happened & (select.POLLHUP | select.POLLERR) for _, happened in looking.poll(0))
