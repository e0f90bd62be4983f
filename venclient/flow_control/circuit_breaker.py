"""The circuit breaker that every request passes, shared by all threads of a process.

In normal operation it is closed, and requests wait only for the concurrency limit. In an outage it opens: all threads
wait while one request at a time probes the VTN, at intervals that double up to a minute. The first success closes it.
A Retry-After from the VTN suspends all requests for that long, but no longer than an outage may last: then a probe
decides.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Condition, Event, get_ident

from venclient.advice import advice
from venclient.errors import (
    ClientRefusedError,
    ConfigurationError,
    OverloadedError,
    PermanentError,
    StoppedError,
    ThrottledError,
    TimedOutError,
    TokenServerError,
    TooLargeError,
    TransientError,
    UnauthorizedError,
    UnavailableError,
    UnreachableError,
)
from venclient.flow_control.limiter import ConcurrencyLimiter, Round

log = logging.getLogger(__name__)

# An outage is at least this many failures in a row, over some time. Where the VTN does respond, such as with a 500,
# they must also concern more than one resource.
MIN_FAILURES = 5
# Where there is no wait before a second attempt, an outage would be probed without a pause.
MIN_PROBE_WAIT_S = 0.1
LOOK_EVERY_S = 0.2
# Errors that any other request would meet as well, as opposed to a problem with this one.
UNREACHABLE = (
    UnreachableError, UnavailableError, OverloadedError, ThrottledError, TimedOutError, TokenServerError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class OutageTimes:
    """Times of the circuit breaker.

    `silent_for_s`: after which failures in a row are an outage; `probe_every_s`: how far apart probes get in it.
    """

    silent_for_s: float = 5.0
    probe_every_s: float = 60.0


OUTAGE_TIMES = OutageTimes()


@dataclass(slots=True)
class _Turn:
    round: Round
    is_probe: bool
    started: float  # monotonic time
    seconds: float | None = None  # that the VTN took to answer


class CircuitBreaker:
    """Admits as many requests as the limiter allows, one at a time in an outage, and none during a Retry-After.

    `stopped`: ends all waits; `patience_s`: how long an outage may last; `first_wait_s`: delay before the first probe,
    at least 0.1 s.
    """

    def __init__(
        self,
        limiter: ConcurrencyLimiter,
        stopped: Event,
        *,
        patience_s: float,
        first_wait_s: float,
        times: OutageTimes = OUTAGE_TIMES,
    ) -> None:
        self._limiter = limiter
        self._stopped = stopped
        self._patience_s = patience_s
        self._first_wait_s = max(first_wait_s, MIN_PROBE_WAIT_S)
        self._times = times
        self._changed = Condition()
        self._queue: deque[int] = deque()
        self._turns: dict[int, _Turn] = {}  # by thread id
        self._suspended_until = 0.0
        self._reason = ""
        # Since the last success:
        self._failures = 0
        self._failed_resources: set[str] = set()
        self._failing_since = 0.0
        # In an outage:
        self._opened_at: datetime | None = None
        self._wait_s = self._first_wait_s
        self._probe_at = 0.0
        self._is_probing = False
        self._given_up: ConfigurationError | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is an outage."""
        return self._opened_at is not None

    @property
    def last_failure(self) -> str:
        """The last failure of an attempt, as text; empty if there was none."""
        return self._reason

    @property
    def waiting_for(self) -> str | None:
        """What all threads are waiting for, as text; None when requests are admitted."""
        now = time.monotonic()
        with self._changed:
            if self._opened_at is not None:
                probe_in_s = max(self._probe_at, self._suspended_until, now) - now
                next_probe = "a probe is under way" if self._is_probing else f"a probe in {probe_in_s:.0f} s"
                return f"the VTN: nothing taken since {self._opened_at:%H:%M:%S} UTC, {next_probe} ({self._reason})"
            if now < self._suspended_until:
                return f"the VTN: it asks to be left alone for {self._suspended_until - now:.0f} s ({self._reason})"
            return None

    @property
    def suspended_for_s(self) -> float:
        """Seconds until requests are admitted again after a Retry-After; negative or 0 if they are."""
        return self._suspended_until - time.monotonic()

    @contextmanager
    def admitted(self, resource: str, points: int) -> Iterator[None]:
        """Wait for a turn; within, a request with this many points of `resource` is in flight.

        How the block is left, with or without an error, is what the breaker learns from, and the limiter if the request
        has points. Raises `StoppedError` if the run stops before the turn comes, and `ConfigurationError` once an
        outage has outlasted the patience.
        """
        turn = self._turns[get_ident()] = self._wait()
        try:
            yield
        except ClientRefusedError:  # nothing was sent, and the VTN has said nothing
            raise
        except (TransientError, PermanentError) as error:
            if points:
                self._limiter.failed(turn.round, error)
            if isinstance(error, PermanentError | TooLargeError):
                self.close("is there again")  # a refusal is a response, too
            else:
                self._record_failure(error, resource, is_probe=turn.is_probe)
            raise
        else:
            seconds = time.monotonic() - turn.started if turn.seconds is None else turn.seconds
            self._limiter.answered(turn.round, points, seconds)
            self.close("takes something again")
        finally:
            del self._turns[get_ident()]
            if turn.seconds is None:
                self._leave(turn)

    def answered(self) -> None:
        """Count this thread's request as not in flight any more: the VTN has answered it, and its answer is to be read.

        A probe stays in flight until its outcome is known, which decides whether the breaker closes.
        """
        turn = self._turns.get(get_ident())
        if turn is not None and turn.seconds is None and not turn.is_probe:
            turn.seconds = time.monotonic() - turn.started
            self._leave(turn)

    def close(self, what_it_does: str) -> None:
        """End the outage, if there is one; `what_it_does` completes "The VTN ..." in the log."""
        with self._changed:
            if self._opened_at is not None:
                seconds = round((datetime.now(UTC) - self._opened_at).total_seconds())
                log.warning("The VTN %s, after %s (h:mm:ss)", what_it_does, timedelta(seconds=seconds))
                self._changed.notify_all()
            self._failures, self._opened_at = 0, None
            self._failed_resources.clear()
            self._wait_s = self._first_wait_s

    def only_one_resource_failing(self) -> bool:
        """Whether all failures since the last success concern a single resource."""
        with self._changed:
            return len(self._failed_resources) == 1

    def _wait(self) -> _Turn:
        thread_id = get_ident()
        with self._changed:
            self._queue.append(thread_id)
            try:
                while True:
                    if self._given_up is not None:
                        raise self._given_up
                    if self._stopped.is_set():
                        raise StoppedError("The run was told to stop: what is left waits for the next")
                    wait_s = self._remaining_wait_s(thread_id)
                    if wait_s <= 0 and (begun_in := self._limiter.enter()):
                        self._is_probing |= self.is_open
                        return _Turn(begun_in, self.is_open, time.monotonic())
                    # Nothing notifies this condition when `stopped` is set, so it is checked at short intervals.
                    self._changed.wait(min(wait_s, LOOK_EVERY_S) if wait_s > 0 else LOOK_EVERY_S)
            finally:
                self._queue.remove(thread_id)

    def _remaining_wait_s(self, thread_id: int) -> float:
        now = time.monotonic()
        if not self.is_open:
            return self._suspended_until - now
        # Probes rotate through the queue: if the same request always probed, its own problem would pass for an outage.
        if self._is_probing or self._queue[0] != thread_id:
            return LOOK_EVERY_S
        return max(self._probe_at, self._suspended_until) - now

    def _leave(self, turn: _Turn) -> None:
        with self._changed:
            self._limiter.leave()
            if turn.is_probe:
                self._is_probing = False
            self._changed.notify()

    def _record_failure(self, error: TransientError, resource: str, *, is_probe: bool) -> None:
        with self._changed:
            self._reason = str(error)
            now = time.monotonic()
            # The VTN responds: that it refuses the token is no outage, and retries wait for its end.
            if isinstance(error, UnauthorizedError):
                if self.is_open:
                    self.close("is there again, but refuses the token")
                return
            if not self._failures:
                self._failing_since = now
            if error.retry_after_s is not None:
                self._suspend(now, error.retry_after_s, error)
            self._failures += 1
            self._failed_resources.add(resource)
            if is_probe:
                self._wait_s = min(2 * self._wait_s, self._times.probe_every_s)
                self._probe_at = now + self._probe_in_s(error)
                self._give_up_if_too_long(now, error)
            elif not self.is_open and self._is_outage(now, error):
                # It began with the first failure, not with the one that made it evident.
                self._opened_at = datetime.now(UTC) - timedelta(seconds=now - self._failing_since)
                self._probe_at = now + self._probe_in_s(error)
                log.warning("The VTN takes nothing any more: everything waits, and one request probes. %s", error)

    def _probe_in_s(self, error: TransientError) -> float:
        """Seconds until the next probe; of a VTN that throttles, until other clients make room."""
        return min(self._wait_s, self._limiter.room_in_s) if isinstance(error, ThrottledError) else self._wait_s

    def _suspend(self, now: float, retry_after_s: float, error: TransientError) -> None:
        until = min(now + retry_after_s, self._failing_since + self._patience_s)
        if until - max(now, self._suspended_until) > self._times.probe_every_s:
            log.warning("The VTN asks to be left alone: everything waits for %.0f s. %s", until - now, error)
        self._suspended_until = max(self._suspended_until, until)

    def _is_outage(self, now: float, error: TransientError) -> bool:
        is_long_enough = now - self._failing_since >= min(self._times.silent_for_s, self._patience_s)
        concerns_all = isinstance(error, UNREACHABLE) or len(self._failed_resources) > 1
        return self._failures >= MIN_FAILURES and is_long_enough and concerns_all

    def _give_up_if_too_long(self, now: float, error: TransientError) -> None:
        silent_s = now - self._failing_since
        if silent_s >= self._patience_s:
            self._given_up = ConfigurationError(
                f"The VTN has taken nothing for {timedelta(seconds=round(silent_s))} (h:mm:ss){advice('outage')}: "
                f"{error}. What it acknowledged is recorded; start again when it is back"
            )
            raise self._given_up from error
