"""Which worker processes there should be, and what to do about it: start, restart with back-off, replace, leave. Pure.

What happens is handed in with the time, what must be done comes back as actions, in order; `drain._workers.parent` carries them
out. There is one place for each worker; a process in it is a member, with a serial number of its own.
"""

import itertools
import random
from dataclasses import dataclass, field

from drain._workers.actions import Action, Ask, Kill, Life, Member, Start, Terminate
from drain._workers.backoff import Backoff

MARGIN = 2.0  # seconds beyond a worker's own worst case, for its end and for a busy machine; at most, where all leave
SHARE = (
    7 / 8
)  # of the `reserve`, after which Kubernetes kills the pod: the rest is for the parent, whose report tells who hung
FORCED = 4.0  # seconds that a forced worker gets: twice what one step of its drain may take
NUDGE = 0.1  # seconds between the signals of a force: a worker takes the first for joining the drain
ENDING = 10.0  # seconds for the end of an interpreter whose work is over: its threads may have something to finish
UNKNOWN_LONGEST = 30.0  # a drain's worst case where no worker has told its own: Kubernetes' own default


@dataclass(slots=True)
class _Place:
    number: int
    backoff: Backoff
    current: Member | None = None
    successor: Member | None = None
    restart_at: float | None = None
    proven: bool = False  # some member has served here
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class _Leave:
    at: float
    reason: str
    announce: bool
    hold: bool


