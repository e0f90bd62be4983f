"""How much a VTN bears: requests in flight and points a request, found by trying, for all threads of a process.

Requests in flight rise by one and fall by a share (additive increase, multiplicative decrease). A round is as many
answers as requests may be in flight. Of these, `1 - best / now` wait in the VTN instead of being worked at, where
`now` is the seconds a point that the round took and `best` the least of late (TCP Vegas: Brakmo and Peterson, 1995).
Few of them: more would get through. Many: fewer do as well. Overloaded, or no answer in time: too many. Throttled: just
more than the VTN takes, which is then as many as are in flight besides.
"""

from dataclasses import dataclass
from threading import Lock

from venclient.errors import OverloadedError, PermanentError, ThrottledError, TimedOutError, TransientError

MAX_POINTS = 50_000  # a request (contracts §3)
STARTS_WITH = 4
ANSWERS_A_ROUND = 2  # at least
# So many requests that wait in the VTN are few, many are twice as many: one, and a share of those in flight for noise.
FEW_WAIT = 1.0
FEW_WAIT_SHARE = 0.125
GIVES_WAY_TO = 0.75
# Rounds until it steps back and feels its way up again: what was the best once need not be so for the whole night.
ROUNDS_REMEMBERED = 100
ROUNDS_TO_NEXT_TRY = 20
# Requests of full size until a request may be larger again, and by how much.
REQUESTS_TO_NEXT_TRY = 20
GROWS_BY = 1.25
TRIES_PUT_OFF_AT_MOST = 64


@dataclass(frozen=True, slots=True)
class Learned:
    """What a run found the VTN to bear: where the next one starts."""

    concurrency: int
    chunk_size: int


@dataclass(eq=False, slots=True)
class Round:
    """What came of requests that were begun under one limit."""

    limit: int
    is_full: bool = False
    answers: int = 0
    points: int = 0
    seconds: float = 0.0

    @property
    def seconds_a_point(self) -> float:
        return self.seconds / max(self.points, 1)


@dataclass(slots=True)
class _Barrier:
    """What was too much: tried again after a while, and where it is too much again, after twice as long."""

    first_wait: int
    at: float = float("inf")
    wait: int = 0
    waited: int = 0
    has_risen: bool = True

    def hit(self, at: float) -> None:
        """So much was too much; one that was hit again before anything rose is the same trouble still."""
        if self.has_risen:
            self.wait = min(2 * self.wait, TRIES_PUT_OFF_AT_MOST * self.first_wait) or self.first_wait
        self.at, self.waited, self.has_risen = at, 0, False

    def rise(self) -> None:
        """More is tried from now on."""
        self.has_risen = True

    def stands_before(self, height: float) -> bool:
        return height >= self.at and self.waited < self.wait

    def pass_by(self, height: float) -> None:
        """This height was held for a while: where it is that of the barrier, there is none any more."""
        self.waited += 1
        if height >= self.at:
            self.at, self.wait = float("inf"), 0


class ConcurrencyLimiter:
    """The limiter that every request of a process goes through; it makes nobody wait: `CircuitBreaker` does.

    `ceiling`: requests in flight, at most; `learned`: what an earlier run found.
    """

    def __init__(self, ceiling: int = 16, learned: Learned | None = None) -> None:
        self._ceiling = ceiling
        self._limit = min(learned.concurrency if learned else STARTS_WITH, ceiling)
        self._doubles = learned is None
        self._points = self._points_borne = learned.chunk_size if learned else MAX_POINTS
        self._lock = Lock()
        self._in_flight = 0
        self._round = Round(self._limit)
        self._rounds = 0
        self._best: float | None = None
        self._refused = _Barrier(ROUNDS_TO_NEXT_TRY)
        self._too_large = _Barrier(REQUESTS_TO_NEXT_TRY)

    @property
    def chunk_size(self) -> int:
        """Points a request, now."""
        return self._points

    @property
    def limit(self) -> int:
        """Requests in flight, at most, now."""
        return self._limit

    @property
    def in_flight(self) -> int:
        """Requests that have no answer yet."""
        return self._in_flight

    @property
    def learned(self) -> Learned:
        """What the VTN bears, as far as is known."""
        with self._lock:
            return Learned(self._limit, self._points)

    def enter(self) -> Round | None:
        """Be in flight, in this round; None while there is no room."""
        with self._lock:
            if self._in_flight >= self._limit:
                return None
            self._in_flight += 1
            self._round.is_full |= self._in_flight >= self._limit
            return self._round

    def leave(self) -> None:
        """Be in flight no more."""
        with self._lock:
            self._in_flight -= 1

    def answered(self, begun_in: Round, points: int, seconds: float) -> None:
        """The VTN has taken a request of so many points, in this time; one without points tells nothing of the pace."""
        if not points:
            return
        with self._lock:
            self._points_borne = self._points
            if points >= self._points:
                self._grow(points)
            begun_in.answers += 1
            begun_in.points += points
            begun_in.seconds += seconds
            if begun_in is self._round and begun_in.answers >= max(self._limit, ANSWERS_A_ROUND):
                self._judge(begun_in)

    def failed(self, begun_in: Round, error: TransientError | PermanentError) -> None:
        """The VTN did not take a request, which is still in flight here.

        Others that were begun under the same limit tell nothing new, but for a `ThrottledError`: the VTN still takes
        those that are in flight besides, or else half as many as were.
        """
        with self._lock:
            borne = int(begun_in.limit * GIVES_WAY_TO)
            if isinstance(error, ThrottledError):
                borne = max(begun_in.limit // 2, self._in_flight - 1)
                self._refused.hit(borne + 1)
            elif begun_in is not self._round or not isinstance(error, OverloadedError | TimedOutError):
                return
            self._doubles = False
            self._limit = max(1, min(self._limit, borne))
            self._round = Round(self._limit)

    def shrink(self, points: int) -> None:
        """So many points were too many for a request: half of them from now on, for a while."""
        with self._lock:
            if 1 < points <= self._points:
                self._points = points // 2
                self._too_large.hit(points)

    def restore(self) -> None:
        """It was not their number that kept points from getting through since the last answer."""
        with self._lock:
            self._points = max(self._points, self._points_borne)

    def _judge(self, ended: Round) -> None:
        """What the round says of the limit."""
        self._refused.pass_by(self._limit)
        now = ended.seconds_a_point
        self._best = now if self._best is None else min(self._best, now)
        waiting = self._limit * (1 - self._best / now) if now else 0.0
        few = FEW_WAIT + FEW_WAIT_SHARE * self._limit
        self._doubles &= waiting < few
        self._rounds += 1
        if self._rounds % ROUNDS_REMEMBERED == 0:
            self._best = None
            self._limit = max(1, self._limit // 2)
        elif waiting > 2 * few:
            self._limit = max(1, int(self._limit * GIVES_WAY_TO))
        elif waiting < few and ended.is_full:
            self._rise()
        self._round = Round(self._limit)

    def _rise(self) -> None:
        higher = min(2 * self._limit if self._doubles else self._limit + 1, self._ceiling)
        if not self._refused.stands_before(higher):
            self._limit = higher
            self._refused.rise()

    def _grow(self, points: int) -> None:
        self._too_large.pass_by(points)
        larger = min(int(self._points * GROWS_BY) + 1, MAX_POINTS)
        has_waited = self._too_large.waited >= self._too_large.first_wait
        if larger > self._points and has_waited and not self._too_large.stands_before(larger):
            self._points = larger
            self._too_large.rise()
            self._too_large.waited = 0
