"""From a request to the job that answers it (jobs.py), which cannot break what it has no part in."""

import logging
from collections.abc import Callable, Iterator, Sequence

from drain._admin import protocol
from drain._admin.jobs import Administered, Ask, Job, Leave, Process, Watch
from drain._admin.protocol import Code, Command, Id, ProtocolError, Request

__all__ = ["Administered", "Guarded", "Job", "Process", "begin"]


class Guarded:
    """A job that is over when it raises, and says so: what one request breaks must not reach the others."""

    def __init__(self, job: Job, asked: Id) -> None:
        self._job, self._asked = job, asked
        self._broken = False

    @property
    def wake(self) -> float | None:
        """As the job says."""
        return self._job.wake

    @property
    def over(self) -> bool:
        """As the job says, or because it broke."""
        return self._broken or self._job.over

    def poll(self, now: float) -> Iterator[bytes]:
        """The job's lines, and the last one if it breaks."""
        try:
            yield from self._job.poll(now)
        except Exception as error:
            logging.getLogger("drain").exception("drain.admin_answer_failed")
            self._broken = True
            yield protocol.failed(Code.FAILED, f"{type(error).__name__}: {error}", self._asked)


def begin(
    request: Request,
    servers: Callable[[], Sequence[Administered]],
    process: Process,
    nudge: Callable[[], None],
    *,
    control: bool,
) -> Job:
    """Carry a request out. `servers` tells those that are there now. Raises ProtocolError where it cannot be begun."""
    if request.command in (Command.STATUS, Command.WATCH):
        return Watch(request, servers, process, control=control)
    if request.command is Command.REPLACE and not control:
        text = "replace is for the parent process of workers: ask that one, or rotate, or drain."
        raise ProtocolError(Code.REFUSED, text, request.id)
    there = servers()
    if not there:
        raise ProtocolError(Code.REFUSED, "no server of this process listens now. Ask again later.", request.id)
    if request.command in (Command.ROTATE, Command.PAUSE, Command.RESUME):
        return Ask(request, there, nudge)
    return Leave(request, there, nudge)
