"""How the hook ends: exit codes as sysexits.h has them, and an error that carries one."""

DRAINED = 0
USAGE = 64  # EX_USAGE
UNAVAILABLE = 69  # EX_UNAVAILABLE
TIMEOUT = 75  # EX_TEMPFAIL
PROTOCOL = 76  # EX_PROTOCOL
NOT_OURS = 77  # EX_NOPERM

MEANINGS = {
    DRAINED: "drained; or --standalone: this pod's endpoint has left, or --delay is over",
    USAGE: "the command line, or a value in it, is wrong",
    UNAVAILABLE: "no drain server was found",
    TIMEOUT: "not over within --timeout",
    PROTOCOL: "a server refused or failed, or speaks another version",
    NOT_OURS: "the run-time directory or a server's socket belongs to another user",
}


class ExitError(Exception):
    """The end of the hook: a line for stderr, and the exit code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