@dataclass(slots=True)
class Fleet:
    """All places. Not thread safe.

    Args:
        size: how many workers. start_timeout: seconds that one may take until it serves. chance: for the back-off's jitter.

    Attributes:
        restarts, replaced, kills: counted so far; `kills` are members that outstayed their time.
        failed: the member that ended before its place ever served: then all leave.
        round_failed: why the last round of replacements was given up; empty: it was not.
    """

    size: int
    start_timeout: float
    chance: random.Random = field(default_factory=random.Random)
    restarts: int = 0
    replaced: int = 0
    kills: int = 0
    failed: Member | None = None
    round_failed: str = ""
    members: dict[int, Member] = field(default_factory=dict)
    _places: list[_Place] = field(default_factory=list)
    _serials: "itertools.count[int]" = field(default_factory=itertools.count)
    _leaving: _Leave | None = None
    _round: list[int] = field(default_factory=list)
    _again: bool = False  # another round was asked for while one was under way
    _retiring: Member | None = None
    _forced: bool = False

    # What is.

    @property
    def leaving(self) -> bool:
        """Nothing is started any more."""
        return self._leaving is not None

    @property
    def held(self) -> bool:
        """All leave, and wait for another word before they end."""
        return self._leaving is not None and self._leaving.hold

    @property
    def over(self) -> bool:
        """All have left."""
        return self.leaving and not self.held and not self.members

    @property
    def replacing(self) -> bool:
        """A round of replacements is under way."""
        return bool(self._round) or self._retiring is not None or any(place.successor for place in self._places)

    @property
    def wake(self) -> float | None:
        """When `due` wants to be called at the latest."""
        times = [place.restart_at for place in self._places]
        times += [time for member in self.members.values() for time in (member.kill_at, member.nudge_at)]
        return min((time for time in times if time is not None), default=None)

    @property
    def longest(self) -> float:
        """Seconds that the longest member's drain may take."""
        known = [member.longest for member in self.members.values() if member.longest is not None]
        return max(known, default=UNKNOWN_LONGEST)

    @property
    def margin(self) -> float:
        """Seconds beyond that, where all leave: whoever hangs must be gone before the parent is killed, too."""
        told = [member.reserve * SHARE for member in self.members.values() if member.reserve]
        return min([MARGIN, *told])

    def restart_at(self, number: int) -> float | None:
        """When that place's worker is started again; None: it need not be."""
        return self._places[number].restart_at

    def restarts_of(self, number: int) -> int:
        """How often that place's worker was started again."""
        return self._places[number].restarts

    # What happens.

    def begin(self, now: float) -> list[Action]:
        """Start them all."""
        self._places = [_Place(number, Backoff(self.chance)) for number in range(self.size)]
        return [self._start(place, now) for place in self._places]

    def serves(self, serial: int, longest: float | None, now: float, *, reserve: float = 0.0) -> list[Action]:
        """A member listens. `longest`: seconds that its drain may take. `reserve`: what its pod has then; 0: not known."""
        if (member := self.members.get(serial)) is None or member.life is not Life.STARTING:
            return []
        place = self._places[member.number]
        member.life, member.kill_at, place.proven = Life.SERVING, None, True
        member.longest, member.reserve = longest, reserve
        if self._leaving is not None:  # it was told by a signal, which it may not have heard yet
            actions = self._dismiss(member, now)
            for other in self.members.values():  # whose bound was a guess as long as nobody had told
                if other.kill_at is not None and member.kill_at is not None:
                    other.kill_at = min(other.kill_at, member.kill_at)
            return actions
        if member is not place.successor:
            return []
        old, place.current, place.successor = place.current, member, None
        if old is None:  # it crashed meanwhile: the successor is its restart
            return self._next(now)
        self._retiring, old.life = old, Life.RETIRING
        old.kill_at = now + self.longest + MARGIN
        return [Ask(old.serial, "replace", "replaced")]

    def ending(self, serial: int, now: float) -> None:
        """A member's work is over, and its process should end soon: a thread that hangs must not keep its place taken."""
        if (member := self.members.get(serial)) is not None and not member.overdue:
            until = now + ENDING
            member.kill_at = until if member.kill_at is None else min(until, member.kill_at)

    def gone(self, serial: int, now: float) -> list[Action]:
        """A member's process has ended."""
        if (member := self.members.pop(serial, None)) is None:
            return []
        place = self._places[member.number]
        retired, self._retiring = self._retiring is member, None if self._retiring is member else self._retiring
        if place.successor is member:
            place.successor = None
            if self._leaving is None:
                self._give_up(f"the successor of worker {member.number} ended before it served")
        if place.current is member:
            place.current = None
        if self._leaving is not None:
            return []
        if retired:
            self.replaced += 1
            return self._next(now)
        if not place.proven:
            self.failed = member
            return self.leave(now, f"worker {member.number} failed to start")
        if place.current is None and place.successor is None:
            place.restart_at = now + place.backoff.after(now - member.began)
        return []

    def replace(self, now: float) -> list[Action]:
        """Replace all, one by one. While a round is under way: once more afterwards."""
        if self.leaving:
            return []
        if self.replacing:
            self._again = True
            return []
        self.round_failed = ""
        self._round = list(range(self.size))
        return self._next(now)

    def leave(self, now: float, reason: str, *, announce: bool = True, hold: bool = False) -> list[Action]:
        """All drain at once. `hold`: drained, they stay until this is called without. What is under way is joined."""
        before = self._leaving
        hold = hold and (before is None or before.hold)  # whoever was let go is not held again
        first = before.at if before is not None else now
        self._leaving = _Leave(first, reason, announce, hold)
        self._round, self._again = [], False
        for place in self._places:
            place.restart_at = None
        return [action for member in self.members.values() for action in self._dismiss(member, now)]

    def force(self, now: float) -> list[Action]:
        """A second signal: an end now."""
        if self._leaving is None:
            self.leave(now, "forced")
        self._forced = True
        for member in self.members.values():
            member.nudge_at, member.kill_at = now + NUDGE, now + FORCED
        return [Terminate(serial) for serial in self.members]

    def due(self, now: float) -> list[Action]:
        """What the time has come for."""
        actions: list[Action] = []
        for member in self.members.values():
            if member.kill_at is not None and member.kill_at <= now:
                member.kill_at = member.nudge_at = None
                member.overdue = True
                self.kills += 1
                actions.append(Kill(member.serial))
            elif member.nudge_at is not None and member.nudge_at <= now:
                member.nudge_at = now + NUDGE
                actions.append(Terminate(member.serial))
        for place in self._places:
            if place.restart_at is not None and place.restart_at <= now:
                place.restart_at = None
                place.restarts += 1
                self.restarts += 1
                actions.append(self._start(place, now))
        return actions

    # What follows.

    def _start(self, place: _Place, now: float) -> Start:
        member = Member(next(self._serials), place.number, now, now + self.start_timeout)
        self.members[member.serial] = member
        if place.current is None:
            place.current = member
        else:
            place.successor = member
        return Start(member.serial, place.number)

    def _dismiss(self, member: Member, now: float) -> list[Action]:
        leave = self._leaving
        assert leave is not None
        if leave.hold:
            member.kill_at = None
        else:  # each counts from the same moment; who was held until now gets a moment to go
            bound = max(leave.at + self.longest, now) + self.margin
            before = member.kill_at if member.life is Life.RETIRING else None
            member.kill_at = min(bound, before) if before is not None else bound
        if member.life is Life.STARTING:
            return [Terminate(member.serial)]  # it may not be able to listen to anything else
        return [Ask(member.serial, "drain", leave.reason, leave.announce, leave.hold)]

    def _next(self, now: float) -> list[Action]:
        """The next replacement of the round."""
        while self._round:
            place = self._places[self._round.pop(0)]
            if place.current is not None and place.current.life is Life.SERVING:
                return [self._start(place, now)]
            # else: its worker is a new one already, or about to be
        if self._again and not self.replacing:
            self._again = False
            return self.replace(now)
        return []

    def _give_up(self, why: str) -> None:
        self._round, self._again, self.round_failed = [], False, why
