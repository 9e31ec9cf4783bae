"""The rules by family. Whoever adds a family names it here."""

from drain._doctor.rules import (
    budget,
    keepalive,
    meshes,
    permissions,
    probes,
    process,
    rollout,
    services,
    settings,
    stopping,
)

__all__ = [
    "budget",
    "keepalive",
    "meshes",
    "permissions",
    "probes",
    "process",
    "rollout",
    "services",
    "settings",
    "stopping",
]
