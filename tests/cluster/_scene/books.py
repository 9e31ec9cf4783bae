"""What callers say of their calls."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tests.cluster._node.kubectl import Kubectl


@dataclass(frozen=True, slots=True)
class Books:
    """One caller's, since it began. Times are seconds of the day's clock."""

    at: float
    calls: int
    failed: int
    pods: Mapping[str, int]
    first: Mapping[str, float]
    told: tuple[Mapping[str, object], ...]
    latency: Mapping[int, int]  # answers in bucket n: up to 1.05 ** n seconds
    oldest: float  # when the oldest call in flight began; `at` if there is none

    def since(self, before: "Books") -> "Books":
        """The part that was not in `before`."""
        pods = {each: count - before.pods.get(each, 0) for each, count in self.pods.items()}
        return Books(
            self.at,
            self.calls - before.calls,
            self.failed - before.failed,
            {each: count for each, count in pods.items() if count},
            {each: at for each, at in self.first.items() if each not in before.first},
            tuple(each for each in self.told if float(str(each["at"])) > before.at),
            {each: count - before.latency.get(each, 0) for each, count in self.latency.items()},
            self.oldest,
        )

    @property
    def spread(self) -> float:
        """The busiest pod's calls over the mean; 1 is even."""
        return max(self.pods.values()) * len(self.pods) / sum(self.pods.values())


def read(kubectl: Kubectl, name: str) -> Books:
    """The caller's last line. Raises KubectlError, AssertionError: it has said nothing yet."""
    text = kubectl("logs", f"deployment/{name}", "--tail=1")
    assert text.startswith("{"), f"{name} has not called yet: {text[:300]}"
    return parsed(text)


def parsed(line: str) -> Books:
    """One line of `programs.call`."""
    found = json.loads(line)
    latency = {int(bucket): count for bucket, count in found["latency"].items()}
    at, oldest = found["at"], found["oldest"]
    return Books(
        at, found["calls"], found["failed"], found["pods"], found["first"], tuple(found["told"]), latency, oldest or at
    )
