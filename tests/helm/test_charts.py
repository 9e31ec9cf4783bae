"""What the charts make, and what they refuse."""

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import drain
from tests.helm.conftest import HELM, IMAGE, SERVICE, HelmError, Objects, Values, environment, pod, server

SNAPSHOTS = Path(__file__).parent / "snapshots"
UPDATE = "UPDATE_SNAPSHOTS"
EVERYTHING: Values = {
    "replicaCount": 4,
    "command": ["/app/server"],
    "args": ["--verbose"],
    "env": [{"name": "LEVEL", "value": "info"}],
    "envFrom": [{"configMapRef": {"name": "shop"}}],
    "ports": [{"name": "debug", "containerPort": 6060}],
    "resources": {"requests": {"cpu": "100m"}},
    "imagePullSecrets": [{"name": "registry"}],
    "initContainers": [{"name": "migrate", "image": "example.org/migrate:1"}],
    "sidecars": [{"name": "logs", "image": "example.org/logs:1"}],
    "volumes": [{"name": "data", "emptyDir": {}}],
    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "shop"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "priorityClassName": "high",
    "service": {"trafficDistribution": "PreferSameZone", "annotations": {"c": "d"}},
    "autoscaling": {"enabled": True},
    "networkPolicy": {"enabled": True, "from": [{"podSelector": {}}]},
    "metrics": {"enabled": True, "monitor": {"kind": "PodMonitor", "force": True}},
    "drain": {
        "announceTimeout": 10,
        "drainTimeout": 60,
        "streamGrace": 30,
        "terminationGracePeriodSeconds": 90,
        "keepalive": {"maxConnectionAge": 600, "maxConnectionAgeGrace": "none"},
        "rebalance": {"enabled": True, "spread": 20},
        "zone": "a",
        "tmp": {"medium": "Memory", "sizeLimit": "16Mi"},
    },
}
CASES: dict[str, Values] = {
    "defaults": {},
    "standalone": {"drain": {"preStop": {"mode": "standalone", "settle": 3}, "announceTimeout": 15}},
    "sleep": {"drain": {"preStop": {"mode": "sleep"}}},
    "none": {
        "drain": {
            "preStop": {"mode": "none"},
            "watchEndpoint": False,
            "kubernetesEvents": False,
            "probes": {"enabled": False},
        }
    },
    "everything": EVERYTHING,
}
cases = pytest.mark.parametrize("case", CASES)


@pytest.mark.parametrize("chart", ["drain-lib", "grpc-service"])
def test_lint(helm: Callable[..., str], chart: str) -> None:
    assert "0 chart(s) failed" in helm(
        "lint", "--strict", HELM / chart, values={"image": IMAGE} if chart == "grpc-service" else {}
    )


def test_a_package_has_the_library_in_it(
    helm: Callable[..., str], render: Callable[..., Objects], tmp_path: Path
) -> None:
    """In the repository it is a link to the folder beside the chart; no repository of charts is asked."""
    helm("package", SERVICE, f"--destination={tmp_path}")
    (package,) = tmp_path.glob("grpc-service-*.tgz")
    assert render(package) == render()


@cases
def test_snapshots(helm: Callable[..., str], case: str) -> None:
    """What is made is what was looked at. Look at the difference; then UPDATE_SNAPSHOTS=1 pytest tests/helm takes it over."""
    made = helm("template", "shop", SERVICE, "--namespace=front", values={"image": IMAGE, **CASES[case]})
    kept = SNAPSHOTS / f"{case}.yaml"
    if os.environ.get(UPDATE):
        kept.write_text(made)
    before = kept.read_text().splitlines(keepends=True)
    different = "".join(difflib.unified_diff(before, made.splitlines(keepends=True), str(kept), "made"))
    assert not different, f"{different}\nAs it should be? {UPDATE}=1 pytest tests/helm"


