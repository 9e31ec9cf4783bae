"""The alerts in the chart: Prometheus itself reads them, and each fires for what it is about, and for nothing else."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests._parts import prometheus
from tests._parts.making import PartMissingError
from tests.helm.conftest import SERVICE, HelmError, Objects

RULES = SERVICE / "files" / "alerts.yaml"
PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
POD = 'namespace="shop", pod="orders-1"'
# (what is seen, once a minute; what fires, and with which labels; what it looks like when all is well)
FIRES = {
    "DrainEndpointsStale": ({f'drain_resolver_stale{{{POD}, target="kubernetes:///a:1"}}': "1x20"}, {"target": "kubernetes:///a:1"}, "0x20"),
    "DrainTargetWithoutEndpoints": (
        {f'drain_resolver_endpoints{{{POD}, target="kubernetes:///a:1", state="ready"}}': "0x20"},
        {"target": "kubernetes:///a:1"},
        "3x20",
    ),
    "DrainCallsCut": ({f'drain_calls_while_leaving_total{{{POD}, outcome="cancelled"}}': "0x5 3x15"}, {}, "0x20"),
    "DrainOverBudget": (
        {f'drain_server_state{{{POD}, server="[::]:50051", state="finishing"}}': "1x20"},
        {"server": "[::]:50051"},
        "1x5 0x15",
    ),
    "DrainNearKill": (
        {
            f'drain_time_left_seconds{{{POD}, server="[::]:50051"}}': "0.4x20",
            f'drain_calls_in_flight{{{POD}, server="[::]:50051"}}': "2x20",
        },
        {"server": "[::]:50051"},
        "20x20",
    ),
    "DrainClassic": (
        {f'drain_server_info{{{POD}, server="[::]:50051", goaway="classic"}}': "1x20"},
        {"server": "[::]:50051"},
        "1x5 0x15",
    ),
    "DrainUpdatesRefused": ({f"drain_control_plane_nacks_total{{{POD}}}": "0x5 1x15"}, {}, "0x20"),
}  # fmt: skip
AT = "15m"


@pytest.fixture(scope="session")
def promtool() -> Callable[..., str]:
    try:
        program = prometheus.promtool(lambda line: print(line, file=sys.stderr, flush=True))
    except PartMissingError as error:
        pytest.fail(f"tests/helm needs promtool: {error}", pytrace=False)

    def run(*arguments: str | Path) -> str:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def rules() -> dict[str, dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {each["alert"]: each for each in group["rules"]}


def test_prometheus_reads_them(promtool: Callable[..., str]) -> None:
    assert f"SUCCESS: {len(FIRES)} rules found" in promtool("check", "rules", RULES)
    assert set(rules()) == set(FIRES) == set(re.findall(r"^\| `(Drain\w+)`", PAGE.read_text(), re.MULTILINE))


@pytest.mark.parametrize("alert", FIRES)
def test_each_fires_for_what_it_is_about(promtool: Callable[..., str], tmp_path: Path, alert: str) -> None:
    """And not when all is well."""
    series, labels, well = FIRES[alert]
    fired = _fired(alert, labels)
    tests = [
        {"interval": "1m", "input_series": [{"series": name, "values": values} for name, values in series.items()],
         "alert_rule_test": [{"eval_time": AT, "alertname": alert, "exp_alerts": [fired]}]},
        {"interval": "1m", "input_series": [{"series": next(iter(series)), "values": well}, *({"series": name, "values": values} for name, values in list(series.items())[1:])],
         "alert_rule_test": [{"eval_time": AT, "alertname": alert, "exp_alerts": []}]},
        {"interval": "1m", "input_series": [], "alert_rule_test": [{"eval_time": AT, "alertname": alert, "exp_alerts": []}]},
    ]  # fmt: skip
    _judge(promtool, tmp_path, tests)


def test_near_a_kill_is_told_of_a_process_that_has_gone(promtool: Callable[..., str], tmp_path: Path) -> None:
    """Its series ended with its last scrape; the alert stands for some minutes, and not for ever."""
    fired = _fired("DrainNearKill", {"server": "[::]:50051"})
    series = {"drain_time_left_seconds": "18 3 stale", "drain_calls_in_flight": "9 2 stale"}
    test = {
        "interval": "15s",
        "input_series": [
            {"series": f'{name}{{{POD}, server="[::]:50051"}}', "values": values} for name, values in series.items()
        ],
        "alert_rule_test": [
            {"eval_time": at, "alertname": "DrainNearKill", "exp_alerts": expected}
            for at, expected in (("0m", []), ("2m", [fired]), ("4m", [fired]), ("7m", []))
        ],
    }
    _judge(promtool, tmp_path, [test])


def _fired(alert: str, labels: dict[str, str]) -> dict[str, Any]:
    """The alert of that pod, as promtool expects it."""
    rule, expected = rules()[alert], {"namespace": "shop", "pod": "orders-1", **labels}
    texts = {name: _filled(text, expected) for name, text in rule["annotations"].items()}
    return {"exp_labels": {**expected, **rule["labels"]}, "exp_annotations": texts}


def _judge(promtool: Callable[..., str], folder: Path, tests: list[dict[str, Any]]) -> None:
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    promtool("test", "rules", file)


def _filled(text: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], text)


def test_they_speak_of_metrics_that_there_are() -> None:
    documented = set(re.findall(r"`(drain_\w+)`", PAGE.read_text()))
    for rule in rules().values():
        named = set(re.findall(r"drain_\w+", rule["expr"]))
        assert named
        assert named <= documented


def test_the_chart_has_them(render: Callable[..., Objects]) -> None:
    """As they are; where they are wanted, and the cluster knows the kind."""
    wanted = {"enabled": True, "alerts": {"enabled": True, "labels": {"release": "mine"}}}
    assert not [name for name in render(metrics=wanted) if name.startswith("PrometheusRule")]
    knows = "--api-versions=monitoring.coreos.com/v1/PrometheusRule"
    for objects in (
        render(SERVICE, knows, metrics=wanted),
        render(metrics={**wanted, "alerts": {**wanted["alerts"], "force": True}}),
    ):  # type: ignore[dict-item]
        (made,) = (each for name, each in objects.items() if name.startswith("PrometheusRule"))
        assert made["spec"] == yaml.safe_load(RULES.read_text())
        assert made["metadata"]["labels"]["release"] == "mine"
    with pytest.raises(HelmError, match=r"metrics\.enabled is false"):
        render(metrics={"alerts": {"enabled": True}})
