"""The Grafana dashboard, as a table of panels: `python -m tests.helm._dashboard` writes helm/grpc-service/files/dashboard.json.

Made with Grafana's own Foundation SDK, so that the JSON is what Grafana's schema says.
"""

from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

FILE = Path(__file__).parents[2] / "helm" / "grpc-service" / "files" / "dashboard.json"
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
IN = 'namespace=~"$namespace", pod=~"$pod"'
COLOURS = {  # as in drain's own pages
    "starting": "#8ab8ff", "serving": "#73bf69", "paused": "#fade2a", "announcing": "#ff9830", "closing": "#fa6400", "finishing": "#b877d9",
    "stopped": "#808080", "cancelled": "#f2495c", "refused": "#ff7383", "finished": "#73bf69", "nobody came back": "#73bf69",
    "endpoint left": "#96d98d", "announce_timeout": "#ff9830", "announce_delay": "#8ab8ff", "skipped": "#808080", "forced": "#f2495c",
}  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """A panel with lines over time. `queries`: (PromQL, what a line is called); `{IN}` chooses namespace and pods."""

    title: str
    about: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    stacked: bool = False


@dataclass(frozen=True)
class Number:
    """A panel with one number; `bad`: red from this on."""

    title: str
    about: str
    query: str
    unit: str = "short"
    bad: float | None = None


Panel = Chart | Number

ROWS: dict[str, tuple[Panel, ...]] = {
    "At a glance": (
        Number("Drains", "That are over, within the time shown.", "sum(increase(drain_drains_total{{{IN}}}[$__range]))"),
        Number(
            "Calls cut",
            "Calls that were cancelled when the time of a drain was up. 0 is the promise.",
            'sum(increase(drain_calls_while_leaving_total{{{IN}, outcome="cancelled"}}[$__range]))',
            bad=1,
        ),
        Number("Leaving now", "Servers in one of the phases of a drain.", 'sum(drain_server_state{{{IN}, state=~"announcing|closing|finishing"}})'),
        Number("Least time left", "Of the drains that are under way.", "min(drain_time_left_seconds{{{IN}}})", "s"),
        Number("Without lossless GOAWAY", "Servers that will leave the classic way.", 'sum(drain_server_info{{{IN}, goaway="classic"}}) or vector(0)', bad=1),
        Number("Stale targets", "Targets that are no longer followed.", "sum(drain_resolver_stale{{{IN}}}) or vector(0)", bad=1),
    ),
    "Leaving": (
        Chart("Servers by state", "A rollout, as it goes.", (("sum by (state) (drain_server_state{{{IN}}})", "{{state}}"),), stacked=True),
        Chart("Time left", "Until a drain is over at the latest. Near 0 with calls in flight: they will be cut.", (("min by (pod, server) (drain_time_left_seconds{{{IN}}})", "{{pod}} {{server}}"),), "s"),
        Chart("Calls while leaving", "Finished, cancelled (cut), refused; a minute.", (("sum by (outcome) (increase(drain_calls_while_leaving_total{{{IN}}}[1m]))", "{{outcome}}"),)),
        Chart(
            "How long phases take",
            "Median, and 0.99.",
            (
                ("histogram_quantile(0.5, sum by (le, phase) (increase(drain_phase_seconds_bucket{{{IN}}}[$__range])))", "{{phase}} median"),
                ("histogram_quantile(0.99, sum by (le, phase) (increase(drain_phase_seconds_bucket{{{IN}}}[$__range])))", "{{phase}} 0.99"),
            ),
            "s",
        ),
        Chart("What ended announcing", "announce_timeout: somebody kept coming back until the end.", (("sum by (why) (increase(drain_announcing_ended_total{{{IN}}}[1m]))", "{{why}}"),)),
        Chart("Faults of drains", "Steps that failed or outlasted their bound, and fallbacks; a minute.", (("sum by (step) (increase(drain_steps_failed_total{{{IN}}}[1m]))", "{{step}}"), ("sum by (what) (increase(drain_fallbacks_total{{{IN}}}[1m]))", "without {{what}}"))),
    ),
    "Serving": (
        Chart("Calls in flight", "By pod.", (("sum by (pod) (drain_calls_in_flight{{{IN}}})", "{{pod}}"),), stacked=True),
        Chart("Connections", "By pod: even, where rebalancing works.", (("sum by (pod) (drain_connections{{{IN}}})", "{{pod}}"),)),
        Chart("Connections, most over mean", "1: spread evenly.", (("max(sum by (pod) (drain_connections{{{IN}}})) / avg(sum by (pod) (drain_connections{{{IN}}}))", "most over mean"),)),
        Chart("Age of connections", "The oldest of each pod: bounded by max_connection_age.", (('max by (pod) (drain_connection_age_seconds{{{IN}, quantile="1"}})', "{{pod}}"),), "s"),
        Chart("Rotations", "GOAWAY rounds while serving or announcing, and rebalancing; a minute.", (("sum(increase(drain_rotations_total{{{IN}}}[1m]))", "rotations"), ("sum(increase(drain_rebalances_total{{{IN}}}[1m]))", "rebalances"))),
    ),
    "Following": (
        Chart("Endpoints", "Of each target, by state.", (("max by (target, state) (drain_resolver_endpoints{{{IN}}})", "{{target}} {{state}}"),)),
        Chart("Not followed for", "Its endpoints are kept meanwhile.", (("max by (pod, target) (drain_resolver_failing_seconds{{{IN}}})", "{{pod}} {{target}}"),), "s"),
        Chart(
            "How long news take",
            "0.99: from the cluster to here (by its clock, to the second), and from here until grpc has it.",
            (
                ("histogram_quantile(0.99, sum by (le) (increase(drain_resolver_propagation_seconds_bucket{{{IN}}}[$__range])))", "cluster to here"),
                ("histogram_quantile(0.99, sum by (le) (increase(drain_resolver_update_seconds_bucket{{{IN}}}[$__range])))", "here to grpc"),
            ),
            "s",
        ),
        Chart("Watches that ended", "By why; a minute. closed is normal.", (("sum by (why) (increase(drain_resolver_restarts_total{{{IN}}}[1m]))", "{{why}}"),)),
        Chart("Updates", "Sets of endpoints that differed; those that grpc refused; failures; a minute.", (("sum(increase(drain_resolver_updates_total{{{IN}}}[1m]))", "updates"), ("sum(increase(drain_resolver_refused_total{{{IN}}}[1m]))", "refused"), ("sum(increase(drain_resolver_failures_total{{{IN}}}[1m]))", "failures"), ("sum(increase(drain_control_plane_nacks_total{{{IN}}}[1m]))", "NACKs"))),
    ),
}  # fmt: skip


