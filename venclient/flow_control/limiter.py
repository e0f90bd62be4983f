"""Adaptive limits for one VTN, shared by all threads of a process: requests in flight, and points per request.

The concurrency limit rises by one and falls by a fraction (AIMD: additive increase, multiplicative decrease). It is
adjusted once a round, which is as many responses as requests may be in flight. A share `1 - best / now` of the requests
is queued in the VTN instead of being processed, where `now` is the round's seconds per point and `best` the lowest of
recent rounds (TCP Vegas: Brakmo and Peterson, 1995). A short queue raises the limit, a long one lowers it.
`OverloadedError` and `TimedOutError` lower it too. `ThrottledError` says that it is just above what the VTN accepts,
which then equals the other requests in flight.

Several clients share a VTN that throttles, without knowing of each other. It accepts the request that comes first when
another one ends, so that a client at its limit takes each place that it gives up, and a later one would get none. So
those that were throttled make room at the same times, by the clock: each keeps to one request less for a second. Then
they try one more than before, the higher limits after the lower ones, until all have the same.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from venclient.errors import OverloadedError, PermanentError, ThrottledError, TimedOutError, TransientError

MAX_POINTS = 50_000  # per request (docs/interfaces.md §3)
INITIAL_LIMIT = 4
MIN_RESPONSES_PER_ROUND = 2
# The limit rises while fewer requests than this are queued in the VTN, and falls beyond twice as many. The share of the
# limit allows for noise in the measured times.
SHORT_QUEUE = 1.0
SHORT_QUEUE_SHARE = 0.125
DECREASE_FACTOR = 0.75
# After so many rounds `best` is forgotten and the limit halved: a VTN's speed changes in the course of a night.
ROUNDS_REMEMBERED = 100
# Clients make room so often, times the Retry-After that a request too many costs, if that is longer than 1 s.
ROOM_EVERY_S = 10.0
# For so long; then limits reach 1, 2, 3 … at these steps, each up to one more than it was.
ROOM_S = 1.0
STEP_S = 0.1
# A client whose limit stays the same makes room every time, then every second, every fourth, and every eighth.
MAX_ROOMS_APART = 8
# Full-sized requests before a request may be larger again, and by which factor.
REQUESTS_TO_NEXT_TRY = 20
GROWTH_FACTOR = 1.25
MAX_WAIT_FACTOR = 64


@dataclass(frozen=True, slots=True)
class Learned:
    """Limits found by one run, with which the next one starts."""

    concurrency: int
    chunk_size: int


@dataclass(eq=False, slots=True)
class Round:
    """Totals of the requests that started under one limit."""

    limit: int
    is_full: bool = False
    answers: int = 0
    points: int = 0
    seconds: float = 0.0

    @property
    def seconds_per_point(self) -> float:
        return self.seconds / max(self.points, 1)


@dataclass(slots=True)
class _Barrier:
    """A level that was too high. It is tried again after a wait, which doubles each time that it is still too high."""

    initial_wait: int
    level: float = float("inf")
    wait: int = 0
    waited: int = 0
    raised_since_hit: bool = True

    def hit(self, level: float) -> None:
        """This level was too high. A hit before anything was raised again has the same cause, and keeps the wait."""
        if self.raised_since_hit:
            self.wait = min(2 * self.wait, MAX_WAIT_FACTOR * self.initial_wait) or self.initial_wait
        self.level, self.waited, self.raised_since_hit = level, 0, False

    def record_raise(self) -> None:
        """A higher level is tried from now on."""
        self.raised_since_hit = True

    def blocks(self, level: float) -> bool:
        return level >= self.level and self.waited < self.wait

    def record_success(self, level: float) -> None:
        """This level worked for a round or a request; at the barrier's level, that removes the barrier."""
        self.waited += 1
        if level >= self.level:
            self.level, self.wait = float("inf"), 0


