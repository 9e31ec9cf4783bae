"""The READMEs' tables of values, made of the comments `# -- ` in values.yaml: `python -m tests.helm._tables` writes them."""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

HELM = Path(__file__).parents[2] / "helm"
CHARTS = ("drain-lib", "grpc-service")
BEGIN, END = "<!-- values: begin -->", "<!-- values: end -->"


def rows(values: str) -> Iterator[tuple[str, str, str]]:
    """(key, default as JSON-like YAML, meaning) of each commented value. Raises ValueError for a value without a comment."""
    path: list[str] = []
    said: list[str] = []
    whole = None  # the depth of a map that is told of as one
    for line in values.splitlines():
        stripped = line.strip()
        if match := re.fullmatch(r"# -- (.*)", stripped):
            said = [match[1]]
        elif stripped.startswith("#") or not stripped:
            continue
        elif match := re.fullmatch(r"(\s*)([A-Za-z]+):(?:\s+(.*))?", line):
            depth = len(match[1]) // 2
            if whole is not None and depth > whole:
                continue
            whole = None
            path = [*path[:depth], match[2]]
            if match[3] is None:
                if said:
                    yield ".".join(path), _flow(values, path), said[0]
                    whole, said = depth, []
                continue
            if not said:
                raise ValueError(f"{'.'.join(path)} has no comment")
            default = re.sub(r"\s+#.*", "", match[3])
            yaml.safe_load(default)
            yield ".".join(path), default, said[0]
            said = []
        else:
            raise ValueError(f"not understood: {line!r}")


def _flow(values: str, path: list[str]) -> str:
    found = yaml.safe_load(values)
    for part in path:
        found = found[part]
    return yaml.safe_dump(found, default_flow_style=True, sort_keys=False, width=1000).strip()


def table(chart: str) -> str:
    """As Markdown."""
    prefix = "drain." if chart == "drain-lib" else ""
    found = rows((HELM / chart / "values.yaml").read_text())
    lines = [
        f"| `{prefix}{key}` | `{default}` | {meaning.replace('|', chr(92) + '|')} |" for key, default, meaning in found
    ]
    return "\n".join(["| value | default | meaning |", "| --- | --- | --- |", *lines])


def with_table(chart: str) -> tuple[str, str]:
    """The README as it is, and as it should be."""
    text = (HELM / chart / "README.md").read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"{chart}/README.md has no {BEGIN}"
    assert end, f"{chart}/README.md has no {END}"
    return text, f"{before}{BEGIN}\n{table(chart)}\n{END}{after}"


if __name__ == "__main__":
    for each in CHARTS:
        (HELM / each / "README.md").write_text(with_table(each)[1])
