"""The admin protocol, version 1: what a line may ask, and how answers are written. Pure. docs/admin-protocol.md describes it.

Also for the parent of `drain.run_workers`, which answers in a loop of its own: so nothing here knows a server.
"""

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VERSION = 1
MOST_LINE = 64 * 1024  # bytes of a request, without its newline
MOST_REASON = 200  # characters: it goes into logs and reports
SHORTEST_INTERVAL, LONGEST_INTERVAL = 0.05, 3600.0  # seconds
INTERVAL = 1.0
REASON = "admin socket"

Id = int | str | None


class Command(enum.Enum):
    """What may be asked. REPLACE only by a parent process of its worker, or of a parent process."""

    STATUS = "status"
    WATCH = "watch"
    ROTATE = "rotate"
    PAUSE = "pause"
    RESUME = "resume"
    DRAIN = "drain"
    REPLACE = "replace"


class Until(enum.Enum):
    """How far a drain is waited for."""

    DRAINED = "drained"
    CLOSING = "closing"


class Code(enum.Enum):
    """Why something was not done, for programs; the text beside it is for people."""

    USAGE = "usage"  # the request cannot be understood
    VERSION = "version"  # it is of another version
    REFUSED = "refused"  # it cannot be done now, or not by this client
    FAILED = "failed"  # it was tried


@dataclass(frozen=True, slots=True)
class Request:
    """One request, checked. What does not belong to its command has its default.

    Attributes:
        command: see `Command`. id: echoed in every answer; None: there is none.
        interval: of `watch`, in seconds. reason: goes into the report of a drain, and into the log.
        details: of `status` and `watch`: whether targets and the last events are told, too.
        until: how far to wait for a drain. hold: when drained, `run()` waits for SIGTERM. announce: whether the drain announces.
    """

    command: Command
    id: Id = None
    interval: float = INTERVAL
    reason: str = REASON
    until: Until = Until.DRAINED
    hold: bool = True
    announce: bool = True
    details: bool = False


class ProtocolError(Exception):
    """A request that is not carried out. `answer` is the line that says so."""

    def __init__(self, code: Code, text: str, id: Id = None) -> None:  # noqa: A002 - the protocol's word
        super().__init__(text)
        self.code, self.text, self.id = code, text, id

    @property
    def answer(self) -> bytes:
        """The last line of the answer."""
        return failed(self.code, self.text, self.id)


def parse(line: bytes) -> Request:
    """A request from its line. Raises ProtocolError for what is wrong with it: what, which value, what to do."""
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, or built to break a parser
        raise ProtocolError(Code.USAGE, f"{_shown(line)} is not JSON. Send one object on one line.") from None
    if not isinstance(raw, dict):
        raise ProtocolError(Code.USAGE, f"{_shown(raw)} is not an object. Send one object on one line.")
    given = _Fields(raw)
    if raw.get("version") != VERSION or isinstance(raw.get("version"), bool):
        text = f"version {_shown(raw.get('version'))} is not spoken here. Send version {VERSION}."
        raise ProtocolError(Code.VERSION, text, given.id)
    return Request(
        given.choice("command", Command, None),
        given.id,
        given.seconds("interval", INTERVAL),
        given.text("reason", REASON),
        given.choice("until", Until, Until.DRAINED),
        given.flag("hold", True),
        given.flag("announce", True),
        given.flag("details", False),
    )


class _Fields:
    """The fields of a request, each checked as it is asked for. Others are of a newer client, and passed over."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = raw
        self.id: Id = None  # until it is known to be good
        given = raw.get("id")
        if given is not None and (
            isinstance(given, bool) or not isinstance(given, (int, str)) or len(str(given)) > 200
        ):
            raise self._wrong("id", "a whole number, or text of 200 characters at most")
        self.id = given

    def choice(self, name: str, kind: type[enum.Enum], default: Any) -> Any:
        value = self._raw.get(name, default.value if default is not None else None)
        for member in kind:
            if member.value == value:
                return member
        raise self._wrong(name, "one of " + ", ".join(str(member.value) for member in kind))

    def seconds(self, name: str, default: float) -> float:
        value = self._raw.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong(name, "a number of seconds")
        if not SHORTEST_INTERVAL <= value <= LONGEST_INTERVAL:
            raise self._wrong(name, f"{SHORTEST_INTERVAL:g} to {LONGEST_INTERVAL:g} seconds")
        return float(value)

    def text(self, name: str, default: str) -> str:
        value = self._raw.get(name, default)
        if not isinstance(value, str) or len(value) > MOST_REASON or not value.isprintable() or not value:
            raise self._wrong(name, f"printable text of 1 to {MOST_REASON} characters")
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self._raw.get(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def _wrong(self, name: str, wanted: str) -> ProtocolError:
        return ProtocolError(Code.USAGE, f"{name} {_shown(self._raw.get(name))} is not known: give {wanted}.", self.id)


def _shown(value: object) -> str:
    """A value of a stranger, for a line of text: one line, short, printable."""
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


def line(kind: str, fields: Mapping[str, Any], id: Id = None) -> bytes:  # noqa: A002
    """A line of an answer."""
    about = {"kind": kind} if id is None else {"kind": kind, "id": id}
    return json.dumps({**about, **fields}, default=str).encode() + b"\n"


def status(
    pid: int,
    role: str,
    servers: list[dict[str, object]],
    id: Id = None,  # noqa: A002
    **more: Any,
) -> bytes:
    """How this process stands. `role`: "server", "worker" or "parent"; `more`: what that role has besides."""
    return line("status", {"version": VERSION, "pid": pid, "role": role, **more, "servers": servers}, id)


def phase(server: int, state: str, time_left: float | None, id: Id = None, **more: Any) -> bytes:  # noqa: A002
    """A server that drains has entered a state; `time_left` seconds at most until it is drained, None: nobody knows."""
    return line("phase", {"server": server, "state": state, "time_left": time_left, **more}, id)


def report(server: int, of: Mapping[str, object], id: Id = None) -> bytes:  # noqa: A002
    """A server is drained."""
    return line("report", {"server": server, "report": of}, id)


def done(id: Id = None, **more: Any) -> bytes:  # noqa: A002
    """The last line: all was done."""
    return line("end", {"ok": True, **more}, id)


def failed(code: Code, text: str, id: Id = None, **more: Any) -> bytes:  # noqa: A002
    """The last line: something was not."""
    return line("end", {"ok": False, "error": " ".join(text.split()), "code": code.value, **more}, id)