@cases
def test_whatever_is_named_is_there(render: Callable[..., Objects], case: str) -> None:
    """Selectors, ports, accounts, volumes."""
    objects = render(**CASES[case])
    deployment = objects["Deployment/shop-grpc-service"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    of = {
        kind: [each for each in objects.values() if each["kind"] == kind]
        for kind in {each["kind"] for each in objects.values()}
    }
    assert all(each["metadata"]["namespace"] == "front" for each in objects.values())
    selectors = [deployment["spec"]["selector"]["matchLabels"], *(each["spec"]["selector"] for each in of["Service"])]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in of.get("PodDisruptionBudget", ())]
    selectors += [each["spec"]["podSelector"]["matchLabels"] for each in of.get("NetworkPolicy", ())]
    selectors += [each["labelSelector"]["matchLabels"] for each in pod(deployment).get("topologySpreadConstraints", ())]
    for selector in selectors:
        assert selector.items() <= labels.items()
    ports = {each["name"]: each["containerPort"] for each in server(objects)["ports"]}
    named = [port["targetPort"] for each in of["Service"] for port in each["spec"]["ports"]]
    named += [
        port["port"]
        for each in of.get("NetworkPolicy", ())
        for rule in each["spec"]["ingress"]
        for port in rule["ports"]
    ]
    assert set(named) <= set(ports)
    for kind in ("readinessProbe", "livenessProbe", "startupProbe"):
        if kind in server(objects):
            assert server(objects)[kind]["grpc"]["port"] == ports["grpc"]
    account = pod(deployment)["serviceAccountName"]
    assert f"ServiceAccount/{account}" in objects
    for binding in of.get("RoleBinding", ()):
        assert f"Role/{binding['roleRef']['name']}" in objects
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "front"}]
    volumes = {each["name"] for each in pod(deployment)["volumes"]}
    for container in pod(deployment)["containers"]:
        assert {each["name"] for each in container.get("volumeMounts", ())} <= volumes
    for scaler in of.get("HorizontalPodAutoscaler", ()):
        assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
        assert "replicas" not in deployment["spec"], "each upgrade would undo what the autoscaler did"


@cases
def test_pods_are_restricted(render: Callable[..., Objects], case: str) -> None:
    """As the Pod Security Standard "restricted" has it, users' own containers included; and none is taken away first."""
    deployment = render(**CASES[case])["Deployment/shop-grpc-service"]
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    spec = pod(deployment)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        security = container["securityContext"]
        assert (security["allowPrivilegeEscalation"], security["readOnlyRootFilesystem"]) == (False, True), container[
            "name"
        ]
        assert security["capabilities"] == {"drop": ["ALL"]}


RULES = {
    "defaults": [("endpointslices", ["list", "watch"]), ("pods", ["get"]), ("events", ["create"])],
    "standalone": [("endpointslices", ["list", "watch"])],
    "sleep": [],
    "none": [],
}


@pytest.mark.parametrize("case", RULES)
def test_no_more_is_allowed_than_is_looked_at(render: Callable[..., Objects], case: str) -> None:
    role = render(**CASES[case]).get("Role/shop-grpc-service", {"rules": []})
    assert [(each["resources"][0], each["verbs"]) for each in role["rules"]] == RULES[case]


BUDGETS: list[tuple[Values, int, str]] = [
    ({}, 30, "30"),
    ({"drainTimeout": 60}, 70, "70"),
    ({"announceTimeout": 0, "drainTimeout": 5}, 7, "7"),
    ({"drainTimeout": 20.5}, 31, "31"),
    ({"terminationGracePeriodSeconds": 90}, 90, "90"),
    ({"preStop": {"mode": "sleep", "sleepSeconds": 10}}, 32, "22"),
    ({"preStop": {"mode": "standalone"}, "announceTimeout": 15}, 37, "22"),
]


@pytest.mark.parametrize(("values", "period", "told"), BUDGETS)
def test_one_budget(render: Callable[..., Objects], values: Values, period: int, told: str) -> None:
    """The period is the sum; the server is told what is left to it after a hook that takes its time from it. And drain agrees."""
    objects = render(drain=values)
    given = environment(objects)
    assert pod(objects["Deployment/shop-grpc-service"])["terminationGracePeriodSeconds"] == period
    assert given["DRAIN_TERMINATION_GRACE_PERIOD"] == told
    policy = drain.DrainPolicy().overridden_by(given)
    assert policy.announce_timeout + policy.finishing_time + policy.reserve <= float(told)


@cases
def test_drain_accepts_the_environment(render: Callable[..., Objects], case: str) -> None:
    """Every DRAIN_ variable is one that drain knows, and means what the values say."""
    given = environment(render(**CASES[case]))
    policy = drain.DrainPolicy().overridden_by(given)
    keepalive = drain.ServerKeepalive().overridden_by(given)
    assert policy.announce_timeout == float(given["DRAIN_ANNOUNCE_TIMEOUT"])
    assert (policy.rebalance is not None) == (case == "everything")
    if case == "everything":
        assert (policy.stream_grace, policy.rebalance.spread) == (30, 20)  # type: ignore[union-attr]
        assert (keepalive.max_connection_age, keepalive.max_connection_age_grace) == (600, None)
    page = (HELM.parent / "docs" / "settings.md").read_text()
    unknown = [each for each in given if each.startswith("DRAIN_") and f"`{each}`" not in page]
    assert not unknown


