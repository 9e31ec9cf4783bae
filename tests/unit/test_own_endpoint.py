"""What the slices of a namespace say of one pod, how long it has left, and which pod that is.

Over 300 lines: tables of what slices, pods and environments can be.
"""

import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drain._core.own_endpoint import OwnEndpoint, Pod, Standing, View
from drain._kube import access, own_endpoint
from drain._kube.own_endpoint import Look, left, look, own_pod

POD = Pod("shop", "web-0")
EMPTY = OwnEndpoint(POD)
SERVICE = "kubernetes.io/service-name"
ABSENT: Any = object()


def ours(
    name: str = "web-0", *, namespace: str | None = "shop", ip: str = "10.0.0.1", **conditions: Any
) -> dict[str, Any]:
    """An endpoint."""
    reference = {"kind": "Pod", "name": name} | ({} if namespace is None else {"namespace": namespace})
    return {"addresses": [ip], "conditions": {"ready": True} | conditions, "targetRef": reference}


def sliced(*endpoints: Any, name: str = "web-a", service: str = "web") -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {SERVICE: service}}, "endpoints": list(endpoints)}


LISTED = sliced(ours())
TERMINATING = sliced(ours(ready=False, serving=True, terminating=True))
UNREADY = sliced(ours(ready=False))


def view(*slices: Any, pod: Pod = POD) -> tuple[Standing, str]:
    seen = OwnEndpoint(pod).replaced(slices).view
    return seen.standing, seen.why


# How it stands.


def test_before_any_answer() -> None:
    assert EMPTY.view == View(Standing.UNKNOWN, "", None)
    assert EMPTY.applied("ADDED", LISTED).view.standing is Standing.UNKNOWN, "a list comes first"
    assert EMPTY, "a mirror of no slice holds nobody up"


@pytest.mark.parametrize(
    ("slices", "standing", "why"),
    [
        ([LISTED], Standing.LISTED, "ready in 1 slice"),
        ([TERMINATING], Standing.LEFT, "terminating in 1 slice"),
        ([UNREADY], Standing.LEFT, "not ready in 1 slice"),
        ([], Standing.LEFT, "in no slice"),
        ([sliced(ours("web-1"))], Standing.LEFT, "in no slice"),
        ([sliced()], Standing.LEFT, "in no slice"),
        ([LISTED, sliced(ours(), name="b")], Standing.LISTED, "ready in 2 slices"),
        ([TERMINATING, sliced(ours(), name="b")], Standing.LISTED, "ready in 1 slice"),
        ([TERMINATING, sliced(ours(terminating=True), name="b")], Standing.LEFT, "terminating in 2 slices"),
        (
            [TERMINATING, sliced(ours(ready=False), name="b")],
            Standing.LEFT,
            "terminating in 1 slice, not ready in 1 slice",
        ),
        # publishNotReadyAddresses: ready is true until the end, and only terminating tells.
        ([sliced(ours(ready=True, serving=True, terminating=True))], Standing.LEFT, "terminating in 1 slice"),
        # Two in one slice would be strange: what either still lists counts.
        ([sliced(ours(terminating=True), ours())], Standing.LISTED, "ready in 1 slice"),
        ([sliced(ours(terminating=True), ours(ready=False))], Standing.LEFT, "not ready in 1 slice"),
        ([sliced(ours("web-1"), ours(ready=False), ours("web-2"))], Standing.LEFT, "not ready in 1 slice"),
        # Dual stack: a slice for each family.
        ([TERMINATING, sliced(ours(ip="fd00::1"), name="v6")], Standing.LISTED, "ready in 1 slice"),
    ],
)
def test_standing(slices: list[Any], standing: Standing, why: str) -> None:
    assert view(*slices) == (standing, why)


@pytest.mark.parametrize(
    ("conditions", "standing"),
    [
        (ABSENT, Standing.LISTED),
        (None, Standing.LISTED),
        ({}, Standing.LISTED),
        ({"ready": None, "serving": None, "terminating": None}, Standing.LISTED),
        ({"ready": None, "terminating": True}, Standing.LEFT),
        ({"ready": False, "terminating": None}, Standing.LEFT),
        # Serving is for those who can use nothing better; new calls do not go there.
        ({"ready": False, "serving": True}, Standing.LEFT),
        ({"ready": True, "serving": False, "terminating": False}, Standing.LISTED),
    ],
)
def test_what_is_not_said_is_ready(conditions: Any, standing: Standing) -> None:
    """discovery.k8s.io/v1: consumers must read a ready that is null as true, and a terminating that is null as false."""
    endpoint = ours()
    del endpoint["conditions"]
    if conditions is not ABSENT:
        endpoint["conditions"] = conditions
    assert view(sliced(endpoint))[0] is standing


