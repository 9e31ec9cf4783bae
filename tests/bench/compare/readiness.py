"""When pods become ready, as a watch of the bench's own sees it."""

import subprocess
import threading
import time
from collections.abc import Collection

from tests.cluster._node.kubectl import Kubectl
from tests.cluster._scene.endings import objects


class Readiness:
    """When each pod of an app was first seen ready, in seconds of the day's clock."""

    def __init__(self, kubectl: Kubectl, app: str) -> None:
        self.at: dict[str, float] = {}
        command = kubectl.command("get", "pods", "-l", f"app={app}", "-o", "json", "--watch")
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def last(self, pods: Collection[str]) -> float:
        """When the last one of these was; it may not have been seen yet."""
        return max((self.at[each] for each in pods if each in self.at), default=time.time())

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)
        self._thread.join(10)

    def _follow(self) -> None:
        for pod in objects(self._process.stdout):
            conditions = {each["type"]: each["status"] for each in pod.get("status", {}).get("conditions", ())}
            if conditions.get("Ready") == "True":
                self.at.setdefault(pod["metadata"]["name"], time.time())
