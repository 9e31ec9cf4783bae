"""Each proxy as a process, with the example's configuration: what differs between places is put in as its README says."""

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import yaml

from examples.greeter import greeter_pb2, greeter_pb2_grpc
from tests.proxies._load import Load

EXAMPLES = Path(__file__).parents[2] / "examples" / "proxies"
END_BOUND = 10.0
FEW = 1 / 1000  # of all calls may fail by a proxy's own fault


@dataclass(frozen=True, slots=True)
class Name:
    """A headless Service: `host` is resolved at `nameserver` ("ip:port"), again and again."""

    host: str
    port: int
    nameserver: str


Backends = Sequence[str] | Name


class Front:
    """A running proxy, ended by `stop`. `folder` becomes its own; it listens on `host`:`port`."""

    def __init__(
        self, programs: Mapping[str, Path], folder: Path, port: int, backends: Backends, host: str = "127.0.0.1"
    ) -> None:
        self.address = f"{host}:{port}"
        self._program, self._folder, self._port = programs[self.name], folder, port
        shutil.copytree(EXAMPLES / self.name, folder, dirs_exist_ok=True)
        arguments, environment = self.configured(backends)
        self._log = (folder / "log").open("w")
        self._process = subprocess.Popen(
            [self._program, *arguments], cwd=folder, env={**os.environ, **environment},
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip

    name = ""
    own_faults: tuple[str, ...] = ()  # how a call's failure ends that no server has to do with

    def configured(self, backends: Backends) -> tuple[list[str], dict[str, str]]:
        """Arguments and environment, once the files are as they should be."""
        raise NotImplementedError

    def lost(self, load: Load) -> list[str]:
        """What failed of it, but for this proxy's own faults. Raises AssertionError if these are more than a few."""
        own = [each for each in load.failed if each.endswith(self.own_faults)]
        if own:
            print(f"{self.name}'s own faults: {len(own)} of {load.answered.total()}: {own}")
        assert len(own) <= FEW * load.answered.total(), own
        return [each for each in load.failed if not each.endswith(self.own_faults)]

    def answers(self) -> bool:
        """Whether calls go through. Raises AssertionError if it has ended."""
        assert self._process.poll() is None, f"{self.name} ended:\n{self.log}"
        with grpc.insecure_channel(self.address) as channel:
            try:
                greeter_pb2_grpc.GreeterStub(channel).SayHello(greeter_pb2.HelloRequest(name="you"), timeout=5)
            except grpc.RpcError:
                return False
        return True

    def listens(self) -> bool:
        """Whether it has come up. Raises AssertionError if it has ended."""
        assert self._process.poll() is None, f"{self.name} ended:\n{self.log}"
        host, _, port = self.address.partition(":")
        with socket.socket() as tried:
            return tried.connect_ex((host, int(port))) == 0

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        """The end of what it said."""
        return (self._folder / "log").read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(END_BOUND)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(END_BOUND)
        self._log.close()

    def _change(self, file: str, *changes: tuple[str, str]) -> None:
        path = self._folder / file
        text = path.read_text()
        for old, new in changes:
            assert text.count(old) == 1, f"{path}: {old!r} is there {text.count(old)} times"
            text = text.replace(old, new)
        path.write_text(text)


class Envoy(Front):
    """The port, the administration's (0: any), and the cluster's endpoints."""

    name = "envoy"

    def configured(self, backends: Backends) -> tuple[list[str], dict[str, str]]:
        path = self._folder / "envoy.yaml"
        found = yaml.safe_load(path.read_text())
        found["admin"]["address"]["socket_address"]["port_value"] = 0
        (listener,) = found["static_resources"]["listeners"]
        listener["address"]["socket_address"]["port_value"] = self._port
        (cluster,) = found["static_resources"]["clusters"]
        if isinstance(backends, Name):
            where = [(backends.host, backends.port)]
            host, _, port = backends.nameserver.partition(":")
            cluster["cluster_type"]["typed_config"]["typed_dns_resolver_config"] = {
                "name": "envoy.network.dns_resolver.cares",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
                    "resolvers": [{"socket_address": {"address": host, "port_value": int(port)}}],
                },
            }
        else:
            where = [(each.partition(":")[0], int(each.partition(":")[2])) for each in backends]
        cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
            {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}} for host, port in where
        ]
        path.write_text(yaml.safe_dump(found))
        return [
            "--config-path",
            "envoy.yaml",
            "--concurrency",
            "2",
            "--log-level",
            "warning",
            "--disable-hot-restart",
        ], {}


class HAProxy(Front):
    """Variables.

    What 2.6 makes of a GOAWAY, though the server goes on serving: it may lose the trailers of an answer that is right before it; and
    calls that it has not sent yet on that connection it refuses, which grpc makes again by itself, but only once. One call in some
    15,000 in a cluster, more on a busy machine, fewer without DNS.
    """

    name = "haproxy"
    own_faults = (
        "UNKNOWN: Stream removed (Data frame with END_STREAM flag received)",
        "UNAVAILABLE: Stream removed (RST_STREAM (Received RST_STREAM with error code 7))",  # REFUSED_STREAM
    )

    def configured(self, backends: Backends) -> tuple[list[str], dict[str, str]]:
        variables = {"LISTEN": self.address}
        if isinstance(backends, Name):
            variables |= {"GREETER": f"{backends.host}:{backends.port}", "NAMESERVER": backends.nameserver}
        else:
            variables |= {f"BACKEND{number}": each for number, each in enumerate(backends, 1)}
        return ["-db", "-f", "haproxy.cfg"], variables


class Traefik(Front):
    """The port, and a variable."""

    name = "traefik"

    def configured(self, backends: Backends) -> tuple[list[str], dict[str, str]]:
        assert not isinstance(backends, Name), "in Kubernetes it asks the API server"
        self._change("traefik.yml", ('":8080"', f'"{self.address}"'))
        return ["--configfile=traefik.yml"], {"BACKENDS": ",".join(backends)}


class Nginx(Front):
    """The port, and a file of backends; `mark` is its mark.sh."""

    name = "nginx"

    def configured(self, backends: Backends) -> tuple[list[str], dict[str, str]]:
        assert not isinstance(backends, Name), "it resolves names once"
        self._change("nginx.conf", ("listen 8080 http2", f"listen {self.address} http2"))
        lines = "".join(f"server {each} fail_timeout=1s;\n" for each in backends)
        (self._folder / "backends.conf").write_text(lines)
        (self._folder / "tmp").mkdir(exist_ok=True)
        return ["-p", str(self._folder), "-c", "nginx.conf", "-e", "stderr", "-g", "daemon off;"], {}

    def mark(self, what: str, backend: str) -> None:
        """`mark.sh down|up ADDRESS`."""
        path = f"{self._program.parent}:{os.environ['PATH']}"
        subprocess.run(
            ["sh", "mark.sh", what, backend], cwd=self._folder, env={**os.environ, "PATH": path}, check=True, timeout=10
        )


FRONTS: dict[str, type[Front]] = {each.name: each for each in (Envoy, HAProxy, Traefik, Nginx)}