@pytest.mark.parametrize(
    ("reference", "ip", "found"),
    [
        ({"kind": "Pod", "namespace": "shop", "name": "web-0"}, "", True),
        ({"kind": "Pod", "name": "web-0"}, "", True),
        ({"name": "web-0"}, "", True),
        ({"kind": "Pod", "namespace": "other", "name": "web-0"}, "", False),
        ({"kind": "Node", "name": "web-0"}, "", False),
        ({"kind": "Pod", "name": "web-1"}, "10.0.0.1", False),  # it has our address, and says that it is another
        (None, "", False),
        (None, "10.0.0.1", True),
        (None, "10.0.0.2", False),
        ({}, "10.0.0.1", True),
        ({"kind": "Pod"}, "10.0.0.1", True),
        (ABSENT, "10.0.0.1", True),
    ],
)
def test_whose_it_is(reference: Any, ip: str, found: bool) -> None:
    endpoint = ours()
    del endpoint["targetRef"]
    if reference is not ABSENT:
        endpoint["targetRef"] = reference
    assert (view(sliced(endpoint), pod=Pod("shop", "web-0", ip=ip))[0] is Standing.LISTED) is found


def test_a_pod_whose_name_is_a_guess() -> None:
    """Unknown until it was met; then its absence means something."""
    guessed = OwnEndpoint(Pod("shop", "host-7", certain=False))
    never = guessed.replaced([LISTED]).view
    assert (never.standing, "DRAIN_POD_NAME" in never.why, "host-7" in never.why) == (Standing.UNKNOWN, True, True)
    met = guessed.replaced([sliced(ours("host-7"))])
    assert met.view.standing is Standing.LISTED
    assert met.replaced([]).view == View(Standing.LEFT, "in no slice")
    assert met.applied("DELETED", sliced(name="web-a")).view == View(Standing.LEFT, "in no slice")
    by_event = guessed.replaced([]).applied("ADDED", sliced(ours("host-7"))).applied("DELETED", sliced(ours("host-7")))
    assert by_event.view == View(Standing.LEFT, "in no slice")


# As it changes.


def test_events() -> None:
    """As the controller sends them when a pod is deleted, and removed."""
    mirror = EMPTY.replaced([LISTED, sliced(ours("web-1"), name="other")])
    steps = [
        ("ADDED", sliced(ours(), name="web-b", service="web2"), "ready in 2 slices"),
        ("MODIFIED", TERMINATING, "ready in 1 slice"),
        ("MODIFIED", sliced(ours(terminating=True), name="web-b", service="web2"), "terminating in 2 slices"),
        ("MODIFIED", sliced(ours("web-1"), name="web-a"), "terminating in 1 slice"),
        ("DELETED", sliced(ours(terminating=True), name="web-b", service="web2"), "in no slice"),
    ]
    for kind, raw, why in steps:
        mirror = mirror.applied(kind, raw)
        assert mirror.view.why == why


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("MODIFIED", LISTED),
        ("MODIFIED", sliced(ours(), ours("web-1"))),
        ("ADDED", sliced(ours("web-1"), name="b")),
        ("DELETED", sliced(ours(), name="b")),
    ],
)
def test_what_is_not_ours_changes_nothing(kind: str, raw: Any) -> None:
    mirror = EMPTY.replaced([LISTED])
    assert mirror.applied(kind, raw) is mirror


def test_a_list_replaces_everything() -> None:
    mirror = EMPTY.replaced([LISTED, sliced(ours(), name="b")])
    assert mirror.replaced([TERMINATING]).view == View(Standing.LEFT, "terminating in 1 slice")