def expression(query: str) -> str:
    """PromQL as it stands in the dashboard."""
    return query.replace("{{{IN}", "{" + IN).replace("}}", "}")


def made() -> str:
    """The file, as it should be."""
    board = (
        dashboard.Dashboard("gRPC drain")
        .uid("grpc-drain")
        .description("How gRPC servers leave, and how their clients follow: drain.metrics.")
        .tags(["grpc", "drain"])
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_variable("namespace", "label_values(drain_server_info, namespace)"))
        .with_variable(
            _variable(
                "pod",
                'label_values({__name__=~"drain_server_info|drain_resolver_stale", namespace=~"$namespace"}, pod)',
            )
        )
    )
    ids = iter(range(1, 1000))
    for title, panels in ROWS.items():
        board = board.with_row(dashboard.Row(title).id(next(ids)))
        for panel in panels:
            board = board.with_panel((_number(panel) if isinstance(panel, Number) else _chart(panel)).id(next(ids)))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _variable(name: str, query: str) -> dashboard.QueryVariable:
    made = dashboard.QueryVariable(name).label(name).query(query).datasource(SOURCE)
    return made.include_all(True).multi(True).all_value(".*").refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)


def _number(panel: Number) -> stat.Panel:
    steps = [models.Threshold(color="green", value=None)]
    steps += [models.Threshold(color="red", value=panel.bad)] if panel.bad is not None else []
    thresholds = dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
    made = (
        stat.Panel()
        .title(panel.title)
        .description(panel.about)
        .datasource(SOURCE)
        .unit(panel.unit)
        .decimals(0)
        .height(4)
        .span(4)
    )
    query = prometheus.Dataquery().expr(expression(panel.query)).instant().ref_id("A")
    made = made.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return made.thresholds(thresholds).graph_mode(common_models.BigValueGraphMode.NONE).with_target(query).no_value("-")


def _chart(panel: Chart) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.about)
        .datasource(SOURCE)
        .unit(panel.unit)
        .height(8)
        .span(8)
    )
    made = (
        made.min(0)
        .fill_opacity(30 if panel.stacked else 10)
        .line_width(1)
        .show_points(common_models.VisibilityMode.NEVER)
    )
    if panel.stacked:
        made = made.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
    for number, (query, called) in enumerate(panel.queries):
        made = made.with_target(
            prometheus.Dataquery().expr(expression(query)).legend_format(called).ref_id("ABCDEF"[number]).range()
        )
        if called in ("{{state}}", "{{outcome}}", "{{why}}"):
            for name, colour in COLOURS.items():
                fixed = models.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour})
                made = made.override_by_name(name, [fixed])
    return made


if __name__ == "__main__":
    FILE.write_text(made())
