"""The environment guard: the cure is appended once, the last word on the experiment counts, and the moment matters."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drain._guard import CURE, EXPERIMENT, VARIABLE, is_cured, with_cure

LISTS = st.lists(st.sampled_from([EXPERIMENT, CURE, "tcp_frame_size_tuning", "-tcp_rcv_lowat", "", " "])).map(",".join)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, CURE),
        ("", CURE),
        ("tcp_frame_size_tuning", f"tcp_frame_size_tuning,{CURE}"),
        (CURE, CURE),
        (f"{CURE},tcp_frame_size_tuning", f"{CURE},tcp_frame_size_tuning"),
        (f" {CURE} ", f" {CURE} "),
        (f"{CURE},{EXPERIMENT}", f"{CURE},{EXPERIMENT},{CURE}"),
        (EXPERIMENT, f"{EXPERIMENT},{CURE}"),
    ],
)
def test_the_cure_is_appended_where_it_is_not_in_force(before: str | None, after: str) -> None:
    """What the user has there stays there."""
    assert with_cure(before) == after


@pytest.mark.parametrize(
    ("value", "cured"),
    [
        (None, False),
        ("", False),
        (CURE, True),
        (EXPERIMENT, False),
        (f"{EXPERIMENT},{CURE}", True),
        (f"{CURE},{EXPERIMENT}", False),
        (f"{CURE}_and_more", False),
        (f"x,{CURE},-y", True),
    ],
)
def test_the_last_word_wins(value: str | None, cured: bool) -> None:
    """As in grpc's core, which reads the list from left to right."""
    assert is_cured(value) is cured


@given(LISTS | st.none())
def test_after_the_cure_it_is_cured(value: str | None) -> None:
    """Whatever was there is kept, the end is cured, and a second time adds nothing."""
    cured = with_cure(value)
    assert is_cured(cured)
    assert cured.startswith(value or "")
    assert with_cure(cured) == cured


SAY = "import json, os; from drain import _guard; print(json.dumps([_guard.cured, os.environ.get('GRPC_EXPERIMENTS')]))"


@pytest.mark.parametrize(
    ("first", "environment", "expected"),
    [
        ("import drain", {}, [True, CURE]),
        ("import drain, grpc, drain", {VARIABLE: "a"}, [True, f"a,{CURE}"]),
        ("import grpc, drain", {}, [False, None]),
        ("import grpc, drain", {VARIABLE: CURE}, [True, CURE]),
        ("import grpc, drain", {VARIABLE: f"{CURE},{EXPERIMENT}"}, [False, f"{CURE},{EXPERIMENT}"]),
        # Too late: grpc has read it already, so what os.environ says now is not believed.
        (f"import grpc, os; os.environ[{VARIABLE!r}] = {CURE!r}; import drain", {}, [False, CURE]),
    ],
)
def test_the_moment_counts(first: str, environment: dict[str, str], expected: list[object]) -> None:
    """Before grpc the guard cures; after it, only a process that was born with the variable is cured."""
    inherited = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", f"{first}; {SAY}"],
        env={**inherited, **environment}, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == expected