def test_services() -> None:
    unlabelled = {"metadata": {"name": "c"}, "endpoints": [ours()]}
    slices = [LISTED, sliced(ours(), name="b", service="api"), sliced(ours("web-1"), name="d", service="x"), unlabelled]
    assert EMPTY.replaced(slices).services == {"web", "api"}
    assert EMPTY.services == frozenset()


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"metadata": None, "endpoints": None},
        {"metadata": {"name": "a"}},
        {"metadata": {"name": "a", "labels": None}, "endpoints": [None, 5, "web-0", [], {}]},
        {"metadata": "a", "endpoints": {"web-0": ours()}},
        {"metadata": {"name": "a"}, "endpoints": [{"targetRef": "web-0", "addresses": "10.0.0.1"}]},
        {"metadata": {"name": "a"}, "endpoints": [{"targetRef": {"name": ["web-0"]}, "addresses": [None, {}]}]},
        None,
        5,
        [],
    ],
)
def test_what_is_no_slice_is_passed_over(raw: Any) -> None:
    """And what is one beside it still counts."""
    assert view(raw, LISTED, pod=Pod("shop", "web-0", ip="10.0.0.1")) == (Standing.LISTED, "ready in 1 slice")


@pytest.mark.parametrize("conditions", ["ready", ["ready"], 5, True])
def test_conditions_that_are_none(conditions: Any) -> None:
    assert view(sliced(ours() | {"conditions": conditions})) == (Standing.LISTED, "ready in 1 slice")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(["web-0", "shop", "10.0.0.1", "Pod"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "namespace", "kind", "ready", "terminating", "labels", SERVICE]), inner, max_size=4)
    ),
    max_leaves=8,
)  # fmt: skip


