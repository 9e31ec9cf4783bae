"""Whether this process is one of several workers on one port (`drain.run_workers`), and what follows from it.

Set once by the worker's own start, before the user's code runs; everything else only looks.
"""

import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker knows of itself.

    Attributes:
        number: from 0 on; a replacement keeps the number of whom it replaces.
        control: the connection to the parent, which speaks the admin protocol on it. End of file: the parent is gone.
    """

    number: int
    control: socket.socket


current: Worker | None = None
