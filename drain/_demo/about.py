"""Where something was measured: versions and machine."""

import os
import platform
import time
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed


def version(distribution: str) -> str:
    """The installed version of a distribution."""
    try:
        return installed(distribution)
    except PackageNotFoundError:  # run from a source tree
        return "unreleased"


def about() -> dict[str, str]:
    """Date, versions, and how many processors."""
    return {
        "measured": time.strftime("%Y-%m-%d %H:%M"),
        "grpcio": version("grpcio"),
        "grpc-drain": version("grpc-drain"),
        "Python": platform.python_version(),
        "on": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
    }