def shaped(**parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object of that shape, each of whose parts may be missing, or anything."""
    return st.fixed_dictionaries({}, optional={name: each | JSON for name, each in parts.items()})


ENDPOINT = shaped(
    addresses=st.lists(st.sampled_from(["10.0.0.1"])),
    conditions=shaped(ready=JSON, serving=JSON, terminating=JSON),
    targetRef=shaped(kind=st.just("Pod"), name=st.just("web-0"), namespace=st.just("shop")),
)
SLICE = JSON | shaped(metadata=shaped(name=JSON, labels=JSON), endpoints=st.lists(ENDPOINT | JSON, max_size=3))


@given(st.lists(SLICE, max_size=3), st.sampled_from(["ADDED", "MODIFIED", "DELETED", "?"]), SLICE, st.booleans())
def test_no_slice_crashes_it(items: list[Any], kind: str, raw: Any, certain: bool) -> None:
    """Whatever shape it has; and a list is never left without an opinion."""
    mirror = OwnEndpoint(Pod("shop", "web-0", certain, "10.0.0.1")).replaced(items)
    for each in (mirror, mirror.applied(kind, raw)):
        assert each.view.why
        assert each.services is not None
        assert (each.view.standing is not Standing.UNKNOWN) or not certain


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([LISTED, TERMINATING, UNREADY, None])), max_size=12))
def test_events_and_a_list_agree(changes: list[tuple[str, Any]]) -> None:
    """However it came about, the same slices mean the same."""
    mirror, there = EMPTY.replaced([]), dict[str, Any]()
    for name, raw in changes:
        named = {"metadata": {"name": name}, "endpoints": (raw or LISTED)["endpoints"]}
        mirror = mirror.applied("MODIFIED" if raw else "DELETED", named)
        if raw:
            there[name] = named
        else:
            there.pop(name, None)
    assert mirror.view == EMPTY.replaced(there.values()).view


# How long the pod has left.

DELETED_AT = datetime(2026, 10, 21, 7, 28, tzinfo=UTC)


def deleted(grace: Any, **meta: Any) -> dict[str, Any]:
    at = (DELETED_AT + timedelta(seconds=grace)).isoformat().replace("+00:00", "Z")
    return {"metadata": {"deletionGracePeriodSeconds": grace, "deletionTimestamp": at} | meta}


def date(after: float) -> str:
    return format_datetime(DELETED_AT + timedelta(seconds=after), usegmt=True)


@pytest.mark.parametrize(
    ("grace", "after", "remains"),
    [(30, 0, 30), (30, 1, 30), (30, 2, 29), (30, 3, 26), (30, 10, 19), (30, 29, 0), (30, 30, 0), (30, 300, 0)]
    + [(4, 0, 4), (4, 1, 4), (4, 3, 0), (1, 0, 1), (0, 0, 0), (30, -1, 30)],
)
def test_what_is_left(grace: int, after: float, remains: float) -> None:
    """Whole seconds are all that either time tells: the first two are nobody's, from then on one is taken off."""
    assert left(deleted(grace), date(after)) == remains


@pytest.mark.parametrize(
    ("grace", "after", "since", "remains"),
    [(4, 0, 0.5, 3.5), (4, 1, 1.5, 2.5), (30, 0, 20, 28), (1, 0, 5, 0), (30, 10, 1.5, 19), (30, 2, 2, 28)],
)
def test_what_our_own_clock_knows(grace: int, after: float, since: float, remains: float) -> None:
    """Where the times of the API server cannot tell: at most two seconds."""
    assert left(deleted(grace), date(after), since) == remains


def test_the_nodes_clock_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node may be years off: both times are the API server's."""

    class Skewed(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Skewed":
            raise AssertionError("the node's clock was asked")

        utcnow = today = now

    monkeypatch.setattr(own_endpoint, "datetime", Skewed)
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert left(deleted(30), date(10)) == 19


@pytest.mark.parametrize(
    "pod",
    [
        {},
        {"metadata": None},
        {"metadata": {}},
        {"metadata": "web-0"},
        {"metadata": {"deletionGracePeriodSeconds": 30}},
        {"metadata": {"deletionTimestamp": "2026-10-21T07:28:30Z"}},
        deleted(30, deletionTimestamp=None),
        deleted(30, deletionGracePeriodSeconds=None),
        deleted(30, deletionGracePeriodSeconds="30"),
        deleted(30, deletionGracePeriodSeconds=-1),
        deleted(30, deletionGracePeriodSeconds=float("nan")),
        deleted(30, deletionGracePeriodSeconds=float("inf")),
    ],
)
def test_nobody_deletes_it(pod: dict[str, Any]) -> None:
    assert left(pod, date(0)) is None


def test_an_answer_without_a_date() -> None:
    """Through a proxy that takes it off: the whole grace, as if it was just deleted."""
    assert left(deleted(4), "") == 4


@pytest.mark.parametrize(
    ("at", "when"),
    [
        ("soon", date(0)),
        ("2026-13-01T00:00:00Z", date(0)),
        (DELETED_AT.isoformat(), "soon"),
        (5, date(0)),
        ({}, "soon"),
    ],
)
def test_times_that_are_none(at: Any, when: str) -> None:
    if not at:
        assert left(deleted(30, deletionTimestamp=at), when) is None
        return
    with pytest.raises(ValueError, match=r"."):
        left(deleted(30, deletionTimestamp=at), when)


@pytest.mark.parametrize("at", ["2026-10-21T07:28:30", "2026-10-21T09:28:30+02:00", "2026-10-21T07:28:30.000Z"])
@pytest.mark.parametrize("when", ["Wed, 21 Oct 2026 07:28:10 GMT", "Wed, 21 Oct 2026 07:28:10 -0000", "21 Oct 2026 09:28:10 +0200"])  # fmt: skip
def test_zones(at: str, when: str) -> None:
    """One that is not said is the API's own."""
    assert left(deleted(30, deletionTimestamp=at), when) == 19


@given(st.integers(0, 3600), st.floats(0, 7200))
def test_never_more_than_the_grace_nor_less_than_nothing(grace: int, after: float) -> None:
    """And at most two seconds more than there is: whole seconds are all that is told."""
    remains = left(deleted(grace), date(after))
    assert remains is not None
    assert 0 <= remains <= grace
    assert remains <= max(0.0, grace - after) + 2


@given(JSON | shaped(metadata=shaped(deletionGracePeriodSeconds=st.just(30), deletionTimestamp=st.text(max_size=25))), st.text(max_size=30))  # fmt: skip
@example({"metadata": {"deletionGracePeriodSeconds": 30, "deletionTimestamp": "2026-10-21T07:28:30Z"}}, "")
def test_no_pod_crashes_it(pod: Any, when: str) -> None:
    try:
        remains = left(pod if isinstance(pod, dict) else {}, when)
    except ValueError:
        return
    assert remains is None or 0 <= remains < 1e9


# Who we are.


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """What kubelet mounts."""
    for name, content in (("token", "token"), ("namespace", "shop\n"), ("ca.crt", "certificate")):
        (tmp_path / name).write_text(content)
    return tmp_path


def environment(directory: Path, **more: str) -> dict[str, str]:
    return {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "DRAIN_SERVICE_ACCOUNT_DIR": str(directory)} | more


@pytest.mark.parametrize(
    ("said", "pod"),
    [
        ({}, Pod("shop", "the-host", certain=False)),
        ({"POD_NAME": "web-0"}, Pod("shop", "web-0")),
        ({"DRAIN_POD_NAME": "web-0", "POD_NAME": "other"}, Pod("shop", "web-0")),
        ({"DRAIN_POD_NAME": "", "POD_NAME": "web-0"}, Pod("shop", "web-0")),
        ({"POD_NAMESPACE": "mine"}, Pod("mine", "the-host", certain=False)),
        ({"DRAIN_POD_NAMESPACE": "mine", "POD_NAMESPACE": "other"}, Pod("mine", "the-host", certain=False)),
        ({"POD_NAME": "web-0", "POD_IP": "10.0.0.1"}, Pod("shop", "web-0", ip="10.0.0.1")),
        ({"POD_NAME": "web-0", "DRAIN_POD_IP": "fd00::1", "POD_IP": "10.0.0.1"}, Pod("shop", "web-0", ip="fd00::1")),
    ],
)
def test_who_we_are(mounted: Path, monkeypatch: pytest.MonkeyPatch, said: dict[str, str], pod: Pod) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "the-host")
    assert own_pod(environment(mounted, **said)) == pod


@pytest.mark.parametrize("namespace", [None, b"", b" \n", b"\xff\xfe"])
def test_no_namespace_is_mounted(mounted: Path, namespace: bytes | None) -> None:
    (mounted / "namespace").unlink() if namespace is None else (mounted / "namespace").write_bytes(namespace)
    found = own_pod(environment(mounted, POD_NAME="web-0"))
    assert found == Pod("default", "web-0")


def test_where_kubelet_mounts_it(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "SERVICE_ACCOUNT", mounted)
    assert own_pod({"KUBERNETES_SERVICE_HOST": "10.96.0.1", "POD_NAME": "web-0"}) == Pod("shop", "web-0")


def test_there_is_no_pod_around_us(mounted: Path) -> None:
    """No API server, or nothing to prove who we are with."""
    assert own_pod(environment(mounted) | {"KUBERNETES_SERVICE_HOST": ""}) is None
    assert own_pod({"DRAIN_SERVICE_ACCOUNT_DIR": str(mounted)}) is None
    (mounted / "token").unlink()
    assert own_pod(environment(mounted)) is None
    assert own_pod(environment(mounted / "nowhere")) is None
    assert own_pod(environment(mounted / "ca.crt")) is None


def test_a_token_that_cannot_be_read_is_one(mounted: Path) -> None:
    """Who mounted it wanted us to look: what is wrong is said, and not taken for being elsewhere."""
    (mounted / "token").unlink()
    (mounted / "token").symlink_to("token")
    assert own_pod(environment(mounted, POD_NAME="web-0")) == Pod("shop", "web-0")
    assert own_pod(environment(Path("x" * 300), POD_NAME="web-0")) is not None


def test_outside_of_a_pod_nothing_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    before = threading.active_count()
    assert look(lambda: None) is None
    assert threading.active_count() == before


# Two threads tell of it.


def test_it_is_being_deleted_though_somebody_lists_it_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long the pod has left must be asked for then, and not when the last service has let it go."""
    monkeypatch.setattr(Look, "_run", lambda self: None)
    watched = Look(POD, lambda: None)
    watched._seen(EMPTY.replaced([UNREADY, sliced(ours(), name="b")]))
    assert not watched._terminating.is_set()
    watched._seen(EMPTY.replaced([TERMINATING, sliced(ours(), name="b")]))
    assert watched._terminating.is_set()
    assert watched.view().standing is Standing.LISTED
    watched.stop()


def test_neither_undoes_what_the_other_has_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pod's grace, which was asked for while it was listed, comes after its endpoint has left, and before a failure."""
    monkeypatch.setattr(Look, "_run", lambda self: None)
    told: list[View] = []
    watched: Look = Look(POD, lambda: told.append(watched.view()))
    watched._seen(EMPTY.replaced([LISTED]))
    watched._seen(EMPTY.replaced([TERMINATING]))
    watched._tell(grace=4.0)
    watched._tell(grace=4.0)
    watched._failed("gone")
    expected = View(Standing.LEFT, "terminating in 1 slice", 4.0)
    assert told[1:] == [View(Standing.LEFT, "terminating in 1 slice"), expected]
    watched._seen(EMPTY.replaced([LISTED]))
    watched._failed("gone")
    assert watched.view() == View(Standing.UNKNOWN, "gone", 4.0)
    watched.stop()
    watched._seen(EMPTY.replaced([LISTED]))
    assert watched.view() == View(Standing.UNKNOWN, "gone", 4.0)
    assert len(told) == 5
