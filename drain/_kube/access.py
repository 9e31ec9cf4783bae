"""Where the API server is and how to prove who we are: in a cluster, by kubeconfig, or as the user's own code says.

The kubernetes package reads kubeconfigs and runs their credential plugins; it takes 0.3 - 0.5 s to import, so that happens here
and not before a kubeconfig is used. A pod needs none of it: its address, its authority and its token are two variables and two
files, and a server looks at its own endpoint while it drains, with calls in flight. The token is read for each request: kubelet
replaces the file about every hour, and the package would notice a minute late.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drain.errors import ConfigurationError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_DIRECTORY = "DRAIN_SERVICE_ACCOUNT_DIR"
_MOST_TOKEN = 64 * 1024  # bytes; a token is one or two thousand


@dataclass(frozen=True, slots=True)
class InCluster:
    """An API server as a pod sees it: what `drain._kube.pool` needs of a `kubernetes.client.Configuration`, and no more."""

    host: str
    ssl_ca_cert: str


@dataclass(frozen=True, slots=True)
class Access:
    """One way to an API server.

    Args:
        configuration: a `kubernetes.client.Configuration`, or an `InCluster`.
        namespace: the one this process runs in, as far as anybody says.
        headers: makes what a request is authorized with, anew each time. May run a credential plugin.
        reloaded: the same from its files, as they are now; None where there are none to read again.
    """

    configuration: Any
    namespace: str
    headers: Callable[[], dict[str, str]]
    reloaded: "Callable[[], Access] | None" = None


Loader = Callable[[], Access]


def automatic() -> Access:
    """In the cluster if there is one around us, else by kubeconfig. Raises ConfigurationError."""
    if os.environ.get("KUBERNETES_SERVICE_HOST") and (has_token(mounted()) or not _kubeconfig_named()):
        return in_cluster()
    return kubeconfig()


def mounted(environ: Mapping[str, str] = os.environ) -> Path:
    """Where kubelet mounts the pod's ServiceAccount; DRAIN_SERVICE_ACCOUNT_DIR names another directory."""
    return Path(environ.get(_DIRECTORY) or SERVICE_ACCOUNT)


def has_token(directory: Path) -> bool:
    """Whether a token is mounted there. One that cannot be read is: `in_cluster` says what is wrong with it."""
    try:
        (directory / "token").stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        return True
    return True


def in_cluster(directory: Path | None = None) -> Access:
    """As the pod's ServiceAccount, from what is mounted at `directory` (None: see `mounted`). Raises ConfigurationError."""
    directory = directory or mounted()
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT") or "443"
    if not host:
        raise ConfigurationError(
            "KUBERNETES_SERVICE_HOST is not set: this is no pod, or its environment was cleared. Name a kubeconfig."
        )
    for name in ("token", "ca.crt"):
        if (wrong := _unusable(directory / name)) is not None:
            raise ConfigurationError(
                f"KUBERNETES_SERVICE_HOST is set, but there is no usable ServiceAccount in {directory}: {name}: {wrong}. "
                "Is automountServiceAccountToken off? Mount a token, or name a kubeconfig in KUBECONFIG."
            )
    try:
        namespace = (directory / "namespace").read_text().strip() or "default"
    except (OSError, ValueError):
        namespace = "default"
    server = InCluster(
        f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}", str(directory / "ca.crt")
    )
    return Access(server, namespace, ServiceAccountToken(directory / "token").headers)


def _unusable(file: Path) -> str | None:
    """What is wrong with it; None: nothing."""
    try:
        return None if file.read_bytes().strip() else "empty"
    except OSError as error:
        return error.strerror or type(error).__name__


def kubeconfig(path: str | os.PathLike[str] | None = None, context: str | None = None) -> Access:
    """As a kubeconfig says: `path`, else KUBECONFIG, else ~/.kube/config; in `context`, else its current one."""
    client, config = _kubernetes()
    file = os.path.expanduser(os.fspath(path) if path is not None else _kubeconfig_named() or "~/.kube/config")
    configuration = client.Configuration()
    try:
        contexts, current = config.list_kube_config_contexts(config_file=file)
        config.load_kube_config(
            config_file=file, context=context, client_configuration=configuration, persist_config=False
        )
    except Exception as error:  # of YAML, of base64, of a shape that the package did not expect
        # The texts of others may quote the file, which may hold a token.
        why = (
            str(error) if isinstance(error, config.ConfigException | OSError) else f"malformed ({type(error).__name__})"
        )
        outside = "" if path is not None else " This is not a pod either: KUBERNETES_SERVICE_HOST is not set."
        raise ConfigurationError(f"no Kubernetes API server is known: kubeconfig {file}: {why}{outside}") from error
    chosen = next((each for each in contexts if each.get("name") == context), current)
    namespace = ((chosen or {}).get("context") or {}).get("namespace") or "default"
    return Access(configuration, namespace, lambda: _headers(configuration), lambda: kubeconfig(path, context))


def explicit(configuration: Any, namespace: str = "default") -> Access:
    """As a `kubernetes.client.Configuration` of the user's says; its own hook renews what it is authorized with."""
    return Access(configuration, namespace, lambda: _headers(configuration))


def chosen(
    source: Any, context: str | None, namespace: str | None, service_account: str | os.PathLike[str] | None
) -> Loader:
    """As `drain._kube.api.configure` was told. Nothing is read yet."""

    def load() -> Access:
        if service_account is not None:
            way = in_cluster(Path(service_account))
        elif source is None and context is None:
            way = automatic()
        elif source is None or isinstance(source, str | os.PathLike):
            way = kubeconfig(source, context)
        else:
            way = explicit(source)
        return way if namespace is None else replace(way, namespace=namespace)

    return load


def configuration_of(way: Access) -> Any:
    """The same as a `kubernetes.client.Configuration`, for what only that package can do. Imports it."""
    if not isinstance(way.configuration, InCluster):
        return way.configuration
    client, _ = _kubernetes()
    made = client.Configuration()
    made.host, made.ssl_ca_cert = way.configuration.host, way.configuration.ssl_ca_cert
    made.api_key = {"authorization": way.headers()["authorization"]}
    return made


def _kubernetes() -> tuple[Any, Any]:
    """Its modules `client` and `config`; half of them are untyped."""
    import kubernetes.client  # noqa: PLC0415 - see the module
    import kubernetes.config  # noqa: PLC0415

    return kubernetes.client, kubernetes.config


def _kubeconfig_named() -> str | None:
    return os.environ.get("KUBECONFIG") or None


def _headers(configuration: Any) -> dict[str, str]:
    settings = configuration.auth_settings().values()
    return {each["key"]: each["value"] for each in settings if each["in"] == "header" and each["value"]}


class ServiceAccountToken:
    """A token in a file that is replaced now and then: read for each request."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = ""

    def headers(self) -> dict[str, str]:
        """What proves who we are. Cheap, raises nothing, thread safe."""
        try:
            with self._path.open("rb") as file:
                self._known = file.read(_MOST_TOKEN).decode("ascii").strip() or self._known
        except (OSError, ValueError):
            pass  # being replaced; the last one may be good for a while, and if not, 401 says so
        return {"authorization": f"Bearer {self._known}"}
