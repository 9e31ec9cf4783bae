"""The grammar of targets."""

from pathlib import Path

import pytest

from drain._core.target import KubernetesTarget, Target, host_port, kubernetes_target, literal, parse
from drain._resolvers import kubernetes
from drain.errors import ConfigurationError, DrainError, TargetError

SCHEMES = frozenset({"kubernetes", "static", "file", "dns+poll"})


def parsed(text: str) -> Target:
    target = parse(text, SCHEMES)
    assert target is not None
    return target


@pytest.mark.parametrize(
    "text",
    [
        "localhost:50051", "kubernetes:443", "static:1", "dns:///geoipd:9200", "dns:geoipd", "ipv4:10.0.0.1:1,10.0.0.2:1",
        "ipv6:[::1]:1", "unix:/run/a.sock", "unix:///run/a.sock", "unix-abstract:a", "xds:///a", "XDS:///a", "[::1]:50051",
    ],
)  # fmt: skip
def test_grpcs_own(text: str) -> None:
    assert parse(text, SCHEMES) is None


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("kubernetes:///geoipd:9200", ("kubernetes", "", "geoipd:9200", ())),
        ("Kubernetes://shop/geoipd", ("kubernetes", "shop", "geoipd", ())),
        ("dns+poll:///a:1?interval=2s&family=ipv6", ("dns+poll", "", "a:1", (("interval", "2s"), ("family", "ipv6")))),
        ("file:///etc/endpoints.yaml", ("file", "", "etc/endpoints.yaml", ())),
        ("static:///[fd00::1]:1,b:2", ("static", "", "[fd00::1]:1,b:2", ())),
        ("static://", ("static", "", "", ())),
    ],
)
def test_parts(text: str, parts: tuple[object, ...]) -> None:
    target = parsed(text)
    assert (target.scheme, target.authority, target.endpoint, target.query) == parts
    assert str(target) == text


@pytest.mark.parametrize("text", ["", "  ", None, 5, b"dns:///a"])
def test_no_text(text: object) -> None:
    with pytest.raises(TargetError, match="must be text"):
        parse(text, SCHEMES)  # type: ignore[arg-type]


def test_unknown_scheme() -> None:
    with pytest.raises(
        TargetError, match=r"scheme 'kubernets' is unknown. drain knows dns\+poll://, file://, kubernetes://"
    ):
        parse("kubernets:///geoipd:9200", SCHEMES)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("kubernetes:///geoipd:9200", KubernetesTarget(None, "geoipd", 9200)),
        ("kubernetes:///geoipd", KubernetesTarget(None, "geoipd", None)),
        ("kubernetes:///geoipd.ns:grpc", KubernetesTarget("ns", "geoipd", "grpc")),
        ("kubernetes:///geoipd.ns.svc:grpc", KubernetesTarget("ns", "geoipd", "grpc")),
        ("kubernetes:///geoipd.ns.svc.cluster.local:9200", KubernetesTarget("ns", "geoipd", 9200)),
        ("kubernetes:///geoipd.ns.svc.cluster.local.:9200", KubernetesTarget("ns", "geoipd", 9200)),
        ("kubernetes://ns/geoipd:9200", KubernetesTarget("ns", "geoipd", 9200)),
        ("kubernetes://ns/geoipd.ns:9200", KubernetesTarget("ns", "geoipd", 9200)),
        ("kubernetes://ns/geoipd:9200/", KubernetesTarget("ns", "geoipd", 9200)),
        ("kubernetes://geoipd.ns:9200/", KubernetesTarget("ns", "geoipd", 9200)),
        ("kubernetes://geoipd.ns:9200", KubernetesTarget("ns", "geoipd", 9200)),
        ("kubernetes://geoipd/", KubernetesTarget(None, "geoipd", None)),
        ("kubernetes:///3d:1http", KubernetesTarget(None, "3d", "1http")),
        ("kubernetes:///geoipd:1?family=ipv6", KubernetesTarget(None, "geoipd", 1, "ipv6")),
    ],
)
def test_kubernetes(text: str, named: KubernetesTarget) -> None:
    assert kubernetes_target(parsed(text)) == named


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("kubernetes:///", "the service is missing"),
        ("kubernetes:///:9200", "'' is no service name"),
        ("kubernetes:///Geoipd:9200", "'Geoipd' is no service name"),
        ("kubernetes:///" + "a" * 64, "is no service name"),
        ("kubernetes:///geoipd:", "port '' is neither"),
        ("kubernetes:///geoipd:0", "port '0' must be a number from 1 to 65535"),
        ("kubernetes:///geoipd:65536", "must be a number from 1 to 65535"),
        ("kubernetes:///geoipd:²", "neither a number nor"),
        ("kubernetes:///geoipd:a:b", "neither a number nor"),
        ("kubernetes:///geoipd.ns.example.com:1", "is neither SERVICE"),
        ("kubernetes:///geoipd.-ns:1", "'-ns' is no namespace"),
        ("kubernetes://a/geoipd.b:1", "it names two namespaces, 'a' and 'b'"),
        ("kubernetes://a.b/geoipd:1", "'a.b' is no namespace"),
        ("kubernetes:///a/b:1", "has a slash too many"),
        ("kubernetes:///geoipd?family=ipv5", r"\?family=ipv5: must be ipv4 or ipv6"),
        ("kubernetes:///geoipd?interval=2s", r"\?interval= is unknown \(there is family\)"),
        ("kubernetes:///geoipd?family=ipv4&family=ipv4", "is there twice"),
    ],
)
def test_bad_kubernetes_targets_show_the_accepted_forms(text: str, what: str) -> None:
    with pytest.raises(TargetError, match=what) as caught:
        kubernetes_target(parsed(text))
    assert repr(text) in str(caught.value)
    assert "kubernetes:///SERVICE.NAMESPACE:PORT" in str(caught.value)
    assert isinstance(caught.value, (ConfigurationError, DrainError))


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("a:1", ("a", 1)),
        ("10.0.0.1:65535", ("10.0.0.1", 65535)),
        ("[fd00::01]:2", ("fd00::1", 2)),
        (" my_host.local.:3 ", ("my_host.local.", 3)),
    ],
)
def test_host_port(text: str, pair: tuple[str, int]) -> None:
    assert host_port(parsed("static:///x"), text) == pair


@pytest.mark.parametrize(
    "text", ["a", ":1", "a:", "a:x", "a:0", "a:99999", "fd00::1:1", "[fd00:1", "[a]:1", "a b:1", "-a:1", "a..b:1"]
)
def test_bad_host_port(text: str) -> None:
    with pytest.raises(TargetError, match=r"static:///10.0.0.1:50051"):
        host_port(parsed("static:///x"), text)


def test_literal() -> None:
    assert (literal("FD00::01"), literal("10.0.0.1"), literal("a"), literal("010.0.0.1")) == (
        "fd00::1",
        "10.0.0.1",
        None,
        None,
    )


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("kubernetes:///geoipd.shop:9200", "geoipd.shop.svc.cluster.local"),
        ("kubernetes://shop/geoipd:grpc", "geoipd.shop.svc.cluster.local"),
        ("kubernetes:///geoipd", "geoipd.mine.svc.cluster.local"),
    ],
)
def test_the_authority_is_the_services_dns_name(
    text: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "namespace").write_text("mine\n")
    monkeypatch.setattr(kubernetes, "_NAMESPACE", tmp_path / "namespace")
    assert kubernetes.factory(parsed(text)).authority == name
