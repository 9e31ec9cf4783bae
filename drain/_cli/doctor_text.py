"""What `drain doctor` found, as a person reads it: the worst last, where the eye is, and the lines to change as in a diff."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from drain._doctor.examine import Examined
from drain._doctor.finding import Finding, Severity
from drain._doctor.rule import Rule

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.ADVICE: "bold cyan"}
_WIDTH = 100
Sources = Mapping[str, Sequence[str]]


def as_dict(examined: Examined) -> dict[str, Any]:
    """Plain JSON-able values."""
    return {
        "worst": examined.worst.word if examined.worst is not None else None,
        "findings": [each.as_dict() for each in examined.findings],
        "judged": list(examined.judged),
        "passed_over": list(examined.passed_over),
        "unreadable": [
            {"source_file": each.source, "line": each.line, "why": each.why} for each in examined.unreadable
        ],
    }


def show(examined: Examined, sources: Sources, notes: Sequence[str], *, complete: bool) -> None:
    """Print it. `complete`: workloads were looked for, so that none found is worth a word."""
    console = Console()
    width = min(console.width, _WIDTH) if console.is_terminal else _WIDTH
    for each in reversed(examined.findings):
        _print(console, finding(each, sources, width))
    for bad in examined.unreadable:
        _print(console, Text.assemble(("unreadable  ", "bold red"), f"{bad.source}:{bad.line}  {bad.why}"))
    for note in notes:
        _print(console, Text(note, "dim"))
    if complete:
        over = examined.passed_over
        if over:
            _print(console, Text(f"passed over, because nothing says that they serve gRPC: {_listed(over)}", "dim"))
        if not examined.judged:
            text = "no gRPC server found: name its port grpc, give it a gRPC probe, or set appProtocol on its Service"
            _print(console, Text(text, "yellow"))
    _print(console, summary(examined))


def finding(found: Finding, sources: Sources, width: int) -> Text:
    """One finding."""
    place = found.place
    where = f"{place.source}:{place.line}" if place.source and place.line else place.source
    text = Text.assemble(
        (found.severity.word, _STYLES[found.severity]),
        "  ",
        (found.rule, "bold"),
        f"  {found.subject}",
        (f"  {where}\n", "dim"),
    )
    text.append(textwrap.fill(found.what, width, initial_indent="  ", subsequent_indent="  ") + "\n")
    text.append(textwrap.fill(found.why, width, initial_indent="  ", subsequent_indent="  ") + "\n", "dim")
    if found.change:
        if place.path:
            text.append(f"  {place.field}\n", "dim")
        lines = sources.get(place.source, ())
        if place.present and place.line is not None and 0 < place.line <= len(lines):
            text.append(f"    - {lines[place.line - 1].strip()}\n", "red")
        text.append("".join(f"    + {line}\n" for line in found.change.splitlines()), "green")
    text.append(f"  {found.page}  {found.source}\n", "dim")
    return text


def summary(examined: Examined) -> Text:
    """The last line."""
    counts = {each: sum(one.severity is each for one in examined.findings) for each in reversed(Severity)}
    words = [_counted(count, each.word) for each, count in counts.items() if count]
    judged = f"{_counted(len(examined.judged), 'workload')} judged: " if examined.judged else ""
    if examined.unreadable:
        words.append(f"{_counted(len(examined.unreadable), 'document')} unreadable")
    worst = examined.worst
    style = _STYLES[worst] if worst is not None else "bold red" if examined.unreadable else "bold green"
    return Text(judged + (", ".join(words) if words else "nothing that would lose a call"), style)


def explain(rule: Rule) -> None:
    """All of a rule."""
    console = Console()
    text = Text.assemble((rule.name, "bold"), "  ", (rule.severity.word, _STYLES[rule.severity]), f"\n{rule.title}\n")
    text.append(textwrap.fill(rule.why, _WIDTH) + "\n")
    text.append(rule.source, "dim")
    _print(console, text)


def list_rules(rules: Iterable[Rule]) -> None:
    """All rules, a line each."""
    console = Console()
    for each in rules:
        title = each.title.partition(". ")[0].rstrip(".")
        _print(console, Text.assemble((f"{each.severity.word:<8}", _STYLES[each.severity]), f"{each.name:<26}{title}"))


def _print(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True, highlight=False)


def _counted(count: int, what: str) -> str:
    plural = "" if count == 1 or what == "advice" else "s"
    return f"{count} {what}{plural}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
