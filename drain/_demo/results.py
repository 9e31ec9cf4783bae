"""What a demo measured, as frozen values. Times are seconds; inside a run they count from the first call."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Failure:
    """One call that did not end OK. `server` is who answered, as far as anybody did."""

    at: float
    caller: int
    kind: str
    status: str
    details: str
    server: str | None = None


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What all callers saw.

    Attributes:
        started_at: `time.monotonic()` of the first call; every other time counts from it.
        duration: seconds from the first call until the callers were told to stop; the buckets go on until the last
            call has ended.
        bucket: width of one bucket in seconds.
        calls: successful calls, by server, in each bucket (by the time at which they ended).
        failed: failed calls, by status, in each bucket.
        failures: the failed calls one by one, the first `load.FAILURES_KEPT` of them.
        p50, p99: seconds a successful unary call took.
        stream_p50, stream_p99: the same for streaming calls, from the beginning to the last message.
        longest_pause: the longest that one caller went without an answer (a call's, or one message of a stream).
        longest_pause_ended: when that pause was over.
        held_up: the longest that a busy machine held up the callers' own process, or a byte that it sent to itself.
        p90, slowest: as p50, and the longest of all.
    """

    started_at: float
    duration: float
    bucket: float
    calls: Mapping[str, tuple[int, ...]]
    failed: Mapping[str, tuple[int, ...]]
    failures: tuple[Failure, ...]
    p50: float
    p99: float
    stream_p50: float
    stream_p99: float
    longest_pause: float
    longest_pause_ended: float = 0.0
    held_up: float = 0.0
    p90: float = 0.0
    slowest: float = 0.0

    @property
    def lost(self) -> int:
        """Calls that failed."""
        return sum(map(sum, self.failed.values()))

    @property
    def total(self) -> int:
        """All calls, failed ones included."""
        return self.lost + sum(map(sum, self.calls.values()))

    @property
    def lost_by_status(self) -> dict[str, int]:
        """Failed calls by status, the most frequent first."""
        return dict(sorted(((s, sum(n)) for s, n in self.failed.items()), key=lambda item: -item[1]))


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a server's life, in one of `drain._demo.words.PHASES`."""

    server: str
    phase: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Restart:
    """One server's restart, from SIGTERM until the balancer sends new connections to its successor (`listed`; without a
    balancer: until that serves).

    `report` is drain's; `stderr` the last lines the process wrote there, kept only where its exit code is not 0.
    """

    server: str
    round: int
    signalled: float
    exited: float
    serving: float
    listed: float
    exit_code: int
    report: Mapping[str, object] | None = None
    stderr: str = ""

    @property
    def leaving(self) -> float:
        """SIGTERM to the end of the process."""
        return self.exited - self.signalled

    @property
    def whole(self) -> float:
        """SIGTERM until the successor gets new connections."""
        return self.listed - self.signalled


@dataclass(frozen=True, slots=True)
class Run:
    """One mode's run.

    `listed` are the spans in which the balancer gave a server new connections (phase "listed"), `held_up` the longest
    that a busy machine held up the balancer.
    """

    mode: str
    load: LoadResult
    restarts: tuple[Restart, ...]
    spans: tuple[Span, ...]
    listed: tuple[Span, ...]
    held_up: float = 0.0

    @property
    def servers(self) -> tuple[str, ...]:
        """The servers' names, in order."""
        return tuple(dict.fromkeys(span.server for span in self.spans))

    @property
    def leaving(self) -> float:
        """Median seconds from SIGTERM to the end of the process."""
        return median(restart.leaving for restart in self.restarts)

    @property
    def restarting(self) -> float:
        """Median seconds of a whole restart."""
        return median(restart.whole for restart in self.restarts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to run. `streaming` of the `callers` open server streams, the others make unary calls.

    Attributes:
        servers: server processes.
        callers: callers, each with a connection of its own.
        rounds: how often every server is restarted.
        lag: seconds by which the balancer learns late that a server is leaving.
        aio: servers on grpc.aio instead of grpc.server.
        every: seconds from one SIGTERM to the next, so that both runs are about as long.
        settle: seconds of steady load before the first restart, after each, and at the end, at least.
    """

    servers: int = 3
    callers: int = 16
    rounds: int = 3
    lag: float = 1.0
    aio: bool = False
    every: float = 2.8
    settle: float = 0.6

    @property
    def streaming(self) -> int:
        """A quarter of the callers, one at least."""
        return max(1, self.callers // 4)

    @property
    def restarts(self) -> int:
        """Restarts in one run."""
        return self.servers * self.rounds


@dataclass(frozen=True, slots=True)
class Demo:
    """The whole result. `about` says where it ran: date, versions, processor count, command."""

    settings: Settings
    runs: tuple[Run, ...]
    about: Mapping[str, str]

    def run(self, mode: str) -> Run | None:
        """The run of that mode, None if it was left out."""
        return next((run for run in self.runs if run.mode == mode), None)

    @property
    def lost(self) -> int:
        """Calls that drain lost: the demo's exit code hangs on it."""
        return sum(run.load.lost for run in self.runs if run.mode != "baseline")

    def as_dict(self) -> dict[str, object]:
        """Plain JSON-able values, with the sums a reader wants first."""
        totals = {
            run.mode: {
                "calls": run.load.total,
                "failed": run.load.lost,
                "failed_by_status": run.load.lost_by_status,
                "longest_pause": run.load.longest_pause,
                "restart": run.restarting,
                "leaving": run.leaving,
                "p50": run.load.p50,
                "p99": run.load.p99,
            }
            for run in self.runs
        }
        return {"lost": self.lost, "totals": totals, **asdict(self)}
