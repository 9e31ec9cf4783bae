"""`drain doctor` on manifests: what is wrong is found, by its rule and its line, and nothing else is."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from drain._cli.doctor import command
from drain._doctor import page
from drain._doctor.finding import PAGE, Severity
from drain._doctor.model import Surroundings, Workload
from drain._doctor.pair import Pair
from drain._doctor.rule import RULES
from tests.unit.doctor.planted import GOOD, PLANTED, Plant, judged

ROOT = Path(__file__).parents[3]
GOOD_ONES = sorted(GOOD.iterdir())
OURS = (
    ROOT / "examples/manifests",
    ROOT / "examples/prestop/manifests.yaml",
    *(ROOT / f"tests/helm/snapshots/{name}.yaml" for name in ("defaults", "everything", "sleep", "standalone")),
)


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: f"{plant.rule}-{plant.manifest}")
def test_a_planted_fault_is_found(plant: Plant) -> None:
    """By its rule alone; and the line that is named is the one to change."""
    text = plant.text()
    examined = judged(text)
    assert {each.rule for each in examined.findings} == {plant.rule}
    assert not examined.unreadable
    assert all(each.what and each.why and each.source.startswith("https://") for each in examined.findings)
    if plant.line:
        lines = text.splitlines()
        named = [lines[(each.place.line or 0) - 1] for each in examined.findings]
        assert all(plant.line in line for line in named), named


@pytest.mark.parametrize("path", GOOD_ONES, ids=lambda path: path.name)
def test_a_good_manifest_has_no_finding(path: Path) -> None:
    examined = judged(path.read_text())
    assert examined.findings == ()
    assert examined.unreadable == ()
    assert examined.judged


def test_there_are_as_many_as_were_promised() -> None:
    assert len(PLANTED) >= 25
    assert len(GOOD_ONES) == 10
    planted = {each.rule for each in PLANTED}
    of_manifests = {name for name, rule in RULES.items() if rule.subject in (Workload, Surroundings)}
    alone = {"budget-selects-nothing"}  # tested below: two rules find it
    assert of_manifests - planted == alone


def test_a_budget_that_selects_nothing() -> None:
    """And so there is none, which is said, too."""
    text = (GOOD / "sleep.yaml").read_text().replace("values: [pricing, pricing-canary]", "values: [prcing]")
    assert [each.rule for each in judged(text).findings] == ["budget-selects-nothing", "budget-missing"]


def test_the_only_replica() -> None:
    """Its budget, which lets nobody leave, is told of, too."""
    text = (GOOD / "sleep.yaml").read_text().replace("replicas: 3", "replicas: 1")
    assert {each.rule for each in judged(text).findings} == {"single-replica", "budget-blocks"}


def test_a_lone_pod() -> None:
    body = yaml.safe_load((GOOD / "daemonset.yaml").read_text())["spec"]["template"]
    text = yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", **body, "metadata": {"name": "agent"}})
    assert [each.rule for each in judged(text).findings] == ["single-replica"]


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_what_we_ship_is_clean(path: Path) -> None:
    done = CliRunner().invoke(command, ["-f", str(path)])
    assert done.exit_code == 0, done.output
    assert "nothing that would lose a call" in done.output


def test_each_rule_says_who_says_so_and_is_documented() -> None:
    text = (ROOT / PAGE).read_text()
    made, end = text.index(page.BEGIN) + len(page.BEGIN), text.index(page.END)
    assert text[made:end].strip() == page.markdown().strip(), "docs/doctor.md: take over what drain._doctor.page makes"
    sections = set(re.findall(r"^### ([a-z0-9-]+)$", text, re.MULTILINE))
    assert sections == set(RULES)
    for name, rule in RULES.items():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
        assert rule.source.startswith("https://")
        assert rule.why.endswith((".", ".)"))
        assert rule.check.__doc__


def test_a_workload_of_which_nothing_says_that_it_serves_grpc_is_named() -> None:
    examined = judged((GOOD / "chart-output.yaml").read_text())
    assert examined.passed_over == ("Deployment release-name-worker",)


def test_findings_are_sorted_by_severity() -> None:
    text = PLANTED[0].text().replace("minReplicas: 3", "minReplicas: 1")
    severities = [each.severity for each in judged(text).findings]
    assert severities == sorted(severities, reverse=True)
    assert severities[0] is Severity.ERROR


def test_a_template_that_was_not_rendered() -> None:
    examined = judged("kind: Deployment\nmetadata: {name: {{ .Release.Name }}}\n")
    (bad,) = examined.unreadable
    assert bad.line == 2
    assert "helm template" in bad.why


def test_the_change_heals() -> None:
    """What is told to be written at that line leaves nothing to find: the one-line changes, applied as they are."""
    healed = 0
    for plant in PLANTED:
        text = plant.text()
        (found, *_) = judged(text).findings
        change = found.change.partition("  #")[0]
        if not found.place.present or "\n" in found.change or not change or change.startswith("#"):
            continue
        lines = text.splitlines()
        line = lines[(found.place.line or 0) - 1]
        key = change.partition(":")[0]
        pattern = rf"{re.escape(key)}: *(\"[^\"]*\"|\[[^\]]*\]|[^,}}#\n]+)"
        if len(re.findall(pattern, line)) != 1 or plant.manifest.endswith(".json"):
            continue
        lines[(found.place.line or 0) - 1] = re.sub(pattern, lambda _: change, line)  # noqa: B023
        again = judged("\n".join(lines)).findings
        assert plant.rule not in {each.rule for each in again}, (plant.rule, change, again)
        healed += 1
    assert healed >= 15


def invoke(*arguments: str, text: str | None = None) -> Any:
    return CliRunner().invoke(command, list(arguments), input=text)


def test_exit_codes() -> None:
    by_rule = {each.rule: each for each in PLANTED}
    assert invoke("-f", "-", text=by_rule["budget-missing"].text()).exit_code == 0
    assert invoke("-f", "-", text=by_rule["session-affinity"].text()).exit_code == 1
    assert invoke("-f", "-", text=by_rule["shell-pid1"].text()).exit_code == 3
    assert invoke("-f", "-", text="a: [").exit_code == 65
    assert invoke("-f", "/nowhere/at/all.yaml").exit_code == 65
    assert invoke("-f", "x", "-n", "y").exit_code == 2
    assert invoke("--server", "x").exit_code == 2
    assert invoke("-n", "shop", "cronjob/x").exit_code == 2
    assert invoke("--explain", "nothing").exit_code == 2


def test_no_server_at_all_is_said() -> None:
    done = invoke("-f", "-", text="kind: ConfigMap\nmetadata: {name: x}\n")
    assert "no gRPC server found" in done.output


def test_the_text_shows_what_is_there_and_what_to_write() -> None:
    plant = next(each for each in PLANTED if each.rule == "shell-pid1" and each.manifest == "sleep.yaml")
    done = invoke("-f", "-", text=plant.text())
    assert '- command: ["/bin/sh", "-c", "ulimit -n 65536 && python -m pricing"]' in done.output
    assert "+ command: [/bin/sh, -c, 'ulimit -n 65536 && exec python -m pricing']" in done.output
    assert "spec.template.spec.containers[0].command" in done.output


def test_json() -> None:
    plant = PLANTED[0]
    told = yaml.safe_load(invoke("--json", "-f", "-", text=plant.text()).output)
    assert told["worst"] == "error"
    (finding,) = told["findings"]
    assert (finding["rule"], finding["severity"], finding["source_file"]) == ("grace-too-short", "error", "-")
    assert finding["page"] == "docs/doctor.md#grace-too-short"


def test_a_folder(tmp_path: Path) -> None:
    """Files of one folder are one set: a client in one, its server in another."""
    for n, part in enumerate((GOOD / "drain-server.yaml").read_text().split("\n---\n")):
        (tmp_path / f"{n}.yaml").write_text(part)
    done = invoke("-f", str(tmp_path))
    assert (done.exit_code, "2 workloads judged" in done.output) == (0, True), done.output
    assert invoke("-f", str(tmp_path / "none")).exit_code == 65


def test_explanations() -> None:
    assert all(name in invoke("--explain", "all").output for name in RULES)
    assert RULES["shell-pid1"].source in invoke("--explain", "shell-pid1").output


def test_pairs_are_found_in_manifests() -> None:
    assert any(rule.subject is Pair for rule in RULES.values())


ISTIO = "          terminationDrainDuration: 40s\n          concurrency: 2\n"
ZERO = '          proxyMetadata:\n            EXIT_ON_ZERO_ACTIVE_CONNECTIONS: "true"\n'
LINKERD = '        config.alpha.linkerd.io/proxy-wait-before-exit-seconds: "30"\n'
NATIVE = '        config.beta.linkerd.io/proxy-enable-native-sidecar: "true"\n'
SIDECAR = "      initContainers: [{name: istio-proxy, image: x, restartPolicy: Always}]\n      containers:\n"
NLB = "service.beta.kubernetes.io/aws-load-balancer-target-group-attributes"


@pytest.mark.parametrize(
    ("manifest", "changes", "rules"),
    [
        ("istio.yaml", [(ISTIO, ZERO)], set()),
        ("istio.yaml", [(ISTIO, "          [no yaml\n")], {"istio-drain"}),
        ("istio.yaml", [(ISTIO, "          concurrency: 2\n"), ("      containers:\n", SIDECAR)], set()),
        ("istio.yaml", [(ISTIO, "          concurrency: 2\n"), ('inject: "true"', 'inject: "false"')], set()),
        ("linkerd.yaml", [(LINKERD, NATIVE)], set()),
        ("linkerd.yaml", [(LINKERD, ""), ("inject: enabled", "inject: disabled")], set()),
        ("alb.yaml", [("metadata: {name: gateway, namespace: edge}\nspec: {selector", f"metadata: {{name: gateway, namespace: edge, annotations: {{{NLB}: deregistration_delay.timeout_seconds=0}}}}\nspec: {{selector")], {"deregistration-delay"}),
        ("sleep.yaml", [("kind: Service", "kind: Service\n# another namespace's, so it is not this one's"), ("metadata:\n  name: pricing\nspec:\n  selector:", "metadata:\n  name: pricing\n  namespace: other\nspec:\n  sessionAffinity: ClientIP\n  selector:"), ("metadata:\n  name: pricing\nspec:\n  replicas", "metadata:\n  name: pricing\n  namespace: this\nspec:\n  replicas")], set()),
        ("drain-server.yaml", [("value: 5m", "value: none")], set()),
        ("drain-server.yaml", [("kubernetes:///orders:grpc", "kubernetes:///orders.other:grpc")], set()),  # whose Roles are not here
    ],
)  # fmt: skip
def test_variants(manifest: str, changes: list[tuple[str, str]], rules: set[str]) -> None:
    """What changes nothing, and what a second way of saying it changes."""
    text = (GOOD / manifest).read_text()
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    examined = judged(text)
    assert {each.rule for each in examined.findings} == rules
    assert not examined.unreadable
