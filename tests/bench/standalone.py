"""`drain.prestop --standalone` against `sleep 15`: when each returns, and whether the pod's endpoint had left by then.

A real API server. Deleted: the pod is deleted as the hook begins, as kubelet does it, and the real controller takes it out. Late: the
endpoint leaves seconds after the beginning, by hand, as where the controller has much to do. When it has left, the bench's own watch
tells; returned is when the process has ended. The server behind it does not matter: nobody asks it.
"""

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from drain._core.own_endpoint import OwnEndpoint, Pod, Standing
from tests.bench._rows import Row, Spread
from tests.integration._servers.waiting import until
from tests.kube._cluster.cluster import Cluster, parts
from tests.kube._cluster.namespace import Namespace, Slice

DELETED_RUNS, DELETED_QUICK = 20, 2
LATE = (0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 17.0)  # seconds; the last one is too late for `sleep 15`
LATE_QUICK = (0.5,)
SLEEP = 15.0
SETTLE = 2.0  # the default
SLACK = 0.150
ADDRESS = "198.19.128.7"  # nobody connects to it
HOOK = (sys.executable, "-m", "drain.prestop", "--standalone", "--timeout", "29", "--quiet")


@dataclass(slots=True)
class Left:
    """What came of one command. Seconds: returned since its beginning; late: after the endpoint had left."""

    returned: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    gone: int = 0

    def row(self, what: str) -> str:
        """In words."""
        times = f"{Spread.of(self.returned).median:.2f} s (longest {max(self.returned):.2f} s)"
        return f"{what} returned after {times}, endpoint gone {self.gone} of {len(self.returned)}"


class Watched:
    """A pod's endpoint, as the bench sees it: a watch on a thread, as the cluster's administrator."""

    def __init__(self, cluster: Cluster, pod: Pod) -> None:
        self.left_at: float | None = None
        self._endpoint = OwnEndpoint(pod)
        context = ssl.create_default_context(cafile=str(cluster.pki.authority))
        context.load_cert_chain(cluster.pki.admin_certificate, cluster.pki.admin_key)
        host, port = cluster.address
        self._server = http.client.HTTPSConnection(host, port, timeout=120, context=context)
        self._server.connect()
        self._sock = self._server.sock
        path = f"/apis/discovery.k8s.io/v1/namespaces/{pod.namespace}/endpointslices"
        self._server.request("GET", path)
        listed = json.loads(self._server.getresponse().read())
        self._take(self._endpoint.replaced(listed["items"]))
        self._server.request("GET", f"{path}?watch=1&resourceVersion={listed['metadata']['resourceVersion']}")
        self._events = self._server.getresponse()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    @property
    def gone(self) -> bool:
        """Whether it has left, by now."""
        return self.left_at is not None

    def _take(self, now: OwnEndpoint) -> None:
        self._endpoint = now
        left = now.view.standing is Standing.LEFT
        self.left_at = (self.left_at or time.monotonic()) if left else None

    def _follow(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError, http.client.HTTPException):  # closed
            while line := self._events.readline():
                event = json.loads(line)
                self._take(self._endpoint.applied(event["type"], event["object"]))

    def close(self) -> None:
        """No more. Not `close`, which would wait for the thread that reads."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._server.close()


@dataclass(slots=True)
class Stage:
    """One namespace with an account that may look."""

    cluster: Cluster
    namespace: Namespace
    mounted: Path
    pods: int = 0

    def pod(self) -> Pod:
        """The next one's name."""
        self.pods += 1
        return Pod(self.namespace.name, f"web-{self.pods}")

    def start(self, command: tuple[str, ...], pod: Pod) -> "subprocess.Popen[bytes]":
        """As kubelet would, in that pod."""
        host, port = self.cluster.address
        inside = {
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": str(port),
            "DRAIN_SERVICE_ACCOUNT_DIR": str(self.mounted),
            "POD_NAME": pod.name,
        }
        return subprocess.Popen(command, env={**os.environ, **inside})

    def deleted(self, command: tuple[str, ...], found: Left) -> None:
        """One pod goes."""
        pod = self.pod()
        self.namespace.pod(pod.name, "web", ADDRESS)
        self.namespace.until_slices("web", [ADDRESS])
        watched = Watched(self.cluster, pod)
        began = time.monotonic()
        process = self.start(command, pod)
        self.namespace.terminate(pod.name)
        self._wait(process, began, watched, found)
        self.namespace.remove(pod.name)
        until(lambda: not any(each["endpoints"] for each in self.namespace.slices("web")))

    def late(self, command: tuple[str, ...], found: Left, after: float) -> None:
        """One endpoint leaves so long after the beginning."""
        pod = self.pod()
        name = f"{pod.name}-slice"
        self.namespace.put("by-hand", Slice(name=name, addresses=[ADDRESS], pod=pod.name))
        watched = Watched(self.cluster, pod)
        began = time.monotonic()
        process = self.start(command, pod)
        leaves = threading.Timer(
            after,
            self.namespace.put,
            ("by-hand", Slice(name=name, addresses=[ADDRESS], pod=pod.name, ready=False, terminating=True)),
        )
        leaves.start()
        self._wait(process, began, watched, found)
        leaves.join()
        self.namespace.delete_slice(name)

    def _wait(self, process: "subprocess.Popen[bytes]", began: float, watched: Watched, found: Left) -> None:
        code = process.wait(60)
        ended = time.monotonic()
        if code:
            raise RuntimeError(f"{process.args!r} ended with {code}")
        found.returned.append(ended - began)
        if watched.left_at is not None and watched.left_at <= ended:
            found.gone += 1
            found.late.append(ended - watched.left_at)
        watched.close()


