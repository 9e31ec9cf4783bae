"""The greeter of examples/manifests behind Envoy, HAProxy (a headless Service's DNS) and Traefik (an Ingress): no call fails while it is
rolled over. Their clients know nothing of drain, and retry nothing.
"""

import sys
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from examples.processes import free_address
from tests._parts import proxies
from tests._parts.making import PartMissingError
from tests.cluster._node import places
from tests.cluster._node.cluster import Cluster
from tests.cluster._node.kubectl import Kubectl
from tests.cluster._scene import ingress
from tests.cluster._scene.scene import Scene
from tests.cluster.test_examples import renamed
from tests.integration._servers.waiting import until
from tests.proxies._fronts import EXAMPLES, FRONTS, Front, Name
from tests.proxies._load import Load

MANIFESTS = EXAMPLES.parent / "manifests"
ENOUGH = 20
BOUND = 60.0

pytestmark = pytest.mark.own_node  # they run on the node, and reach pods and DNS from there


@pytest.fixture(scope="module")
def programs() -> dict[str, Path]:
    try:
        return proxies.ready(lambda line: print(line, file=sys.stderr, flush=True))
    except PartMissingError as error:
        pytest.fail(f"needs Envoy, HAProxy and Traefik: {error}", pytrace=False)


def test_rolling_restarts(
    cluster: Cluster, kubectl: Kubectl, image: str, programs: dict[str, Path], tmp_path: Path
) -> None:
    """Of synchronous servers, to asyncio ones, and of these."""
    place = kubectl.within(f"drain-{uuid.uuid4().hex[:6]}")
    scene = Scene(place, image, ("greeter",), ())
    with ExitStack() as ended:
        ended.callback(scene.close)
        greeter = renamed((MANIFESTS / "server.yaml").read_text(), image)
        scene.put(*greeter, *ingress.objects("greeter"))
        token = place("create", "token", "traefik").strip()
        headless = Name(f"greeter-headless.{place.namespace}.svc.{places.DOMAIN}", 50051, f"{places.CONTROL}:53")
        fronts: list[Front] = []
        loads: dict[str, Load] = {}
        for name in ("envoy", "haproxy", "traefik"):
            if name == "traefik":
                front: Front = ingress.TraefikIngress(
                    programs, tmp_path / name, _port(), cluster, str(place.namespace), token
                )
            else:
                front = FRONTS[name](programs, tmp_path / name, _port(), headless)
            fronts.append(front)
            ended.callback(front.stop)
            until(front.answers, BOUND, every=0.2)
            loads[front.name] = load = Load(front.address)
            ended.callback(load.stop)
        _all_are_used(scene, loads)
        with scene.watched() as seen:
            scene.restart("greeter")
            _all_are_used(scene, loads)
            asyncio = {"name": "greeter", "args": ["examples.greeter.aio_server"]}
            patch = yaml.safe_dump({"spec": {"template": {"spec": {"containers": [asyncio]}}}})
            place("patch", "deployment", "greeter", "--patch", patch)
            scene.rolled_out("greeter")
            _all_are_used(scene, loads)
            scene.restart("greeter")
            _all_are_used(scene, loads)
    print(f"answered: { {name: load.answered.total() for name, load in loads.items()} }")
    lost = {each.name: found[:3] for each in fronts if (found := each.lost(loads[each.name]))}
    assert not lost, f"failed, the first ones: {lost}; {[each.log for each in fronts]}"
    seen.assert_good_endings(3 * 3)


def _all_are_used(scene: Scene, loads: Mapping[str, Load]) -> None:
    """Each proxy has found each pod."""
    for pod in scene.pods("greeter"):
        for name, load in loads.items():
            until(lambda load=load, pod=pod: load.count(pod) > ENOUGH, BOUND, every=0.1)  # type: ignore[misc]
            assert load.answered, name


def _port() -> int:
    return int(free_address().rpartition(":")[2])
