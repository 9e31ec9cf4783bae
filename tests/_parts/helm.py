"""helm: the one on PATH (or in $HELM), else built from its Go module."""

import os
from pathlib import Path

from tests._parts import golang
from tests._parts.making import PartMissingError, Say, on_path

VERSION = "4.3.1"

_TOOLS = """//go:build tools

package tools

import _ "helm.sh/helm/v4/cmd/helm"
"""


def ready(say: Say) -> Path:
    """Raises PartMissingError."""
    if given := os.environ.get("HELM"):
        if not os.access(given, os.X_OK):
            raise PartMissingError(f"HELM is {given!r}, which is no program: unset it, or name helm's path")
        return Path(given)
    if (found := on_path("helm")) is not None:
        return found
    module = f"module helmtool\n\ngo 1.26.0\n\nrequire helm.sh/helm/v4 v{VERSION}\n"
    sources = {"go.mod": module, "tools.go": _TOOLS}
    return golang.program("helm", sources, "helm.sh/helm/v4/cmd/helm", say, version=VERSION)
