"""Targets: what a channel is asked to talk to, as text. The grammar is gRPC's (doc/naming.md): `scheme://authority/endpoint`.

Whatever is not in one of our schemes is grpc's own and passes through. Pure.
"""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import parse_qsl

from drain.errors import TargetError

# As of grpcio 1.85.
GRPC_SCHEMES = frozenset(
    {"dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock", "xds", "google-c2p", "google-c2p-experimental"}
)

_FORMS = {
    "kubernetes": (
        "kubernetes:///SERVICE:PORT",
        "kubernetes:///SERVICE.NAMESPACE:PORT",
        "kubernetes:///SERVICE.NAMESPACE.svc.cluster.local:PORT",
        "kubernetes://NAMESPACE/SERVICE:PORT",
        "kubernetes://SERVICE.NAMESPACE:PORT/",
    ),
    "static": ("static:///10.0.0.1:50051,[fd00::1]:50051,host:50051",),
    "file": ("file:///etc/endpoints.yaml",),
    "dns+poll": ("dns+poll:///HOST:PORT", "dns+poll:///HOST:PORT?interval=2s"),
}
_NOTES = {"kubernetes": " PORT is a number or a port's name, and may be left out where there is only one."}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME = "[A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?"  # underscores are in nobody's RFC, and in many a cluster's DNS
_HOST = re.compile(rf"(?=.{{1,253}}\.?$){_NAME}(\.{_NAME})*\.?")


@dataclass(frozen=True, slots=True)
class Target:
    """A target in its parts. `text` is how it was written; `query` holds the pairs behind "?", which not every scheme takes."""

    scheme: str
    authority: str
    endpoint: str
    query: tuple[tuple[str, str], ...]
    text: str

    def __str__(self) -> str:
        return self.text

    def parameters(self, *allowed: str) -> dict[str, str]:
        """The query, each name once. Raises TargetError for a name that is not `allowed`, or twice."""
        found: dict[str, str] = {}
        for name, value in self.query:
            if name not in allowed:
                known = f"there is {', '.join(allowed)}" if allowed else f"{self.scheme} takes none"
                raise self.error(f"?{name}= is unknown ({known})")
            if name in found:
                raise self.error(f"?{name}= is there twice")
            found[name] = value
        return found

    def error(self, what: str) -> TargetError:
        """What is wrong with it, and how it could be written."""
        forms = "".join(f"\n  {form}" for form in _FORMS.get(self.scheme, ()))
        hint = f"Accepted:{forms}\n{_NOTES.get(self.scheme, '')}".rstrip() if forms else ""
        return TargetError(f"target {self.text!r}: {what}. {hint}".rstrip())


def parse(text: str, schemes: Collection[str]) -> Target | None:
    """The parts of a target in one of our `schemes`; None if it is grpc's own.

    Only what has "://" can be ours: "kubernetes:443" is a host and its port. Raises TargetError for what is not text, and for a
    scheme that nobody knows: grpc would take the whole of it for a host name, and fail much later.
    """
    if not isinstance(text, str) or not text.strip():
        raise TargetError(f"target {text!r}: must be text, such as {_FORMS['kubernetes'][0]!r}.")
    found = _SCHEME.match(text)
    if found is None:
        return None
    scheme = found[1].lower()
    if scheme not in schemes:
        if scheme in GRPC_SCHEMES:
            return None
        known = ", ".join(f"{each}://" for each in sorted(schemes))
        raise TargetError(
            f"target {text!r}: scheme {found[1]!r} is unknown. drain knows {known}; grpc itself dns:, ipv4:, ipv6:, unix:, xds: "
            "and HOST:PORT. More with drain.resolver.register()."
        )
    rest, _, query = text[found.end() :].partition("?")
    authority, _, endpoint = rest.partition("/")
    return Target(scheme, authority, endpoint, tuple(parse_qsl(query, keep_blank_values=True)), text)


@dataclass(frozen=True, slots=True)
class KubernetesTarget:
    """A service and one of its ports.

    Args:
        namespace: None: the one this process runs in.
        service: its name.
        port: a number is the endpoint's (the pod's) port, text a port's name; None: the only one there is.
        family: "ipv4" or "ipv6" for one of a dual-stack service's; None: IPv4 where there is any.
    """

    namespace: str | None
    service: str
    port: int | str | None
    family: str | None = None


def kubernetes_target(target: Target) -> KubernetesTarget:
    """What a `kubernetes:` target names. Raises TargetError."""
    family = target.parameters("family").get("family")
    if family not in (None, "ipv4", "ipv6"):
        raise target.error(f"?family={family}: must be ipv4 or ipv6")
    endpoint = target.endpoint.removesuffix("/")
    if "/" in endpoint:
        raise target.error(f"{endpoint!r} has a slash too many")
    authority, named = (target.authority, endpoint) if endpoint else ("", target.authority)
    if not named:
        raise target.error("the service is missing")
    host, colon, port = named.partition(":")
    service, namespace = _service(target, host)
    if authority:
        if not _LABEL.fullmatch(authority):
            raise target.error(f"{authority!r} is no namespace")
        if namespace not in (None, authority):
            raise target.error(f"it names two namespaces, {authority!r} and {namespace!r}")
        namespace = authority
    return KubernetesTarget(namespace, service, _kubernetes_port(target, port) if colon else None, family)


def _service(target: Target, host: str) -> tuple[str, str | None]:
    service, *more = host.removesuffix(".").split(".")
    if not _LABEL.fullmatch(service):
        raise target.error(f"{service!r} is no service name (lower case letters, digits and '-', at most 63)")
    if not more:
        return service, None
    if len(more) > 1 and more[1] != "svc":
        raise target.error(f"{host!r} is neither SERVICE, SERVICE.NAMESPACE nor SERVICE.NAMESPACE.svc.CLUSTER-DOMAIN")
    if not _LABEL.fullmatch(more[0]):
        raise target.error(f"{more[0]!r} is no namespace")
    return service, more[0]


def _kubernetes_port(target: Target, port: str) -> int | str:
    if port.isdecimal() and port.isascii():
        return port_number(target, port)
    if not _LABEL.fullmatch(port):
        raise target.error(f"port {port!r} is neither a number nor a port's name")
    return port


def port_number(target: Target, text: str) -> int:
    """A port from 1 to 65535. Raises TargetError."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise target.error(f"port {text!r} must be a number from 1 to 65535")
    return int(text)


def host_port(target: Target, text: str) -> tuple[str, int]:
    """ "host:port", "10.0.0.1:port" or "[fd00::1]:port"; brackets are taken off. Raises TargetError."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not host:
        raise target.error(f"{text!r} must be HOST:PORT")
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1])), port_number(target, port)
        except ipaddress.AddressValueError:
            raise target.error(f"{host!r} is no IPv6 address") from None
    if ":" in host:
        raise target.error(f"{text!r}: an IPv6 address goes into brackets, as in [fd00::1]:50051")
    if not _HOST.fullmatch(host):
        raise target.error(f"{host!r} is no host name")
    return host, port_number(target, port)


def literal(host: str) -> str | None:
    """The host as an IP address in one spelling; None: it is a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None
