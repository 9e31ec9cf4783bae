"""What `make compare` makes of its figures."""

import json
import math
import re
from dataclasses import replace

import pytest

from tests.bench.compare import fronts, page, table, ways
from tests.bench.compare.bars import BARS, Bar, svg
from tests.bench.compare.trial import Trial, percentile
from tests.bench.compare.ways import WAYS
from tests.cluster._programs.call import STEP
from tests.cluster._scene.books import Books

GOOD = Trial(
    lost={each: (number, 1000) for number, each in enumerate(("rolling update", "scale down", "deletion", "kill -9"))},
    update=7.25, share=1.5, spread=1.125, p50=0.0112, p99=0.0304, cpu=0.456,
)  # fmt: skip


def books(latency: dict[int, int]) -> Books:
    return Books(0.0, 0, 0, {}, {}, (), latency, 0.0)


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
    assert lines[0][5] == "not within 60 s"
    assert lines[1][1] == "broke: no pod came up"
    assert lines[2][1] == "0 of 1,000", "of the rounds that did not break"
    assert {len(each) for each in lines} == {len(table.HEAD)}


def test_a_round_that_broke_is_said() -> None:
    lines = table.lines({"both": [GOOD, Trial(broke="no pod came up"), GOOD]})
    assert lines[0][0] == "drain, both sides (1 of 3 rounds broke)"


def test_what_is_written_is_read_again() -> None:
    trials = {"both": [GOOD, replace(GOOD, share=None, told=["kill -9: UNAVAILABLE"])], "envoy": [Trial(broke="why")]}
    assert table.read(json.loads(json.dumps(table.raw(trials, {})))) == trials


def test_the_page_stands_alone() -> None:
    told = replace(GOOD, told=["deletion: UNAVAILABLE: <reset>"])
    found = page.render({**{each: [GOOD] for each in WAYS}, "clusterip": [told]}, {"date": "<today>", "rounds": 1})
    assert found.count("<figure>") == 6
    assert found.count("<details>") == len(WAYS) + 1
    assert "&lt;today&gt;" in found
    assert "&lt;reset&gt;" in found
    assert "$" not in re.sub(r"<pre>.*?</pre>", "", found, flags=re.DOTALL), "nothing is left to fill in"
    assert not re.search(r"https?://|<script|<link|@import|src=", found)


def test_the_page_shows_what_broke() -> None:
    found = page.render({"envoy": [Trial(broke="no <pod> came up")], "both": [GOOD]}, {})
    assert "broke: no &lt;pod&gt; came up" in found


def test_the_longest_bar_fills_the_width() -> None:
    drawn = svg([Bar("a", (3.0, 1.0), "4"), Bar("b & c", (1.0,), "1", "ours"), Bar("none", (0.0,), "0")], "what")
    widths = [float(each) for each in re.findall(r'<rect [^>]* width="([\d.]+)"', drawn)]
    assert widths == [BARS * 3 / 4, BARS / 4, BARS / 4]
    assert "b &amp; c" in drawn


@pytest.mark.parametrize("name", WAYS)
def test_a_way_is_one_of_servers_and_clients(name: str) -> None:
    way = WAYS[name]
    (container,) = ways.servers(way, "image")[-1]["spec"]["template"]["spec"]["containers"]
    assert container.get("lifecycle") == (None if way.prestop is None else {"preStop": way.prestop})
    callers = ways.callers(way, way.target or "127.0.0.1:1", "image")
    assert [each["metadata"]["name"] for each in callers] == ["sync", "aio"]
    for each in callers:
        pod = each["spec"]["template"]["spec"]
        assert (way.target or "127.0.0.1:1") in pod["containers"][0]["args"]
        assert bool(pod.get("initContainers")) == way.sidecar
    assert set(ways.configuration(way)) >= {"servers.yaml", "callers.yaml", *fronts.FILES.get(way.front, ())}


def test_an_envoy_beside_a_client_listens_in_its_pod_alone() -> None:
    text = (fronts.EXAMPLES / "envoy" / "envoy.yaml").read_text()
    found = fronts.beside(text, "web-headless", 50051)
    assert "admin" not in found
    assert found["static_resources"]["clusters"][0]["ignore_health_on_host_removal"]
    written = json.dumps(found)
    assert written.count('"port_value"') == 2
    assert '"address": "web-headless", "port_value": 50051' in written
    assert f'"port_value": {fronts.SIDECAR_PORT}' in written


def test_nginx_follows_a_name() -> None:
    found = fronts.configuration("nginx")["nginx.conf"]
    assert "resolver kube-dns valid=1s" in found
    assert 'set $greeter "web-headless:50051";' in found
    assert "upstream" not in re.sub(r"#.*|grpc_next_upstream\w*", "", found)
    assert found.count("{") == found.count("}")


def test_envoy_forgets_hosts_that_discovery_does_not_name() -> None:
    assert "ignore_health_on_host_removal: true" in fronts.configuration("envoy")["envoy.yaml"]
