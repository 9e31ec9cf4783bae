"""The dashboard in the chart: it is what its table says, of metrics that there are, and a real Prometheus answers each of its queries."""

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from drain._observe.measures import MEASURES, Kind
from tests._parts import prometheus
from tests._parts.making import PartMissingError
from tests.helm import _dashboard
from tests.helm._scene.scene import NAMESPACE, Scene
from tests.helm.conftest import Objects

BOARD = json.loads(_dashboard.FILE.read_text())
QUERIES = [(panel["title"], target["expr"]) for panel in BOARD["panels"] for target in panel.get("targets", ())]
# Of nothing that goes wrong in this scene, or of an API server, which is not in it.
SILENT = {"Faults of drains", "Watches that ended", "Without lossless GOAWAY", "Stale targets", "Calls cut"}
ALSO = "resolver_propagation"


def filled(expression: str) -> str:
    """As Grafana would ask."""
    return expression.replace("$namespace", NAMESPACE).replace("$pod", ".*").replace("$__range", "1m")


def test_it_is_what_its_table_says() -> None:
    """Changed? python -m tests.helm._dashboard"""
    assert _dashboard.FILE.read_text() == _dashboard.made()


def test_its_metrics_are_those_that_there_are() -> None:
    known = set()
    for name, measure in MEASURES.items():
        full = f"drain_{name}{'_seconds' if measure.unit == 's' else ''}"
        known |= (
            {f"{full}_bucket"}
            if measure.kind is Kind.HISTOGRAM
            else {f"{full}_total" if measure.kind is Kind.COUNTER else full}
        )
    used = {name for _, query in QUERIES for name in re.findall(r"\bdrain_\w+", query)}
    assert used <= known
    assert len(used) > 15
    assert all("$namespace" in query and "$pod" in query for _, query in QUERIES)


def test_ids_and_places_do_not_collide() -> None:
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        where = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(where["x"], where["x"] + where["w"])
            for y in range(where["y"], where["y"] + where["h"])
        }
        assert not cells & taken, panel["title"]
        assert where["x"] + where["w"] <= 24
        taken |= cells


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Three pods, of which one is replaced while all of them call."""
    try:
        program = prometheus.server(lambda line: print(line, file=sys.stderr, flush=True))
    except PartMissingError as error:
        pytest.fail(f"tests/helm needs Prometheus: {error}", pytrace=False)
    made = Scene(tmp_path_factory.mktemp("scene"), program)
    try:
        first = made.start()
        made.start()
        made.until_scraped("drain_connections > 1")
        made.start()
        made.leave(first)
        made.until_scraped('drain_drains_total{outcome="clean"}')
        made.until_scraped("drain_resolver_update_seconds_count")
        yield made
    finally:
        made.close()


@pytest.mark.parametrize(
    ("title", "query"), QUERIES, ids=[f"{title}-{number}" for number, (title, _) in enumerate(QUERIES)]
)
def test_prometheus_answers(scene: Scene, title: str, query: str) -> None:
    """Every query is one; and where something happened, there is something to see."""
    answer: list[dict[str, Any]] = scene.ask(filled(query))
    if title not in SILENT and ALSO not in query:
        now = {"Leaving now", "Least time left", "Time left"}  # seen only while it lasts
        assert answer or title in now, query


def test_the_chart_ships_it(render: Any) -> None:
    """As a ConfigMap with the label that Grafana's sidecar looks for, and only if it is wanted."""
    assert not [name for name in render() if name.startswith("ConfigMap/")]
    objects: Objects = render(
        metrics={"enabled": True, "dashboard": {"enabled": True, "labels": {"team": "shop"}, "folder": "gRPC"}}
    )
    (shipped,) = [each for name, each in objects.items() if name.startswith("ConfigMap/")]
    assert json.loads(shipped["data"]["grpc-drain.json"]) == BOARD
    assert (shipped["metadata"]["labels"]["grafana_dashboard"], shipped["metadata"]["labels"]["team"]) == ("1", "shop")
    assert shipped["metadata"]["annotations"] == {"grafana_folder": "gRPC"}
