"""The rules as a page of the documentation: docs/doctor.md has it, and a test compares."""

import sys
from itertools import groupby

from drain._doctor import rules  # noqa: F401 - makes them known
from drain._doctor.rule import RULES, Rule

BEGIN, END = "<!-- rules: made by drain._doctor.page -->\n", "<!-- end of rules -->\n"


def markdown() -> str:
    """A section for each rule, by family; each rule's name is its anchor."""
    parts = []
    for module, family in groupby(RULES.values(), key=lambda each: each.check.__module__):
        title = " ".join((sys.modules[module].__doc__ or "").split()).rstrip(".")
        parts += [f"## {title}\n", *map(_section, family)]
    return "\n".join(parts)


def _section(rule: Rule) -> str:
    return f"### {rule.name}\n\n**{rule.severity.word}.** {rule.title}\n\n{rule.why} ([source]({rule.source}))\n"
