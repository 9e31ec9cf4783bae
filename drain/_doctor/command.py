"""What a container's commands are: which process gets SIGTERM, and what a preStop hook does."""

import itertools
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from drain._doctor.fields import get, mapping, texts, whole
from drain._prestop.options import seconds

SHELLS = frozenset({"sh", "ash", "dash", "bash", "ksh", "zsh"})
_REPLACES_ITSELF = frozenset({"bash", "zsh", "ksh"})  # by the last command of a line, if that is a simple one
_PASSES_TO_ALL = frozenset({"dumb-init"})  # to the whole process group, so that a shell between does not matter
_PASSES_TO_ONE = frozenset({"tini", "catatonit", "docker-init"})
_HOOKS = frozenset({"drain-prestop"})
_BETWEEN = re.compile(r"\|\||&&|;|\n|\|&?|(?<![>&<])&(?![>&])")  # commands
_AT_ONCE = re.compile(r"(?<!\|)\|(?!\|)|(?<![>&<])&(?![>&])")  # a pipe, or something in the background
_COMPOUND = re.compile(r"(^|[\s;])(if|then|fi|for|while|until|do|done|case|esac)([\s;]|$)|[(){}]")


@dataclass(frozen=True, slots=True)
class PreStop:
    """A preStop hook.

    Attributes:
        does: "sleep", "drain" (drain's hook), "standalone" (the same for other servers), "http", "other".
        seconds: how long it takes at most, as far as it says so: a sleep, the hook's --timeout.
    """

    does: str
    seconds: float | None = None

    @property
    def before(self) -> float:
        """Seconds at most that it waits before SIGTERM comes, in place of the server."""
        return (self.seconds or 0.0) if self.does in ("sleep", "standalone") else 0.0

    @property
    def asks_drain(self) -> bool:
        """Whether it has a drain server leave."""
        return self.does == "drain"


def prestop(hook: Any) -> PreStop | None:
    """The hook of a lifecycle; None: there is none."""
    if (slept := whole(hook, "sleep", "seconds")) is not None:
        return PreStop("sleep", float(slept))
    if words := texts(hook, "exec", "command"):
        return _exec(words)
    if mapping(hook, "httpGet") or mapping(hook, "tcpSocket"):
        return PreStop("http")
    return None if not isinstance(get(hook), dict) or not hook else PreStop("other")


def _exec(words: Sequence[str]) -> PreStop:
    line = shell_line(words)
    split = list(words) if line is None else _split(line)
    at = next((n for n, word in enumerate(split) if _name(word) in _HOOKS or word == "drain.prestop"), None)
    if at is not None:
        rest = split[at + 1 :]
        return PreStop("standalone" if "--standalone" in rest else "drain", _option(rest, "--timeout"))
    if "--standalone" in split:  # the same hook under another name
        return PreStop("standalone", _option(split, "--timeout"))
    slept = [_seconds(split[n + 1]) for n, word in enumerate(split[:-1]) if _name(word) == "sleep"]
    known = [each for each in slept if each is not None]
    return PreStop("sleep", sum(known)) if known else PreStop("other")


def _option(words: Sequence[str], name: str) -> float | None:
    for n, word in enumerate(words):
        if word == name and n + 1 < len(words):
            return _seconds(words[n + 1])
        if word.startswith(f"{name}="):
            return _seconds(word.partition("=")[2])
    return None


def _seconds(word: str) -> float | None:
    """As `sleep` and drain's hook read it."""
    try:
        return seconds(word)
    except ValueError:
        return None


def shell_line(words: Sequence[str]) -> str | None:
    """The line of `sh -c LINE`; None: it is no shell's, or a script's name."""
    if not words or _name(words[0]) not in SHELLS:
        return None
    rest = iter(words[1:])
    for word in rest:
        if re.fullmatch(r"-[a-z]*c[a-z]*", word):
            return next(rest, None)
        if re.fullmatch(r"[-+][a-z]*o", word):  # -euo pipefail
            next(rest, None)
        elif not word.startswith(("-", "+")):
            return None
    return None


def swallows_sigterm(words: Sequence[str]) -> str | None:
    """The shell, as it is written, that stands between the container and the server and does not pass SIGTERM on; None: none.

    Measured: dash 0.5.12 (`sh` of Debian and of the slim Python images) stays even for a single command; bash 5.2 replaces
    itself by the last command of a line, unless that is a pipe, or is in the background.
    """
    rest = list(words)
    while rest and (name := _name(rest[0])) in _PASSES_TO_ALL | _PASSES_TO_ONE:
        options = list(itertools.takewhile(lambda word: word.startswith("-"), rest[1:]))
        to_all = name in _PASSES_TO_ALL and not {"-c", "--single-child"}.intersection(options)
        if to_all or (name in _PASSES_TO_ONE and "-g" in options):
            return None
        rest = rest[1 + len(options) :]
    line = shell_line(rest)
    if line is None:
        return None
    plain = _unquoted(line)
    first = _last_command(line).split()[:1]
    if not first or first == ["exec"] or re.search(r"\btrap\b", plain):
        return None
    return None if _name(rest[0]) in _REPLACES_ITSELF and not _AT_ONCE.search(plain) else rest[0]


def with_exec(line: str) -> str | None:
    """The line with `exec` before its last command; None: it cannot be told where that would be."""
    line = line.strip()
    plain = _unquoted(line)
    if _AT_ONCE.search(plain) or _COMPOUND.search(plain) or "||" in plain or plain.endswith(";"):
        return None
    start = _start_of_last(plain)
    head, tail = line[:start].rstrip(), line[start:].lstrip()
    return f"{head}{' ' if head else ''}exec {tail}"


def _unquoted(line: str) -> str:
    """With quoted text blanked out, at the same length."""
    return re.sub(r"'[^']*'|\"(?:\\.|[^\"\\])*\"", lambda found: "x" * len(found[0]), line)


def _last_command(line: str) -> str:
    line = line.rstrip(" ;\n\t")
    return line[_start_of_last(_unquoted(line)) :].lstrip()


def _start_of_last(plain: str) -> int:
    return max((found.end() for found in _BETWEEN.finditer(plain)), default=0)


def _split(line: str) -> list[str]:
    try:
        lexer = shlex.shlex(line.replace("\n", ";"), posix=True, punctuation_chars="|&;")
        lexer.whitespace_split = True
        return list(lexer)
    except ValueError:  # a quote that is not closed: the shell would refuse it, too
        return line.split()


def _name(word: str) -> str:
    return word.rsplit("/", 1)[-1]
