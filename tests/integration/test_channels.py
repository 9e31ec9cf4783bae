"""drain's own channels, synchronous and asyncio: they follow what a resolver tells, and say why where there is nothing to call.

Over 300 lines: one channel's life, from its target to what it leaves behind.
"""

import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme

import drain
from drain import events
from drain._xds import client as xds_client
from drain.errors import ConfigurationError, TargetError
from tests.integration._servers import following
from tests.integration._servers.following import Puppet, Scene, Who
from tests.integration._servers.waiting import AT_ONCE, until


@pytest.fixture
def scene(flavour: str) -> Iterator[Scene]:
    yield from following.scene(flavour)


@pytest.fixture
def puppet() -> Puppet:
    return Puppet()


@pytest.fixture
def told() -> Iterator[list[events.Event]]:
    found: list[events.Event] = []
    end = drain.resolver.subscribe(found.append)
    yield found
    end()


def followed() -> set[str]:
    return {each.target for each in drain.resolver.snapshot()}


class TestTargets:
    def test_an_ordinary_channel(self, scene: Scene) -> None:
        (server,) = scene.servers("a")
        caller = scene.caller(f"static:///127.0.0.1:{server.port}")
        assert isinstance(caller.channel, grpc.aio.Channel if scene.flavour == "aio" else grpc.Channel)
        assert caller.who() == "a"

    def test_round_robin_over_all(self, scene: Scene) -> None:
        servers = scene.servers("a", "b", "c")
        caller = scene.caller("static:///" + ",".join(f"127.0.0.1:{each.port}" for each in servers))
        caller.until_all({"a", "b", "c"})
        assert caller.spread(60) == {"a": 20, "b": 20, "c": 20}

    @pytest.mark.parametrize("form", ["127.0.0.1:{}", "ipv4:127.0.0.1:{}", "dns:///127.0.0.1:{}", "DNS:127.0.0.1:{}"])
    def test_grpcs_own_pass_through(self, scene: Scene, form: str) -> None:
        (server,) = scene.servers("a")
        before = followed()
        assert scene.caller(form.format(server.port)).who() == "a"
        assert followed() == before

    def test_ipv6(self, scene: Scene) -> None:
        server = Who("six", "[::1]:0")
        scene.ended.callback(server.stop)
        assert scene.caller(f"static:///[::1]:{server.port}").who() == "six"

    @pytest.mark.parametrize(
        ("target", "what"),
        [
            ("kubernets:///geoipd:9200", "scheme 'kubernets' is unknown"),
            ("kubernetes:///Geoipd", "is no service name"),
            ("static:///a", "must be HOST:PORT"),
            ("", "must be text"),
        ],
    )
    def test_a_bad_target_is_an_error_at_once(self, flavour: str, target: str, what: str) -> None:
        module: Any = drain.aio if flavour == "aio" else drain
        with pytest.raises(TargetError, match=what):
            module.insecure_channel(target)
        with pytest.raises(TargetError, match=what):
            module.secure_channel(target, grpc.ssl_channel_credentials())

    def test_a_file_that_changes(self, scene: Scene, tmp_path: Path) -> None:
        a, b = scene.servers("a", "b")
        path = tmp_path / "endpoints.yaml"
        path.write_text(f"- 127.0.0.1:{a.port}\n")
        caller = scene.caller(f"file://{path}")
        assert caller.who() == "a"
        path.write_text(f"- 127.0.0.1:{b.port}\n")
        caller.until_all({"b"})

    def test_dns_poll(self, scene: Scene) -> None:
        (server,) = scene.servers("a")
        assert scene.caller(f"dns+poll:///localhost:{server.port}?interval=100ms").who() == "a"


