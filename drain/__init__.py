"""drain: gRPC servers that leave a Kubernetes cluster without failing one call, and clients that follow it.

Import drain before grpc: see `drain._guard`. Every public name is loaded on first use (PEP 562), so the import is cheap.
"""

from typing import TYPE_CHECKING, Any

from drain import _guard

_guard.protect()

if TYPE_CHECKING:
    from drain import aio as aio
    from drain._server import Server as Server
    from drain._server import run as run
    from drain._server import server as server
    from drain.config import DrainPolicy as DrainPolicy
    from drain.config import ServerKeepalive as ServerKeepalive
    from drain.errors import BindError as BindError
    from drain.errors import CapabilityError as CapabilityError
    from drain.errors import ConfigurationError as ConfigurationError
    from drain.errors import DrainError as DrainError
    from drain.errors import ResolutionError as ResolutionError
    from drain.errors import TargetError as TargetError
    from drain.events import State as State
    from drain.report import DrainReport as DrainReport

_HOME = {
    "BindError": "drain.errors",
    "CapabilityError": "drain.errors",
    "ConfigurationError": "drain.errors",
    "DrainError": "drain.errors",
    "DrainPolicy": "drain.config",
    "DrainReport": "drain.report",
    "ResolutionError": "drain.errors",
    "Server": "drain._server",
    "ServerKeepalive": "drain.config",
    "State": "drain.events",
    "TargetError": "drain.errors",
    "run": "drain._server",
    "server": "drain._server",
}

__all__ = [*_HOME, "aio"]


def __getattr__(name: str) -> Any:
    import importlib

    if name == "aio":
        return importlib.import_module("drain.aio")
    if name not in _HOME:
        raise AttributeError(f"module 'drain' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
