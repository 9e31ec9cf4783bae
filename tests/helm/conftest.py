"""helm, found or built; and what the charts make of values."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests._parts import helm as part
from tests._parts.making import PartMissingError

HELM = Path(__file__).parents[2] / "helm"
SERVICE = HELM / "grpc-service"
IMAGE = {"repository": "example.org/shop", "tag": "1.2.3"}
BOUND = 60

Values = dict[str, Any]
Objects = dict[str, Values]  # by "Kind/name"


class HelmError(AssertionError):
    """It said no."""


@pytest.fixture(scope="session")
def helm() -> Callable[..., str]:
    """`helm ...`: what it prints. Raises HelmError with its own words."""
    try:
        program = part.ready(lambda line: print(line, file=sys.stderr, flush=True))
    except PartMissingError as error:
        pytest.fail(f"tests/helm needs helm: {error}", pytrace=False)

    def run(*arguments: str | Path, values: Values | None = None) -> str:
        given = ["--values=-"] if values is not None else []
        done = subprocess.run(
            [program, *arguments, *given],
            input=yaml.safe_dump(values),
            capture_output=True,
            text=True,
            timeout=BOUND,
            check=False,
        )
        if done.returncode != 0:
            raise HelmError(done.stderr)
        return done.stdout

    return run


@pytest.fixture(scope="session")
def render(helm: Callable[..., str]) -> Callable[..., Objects]:
    """The objects that helm/grpc-service makes of values, by "Kind/name"."""

    def made(chart: Path = SERVICE, /, *more: str, **values: Any) -> Objects:
        text = helm("template", "shop", chart, "--namespace=front", *more, values={"image": IMAGE, **values})
        found: Objects = {}
        for each in yaml.safe_load_all(text):
            if each is not None:
                name = f"{each['kind']}/{each['metadata']['name']}"
                assert name not in found, name
                found[name] = each
        return found

    return made


def server(objects: Objects) -> Values:
    """The server's container."""
    (deployment,) = (each for each in objects.values() if each["kind"] == "Deployment")
    found: Values = next(each for each in pod(deployment)["containers"] if each["name"] == "server")
    return found


def pod(deployment: Values) -> Values:
    found: Values = deployment["spec"]["template"]["spec"]
    return found


def environment(objects: Objects) -> dict[str, str]:
    """Of the server: what has a value."""
    return {each["name"]: each["value"] for each in server(objects)["env"] if "value" in each}
