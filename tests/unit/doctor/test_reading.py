"""Whatever is given to `drain doctor`: nothing crashes it, nothing makes it grow without bound, and lines are right."""

import time
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from drain._cli.doctor import command
from drain._doctor import examine, fields
from drain._doctor.model import Surroundings, Thing
from drain._doctor.reading import documents
from tests.unit.doctor.planted import GOOD, judged

CODES = {0, 1, 3, 65}
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["100%", "-1%", "sh", "-c", "grpc", "50051", "30s", "kubernetes:///x:y", "Deployment", "liveness", "*"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=400))
@example("&a [*a]")
@example("a: &a {b: *a}\n<<: *a")
@example("? [a]\n: b")
@example("!!int x")
@example("!!bool perhaps")
@example("{{ .Values.x }}: {{ y }}")
@example("\ud800")
@example("- " * 3000)
@example("[" * 3000)
@example("1" * 10_000)
@example("2024-99-99")
@example("!!python/object/apply:os.system [true]")
def test_no_text_crashes_it(text: str) -> None:
    judged(text)


PATHS = [
    ("spec",), ("metadata",), ("spec", "template"), ("spec", "template", "spec"), ("spec", "template", "spec", "containers"),
    ("spec", "template", "spec", "containers", 0), ("spec", "replicas"), ("spec", "strategy"), ("spec", "selector"), ("spec", "ports"),
    ("spec", "ports", 0), ("spec", "scaleTargetRef"), ("spec", "minReplicas"), ("spec", "maxUnavailable"), ("rules",), ("rules", 0), ("subjects",),
    ("roleRef",), ("metadata", "annotations"), ("metadata", "labels"), ("kind",), ("items",),
    *(("spec", "template", "spec", "containers", 0, name) for name in ("env", "ports", "command", "args", "lifecycle", "readinessProbe", "livenessProbe", "volumeMounts", "securityContext")),
    *(("spec", "template", "spec", name) for name in ("terminationGracePeriodSeconds", "volumes", "serviceAccountName", "initContainers")),
    *(("spec", "template", "metadata", name) for name in ("labels", "annotations")),
]  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(each.name for each in GOOD.iterdir())), st.sampled_from(PATHS), VALUES)
def test_no_field_crashes_it(name: str, path: tuple[str | int, ...], value: Any) -> None:
    """A good manifest, one field of which is anything at all, in each of its objects."""
    objects = list(
        yaml.safe_load_all(
            (GOOD / name).read_text().replace("!limits", "").replace("2024-13-45", "x").replace("\t", " ")
        )
    )
    for each in objects:
        holder = fields.get(each, *path[:-1])
        if isinstance(holder, dict) or (isinstance(holder, list) and holder):
            holder[path[-1]] = value  # type: ignore[index]
    examined = judged(yaml.safe_dump_all(objects))
    for each in examined.findings:
        assert each.place.line is not None
        assert each.as_dict()["what"]


@pytest.mark.parametrize(
    "text",
    [
        b"\xff\xfe\x00", b"", b"---\n---\n", b"\x00", b"kind: [", b"42", b"- 1\n- {kind: Deployment}\n", b"kind: List\nitems: [1, {}, null]\n",
        b"kind: Deployment\nspec: {template: {spec: {containers: [null, 3, {}]}}}\n", b"%YAML 9.9\n---\na: b",
    ],
)  # fmt: skip
def test_no_bytes_crash_the_command(text: bytes) -> None:
    done = CliRunner().invoke(command, ["-f", "-"], input=text)
    assert done.exit_code in CODES, (done.exception, done.output)
    assert "Traceback" not in done.output


def test_aliases_and_merges_do_not_grow() -> None:
    """A billion laughs cost nothing, and merges of merges are refused."""
    laughs = ["a0: &a0 {x: y}"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    merges = ["a0: &a0 {x: y}"] + [
        f"a{n}: &a{n} {{k{n}: v, <<: [{', '.join([f'*a{n - 1}'] * 30)}]}}" for n in range(1, 4000)
    ]
    began = time.monotonic()
    found, bad = documents("\n".join(laughs), "x")
    assert (len(found), bad) == (1, [])
    found, bad = documents("\n".join(merges), "x")
    assert "too many merged keys" in bad[0].why
    assert time.monotonic() - began < 20


def test_what_is_nested_too_deep_is_unreadable() -> None:
    for text in ("[" * 5000, "- " * 5000, "{a: " * 5000):
        found, bad = documents(text, "x")
        assert (found, len(bad)) == ([], 1)


def test_what_stands_before_an_error_is_judged() -> None:
    found, bad = documents("kind: A\n---\nkind: B\n---\nkind: [\n---\nkind: C\n", "x")
    assert [each.body["kind"] for each in found] == ["A", "B"]
    assert [(each.source, each.line) for each in bad] == [("x", 6)]


def test_lines() -> None:
    text = "# c\nkind: A\nspec:\n  a: &x\n    - b\n    - c: 1\n  d: *x\n  <<: {e: 2}\n"
    (found,), _ = documents(text, "x")
    assert found.line == 2
    assert fields.line(found.body, ("spec", "a", 1, "c")) == 6
    assert fields.line(found.body, ("spec", "d", 0)) == 5  # where it is written
    assert fields.line(found.body, ("spec", "nothing")) == 3
    assert fields.line(found.body, ("nothing",), 2) == 2
    assert found.body["spec"]["e"] == 2


def test_scalars_are_what_kubernetes_takes_them_for() -> None:
    (found,), _ = documents(
        "a: 010\nb: yes\nc: 1.5\nd: '3'\ne: ~\nf: 2024-01-01\ng: 0x1F\nh: !mine 4\n1: x\ntrue: y\n", "x"
    )
    assert found.body == {
        "a": 8,
        "b": True,
        "c": 1.5,
        "d": "3",
        "e": None,
        "f": "2024-01-01",
        "g": 31,
        "h": "4",
        "1": "x",
        "true": "y",
    }


def test_paths_are_written_as_kubectl_does() -> None:
    assert fields.written(("spec", "containers", 0, "env")) == "spec.containers[0].env"
    assert fields.written(("metadata", "annotations", "a.b/c")) == "metadata.annotations[a.b/c]"


def test_five_hundred_objects() -> None:
    """All of them are judged; how fast is a matter of tests/bench."""
    text = "\n---\n".join(
        (GOOD / "drain-server.yaml").read_text().replace("orders", f"orders{n}").replace("web", f"web{n}")
        for n in range(56)
    )
    found, bad = documents(text, "x")
    assert (len(found), bad) == (504, [])
    examined = examine.manifests(Surroundings(tuple(map(Thing, found))), bad)
    assert (len(examined.judged), examined.findings) == (112, ())
