"""The examples' manifests are consistent: with themselves, with what a server is told, and with what the chart makes.

tests/cluster/test_examples.py applies them in a real cluster.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from drain._prestop.options import parsed
from tests._parts import kubernetes
from tests._parts.making import PartMissingError, on_path

Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
MANIFESTS = EXAMPLES / "manifests"
CHART = ROOT / "tests" / "helm" / "snapshots" / "defaults.yaml"
IMAGE = "grpc-drain-greeter"
FOLLOW = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}
GET_POD = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
CREATE_EVENTS = {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]}
files = pytest.mark.parametrize("file", ["manifests/server.yaml", "manifests/client.yaml", "prestop/manifests.yaml"])


def objects(path: Path) -> list[Object]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each is not None]


def of_kind(kind: str, found: list[Object]) -> dict[str, Object]:
    return {each["metadata"]["name"]: each for each in found if each["kind"] == kind}


def pod(deployment: Object) -> Object:
    found: Object = deployment["spec"]["template"]["spec"]
    return found


def containers(deployment: Object) -> list[Object]:
    return [*pod(deployment).get("initContainers", ()), *pod(deployment)["containers"]]


def rules(path: Path) -> list[Object]:
    (role,) = of_kind("Role", objects(path)).values()
    return list(role["rules"])


def server(path: Path) -> tuple[Object, Object]:
    """The one Deployment of a file, and its container."""
    (deployment,) = of_kind("Deployment", objects(path)).values()
    (container,) = pod(deployment)["containers"]
    return deployment, container


@files
def test_references(file: str) -> None:
    """Each file is complete: labels that are selected, accounts, roles, ports and volumes are in it."""
    found = objects(EXAMPLES / file)
    names = [(each["kind"], each["metadata"]["name"]) for each in found]
    assert len(set(names)) == len(names)
    assert all("namespace" not in each["metadata"] for each in found), "they go where kubectl says"
    accounts, roles = of_kind("ServiceAccount", found), of_kind("Role", found)
    (deployment,) = of_kind("Deployment", found).values()
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    ports = {port["name"] for each in containers(deployment) for port in each.get("ports", ())}

    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    for service in of_kind("Service", found).values():
        assert service["spec"]["selector"].items() <= labels.items()
        assert {each["targetPort"] for each in service["spec"]["ports"]} <= ports
    for budget in of_kind("PodDisruptionBudget", found).values():
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert set(accounts) == {pod(deployment)["serviceAccountName"]}
    bound = set()
    for binding in of_kind("RoleBinding", found).values():
        assert binding["roleRef"] == {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "Role",
            "name": binding["roleRef"]["name"],
        }
        bound.add(binding["roleRef"]["name"])
        assert [each["kind"] for each in binding["subjects"]] == ["ServiceAccount"]
        assert {each["name"] for each in binding["subjects"]} == set(accounts)
    assert bound == set(roles)
    volumes = {each["name"] for each in pod(deployment).get("volumes", ())}
    mounts = {mount["name"] for each in containers(deployment) for mount in each.get("volumeMounts", ())}
    assert mounts == volumes


@files
def test_pods_are_restricted_and_take_the_image_that_is_there(file: str) -> None:
    """As the chart has them. `latest` would be pulled each time, and an image that was loaded into a node is nowhere to be pulled."""
    chart, like = server(CHART)
    (deployment,) = of_kind("Deployment", objects(EXAMPLES / file)).values()
    assert pod(deployment)["securityContext"] == pod(chart)["securityContext"]
    for container in containers(deployment):
        theirs, of_the_pod = like["securityContext"], pod(chart)["securityContext"]
        assert container["securityContext"] == {key: theirs[key] for key in theirs.keys() - of_the_pod.keys()}
        assert container["image"] == IMAGE
        assert container["imagePullPolicy"] == like["imagePullPolicy"] == "IfNotPresent"


def test_rights_are_the_least() -> None:
    assert rules(MANIFESTS / "server.yaml") == [FOLLOW, GET_POD, CREATE_EVENTS]
    assert rules(MANIFESTS / "client.yaml") == [FOLLOW]
    assert rules(EXAMPLES / "prestop" / "manifests.yaml") == [FOLLOW]


def test_the_server_is_what_the_chart_makes() -> None:
    """Whatever it says, the chart's default says, too; what goes beyond is in the chart only."""
    ours, container = server(MANIFESTS / "server.yaml")
    theirs, like = server(CHART)
    for key in ("replicas", "strategy"):
        assert partly(ours["spec"][key], theirs["spec"][key]), key
    for key in pod(ours).keys() - {"serviceAccountName", "containers", "securityContext"}:
        assert partly(pod(ours)[key], pod(theirs)[key]), key
    for key in container.keys() - {"name", "image", "args", "env", "securityContext"}:
        assert partly(container[key], like[key]), key
    environment = {each["name"]: each for each in like["env"]}
    assert [each for each in container["env"] if each != environment[each["name"]]] == []


