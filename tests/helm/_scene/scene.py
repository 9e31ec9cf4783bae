"""Pods that come and go, and the Prometheus that scrapes them each second; all on 127.0.0.1."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drain._demo.ports import free_ports
from tests.integration._servers.waiting import until

LINGER = 2.5  # seconds: two scrapes
NAMESPACE = "shop"


@dataclass
class Pod:
    """One process."""

    name: str
    port: int
    metrics: int
    process: "subprocess.Popen[bytes]"


class Scene:
    """Close it at the end."""

    def __init__(self, folder: Path, prometheus: Path) -> None:
        self._folder, self._count = folder, 0
        self.pods: list[Pod] = []
        self._all: list[subprocess.Popen[bytes]] = []
        (self.port,) = free_ports(1)
        self._targets, self._endpoints = folder / "targets.json", folder / "endpoints.yaml"
        self._targets.write_text("[]")
        config = folder / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            f"scrape_configs: [{{job_name: pods, file_sd_configs: [{{files: ['{self._targets}'], refresh_interval: 1s}}]}}]\n"
        )
        self._all.append(
            subprocess.Popen(
                [
                    prometheus, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=error",
                ],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
        )  # fmt: skip
        self._scraped: list[dict[str, Any]] = []

    def start(self) -> Pod:
        """One more pod; it is called when it serves."""
        self._count += 1
        port, metrics = free_ports(2)
        environ = {**os.environ, "DRAIN_RUNTIME_DIR": str(self._folder / "run")}
        words = [
            sys.executable,
            "-m",
            "tests.helm._scene.pod",
            str(port),
            str(metrics),
            str(self._endpoints),
            str(LINGER),
        ]
        process = subprocess.Popen(words, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        pod = Pod(f"orders-{self._count}", port, metrics, process)
        self._all.append(process)
        self.pods.append(pod)
        self._tell()
        labels = {"namespace": NAMESPACE, "pod": pod.name}
        self._scraped.append({"targets": [f"127.0.0.1:{metrics}"], "labels": labels})
        self._replace(self._targets, json.dumps(self._scraped))
        return pod

    def leave(self, pod: Pod, late: float = 0.3) -> None:
        """SIGTERM; clients learn `late` seconds later, as in a cluster."""
        pod.process.send_signal(signal.SIGTERM)
        time.sleep(late)
        self.pods.remove(pod)
        self._tell()

    def _tell(self) -> None:
        self._replace(self._endpoints, "".join(f"- {{address: 127.0.0.1, port: {pod.port}}}\n" for pod in self.pods))

    @staticmethod
    def _replace(path: Path, text: str) -> None:
        temporary = path.with_suffix(".new")
        temporary.write_text(text)
        temporary.replace(path)

    def ask(self, query: str, **more: str) -> list[dict[str, Any]]:
        """What Prometheus answers; over a time with `start`, `end` and `step`. Its error is an AssertionError."""
        kind = "query_range" if "start" in more else "query"
        url = f"http://127.0.0.1:{self.port}/api/v1/{kind}?{urllib.parse.urlencode({'query': query, **more})}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]["result"]  # type: ignore[no-any-return]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query}: {error.read().decode()}") from None

    def until_scraped(self, query: str, within: float = 40.0) -> None:
        """Until the query has an answer that is not 0."""

        def answered() -> bool:
            try:
                return any(float(each["value"][1]) > 0 for each in self.ask(query))
            except OSError:  # it is still starting
                return False

        until(answered, within, every=0.2)

    def close(self) -> None:
        for process in self._all:
            process.kill()
            process.wait(10)
