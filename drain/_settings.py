"""What the settings classes share: how a field is declared, checked, normalised, documented, overridden. See config.py.

Every field carries its documentation as data (`Setting`), from which the table of docs/settings.md and the names of grpc's
arguments are taken. Over 300 lines because every kind of value brings its own check and its own words.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias, overload

from drain.errors import ConfigurationError

if TYPE_CHECKING:
    from datetime import timedelta

    import grpc

    Duration: TypeAlias = float | timedelta | str

    # To a type checker these fields are descriptors: a constructor takes any form of a value, reading gives the normalised
    # one. At run time they are plain slots that `__post_init__` fills.
    class Seconds:
        @overload
        def __get__(self, instance: None, owner: type) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: type) -> float: ...
        def __get__(self, instance: object | None, owner: type) -> Self | float: ...
        def __set__(self, instance: object, value: Duration) -> None: ...

    class OptionalSeconds:
        @overload
        def __get__(self, instance: None, owner: type) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: type) -> float | None: ...
        def __get__(self, instance: object | None, owner: type) -> Self | float | None: ...
        def __set__(self, instance: object, value: Duration | None) -> None: ...

    class Codes:
        @overload
        def __get__(self, instance: None, owner: type) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: type) -> tuple[str, ...]: ...
        def __get__(self, instance: object | None, owner: type) -> Self | tuple[str, ...]: ...
        def __set__(self, instance: object, value: Iterable[str | grpc.StatusCode]) -> None: ...

    class OptionalJson:
        @overload
        def __get__(self, instance: None, owner: type) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: type) -> str | None: ...
        def __get__(self, instance: object | None, owner: type) -> Self | str | None: ...
        def __set__(self, instance: object, value: str | Mapping[str, Any] | None) -> None: ...


# C-core keeps these as a C int of milliseconds and takes INT_MAX for "never"; so the longest duration is one less.
INT_MAX = 2**31 - 1
_LONGEST = (INT_MAX - 1) / 1000
SHORTEST = 0.001
# durationpy alone would let "1m!30s" and "1mm" (a month) through, which Go refuses.
_GO_DURATION = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+")
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_NONE, _DEFAULT = "none", "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One field of a settings class, as data: a row of docs/settings.md."""

    owner: str
    name: str
    kind: Literal["duration", "flag", "count", "choice", "text", "codes", "json", "nested"]
    default: float | bool | int | str | tuple[str, ...] | None
    meaning: str
    variable: str
    """The environment variable that overrides the field; "": none does."""
    none: str | None = None
    """What None means; None here: the field cannot be None."""
    arguments: tuple[str, ...] = ()
    """grpc's channel arguments, where the field becomes one or several."""
    minimum: float = 0
    maximum: float | None = None
    """Of a count; None: as far as grpc's own int goes."""
    choices: tuple[str, ...] = ()
    nested: type[Settings] | None = None
    """Of which class the value is, where it has settings of its own."""
    pattern: str = r"[^\x00-\x1f\x7f]+"
    """What a text must match as a whole."""
    expects: str = "text of at least one character, without control characters"

    @property
    def unit(self) -> str:
        """How the value is written: for people, in a table."""
        if self.kind == "nested":
            return f"`{self._nested_name}`" + (f"; {_NONE} or {_DEFAULT}" if self.variable else "")
        return {
            "duration": "duration",
            "flag": "true or false",
            "count": "number",
            "text": "text",
            "json": "JSON",
            "codes": "some of " + ", ".join(self.choices),
        }.get(self.kind, ", ".join(self.choices))

    @property
    def default_text(self) -> str:
        """The default, for people."""
        if isinstance(self.default, bool):
            return str(self.default).lower()
        if self.default is None:
            return _NONE
        if isinstance(self.default, tuple):
            return ", ".join(self.default)
        return text(self.default) if isinstance(self.default, float) else str(self.default)

    def normalised(self, value: object, label: str) -> Any:
        """The value as it is stored. `label` names it in the error: the field with its value, or the variable."""
        if value is None:
            if self.none is None:
                raise ConfigurationError(f"{label}: must be {self._expected}, not None.")
            return None
        return getattr(self, f"_{self.kind}")(value, label)

    def parsed(self, written: str, label: str) -> Any:
        """The value from an environment variable's text."""
        written = written.strip()
        word = written.lower()
        if word == _NONE:
            return self.normalised(None, label)
        if self.kind == "flag" and word in _TRUE | _FALSE:
            return word in _TRUE
        if self.kind == "count" and re.fullmatch(r"[+-]?\d{1,18}", written):
            return self.normalised(int(written), label)
        if self.kind == "codes":
            return self.normalised([code.strip() for code in written.split(",")], label)
        if self.nested is not None:
            if word != _DEFAULT:
                expected = f"{_NONE!r}, or {_DEFAULT!r} for a {self._nested_name}() with its own variables"
                raise ConfigurationError(f"{label}: must be {expected}.")
            return self.nested()
        return self.normalised(word if self.kind == "choice" else written, label)

    @property
    def _nested_name(self) -> str:
        return self.nested.__name__ if self.nested is not None else ""

    @property
    def _expected(self) -> str:
        expected = {
            "duration": 'a duration: seconds (2.5), a timedelta, or text such as "1m30s"',
            "flag": "True or False",
            "count": "a whole number",
            "text": self.expects,
            "json": "a JSON object, as text or as a dict",
            "codes": "a list of at least one of " + ", ".join(self.choices),
            "nested": f"a {self._nested_name}",
        }.get(self.kind, "one of " + ", ".join(map(repr, self.choices)))
        return expected if self.none is None else f"{expected}, or None ({self.none})"

    def _refusal(self, label: str, more: str = "") -> ConfigurationError:
        return ConfigurationError(f"{label}: must be {self._expected}{more}.")

    def _duration(self, value: object, label: str) -> float:
        seconds = _seconds(value)
        if seconds is None:
            raise self._refusal(label)
        if not self.minimum <= seconds <= _LONGEST:
            hint = f" Write None for: {self.none}." if self.none is not None else ""
            raise ConfigurationError(
                f"{label}: must be at least {text(self.minimum)} and at most {text(_LONGEST)} (24 days).{hint}"
            )
        return seconds

    def _flag(self, value: object, label: str) -> bool:
        if not isinstance(value, bool):
            raise self._refusal(label)
        return value

    def _count(self, value: object, label: str) -> int:
        most = INT_MAX if self.maximum is None else int(self.maximum)
        if not isinstance(value, int) or isinstance(value, bool) or not self.minimum <= value <= most:
            raise self._refusal(label, f", at least {self.minimum:g} and at most {most}")
        return value

    def _choice(self, value: object, label: str) -> str:
        if not isinstance(value, str) or value not in self.choices:
            raise self._refusal(label)
        return str(value)

    def _text(self, value: object, label: str) -> str:
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            raise self._refusal(label)
        return value

    def _codes(self, value: object, label: str) -> tuple[str, ...]:
        if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
            raise self._refusal(label)
        names = {str(getattr(each, "name", each)).upper() for each in value}  # a grpc.StatusCode has a name
        if not names or not names <= set(self.choices):
            raise self._refusal(label)
        return tuple(sorted(names))

    def _json(self, value: object, label: str) -> str:
        try:
            read = json.loads(value) if isinstance(value, str) else value
            if isinstance(read, Mapping):
                return json.dumps(dict(read), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise self._refusal(label, f" ({error})") from None
        raise self._refusal(label)

    def _nested(self, value: object, label: str) -> object:
        if self.nested is None or not isinstance(value, self.nested):
            raise self._refusal(label)
        return value


def _seconds(value: object) -> float | None:
    """Any form of a duration as finite float seconds; None: it is none of these forms."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return seconds_from(value.strip())
    if isinstance(value, (int, float)):
        return float(value) if abs(value) <= 1e300 else None  # nan and infinity fail the comparison, too
    from datetime import timedelta  # noqa: PLC0415  # 2 ms that plain numbers do not need

    return value.total_seconds() if isinstance(value, timedelta) else None


def seconds_from(written: str) -> float | None:
    """The seconds of a duration written as text ("1m30s", "2.5"); None: it is no duration."""
    if not _GO_DURATION.fullmatch(written):
        try:
            number = float(written)
        except ValueError:
            return None
        return number if math.isfinite(number) else None
    import durationpy  # noqa: PLC0415  # only a process that writes "1m30s" pays for it

    try:
        return float(durationpy.from_str(written).total_seconds())
    except durationpy.DurationError:  # out of range
        return None


def text(seconds: float) -> str:
    """A duration for people."""
    return f"{seconds:.10g} s"


def setting(kind: str, default: object, meaning: str, **details: Any) -> Any:
    """Declare a field. `details` are those of `Setting`; `variable` where it is not the class's prefix and the field's name."""
    return field(default=default, metadata={"kind": kind, "meaning": meaning, **details})


def duration(default: float | None, meaning: str, **details: Any) -> Any:
    """Declare a field that is a duration in seconds."""
    return setting("duration", default, meaning, **details)


class Settings:
    """What the settings classes share: normalise, check, override. Subclasses are frozen dataclasses."""

    __slots__ = ()

    PREFIX: ClassVar[str] = "DRAIN_"
    """How the environment variables of the class begin."""

    @classmethod
    def settings(cls) -> Iterator[Setting]:
        """The fields as data, in the order of their declaration."""
        for each in fields(cls):  # type: ignore[arg-type]  # every subclass is a dataclass
            default = None if each.default is MISSING else each.default
            details = {"variable": cls.PREFIX + each.name.upper(), **each.metadata}
            yield Setting(owner=cls.__name__, name=each.name, default=default, **details)

    def __post_init__(self) -> None:
        for each in self.settings():
            value = getattr(self, each.name)
            label = f"{each.owner}.{each.name}={value!r}"
            object.__setattr__(self, each.name, each.normalised(value, label))
        if (contradiction := self._contradiction()) is not None:
            raise ConfigurationError(f"{type(self).__name__}: {contradiction}")

    def arguments(self) -> Iterator[tuple[str, int]]:
        """The channel arguments: milliseconds for durations, 0 or 1 for flags; a field that is None sets nothing.

        Texts are not among them: whether an authority is said depends on the user's own arguments.
        """
        for each in self.settings():
            value = getattr(self, each.name)
            if value is not None and each.kind != "text":
                number = round(value * 1000) if each.kind == "duration" else value
                yield from ((argument, int(number)) for argument in each.arguments)

    def _contradiction(self) -> str | None:
        """The first pair of values that cannot both hold, with the way out; None: all is well."""
        return None

    def _told(self, name: str) -> str:
        value = getattr(self, name)
        return f"{name}={text(value) if isinstance(value, float) else value}"

    def overridden_by(self, environ: Mapping[str, str]) -> Self:
        """These settings with what the environment overrides: `DRAIN_DRAIN_TIMEOUT=40s` sets `drain_timeout`.

        `environ` is usually `os.environ`. An empty variable counts as not set; `none` in any case is None where None is
        allowed; flags are true/false, 1/0, yes/no, on/off; lists have commas. Variables that are no setting's are passed
        over, because Kubernetes itself injects names like `DRAIN_PORT` and `DRAIN_X_SERVICE_HOST` for services called drain
        and drain-x. A field that has settings of its own takes `none` or `default`, and then their variables; one of these
        alone is enough. Returns `self` when nothing applies. Raises `ConfigurationError`, which names the variable.
        """
        found: dict[str, str] = {}
        changes: dict[str, object] = {}
        for each in self.settings():
            written = environ.get(each.variable, "") if each.variable else ""
            if written.strip():
                found[each.variable] = written
                changes[each.name] = each.parsed(written, f"{each.variable}={written!r} (environment)")
            if each.nested is not None and each.variable:
                before = changes.get(each.name, getattr(self, each.name))
                if before is None and each.name not in changes:
                    plain = each.nested()
                    after: Settings | None = plain.overridden_by(environ)
                    after = None if after is plain else after
                else:
                    after = before.overridden_by(environ) if isinstance(before, Settings) else None
                if after is not before:
                    changes[each.name] = after
        if not changes:
            return self
        try:
            return replace(self, **changes)  # type: ignore[type-var]  # every subclass is a dataclass
        except ConfigurationError as error:
            given = ", ".join(f"{variable}={written!r}" for variable, written in found.items())
            raise ConfigurationError(f"{error} Set by the environment: {given}.") from None