class TestFollowing:
    def test_added_and_removed(self, scene: Scene, puppet: Puppet) -> None:
        a, b, c = scene.servers("a", "b", "c")
        puppet.tell(a.endpoint)
        caller = scene.caller(puppet.target)
        assert set(caller.spread(5)) == {"a"}
        puppet.tell(a.endpoint, b.endpoint, c.endpoint)
        caller.until_all({"a", "b", "c"})
        puppet.tell(c.endpoint)
        caller.until_all({"c"})

    def test_calls_in_flight_on_a_removed_endpoint_finish(self, scene: Scene, puppet: Puppet) -> None:
        a, b = scene.servers("a", "b")
        a.hold.clear()
        puppet.tell(a.endpoint)
        caller = scene.caller(puppet.target)
        answers: list[str] = []
        calling = threading.Thread(target=lambda: answers.append(caller.who()))
        calling.start()
        until(lambda: a.in_flight == 1)
        puppet.tell(b.endpoint)
        until(lambda: caller.code(timeout=0.5) == ("OK", "b"))  # one that comes before the update is held, too
        assert answers == []
        a.hold.set()
        calling.join(following.PATIENCE)
        assert answers == ["a"]

    def test_under_load_no_call_is_lost(self, scene: Scene, puppet: Puppet) -> None:
        servers = scene.servers("a", "b", "c", "d")
        puppet.tell(*(each.endpoint for each in servers))
        callers = [scene.caller(puppet.target) for _ in range(2)]
        done, codes = threading.Event(), []

        def call(caller: following.Caller) -> None:
            while not done.is_set():
                codes.append(caller.code()[0])

        threads = [threading.Thread(target=call, args=(each,)) for each in callers]
        for thread in threads:
            thread.start()
        for number in range(60):
            puppet.tell(servers[number % 4].endpoint, servers[(number + 1) % 4].endpoint)
            time.sleep(0.02)
        done.set()
        for thread in threads:
            thread.join(following.PATIENCE)
        assert set(codes) == {"OK"}
        assert len(codes) > 100

    def test_the_same_set_again_is_no_update(
        self, scene: Scene, puppet: Puppet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (a,) = scene.servers("a")
        puppet.tell(a.endpoint)
        assert scene.caller(puppet.target).who() == "a"
        made = []
        real = xds_client.endpoints
        monkeypatch.setattr(xds_client, "endpoints", lambda *arguments: made.append(arguments) or real(*arguments))
        for _ in range(5):
            puppet.tell(a.endpoint)
        assert made == []

    def test_not_ready_ones_get_no_call(self, scene: Scene, puppet: Puppet) -> None:
        a, b = scene.servers("a", "b")
        from dataclasses import replace

        puppet.tell(a.endpoint, replace(b.endpoint, ready=False, serving=True, terminating=True))
        caller = scene.caller(puppet.target)
        assert caller.spread(10) == {"a": 10}
        puppet.tell(replace(b.endpoint, ready=False, serving=True, terminating=True))
        caller.until_all({"b"})  # the last resort

    def test_own_zone_first_then_the_others(self, scene: Scene, puppet: Puppet) -> None:
        from dataclasses import replace

        a, b = scene.servers("a", "b")
        near, far = replace(a.endpoint, zone="here"), replace(b.endpoint, zone="there")
        puppet.tell(near, far)
        caller = scene.caller(puppet.target, policy=drain.ClientPolicy(zone="here", prefer_same_zone=True))
        assert caller.spread(10) == {"a": 10}
        a.stop()
        caller.until_all({"b"})

    def test_a_subset(self, scene: Scene, puppet: Puppet) -> None:
        servers = scene.servers("a", "b", "c", "d", "e")
        puppet.tell(*(each.endpoint for each in servers))
        caller = scene.caller(puppet.target, policy=drain.ClientPolicy(subset_size=2))
        until(lambda: len(caller.spread(20)) == 2)
        assert sum(each.calls > 0 for each in servers) == 2


class TestFailing:
    """A call that cannot be made fails at once, and says why; it is cured by itself."""

    def test_the_resolvers_own_words(self, scene: Scene, puppet: Puppet) -> None:
        puppet.fail('no service "geoipd": does it\nexist? (§ 5 %)')
        caller = scene.caller(puppet.target)
        began = time.monotonic()
        status, details = caller.code()
        assert time.monotonic() - began < AT_ONCE
        assert status == "UNAVAILABLE"
        assert f'{puppet.target}: no service "geoipd": does it exist? (§ 5 %)' in details
        (a,) = scene.servers("a")
        puppet.tell(a.endpoint)
        until(lambda: caller.code() == ("OK", "a"))

    def test_a_reason_that_changes(self, scene: Scene, puppet: Puppet) -> None:
        puppet.fail("first")
        caller = scene.caller(puppet.target)
        assert "first" in caller.code()[1]
        puppet.fail("second")
        until(lambda: "second" in caller.code()[1])

    def test_no_endpoint(self, scene: Scene, puppet: Puppet) -> None:
        (a,) = scene.servers("a")
        puppet.tell(a.endpoint)
        caller = scene.caller(puppet.target)
        assert caller.who() == "a"
        puppet.tell()
        until(lambda: caller.code()[0] == "UNAVAILABLE")
        assert f"{puppet.target}: no endpoint" in caller.code()[1]
        puppet.tell(a.endpoint)
        until(lambda: caller.code() == ("OK", "a"))

    def test_none_that_can_be_used(self, scene: Scene, puppet: Puppet) -> None:
        from dataclasses import replace

        (a,) = scene.servers("a")
        puppet.tell(replace(a.endpoint, ready=False, serving=False))
        assert "no endpoint can be used: 1 not ready" in scene.caller(puppet.target).code()[1]

    def test_wait_for_ready_waits(self, scene: Scene, puppet: Puppet) -> None:
        puppet.fail("not yet")
        caller = scene.caller(puppet.target)
        assert caller.code()[0] == "UNAVAILABLE"
        (a,) = scene.servers("a")
        threading.Timer(0.3, puppet.tell, [a.endpoint]).start()
        assert caller.who(wait_for_ready=True) == "a"

    def test_the_last_good_set_stays_in_use(self, scene: Scene, puppet: Puppet, told: list[events.Event]) -> None:
        (a,) = scene.servers("a")
        puppet.tell(a.endpoint)
        caller = scene.caller(puppet.target)
        assert caller.who() == "a"
        puppet.fail("the API server is gone")
        assert caller.spread(20) == {"a": 20}
        late = scene.caller(puppet.target)
        assert late.who() == "a", "for channels that come now, too"
        (known,) = (each for each in drain.resolver.snapshot() if each.target == puppet.target)
        assert (known.stale, known.failure) == (True, "the API server is gone")
        assert [type(each).__name__ for each in told] == ["EndpointsChanged", "WatchFailed", "EndpointsStale"]

    def test_a_refused_update_is_told_and_the_last_good_one_kept(
        self, scene: Scene, puppet: Puppet, told: list[events.Event], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        a, b = scene.servers("a", "b")
        puppet.tell(a.endpoint)
        caller = scene.caller(puppet.target)
        assert caller.who() == "a"
        from drain._core.endpoints import Locality

        twice = (Locality("", 0, (b.endpoint, b.endpoint)),)
        real = xds_client.endpoints
        with monkeypatch.context() as patched:
            patched.setattr(xds_client, "endpoints", lambda name, _, *more: real(name, twice, *more))
            puppet.tell(b.endpoint)
        refused = until(lambda: [each for each in told if isinstance(each, events.UpdateRefused)])
        assert "duplicate endpoint address" in refused[0].reason
        assert caller.spread(10) == {"a": 10}
        puppet.tell(a.endpoint, b.endpoint)
        caller.until_all({"a", "b"})


class TestSharing:
    """One resolver for each target, however many channels; it runs while one of them is there."""

    def test_one_watch_for_many_channels(self, scene: Scene, puppet: Puppet) -> None:
        (a,) = scene.servers("a")
        puppet.tell(a.endpoint)
        callers = [scene.caller(puppet.target) for _ in range(5)]
        callers.append(scene.caller(puppet.target, policy=drain.ClientPolicy(load_balancing="pick_first")))
        assert [each.who() for each in callers] == ["a"] * 6
        assert len(puppet.started) == 1
        (known,) = (each for each in drain.resolver.snapshot() if each.target == puppet.target)
        assert known.users == 2, "one for each policy"
        for each in callers[:-1]:
            each.close()
        assert callers[-1].who() == "a"
        assert puppet.stopped == 0
        callers[-1].close()
        until(lambda: puppet.stopped == 1)
        assert puppet.target not in followed()

    def test_a_channel_without_a_call_watches_nothing(self, scene: Scene, puppet: Puppet) -> None:
        scene.caller(puppet.target)
        assert puppet.started == []

    def test_garbage_watches_nothing(self, puppet: Puppet) -> None:
        server = Who("a")
        puppet.tell(server.endpoint)
        channel = drain.insecure_channel(puppet.target)
        assert channel.unary_unary(following.WHO)(b"", timeout=5) == b"a"
        del channel
        gc.collect()
        until(lambda: puppet.stopped == 1)
        server.stop()

    def test_again_after_the_last_was_closed(self, scene: Scene, puppet: Puppet) -> None:
        a, b = scene.servers("a", "b")
        puppet.tell(a.endpoint)
        first = scene.caller(puppet.target)
        assert first.who() == "a"
        first.close()
        until(lambda: puppet.stopped == 1)
        puppet.tell(b.endpoint)
        assert scene.caller(puppet.target).spread(5) == {"b": 5}
        assert len(puppet.started) == 2

    def test_many_channels_that_come_and_go_leave_nothing(self, scene: Scene, puppet: Puppet) -> None:
        (a,) = scene.servers("a")
        puppet.tell(a.endpoint)

        def rounds(number: int) -> tuple[int, int]:
            for _ in range(number):
                caller = scene.caller(puppet.target)
                caller.who()
                caller.close()
            until(lambda: puppet.target not in followed())
            until(lambda: puppet.stopped == len(puppet.started))
            return threading.active_count(), len(os.listdir("/proc/self/fd"))

        rounds(10)
        before = rounds(5)
        until(lambda: all(now <= was + 3 for now, was in zip(rounds(20), before, strict=True)))


class TestPolicy:
    def test_the_environment_overrides(self, scene: Scene, puppet: Puppet, monkeypatch: pytest.MonkeyPatch) -> None:
        servers = scene.servers("a", "b", "c")
        puppet.tell(*(each.endpoint for each in servers))
        monkeypatch.setenv("DRAIN_CLIENT_LOAD_BALANCING", "pick_first")
        caller = scene.caller(puppet.target)
        assert len(caller.spread(20)) == 1

    def test_a_clash_is_told(self, scene: Scene, puppet: Puppet, told: list[events.Event]) -> None:
        scene.caller(puppet.target, options=[("grpc.initial_reconnect_backoff_ms", 700)])
        assert told == [events.OptionOverridden("grpc.initial_reconnect_backoff_ms", 100, 700, 700)]

    def test_a_warning_is_logged_once(self, scene: Scene, puppet: Puppet, caplog: pytest.LogCaptureFixture) -> None:
        policy = drain.ClientPolicy(prefer_same_zone=True)
        for _ in range(2):
            scene.caller(puppet.target, policy=policy)
        assert [each.getMessage() for each in caplog.records if "prefer_same_zone" in each.getMessage()] == [
            f"drain.channel_warning target={puppet.target!r} "
            "ClientPolicy.prefer_same_zone=True has no effect, because the own zone is not known. Set zone, or DRAIN_ZONE."
        ]

    def test_the_bootstrap_is_ours(self, flavour: str, puppet: Puppet) -> None:
        module: Any = drain.aio if flavour == "aio" else drain
        with pytest.raises(ConfigurationError, match="embedded control plane"):
            module.insecure_channel(
                puppet.target, options=[("grpc.TEST_ONLY_DO_NOT_USE_IN_PROD.xds_bootstrap_config", "{}")]
            )

    @pytest.mark.parametrize("named", ["resolver", "policy"])
    def test_tls_and_the_name_in_the_certificate(self, scene: Scene, named: str) -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert("geoipd.shop.svc.cluster.local")
        chain = b"".join(each.bytes() for each in certificate.cert_chain_pems)
        server = Who(
            "tls", credentials=grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
        )  # fmt: skip
        scene.ended.callback(server.stop)
        puppet = Puppet()
        puppet.tell(server.endpoint)
        real = puppet._make

        def make(target: drain.resolver.Target) -> Any:
            made = real(target)
            if named == "resolver":
                made.authority = "geoipd.shop.svc.cluster.local"  # type: ignore[attr-defined]
            return made

        drain.resolver.register(puppet.scheme, make, replace=True)
        credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        policy = drain.ClientPolicy(authority="geoipd.shop.svc.cluster.local" if named == "policy" else None)
        assert scene.caller(puppet.target, credentials=credentials, policy=policy).who() == "tls"
        wrong = scene.caller(
            puppet.target, credentials=credentials, policy=drain.ClientPolicy(authority="other.shop.svc.cluster.local")
        )
        assert wrong.code()[0] == "UNAVAILABLE"


class TestRegister:
    @pytest.mark.parametrize(
        ("scheme", "factory", "what"),
        [
            ("static", Puppet, "registered already"),
            ("dns", Puppet, "grpc itself resolves it"),
            ("1st", Puppet, "a scheme is a letter"),
            ("a b", Puppet, "a scheme is a letter"),
            ("new", None, "the factory must be callable"),
        ],
    )
    def test_bad(self, scheme: str, factory: Any, what: str) -> None:
        with pytest.raises(ConfigurationError, match=what):
            drain.resolver.register(scheme, factory)

    def test_a_factory_that_refuses_a_target(self) -> None:
        def factory(target: drain.resolver.Target) -> Any:
            raise TargetError(f"{target}: not this one")

        scheme = f"no{time.monotonic_ns()}"
        drain.resolver.register(scheme, factory)
        with pytest.raises(TargetError, match="not this one"):
            drain.insecure_channel(f"{scheme}:///a")


PROGRAM = """
import asyncio, json, os, sys, time
import drain, drain.aio
FLAVOUR, TARGET = sys.argv[1:3]
def who():
    if FLAVOUR == "sync":
        global channel  # never closed
        channel = drain.insecure_channel(TARGET)
        return channel.unary_unary("/test.Who/Who")(b"", timeout=10).decode()
    async def main():
        global channel
        channel = drain.aio.insecure_channel(TARGET)
        return (await channel.unary_unary("/test.Who/Who")(b"", timeout=10)).decode()
    return asyncio.run(main())
"""


class TestProcesses:
    def run(self, flavour: str, target: str, program: str, **environ: str) -> tuple[float, str, str, int]:
        began = time.monotonic()
        found = subprocess.run(
            [sys.executable, "-c", PROGRAM + program, flavour, target],
            capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environ},
        )  # fmt: skip
        return time.monotonic() - began, found.stdout, found.stderr, found.returncode

    def test_exit_without_close(self, scene: Scene, flavour: str) -> None:
        (a,) = scene.servers("a")
        program = "print(who(), time.monotonic(), flush=True)"
        _, out, err, code = self.run(flavour, f"dns+poll:///localhost:{a.port}", program)
        name, at = out.split()
        assert (name, err, code) == ("a", "", 0)
        assert time.monotonic() - float(at) < 3

    def test_fork(self, scene: Scene, flavour: str) -> None:
        """Both may have channels, if the child makes its own; here the parent has followed the target already, without grpc."""
        (a,) = scene.servers("a")
        program = """
watching = drain.resolver.watch(TARGET)
assert len(watching.next(10)) == 1
if (child := os.fork()) == 0:
    print("child", who(), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("parent", who(), flush=True)
"""
        _, out, err, code = self.run(flavour, f"static:///127.0.0.1:{a.port}", program)
        assert (out, err, code) == ("child a\nparent a\n", "", 0)

    def test_beside_a_mesh(self, scene: Scene, flavour: str) -> None:
        """GRPC_XDS_BOOTSTRAP belongs to somebody else."""
        (a,) = scene.servers("a")
        mesh = {"xds_servers": [{"server_uri": "127.0.0.1:1", "channel_creds": [{"type": "insecure"}]}]}
        _, out, err, code = self.run(
            flavour, f"static:///127.0.0.1:{a.port}", "print(who())", GRPC_XDS_BOOTSTRAP_CONFIG=json.dumps(mesh)
        )
        assert (out, code) == ("a\n", 0), err

    def test_kubernetes_is_imported_only_when_it_is_used(self, scene: Scene, flavour: str) -> None:
        (a,) = scene.servers("a")
        program = "print(who(), [name for name in sys.modules if name.partition('.')[0] in ('kubernetes', 'yaml')])"
        _, out, err, code = self.run(flavour, f"static:///127.0.0.1:{a.port}", program)
        assert (out, code) == ("a []\n", 0), err
