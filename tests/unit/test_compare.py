"""What `make compare` makes of its figures."""

import math
import re
from dataclasses import replace

import pytest

from tests.bench.compare import table
from tests.bench.compare.trial import Trial, percentile
from tests.bench.compare.ways import WAYS
from tests.cluster._programs.call import STEP
from tests.cluster._scene.books import Books

GOOD = Trial(
    lost={each: (number, 1000) for number, each in enumerate(("rolling update", "scale down", "deletion", "kill -9"))},
    update=7.25, share=1.5, spread=1.125, p50=0.0112, p99=0.0304, cpu=0.456,
)  # fmt: skip


def books(latency: dict[int, int]) -> Books:
    return Books(0.0, 0, 0, {}, {}, (), latency)


@pytest.mark.parametrize(("share", "bucket"), [(0.5, -90), (0.51, -80), (0.99, -80), (1.0, -60)])
def test_a_percentile_is_its_bucket_s_upper_end(share: float, bucket: int) -> None:
    found = percentile([books({-90: 40, -60: 1}), books({-90: 10, -80: 49})], share)
    assert found == pytest.approx(STEP**bucket)


def test_no_answers_have_no_percentile() -> None:
    assert math.isnan(percentile([books({})], 0.5))


def test_failures_are_summed_and_times_are_medians() -> None:
    (line,) = table.lines({"both": [GOOD, replace(GOOD, update=9.0), replace(GOOD, update=8.0)]})
    assert line == (
        "drain, both sides", "0 of 3,000", "3 of 3,000", "6 of 3,000", "9 of 3,000",
        "1.5 s", "1.12", "8.0 s", "11.2 ms", "30.4 ms", "0.46 s",
    )  # fmt: skip
    assert len(line) == len(table.HEAD)


def test_what_did_not_come_about_is_said() -> None:
    never, broken = replace(GOOD, share=None), Trial(broke="no pod came up")
    lines = table.lines({"sleep": [GOOD, never], "envoy": [broken], "both": [GOOD, broken]})
    assert lines[0][5] == "not within 40 s"
    assert lines[1][1] == "broke: no pod came up"
    assert lines[2][1] == "0 of 1,000", "of the rounds that did not break"
    assert {len(each) for each in lines} == {len(table.HEAD)}


def test_the_page_stands_alone() -> None:
    page = table.page({each: [GOOD] for each in WAYS}, {"date": "<today>"})
    assert page.count("<rect") == 4 * len(WAYS)
    assert "&lt;today&gt;" in page
    assert not re.search(r"https?://|<script|<link|@import", page)