async def measure(quick: bool) -> AsyncIterator[Row]:
    """Deleted, then late."""
    with tempfile.TemporaryDirectory(prefix="drain-bench-") as folder, contextlib.ExitStack() as left:
        stage = await asyncio.to_thread(lambda: left.enter_context(_stage(Path(folder))))
        for what, afters in (
            ("deleted", (None,) * (DELETED_QUICK if quick else DELETED_RUNS)),
            ("late", LATE_QUICK if quick else LATE),
        ):
            hook, sleep = Left(), Left()
            for number, after in enumerate(afters):
                await asyncio.to_thread(_one, stage, HOOK, hook, after)
                if after is not None or number == 0:  # it takes 15 s each time, whatever happens
                    await asyncio.to_thread(_one, stage, ("sleep", f"{SLEEP:g}"), sleep, after)
            over = Spread.of([each - SETTLE for each in hook.late])
            yield Row(
                f"--standalone, endpoint {what}: returned after it was seen to have left, less settle",
                f"{over.ms()}; {hook.row('it')}; {sleep.row(f'sleep {SLEEP:g}')}",
                f"<= {SLACK * 1000:.0f} ms, endpoint gone always",
                over.most <= SLACK and hook.gone == len(hook.returned),
                {"hook": hook, "sleep": sleep},
            )


def _one(stage: Stage, command: tuple[str, ...], found: Left, after: float | None) -> None:
    if after is None:
        stage.deleted(command, found)
    else:
        stage.late(command, found, after)


@contextlib.contextmanager
def _stage(folder: Path) -> Iterator[Stage]:
    found = parts(lambda line: print(f"  {line}", file=sys.stderr, flush=True))
    cluster = Cluster(found, folder).start()
    try:
        namespace = cluster.namespace()
        namespace.service("web")
        mounted = namespace.mount(folder / "serviceaccount", namespace.token(namespace.account()))
        yield Stage(cluster, namespace, mounted)
    finally:
        cluster.stop()
        shutil.rmtree(folder / "serviceaccount", ignore_errors=True)