REFUSED: list[tuple[str, Values]] = [
    ("image.repository is empty", {"image": {}}),
    ("image.tag and image.digest are empty", {"image": {"repository": "x"}}),
    ("terminationGracePeriodSeconds 30 is too short for announceTimeout 8 + reserve 2 + drainTimeout 25 = 35", {"drain": {"drainTimeout": 25, "terminationGracePeriodSeconds": 30}}),
    ("terminationGracePeriodSeconds 10 leaves no time for calls in flight", {"drain": {"terminationGracePeriodSeconds": 10}}),
    ("preStop.sleepSeconds 15", {"drain": {"preStop": {"mode": "sleep"}, "terminationGracePeriodSeconds": 16}}),
    ("streamGrace 30 is too long for drainTimeout 20", {"drain": {"streamGrace": 30}}),
    ("announceMin 9 is too long for announceTimeout 8", {"drain": {"announceMin": 9}}),
    ("returnWindow 1 is too long for rotationInterval 0.5", {"drain": {"returnWindow": 1}}),
    ("no room for two rotations", {"drain": {"announceTimeout": 0.5, "announceMin": 0}}),
    ("keepalive.maxConnectionIdle 400 never acts", {"drain": {"keepalive": {"maxConnectionIdle": 400}}}),
    ("preStop.delay 15 is too long for announceTimeout 8", {"drain": {"preStop": {"mode": "standalone", "delay": 15}}}),
    ("env: DRAIN_TERMINATION_GRACE_PERIOD is set by", {"env": [{"name": "DRAIN_TERMINATION_GRACE_PERIOD", "value": "60"}]}),
    ("minAvailable and maxUnavailable are both null", {"podDisruptionBudget": {"maxUnavailable": None}}),
    ("metrics.enabled is false", {"metrics": {"monitor": {"kind": "PodMonitor"}}}),
    # The schemas.
    ("/replicaCount", {"replicaCount": -1}),
    ("/maxSurge", {"maxSurge": 0}),
    ("'replicas' not allowed", {"replicas": 3}),
    ("drain: - at '/goaway'", {"drain": {"goaway": "never"}}),
    ("drain: - at '/announceTimeout'", {"drain": {"announceTimeout": "8s"}}),
    ("drain: - at '/terminationGracePeriodSeconds'", {"drain": {"terminationGracePeriodSeconds": 30.5}}),
    ("drain: - at '/preStop/mode'", {"drain": {"preStop": {"mode": "shell"}}}),
    ("'drainTimeOut' not allowed", {"drain": {"drainTimeOut": 20}}),
    ("drain: - at '/port'", {"drain": {"port": 0}}),
    ("/service/type", {"service": {"type": "ExternalName"}}),
    ("/image/digest", {"image": {"repository": "x", "digest": "sha256:12"}}),
]  # fmt: skip


@pytest.mark.parametrize(("words", "values"), REFUSED, ids=[words[:40] for words, _ in REFUSED])
def test_refused(render: Callable[..., Objects], words: str, values: Values) -> None:
    """What cannot work costs a sentence here, and not a rollout that hangs."""
    with pytest.raises(HelmError) as refused:
        render(**values)
    told = " ".join(str(refused.value).split())
    assert words in told, told


def test_what_drain_refuses_is_refused_here(render: Callable[..., Objects]) -> None:
    """The other way round: these get through, and drain starts with them."""
    for values in (*({"drain": each} for each, _, _ in BUDGETS), *CASES.values()):
        drain.DrainPolicy().overridden_by(environment(render(**values)))


def test_an_old_kubernetes_is_refused(render: Callable[..., Objects]) -> None:
    """gRPC probes are of 1.27."""
    with pytest.raises(HelmError, match="kubeVersion"):
        render(SERVICE, "--kube-version=1.26.0")
    assert render(SERVICE, "--kube-version=1.27.0")


def test_notes(helm: Callable[..., str]) -> None:
    """They tell the lines of code, and the names under which clients find it."""
    values: dict[str, Any] = {"image": IMAGE}
    told = helm("install", "shop", SERVICE, "--namespace=front", "--dry-run=client", values=values)
    for line in (
        "server = drain.server(futures.ThreadPoolExecutor(32))",
        'channel = drain.insecure_channel("kubernetes:///shop-grpc-service.front:grpc")',
        "dns:///shop-grpc-service-headless.front:50051",
    ):
        assert line in told, told


def test_the_readme_s_chart_renders(helm: Callable[..., str], tmp_path: Path) -> None:
    """helm/drain-lib/README.md's own chart, file by file as it stands there."""
    text = (HELM / "drain-lib" / "README.md").read_text()
    files = dict(block.split("\n", 1) for block in text.split("```yaml\n# ")[1:])
    assert set(files) == {"Chart.yaml", "values.yaml", "templates/deployment.yaml"}
    for name, rest in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(rest.partition("\n```")[0])
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "drain-lib").symlink_to(HELM / "drain-lib")
    (made,) = (each for each in yaml.safe_load_all(helm("template", "mine", tmp_path)) if each)
    assert pod(made)["terminationGracePeriodSeconds"] == 45
    (container,) = pod(made)["containers"]
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["drain-prestop"]
    assert {"DRAIN_POD_NAME", "DRAIN_TERMINATION_GRACE_PERIOD"} <= {each["name"] for each in container["env"]}
    assert container["readinessProbe"]["grpc"]["port"] == 50051
