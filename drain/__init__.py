"""drain: gRPC servers that leave a Kubernetes cluster without failing one call, and clients that follow it.

Import drain before grpc: see `drain._guard`. Every public name is loaded on first use (PEP 562), so the import is cheap.
"""

from typing import TYPE_CHECKING, Any

from drain import _guard

_guard.protect()

if TYPE_CHECKING:
    from drain import aio as aio
    from drain import metrics as metrics
    from drain import otel as otel
    from drain import resolver as resolver
    from drain._draining import connection_age_left as connection_age_left
    from drain._draining import draining as draining
    from drain._server import Server as Server
    from drain._server import run as run
    from drain._server import server as server
    from drain.config import ClientKeepalive as ClientKeepalive
    from drain.config import ClientPolicy as ClientPolicy
    from drain.config import DrainPolicy as DrainPolicy
    from drain.config import OutlierDetection as OutlierDetection
    from drain.config import RebalancePolicy as RebalancePolicy
    from drain.config import RetryPolicy as RetryPolicy
    from drain.config import ServerKeepalive as ServerKeepalive
    from drain.errors import BindError as BindError
    from drain.errors import CapabilityError as CapabilityError
    from drain.errors import ConfigurationError as ConfigurationError
    from drain.errors import DrainError as DrainError
    from drain.errors import ResolutionError as ResolutionError
    from drain.errors import TargetError as TargetError
    from drain.errors import WorkerError as WorkerError
    from drain.events import State as State
    from drain.report import DrainReport as DrainReport
    from drain.resolver import insecure_channel as insecure_channel
    from drain.resolver import secure_channel as secure_channel
    from drain.workers import WorkersReport as WorkersReport
    from drain.workers import run_workers as run_workers

_HOME = {
    "BindError": "drain.errors",
    "CapabilityError": "drain.errors",
    "ClientKeepalive": "drain.config",
    "ClientPolicy": "drain.config",
    "ConfigurationError": "drain.errors",
    "DrainError": "drain.errors",
    "DrainPolicy": "drain.config",
    "DrainReport": "drain.report",
    "OutlierDetection": "drain.config",
    "RebalancePolicy": "drain.config",
    "ResolutionError": "drain.errors",
    "RetryPolicy": "drain.config",
    "Server": "drain._server",
    "ServerKeepalive": "drain.config",
    "State": "drain.events",
    "TargetError": "drain.errors",
    "WorkerError": "drain.errors",
    "WorkersReport": "drain.workers",
    "connection_age_left": "drain._draining",
    "draining": "drain._draining",
    "insecure_channel": "drain.resolver",
    "run": "drain._server",
    "run_workers": "drain.workers",
    "secure_channel": "drain.resolver",
    "server": "drain._server",
}

_MODULES = ("aio", "metrics", "otel", "resolver")

__all__ = [*_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    import importlib

    if name in _MODULES:
        return importlib.import_module(f"drain.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'drain' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
