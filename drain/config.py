"""The public names of settings, of servers (`ServerKeepalive`, `DrainPolicy`, `RebalancePolicy`) and of clients (`ClientPolicy`).

All are frozen and checked when they are made, so a wrong value fails where it was written and not at the first SIGTERM.

Durations are seconds (`90`, `0.5`), a `datetime.timedelta`, or text: Go's notation (`"1m30s"`, `"250ms"`) or a plain
number, which is seconds (`"90"`: environment variables are text). They are stored as float seconds.

Every field can be overridden by an environment variable: `DRAIN_<FIELD>` for servers, `DRAIN_CLIENT_<FIELD>` for clients
(docs/settings.md). The environment wins over code, because whoever operates a program is not always who wrote it. See
`overridden_by`.
"""

from __future__ import annotations

from collections.abc import Iterator

from drain._client_settings import ClientKeepalive, ClientPolicy, OutlierDetection, RetryPolicy
from drain._server_settings import DrainPolicy, GoawayMode, RebalancePolicy, ServerKeepalive
from drain._settings import Setting, Settings

__all__ = [
    "ClientKeepalive",
    "ClientPolicy",
    "DrainPolicy",
    "GoawayMode",
    "OutlierDetection",
    "RebalancePolicy",
    "RetryPolicy",
    "ServerKeepalive",
    "Setting",
    "settings_markdown",
    "settings_table",
]

_CLASSES: tuple[type[Settings], ...] = (
    ServerKeepalive,
    DrainPolicy,
    RebalancePolicy,
    ClientPolicy,
    RetryPolicy,
    OutlierDetection,
    ClientKeepalive,
)


def settings_table() -> Iterator[Setting]:
    """Every setting of every class, in the order of docs/settings.md."""
    for each in _CLASSES:
        yield from each.settings()


def settings_markdown() -> str:
    """The table of docs/settings.md."""
    rows = ["| setting | environment | default | value | meaning |", "| --- | --- | --- | --- | --- |"]
    for s in settings_table():
        meaning = s.meaning if s.none is None else f"{s.meaning} none: {s.none}."
        variable = f"`{s.variable}`" if s.variable else "-"
        rows.append(f"| `{s.owner}.{s.name}` | {variable} | {s.default_text} | {s.unit} | {meaning} |")
    return "\n".join(rows) + "\n"