class ConcurrencyLimiter:
    """Limits that every request of a process keeps to. It never blocks: waiting is up to `CircuitBreaker`.

    `ceiling`: maximum number of requests in flight; `learned`: limits found by an earlier run.
    """

    def __init__(
        self, ceiling: int = 16, learned: Learned | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._ceiling = ceiling
        self._clock = clock
        self._limit = min(learned.concurrency if learned else INITIAL_LIMIT, ceiling)
        # As in TCP, the limit doubles each round until the first sign of congestion.
        self._in_slow_start = learned is None
        self._chunk_size = self._proven_chunk_size = learned.chunk_size if learned else MAX_POINTS
        self._lock = Lock()
        self._in_flight = 0
        self._round = Round(self._limit)
        self._rounds = 0
        self._best: float | None = None
        self._throttled_at = math.inf
        self._room_every_s = ROOM_EVERY_S
        self._rooms_apart = 1
        self._room_number: float | None = None  # of the last room made
        self._limit_before: int | None = None  # while it makes room
        self._is_trying = False
        self._too_large = _Barrier(REQUESTS_TO_NEXT_TRY)

    @property
    def chunk_size(self) -> int:
        """Current limit of points per request."""
        return self._chunk_size

    @property
    def room_in_s(self) -> float:
        """Seconds until a client without any request in flight may find room for one, if others take it all."""
        return (ROOM_S + STEP_S - self._clock()) % self._room_every_s

    @property
    def in_flight(self) -> int:
        """Number of requests that have no response yet."""
        return self._in_flight

    @property
    def learned(self) -> Learned:
        """The limits found so far."""
        with self._lock:
            return Learned(self._limit_before or self._limit, self._chunk_size)

    def enter(self) -> Round | None:
        """Put a request in flight and return its round; None if the limit is reached."""
        with self._lock:
            self._make_room()
            if self._in_flight >= self._limit:
                return None
            self._in_flight += 1
            self._round.is_full |= self._in_flight >= self._limit
            return self._round

    def leave(self) -> None:
        """Take a request out of flight, after its outcome is recorded."""
        with self._lock:
            self._in_flight -= 1

    def answered(self, begun_in: Round, points: int, seconds: float) -> None:
        """Record a success and its duration. Requests without points are ignored, as they say nothing about speed."""
        if not points:
            return
        with self._lock:
            self._proven_chunk_size = self._chunk_size
            if points >= self._chunk_size:
                self._increase_chunk_size(points)
            begun_in.answers += 1
            begun_in.points += points
            begun_in.seconds += seconds
            if begun_in is self._round and begun_in.answers >= max(self._limit, MIN_RESPONSES_PER_ROUND):
                self._end_round(begun_in)

    def failed(self, begun_in: Round, error: TransientError | PermanentError) -> None:
        """Record a failure; the request still counts as in flight.

        A limit is lowered once for all failures of its round, except for `ThrottledError`: then the VTN accepts the
        other requests in flight, or half of the round's limit if those are fewer.
        """
        with self._lock:
            accepted = int(begun_in.limit * DECREASE_FACTOR)
            if isinstance(error, ThrottledError):
                accepted = max(begun_in.limit // 2, self._in_flight - 1)
                self._throttle(accepted, error.retry_after_s or 0.0)
            elif begun_in is not self._round or not isinstance(error, OverloadedError | TimedOutError):
                return
            self._in_slow_start = False
            self._limit, self._limit_before = max(1, min(self._limit, accepted)), None
            self._round = Round(self._limit)

    def shrink(self, points: int) -> None:
        """Halve the points per request for a while, because a request of this many was too large."""
        with self._lock:
            # A larger request was sent before another thread shrank the limit, and says nothing new.
            if 1 < points <= self._chunk_size:
                self._chunk_size = points // 2
                self._too_large.hit(points)

    def restore(self) -> None:
        """Undo the shrinking since the last success: the failures had another cause than size."""
        with self._lock:
            self._chunk_size = max(self._chunk_size, self._proven_chunk_size)

    def _end_round(self, ended: Round) -> None:
        if self._limit >= self._throttled_at:
            self._throttled_at, self._rooms_apart, self._is_trying = math.inf, 1, False
        now = ended.seconds_per_point
        self._best = now if self._best is None else min(self._best, now)
        queued = self._limit * (1 - self._best / now) if now else 0.0
        short = SHORT_QUEUE + SHORT_QUEUE_SHARE * self._limit
        self._in_slow_start &= queued < short
        self._rounds += 1
        if self._rounds % ROUNDS_REMEMBERED == 0:
            self._best = None
            self._limit = max(1, self._limit // 2)
        elif queued > 2 * short:
            self._limit = max(1, int(self._limit * DECREASE_FACTOR))
        # Where the limit was never reached, the round shows nothing of a higher one.
        elif queued < short and ended.is_full:
            self._increase_limit()
        self._round = Round(self._limit)

    def _increase_limit(self) -> None:
        higher = min(2 * self._limit if self._in_slow_start else self._limit + 1, self._ceiling)
        if higher < self._throttled_at and self._limit_before is None:
            self._limit = higher

    def _throttle(self, accepted: int, retry_after_s: float) -> None:
        """Stay below what was throttled, and make room every time as long as another client takes what this one had."""
        if accepted < self._limit - self._is_trying or self._in_flight <= 1:
            self._rooms_apart = 1
        elif self._is_trying:
            self._rooms_apart = min(2 * self._rooms_apart, MAX_ROOMS_APART)
        self._room_every_s = ROOM_EVERY_S * max(1.0, retry_after_s)
        self._throttled_at, self._is_trying = max(accepted, 1) + 1, False

    def _make_room(self) -> None:
        """Lower the limit by one when it is time to make room, and raise it step by step after that."""
        number, seconds = divmod(self._clock(), self._room_every_s)
        if self._limit_before is None:
            is_time = number != self._room_number and number % self._rooms_apart == 0 and seconds < ROOM_S
            if is_time and self._throttled_at < math.inf:
                self._room_number, self._limit_before = number, self._limit
                self._limit = max(1, self._limit - 1)
            return
        aim = min(self._limit_before + 1, self._ceiling)
        limit = aim if number != self._room_number else min(aim, int((seconds - ROOM_S) / STEP_S))
        if limit == aim:
            self._limit_before, self._is_trying = None, True
        if limit > self._limit:
            self._limit, self._round = limit, Round(limit)

    def _increase_chunk_size(self, points: int) -> None:
        self._too_large.record_success(points)
        larger = min(int(self._chunk_size * GROWTH_FACTOR) + 1, MAX_POINTS)
        has_waited = self._too_large.waited >= self._too_large.initial_wait
        if larger > self._chunk_size and has_waited and not self._too_large.blocks(larger):
            self._chunk_size = larger
            self._too_large.record_raise()
            self._too_large.waited = 0
