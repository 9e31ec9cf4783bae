"""YAML and JSON as data whose parts know their lines, whatever is in it.

Built from the parser's events and not by PyYAML's constructor: that one runs into recursion, refuses tags it does not know, makes
dates, and lets a few lines of aliases and merges grow without bound. Here aliases are shared, merges are counted, unknown tags
are passed over.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as _Parser
except ImportError:  # PyYAML without libyaml: ten times slower
    from yaml import SafeLoader as _Parser  # type: ignore[assignment]

MOST_MERGED = 100_000  # keys that `<<` may copy in one document
_TAG = "tag:yaml.org,2002:"
_resolver = yaml.resolver.Resolver()
_scalars = yaml.constructor.SafeConstructor()


class Map(dict[str, Any]):
    """A mapping. `lines`: of each key, from 1 on."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


class Seq(list[Any]):
    """A sequence. `lines`: of each item, from 1 on."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []


@dataclass(frozen=True, slots=True)
class Document:
    """One document, or one item of a List."""

    body: dict[str, Any]
    source: str
    line: int = 1


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What could not be read, and why."""

    source: str
    line: int
    why: str


def documents(text: str, source: str) -> tuple[list[Document], list[Unreadable]]:
    """All that is in a file, a List's items one by one. What follows an error in the same file is not read. Raises nothing."""
    found: list[Document] = []
    bad: list[Unreadable] = []
    try:
        for value, line in _load(text):
            _sort(value, line, source, found, bad)
    except yaml.MarkedYAMLError as error:
        if not found and (value := _as_json(text)) is not None:  # JSON with tabs, which YAML refuses
            _sort(value, 1, source, found, bad)
        else:
            bad.append(Unreadable(source, _line(error), _told(error, text)))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        bad.append(Unreadable(source, 1, f"neither YAML nor JSON ({type(error).__name__})"))
    return found, bad


def _sort(value: Any, line: int, source: str, found: list[Document], bad: list[Unreadable]) -> None:
    if value is None or value == "":  # between two `---`, as helm leaves many
        return
    if not isinstance(value, dict):
        bad.append(Unreadable(source, line, f"not an object, but {_kind(value)}"))
        return
    items = value.get("items")
    if str(value.get("kind", "")).endswith("List") and isinstance(items, list):
        lines = items.lines if isinstance(items, Seq) else [line] * len(items)
        for item, at in zip(items, lines, strict=True):
            if isinstance(item, dict):
                found.append(Document(item, source, at))
            else:
                bad.append(Unreadable(source, at, f"an item of a List is not an object, but {_kind(item)}"))
        return
    found.append(Document(value, source, line))


def _load(text: str) -> Iterator[tuple[Any, int]]:
    """Each document with the line where it begins."""
    anchors: dict[str, Any] = {}
    frames: list[_Frame] = []
    root: Any = None
    start, merged = 1, [0]
    event: Any  # types-PyYAML has no marks on events
    for event in yaml.parse(text, Loader=_Parser):
        line = event.start_mark.line + 1
        match event:
            case yaml.DocumentStartEvent():
                anchors, root, start, merged = {}, None, 0, [0]
                continue
            case yaml.DocumentEndEvent():
                yield root, start or line
                continue
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                value: Any = Map() if isinstance(event, yaml.MappingStartEvent) else Seq()
                frames.append(_Frame(value, event.start_mark))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                done = frames.pop()
                done.close(event, merged)
                continue
            case yaml.ScalarEvent():
                value = _scalar(event)
            case yaml.AliasEvent():
                if event.anchor not in anchors:
                    raise _refused(f"unknown alias {event.anchor!r}", event.start_mark)
                value = anchors[event.anchor]
            case _:
                continue
        if getattr(event, "anchor", None) and not isinstance(event, yaml.AliasEvent):
            anchors[event.anchor] = value
        opened = isinstance(event, yaml.CollectionStartEvent)
        holder = frames[-2] if opened and len(frames) > 1 else frames[-1] if frames and not opened else None
        if holder is None:
            root, start = value, start or line
        else:
            holder.take(value, line, plain=isinstance(event, yaml.ScalarEvent) and event.implicit[0])


def _refused(why: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(None, None, why, mark)


class _Frame:
    """A collection that is being read."""

    def __init__(self, value: "Map | Seq", mark: Any) -> None:
        self._value, self._mark, self._line = value, mark, mark.line + 1
        self._key: str | None = None
        self._merging = False
        self._merge: list[Any] = []

    def take(self, value: Any, line: int, *, plain: bool) -> None:
        if isinstance(self._value, Seq):
            self._value.append(value)
            self._value.lines.append(line)
        elif self._merging:
            self._merge.append(value)  # which may be a list that is yet to be read
            self._merging = False
        elif self._key is None:
            if isinstance(value, dict | list):
                raise _refused("a mapping or a list as a key", self._mark)
            self._merging = plain and value == "<<"
            if not self._merging:
                self._key = value if isinstance(value, str) else _text(value)
                self._value.lines[self._key] = line
        else:
            self._value[self._key] = value
            self._key = None

    def close(self, event: Any, merged: list[int]) -> None:
        for each in (one for part in self._merge for one in (part if isinstance(part, Seq) else [part])):
            if isinstance(each, Map) and isinstance(self._value, Map):
                merged[0] += len(each)
                if merged[0] > MOST_MERGED:
                    raise _refused("too many merged keys", event.start_mark)
                for key in list(each):
                    if key not in self._value:
                        self._value[key] = each[key]
                        self._value.lines[key] = each.lines.get(key, self._line)


def _scalar(event: yaml.ScalarEvent) -> Any:
    tag = event.tag
    if tag is None or tag == "!":
        tag = _resolver.resolve(  # type: ignore[no-untyped-call]
            yaml.ScalarNode, event.value, event.implicit
        )
    node = yaml.ScalarNode(tag, event.value)
    try:
        match tag.removeprefix(_TAG):
            case "null":
                return None
            case "bool":
                return _scalars.construct_yaml_bool(node)
            case "int":
                return _scalars.construct_yaml_int(node)
            case "float":
                return _scalars.construct_yaml_float(node)
    except (ValueError, KeyError, IndexError, OverflowError):  # `!!int x`; a number of ten thousand digits
        pass
    return event.value


def _text(key: Any) -> str:
    return "null" if key is None else str(key).lower() if isinstance(key, bool) else str(key)


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"{type(value).__name__} {str(value)[:40]!r}"


def _as_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _line(error: yaml.MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark is not None else 1


def _told(error: yaml.MarkedYAMLError, text: str) -> str:
    hint = " This looks like a template: give what `helm template` makes of it." if "{{" in text else ""
    return f"no YAML: {error.problem or error.context}.{hint}"
