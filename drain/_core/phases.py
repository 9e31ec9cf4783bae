"""When each phase of a drain is over. Pure: the time and what was observed come in, a step comes out.

Each phase answers `step(now, ...)` with what to do next: `Wait` until a time (ask again then, or sooner),
`Rotate`, or `Over`. Times are seconds of one monotonic clock.

**Leaving by observation** (Announcing): a rotation sends GOAWAY to everybody while the server goes on accepting, so it costs no
call and asks a question: who still comes here? Whoever's balancer has not yet learned that we are leaving comes back and is
served; when nobody comes back, everybody knows, and closing is safe. It needs no permission and no knowledge of what is in
front. Who waits for a call to end cannot come back before that, so unary calls are waited for. But who calls more seldom than
the window is long is not seen: so where Kubernetes may be asked, it is, too. Who follows it (kube-proxy) does so a moment later,
which is what `settle` is for.
"""

from dataclasses import dataclass
from typing import TypeAlias

# After a rotation a client that has not read its GOAWAY yet still begins calls on the old connection: they are no returns.
# A tenth of a second covers a round trip between continents; a slower client only prolongs the wait by one rotation.
DEAF = 0.1
# How long a peer that has no call in flight may take to answer the PING of a graceful GOAWAY, before it is cut and counted.
LINGER = 1.0
AT_LEAST_ROTATIONS = 2
# A first answer about the own endpoint that comes within this was given as announcing began.
PROMPT = 1.0


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `until`."""

    until: float


@dataclass(frozen=True, slots=True)
class Rotate:
    """Send GOAWAY on every connection, then tell the phase with `rotated()`."""


@dataclass(frozen=True, slots=True)
class Over:
    """The phase is over; `why` goes into the report. `cut`: calls in flight or peers must be cut."""

    why: str
    cut: bool = False


Step: TypeAlias = Wait | Rotate | Over


class Announcing:
    """Rotate until nobody comes back, and until no service lists this pod any more, as far as that can be seen.

    Args:
        now: when announcing began. at_least, at_most: bounds of the whole phase. interval: between rotations. window: how long
            after a rotation nobody may come back. settle: after the endpoint was seen to leave. Usually it has left before the
            first look, since Kubernetes takes a pod out when it tells it to go; then `at_least` is enough.
    """

    def __init__(
        self, now: float, *, at_least: float, at_most: float, interval: float, window: float, settle: float = 0.0
    ) -> None:
        self._earliest = now + at_least
        self._latest = now + at_most
        self._listed: bool | None = None
        self._settle, self._settled = settle, now
        self._prompt = now + PROMPT
        self._endpoint_waited_for = False
        self._interval = interval
        self._window = window
        self._deaf = min(DEAF, window / 2)
        self._rotated_at: float | None = None
        self._before: tuple[int, int] | None = None
        self._listened_from = now
        self._came = 0
        self._ended_before = 0
        self.returned: list[int] = []

    @property
    def rotations(self) -> int:
        """Rotations made so far."""
        return len(self.returned)

    def end_by(self, latest: float) -> None:
        """There is less time than was thought: the phase is over at `latest` at the latest."""
        self._latest = min(self._latest, latest)
        self._earliest = min(self._earliest, self._latest)

    def rotated(self, now: float) -> None:
        """A rotation was carried out: every open connection has been sent its GOAWAY."""
        self._rotated_at, self._before, self._came = now, None, 0
        self.returned.append(0)

    def step(
        self, now: float, begun: int, reached: int = 0, *, ended: int = 0, busy: int = 0, listed: bool | None = None
    ) -> Step:
        """What to do now.

        Only differences of the counts matter, and the greater counts: `begun` knows calls that wait for a worker, but may have
        been too high a moment ago. A caller whose call is in flight cannot come back before it has ended: so as long as there is
        one, or one has ended just now, nobody can be said not to come back. Streams are open for as long as they like, and so
        only their end counts.

        Args:
            begun: calls begun so far. reached: those whose handler was called; health and reflection apart.
            ended: calls ended so far. busy: unary calls in flight.
            listed: whether some service still lists this pod's endpoint; None: that cannot be seen, and counts for nothing.
        """
        self._see(now, listed)
        if self._rotated_at is None:
            return Rotate() if now < self._latest else Over("announce_timeout")
        if now < self._rotated_at + self._deaf and now < self._latest:
            return Wait(min(self._rotated_at + self._deaf, self._latest))
        self._count(now, begun, reached, ended)
        if now >= self._latest:
            return Over("announce_timeout")
        # From the first look on: one that comes late, because nothing lets this process run, has not seen who came before it.
        heard_until = self._listened_from + self._window - self._deaf
        if now < heard_until:
            return Wait(min(heard_until, self._latest))
        silent = self._came == 0 and ended == self._ended_before and busy == 0
        quiet = silent and self.rotations >= AT_LEAST_ROTATIONS
        not_before = max(self._earliest, self._settled)
        if quiet and not listed and now >= not_before:
            return Over("endpoint left" if listed is False and self._endpoint_waited_for else "nobody came back")
        self._endpoint_waited_for = quiet and (listed is True or now < self._settled)
        due = not_before if quiet and now < not_before else self._rotated_at + self._interval
        return Rotate() if now >= due else Wait(min(due, self._latest))

    def _see(self, now: float, listed: bool | None) -> None:
        if listed is None:
            return
        late = self._listed is None and now > self._prompt  # who answers so late may have learned just now
        if not listed and (self._listed or late):
            self._settled = now + self._settle
        self._listed = listed

    def _count(self, now: float, begun: int, reached: int, ended: int) -> None:
        if self._before is None:
            self._before, self._listened_from, self._ended_before = (begun, reached), now, ended
        self._came = max(begun - self._before[0], reached - self._before[1])
        self.returned[-1] = self._came


class FixedAnnouncing:
    """The classic way: without GOAWAY nobody can be asked.

    Where this pod's own endpoint can be seen the phase is over `settle` after every service has taken it out (kube-proxy follows
    within a second or two); where it cannot, a fixed time passes.

    Args:
        now: when announcing began. delay: the fixed time. settle: after the endpoint has left. at_least, at_most: bounds.
    """

    rotations = 0

    def __init__(
        self, now: float, *, delay: float, settle: float = 0.0, at_least: float = 0.0, at_most: float | None = None
    ) -> None:
        self._latest = now + (delay if at_most is None else at_most)
        self._earliest, self._fixed, self._settle = now + at_least, now + delay, settle
        self._left_at: float | None = None
        self.returned: list[int] = []

    def end_by(self, latest: float) -> None:
        """There is less time than was thought: the phase is over at `latest` at the latest."""
        self._latest = min(self._latest, latest)

    def rotated(self, now: float) -> None:
        """Never asked for here."""

    def step(
        self, now: float, begun: int, reached: int = 0, *, ended: int = 0, busy: int = 0, listed: bool | None = None
    ) -> Step:
        """See `Announcing.step`; calls say nothing here."""
        if listed is not False:
            self._left_at = None
        elif self._left_at is None:
            self._left_at = now
        if listed is None:
            until, why = self._fixed, "announce_delay"
        elif self._left_at is not None:
            until, why = max(self._left_at + self._settle, self._earliest), "endpoint left"
        else:
            until, why = self._latest, "announce_timeout"
        if self._latest < until:
            until, why = self._latest, "announce_timeout"
        return Over(why) if now >= until else Wait(until)


class Closing:
    """The classic way after listening has stopped: until no call begins for `quiet`, at the latest until `latest`."""

    def __init__(self, now: float, *, quiet: float, latest: float) -> None:
        self._quiet, self._latest = quiet, latest
        self._since, self._begun = now, -1

    def step(self, now: float, begun: int) -> Step:
        """`begun`: calls begun so far."""
        if begun != self._begun:
            self._since, self._begun = now, begun
        if now >= self._latest:
            return Over("still called")
        if now >= self._since + self._quiet:
            return Over("quiet")
        return Wait(min(self._since + self._quiet, self._latest))


class Finishing:
    """Until no call is in flight and every connection has closed itself, at the latest until `deadline`.

    A connection closes itself when its client has answered the GOAWAY and its last call has ended: only then is it sure that
    nothing is on its way to us. A client that never answers would hold us, so with no call in flight it is given `linger`.
    In the classic way nobody was told to go, so open connections say nothing: pass `linger=0`.
    """

    def __init__(self, deadline: float, *, linger: float = LINGER) -> None:
        self.deadline = deadline
        self._linger = linger
        self._idle_since: float | None = None

    def step(self, now: float, in_flight: int, peers: int) -> Step:
        """`in_flight`: calls not yet ended. `peers`: open connections."""
        if in_flight == 0 and peers == 0:
            return Over("last call ended")
        if in_flight > 0:
            self._idle_since = None
            return Over("drain_timeout", cut=True) if now >= self.deadline else Wait(self.deadline)
        if self._idle_since is None:
            self._idle_since = now
        until = min(self._idle_since + self._linger, self.deadline)
        return Over("GOAWAY unanswered" if self._linger else "last call ended") if now >= until else Wait(until)