def test_what_is_around_the_server_is_what_the_chart_makes() -> None:
    def services(path: Path, name: str) -> dict[str, Object]:
        return {
            each.removeprefix(name): {"clusterIP": service["spec"].get("clusterIP"), "ports": service["spec"]["ports"]}
            for each, service in of_kind("Service", objects(path)).items()
        }

    def budget(path: Path) -> Object:
        (found,) = of_kind("PodDisruptionBudget", objects(path)).values()
        return {key: value for key, value in found["spec"].items() if key != "selector"}

    assert services(MANIFESTS / "server.yaml", "greeter") == services(CHART, "shop-grpc-service")
    assert budget(MANIFESTS / "server.yaml") == budget(CHART)
    assert rules(MANIFESTS / "server.yaml") == rules(CHART)


def partly(small: Any, large: Any) -> bool:
    """All that `small` says is said by `large`."""
    if isinstance(small, dict):
        return isinstance(large, dict) and all(key in large and partly(small[key], large[key]) for key in small)
    return bool(small == large)


def test_the_grace_period_is_told_to_the_server() -> None:
    deployment, container = server(MANIFESTS / "server.yaml")
    told = {each["name"]: each.get("value") for each in container["env"]}
    assert told["DRAIN_TERMINATION_GRACE_PERIOD"] == str(pod(deployment)["terminationGracePeriodSeconds"])


def test_the_standalone_hook_fits_the_grace_period() -> None:
    """Its command line is one that it takes; with what the server's own stop takes it is over in time."""
    from examples.prestop.server import GRACE

    deployment, container = server(EXAMPLES / "prestop" / "manifests.yaml")
    program, folder, *arguments = container["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "python3"
    (init,) = pod(deployment)["initContainers"]
    assert init["args"] == ["examples.prestop.hook", folder]
    assert folder in [each["mountPath"] for each in init["volumeMounts"]]
    assert folder in [each["mountPath"] for each in container["volumeMounts"]]
    options, warnings = parsed(arguments)
    assert not warnings
    assert options.standalone
    assert (options.settle, options.delay) == (2, 15), "as README.md says"
    assert options.timeout + GRACE < pod(deployment)["terminationGracePeriodSeconds"]


def test_the_client_asks_for_what_is_there() -> None:
    """Its target is a service and a port of the server's."""
    _, client = server(MANIFESTS / "client.yaml")
    scheme, _, rest = client["args"][-1].partition(":///")
    name, _, port = rest.partition(":")
    assert scheme == "kubernetes"
    service = of_kind("Service", objects(MANIFESTS / "server.yaml"))[name]
    _, container = server(MANIFESTS / "server.yaml")
    assert port in [
        *(each["name"] for each in service["spec"]["ports"]),
        *(str(each["containerPort"]) for each in container["ports"]),
    ]


def images(text: str) -> Iterator[str]:
    for each in yaml.safe_load_all(text):
        if each["kind"] == "Deployment":
            yield from (container["image"] for container in containers(each))


def any_kubectl() -> Path:
    """The one on PATH, or else the one that is built for tests/kube."""
    if (found := on_path("kubectl")) is not None:
        return found
    try:
        return kubernetes.ready(("kubectl",), lambda line: print(line, file=sys.stderr, flush=True))["kubectl"]
    except PartMissingError as error:
        pytest.fail(f"this needs kubectl: {error}", pytrace=False)


@pytest.mark.timeout(3600)  # it may have to be built
def test_kustomize_names_the_image(tmp_path: Path) -> None:
    """The folder builds, with all objects of its files; whose image it is is said in one place."""
    kubectl = any_kubectl()

    def built(folder: Path) -> str:
        done = subprocess.run(
            [kubectl, "kustomize", folder], capture_output=True, text=True, timeout=60, check=False, env={}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def names(found: list[Object]) -> list[tuple[str, str]]:
        return sorted((each["kind"], each["metadata"]["name"]) for each in found)

    files = [path for path in MANIFESTS.glob("*.yaml") if path.name != "kustomization.yaml"]
    text = built(MANIFESTS)
    assert names(list(yaml.safe_load_all(text))) == names([each for path in files for each in objects(path)])
    assert set(images(text)) == {f"{IMAGE}:latest"}

    for path in files:
        (tmp_path / path.name).write_text(path.read_text())
    kustomization = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())
    (named,) = kustomization["images"]
    named |= {"newName": "registry.example.org/greeter", "newTag": "1.0"}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    assert set(images(built(tmp_path))) == {"registry.example.org/greeter:1.0"}
