"""kubectl, as a user has it."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Object = dict[str, Any]


class KubectlError(AssertionError):
    """It said no."""


class Kubectl:
    """Bound to a cluster, and to a namespace if one is given. Thread safe."""

    def __init__(self, program: Path, kubeconfig: Path, namespace: str | None = None) -> None:
        self._start = [str(program), f"--kubeconfig={kubeconfig}"]
        self._program, self.kubeconfig = program, kubeconfig
        self.namespace = namespace
        if namespace is not None:
            self._start.append(f"--namespace={namespace}")

    def within(self, namespace: str | None) -> "Kubectl":
        """The same, in that namespace."""
        return Kubectl(self._program, self.kubeconfig, namespace)

    def command(self, *arguments: str) -> list[str]:
        """For who runs it himself."""
        return [*self._start, *arguments]

    def __call__(self, *arguments: str, text: str | None = None, bound: float = 60.0) -> str:
        """What it prints. Raises KubectlError with its own words."""
        done = self.attempt(*arguments, text=text, bound=bound)
        if done.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def attempt(
        self, *arguments: str, text: str | None = None, bound: float = 60.0
    ) -> "subprocess.CompletedProcess[str]":
        """Whatever it says. Raises KubectlError: it was not over in time."""
        try:
            return subprocess.run(
                self.command(*arguments), input=text, capture_output=True, text=True, timeout=bound, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise KubectlError(f"kubectl {' '.join(arguments)}: not over after {bound:g} s") from error

    def get(self, *arguments: str) -> Object:
        """As an object."""
        found: Object = json.loads(self("get", "-o", "json", *arguments))
        return found

    def items(self, kind: str, selector: str | None = None) -> list[Object]:
        """All of that kind."""
        chosen = () if selector is None else ("-l", selector)
        return list(self.get(kind, *chosen)["items"])

    def apply(self, *objects: Object) -> None:
        """These, as manifests."""
        self("apply", "--server-side", "--force-conflicts", "-f", "-", text=json.dumps(listed(objects)))


def listed(objects: Sequence[Object]) -> Object:
    """Several as one."""
    return {"apiVersion": "v1", "kind": "List", "items": list(objects)}
