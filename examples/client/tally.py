"""What the clients count: who answered, and what failed."""

import threading
from collections import Counter

import grpc


class Tally:
    """Counts calls, and tells of them. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answered, self._failed = Counter[str](), Counter[str]()  # since they were last told
        self._pods: set[str] = set()
        self._calls = self._failures = 0

    def answered(self, pod: str) -> None:
        """A call was answered by this pod."""
        with self._lock:
            self._answered[pod] += 1

    def failed(self, error: grpc.RpcError) -> None:
        """A call failed; its details say why."""
        with self._lock:
            self._failed[f"{error.code().name}: {error.details()}"] += 1

    def tell(self) -> None:
        """One line of who has answered since the last time, and one for each kind of failure."""
        with self._lock:
            answered, self._answered = self._answered, Counter()
            failed, self._failed = self._failed, Counter()
        self._pods |= answered.keys()
        self._calls += answered.total() + failed.total()
        self._failures += failed.total()
        print(", ".join(f"{pod} {calls}" for pod, calls in sorted(answered.items())) or "nobody answered", flush=True)
        for why, calls in failed.items():
            print(f"  failed {calls}: {why}", flush=True)

    def end(self) -> None:
        """The calls that were not told of yet, and one line of all."""
        if self._answered or self._failed:
            self.tell()
        print(f"{self._calls} calls, {self._failures} failed, {len(self._pods)} pods answered", flush=True)
