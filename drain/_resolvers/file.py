"""`file:///etc/endpoints.yaml`: endpoints from a YAML or JSON file, read again whenever it changes.

    endpoints:
      - 10.0.0.1:50051
      - {address: 10.0.0.2, port: 50051, zone: eu-1a, ready: false, weight: 2}

A list alone will do. The file is looked at, not listened to: that works on every file system, for a file that is replaced and for
a symlink that is swapped (as ConfigMaps are).
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from drain._core.endpoints import Endpoint
from drain._core.target import Target, host_port, literal
from drain._resolvers.polled import Polled
from drain.errors import DrainError, ResolutionError

_INTERVAL = 0.25
_LARGEST = 16 << 20
_KEYS = frozenset({"address", "port", "ready", "serving", "terminating", "zone", "weight", "name", "node"})


def factory(target: Target) -> Polled:
    """A resolver for a `file:` target."""
    if target.authority or not target.endpoint:
        raise target.error("it must be an absolute path behind three slashes")
    target.parameters()
    return Polled(_File(target).look, _INTERVAL)


class _File:
    def __init__(self, target: Target) -> None:
        self._target = target
        self._path = Path("/" + target.endpoint)
        self._seen: tuple[object, ...] | None = None
        self._again = False

    def look(self) -> list[Endpoint] | None:
        """The endpoints, if the file is another than before; None if not. Raises ResolutionError."""
        try:
            found = os.stat(self._path)
            signature = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
            if signature == self._seen and not self._again:
                return None
            # Twice: clocks of file systems tick slowly, and a second write may fall into the same tick as our read.
            self._again, self._seen = signature != self._seen, signature
            if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
                raise ResolutionError(f"{self._path}: not a file of at most {_LARGEST >> 20} MiB")
            return self._parsed(self._path.read_bytes())
        except OSError as error:
            self._seen = None
            raise ResolutionError(f"{self._path}: {error.strerror or error}") from None

    def _parsed(self, content: bytes) -> list[Endpoint]:
        import yaml  # noqa: PLC0415  # only who has a file needs it

        try:
            document = yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - either is safe
        except (yaml.YAMLError, UnicodeError, ValueError) as error:
            raise ResolutionError(f"{self._path}: not YAML: {' '.join(str(error).split())}") from None
        listed = document.get("endpoints") if isinstance(document, dict) else document
        if not isinstance(listed, list):
            raise ResolutionError(f"{self._path}: must be a list of endpoints, or have one under `endpoints:`")
        return list(self._each(listed))

    def _each(self, listed: list[Any]) -> Iterable[Endpoint]:
        for number, each in enumerate(listed, start=1):
            try:
                yield self._endpoint(each)
            except (TypeError, ValueError, DrainError) as error:
                what = str(error).partition(". Accepted:")[0]
                raise ResolutionError(f"{self._path}: endpoint {number} ({each!r}): {what}") from None

    def _endpoint(self, each: Any) -> Endpoint:
        if isinstance(each, str):
            host, port = host_port(self._target, each)
            if literal(host) is None:
                raise ValueError(f"{host!r} is no IP address")
            return Endpoint(address=host, port=port)
        if not isinstance(each, dict):
            raise TypeError('must be "ADDRESS:PORT" or a mapping with address and port')
        if unknown := sorted(str(key) for key in each.keys() - _KEYS):
            raise ValueError(f"unknown: {', '.join(unknown)} (there is {', '.join(sorted(_KEYS))})")
        for key in ("ready", "serving", "terminating"):
            if not isinstance(each.get(key, True), bool):
                raise TypeError(f"{key} must be true or false")
        return Endpoint(**{"serving": each.get("ready", True), **each})
