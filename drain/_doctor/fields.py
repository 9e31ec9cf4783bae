"""Reading fields of objects of which nothing is certain: whatever is not as it should be is None, or empty."""

from collections.abc import Iterator
from typing import Any

from drain._doctor.reading import Map, Seq

Path = tuple[str | int, ...]
Object = dict[str, Any]


def get(value: Any, *path: str | int) -> Any:
    """What is there; None where the way is not."""
    for key in path:
        if isinstance(key, str) and isinstance(value, dict):
            value = value.get(key)
        elif isinstance(key, int) and isinstance(value, list) and 0 <= key < len(value):
            value = value[key]
        else:
            return None
    return value


def mapping(value: Any, *path: str | int) -> Object:
    """A mapping."""
    found = get(value, *path)
    return found if isinstance(found, dict) else {}


def sequence(value: Any, *path: str | int) -> list[Any]:
    """A list."""
    found = get(value, *path)
    return found if isinstance(found, list) else []


def mappings(value: Any, *path: str | int) -> Iterator[tuple[int, Object]]:
    """A list's mappings, each with its index."""
    return ((index, each) for index, each in enumerate(sequence(value, *path)) if isinstance(each, dict))


def text(value: Any, *path: str | int) -> str:
    """A scalar as text."""
    found = get(value, *path)
    if isinstance(found, bool):
        return str(found).lower()
    return str(found) if isinstance(found, str | int | float) else ""


def texts(value: Any, *path: str | int) -> list[str]:
    """A list's scalars as texts."""
    return [text(each) for each in sequence(value, *path)]


def whole(value: Any, *path: str | int) -> int | None:
    """A whole number, as Kubernetes has them."""
    found = get(value, *path)
    return found if isinstance(found, int) and not isinstance(found, bool) and abs(found) < 2**31 else None


def share(value: Any, of: int, *path: str | int, up: bool) -> int | None:
    """A number, or a percentage of `of` (Kubernetes' IntOrString), rounded up or down."""
    found = get(value, *path)
    if isinstance(found, str) and found.endswith("%") and found[:-1].isdecimal() and len(found) < 8:
        whole_, rest = divmod(int(found[:-1]) * of, 100)
        return whole_ + (1 if rest and up else 0)
    return whole(found)


def line(value: Any, path: Path, default: int | None = None) -> int | None:
    """Of the last part of the path that is there."""
    for key in path:
        if isinstance(key, str) and isinstance(value, dict) and key in value:
            default = value.lines.get(key, default) if isinstance(value, Map) else None
            value = value[key]
        elif isinstance(key, int) and isinstance(value, list) and 0 <= key < len(value):
            default = value.lines[key] if isinstance(value, Seq) else None
            value = value[key]
        else:
            break
    return default


def written(path: Path) -> str:
    """As `kubectl explain` and error messages of the API server write it."""
    out = ""
    for key in path:
        out += f"[{key}]" if isinstance(key, int) else f".{key}" if "." not in key and "/" not in key else f"[{key}]"
    return out.lstrip(".")
