"""The gate before every request, for all threads of a process: where they wait for their turn, and for the VTN.

While nothing succeeds, the gate is closed and everybody waits; one request at a time is let through, to probe, after
waits that double up to a minute. The first that succeeds opens it. A VTN's Retry-After holds it shut for that long,
but no longer than an outage may last: then a probe decides.
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

# An outage: so many requests in a row have failed, for so long; where the VTN answers at all, not of one load alone.
FAILURES = 5
SILENT_FOR_S = 5.0
PROBE_EVERY_S = 60.0
LOOK_EVERY_S = 0.2
# Nobody is there for any request, rather than somebody who is in trouble with this one.
UNREACHABLE = (
    UnreachableError, UnavailableError, OverloadedError, ThrottledError, TimedOutError, TokenServerError,
)  # fmt: skip


def is_unreachable(error: TransientError) -> bool:
    """Whether the VTN would not do any other request either."""
    return isinstance(error, UNREACHABLE)


@dataclass(frozen=True, slots=True)
class _Turn:
    round: Round
    is_probe: bool


class CircuitBreaker:
    """Open for as many as the pace has room for, closed in an outage, or held shut for a moment.

    `patience_s`: how long an outage may last; `first_wait_s`: until the first probe; `stopped`: nobody waits any more.
    """

    def __init__(self, pace: ConcurrencyLimiter, stopped: Event, *, patience_s: float, first_wait_s: float) -> None:
        self._pace = pace
        self._stopped = stopped
        self._patience_s = patience_s
        self._first_wait_s = first_wait_s
        self._changed = Condition()
        self._queue: deque[int] = deque()
        self._held_until = 0.0
        self._reason = ""
        # Since the last success:
        self._failures = 0
        self._failed: set[str] = set()
        self._failing_since = 0.0
        # In an outage:
        self._closed_at: datetime | None = None
        self._wait_s = first_wait_s
        self._probe_at = 0.0
        self._is_probing = False
        self._given_up: ConfigurationError | None = None

    @property
    def is_closed(self) -> bool:
        """Whether there is an outage."""
        return self._closed_at is not None

    @property
    def waiting_for(self) -> str | None:
        """What everybody waits for, in words; None when the gate is open."""
        now = time.monotonic()
        with self._changed:
            if self._closed_at is not None:
                next_probe = "a probe is under way" if self._is_probing else f"a probe in {self._probe_at - now:.0f} s"
                return f"the VTN: nothing taken since {self._closed_at:%H:%M:%S} UTC ({self._reason}), {next_probe}"
            if now < self._held_until:
                return f"the VTN: it asks to be left alone for {self._held_until - now:.0f} s ({self._reason})"
            return None

    @contextmanager
    def passed(self, what: str, points: int) -> Iterator[None]:
        """Within, a request of so many points for `what` is in flight; what leaves it says how the VTN bore it.

        Raises `StoppedError` when the run stops before its turn, and `ConfigurationError` when an outage has lasted too
        long.
        """
        turn = self._wait()
        began = time.monotonic()
        try:
            yield
        except (TransientError, PermanentError) as error:
            self._pace.failed(turn.round, error)
            if isinstance(error, PermanentError | TooLargeError):
                self.open("is there again")  # and says no
            else:
                self._failed_with(error, what, is_probe=turn.is_probe)
            raise
        else:
            self._pace.answered(turn.round, points, time.monotonic() - began)
            self.open("takes something again")
        finally:
            self._leave(turn)

    def open(self, as_it: str) -> None:
        """There is no outage any more, as the VTN does this."""
        with self._changed:
            if self._closed_at is not None:
                log.warning("The VTN %s, after %s (h:mm:ss)", as_it, _since(self._closed_at))
                self._changed.notify_all()
            self._failures, self._closed_at = 0, None
            self._failed.clear()
            self._wait_s = self._first_wait_s

    def only_one_resource_failing(self) -> bool:
        """Whether everything that has failed since the last success was for one and the same."""
        with self._changed:
            return len(self._failed) == 1

    def _wait(self) -> _Turn:
        me = get_ident()
        with self._changed:
            self._queue.append(me)
            try:
                while True:
                    if self._given_up is not None:
                        raise self._given_up
                    if self._stopped.is_set():
                        raise StoppedError("The run was told to stop: what is left waits for the next")
                    wait_s = self._wait_left_s(me)
                    if wait_s <= 0 and (begun_in := self._pace.enter()):
                        self._is_probing |= self.is_closed
                        return _Turn(begun_in, self.is_closed)
                    self._changed.wait(min(wait_s, LOOK_EVERY_S) if wait_s > 0 else LOOK_EVERY_S)
            finally:
                self._queue.remove(me)

    def _wait_left_s(self, me: int) -> float:
        now = time.monotonic()
        if not self.is_closed:
            return self._held_until - now
        # One at a time and in turn, so that nobody's trouble with one request is taken for an outage.
        if self._is_probing or self._queue[0] != me:
            return LOOK_EVERY_S
        return max(self._probe_at, self._held_until) - now

    def _leave(self, turn: _Turn) -> None:
        with self._changed:
            self._pace.leave()
            if turn.is_probe:
                self._is_probing = False
            self._changed.notify()

    def _failed_with(self, error: TransientError, what: str, *, is_probe: bool) -> None:
        with self._changed:
            self._reason = str(error)
            now = time.monotonic()
            if isinstance(error, UnauthorizedError):
                return
            if not self._failures:
                self._failing_since = now
            if error.retry_after_s is not None:
                self._hold(now, error.retry_after_s, error)
            self._failures += 1
            self._failed.add(what)
            if is_probe:
                self._wait_s = min(2 * self._wait_s, PROBE_EVERY_S)
                self._probe_at = now + self._wait_s
                self._give_up_late(now, error)
            elif not self.is_closed and self._is_outage(now, error):
                self._closed_at = datetime.now(UTC) - timedelta(seconds=now - self._failing_since)
                self._probe_at = now + self._wait_s
                log.warning("The VTN takes nothing any more: everything waits, and one request probes. %s", error)

    def _hold(self, now: float, asked_s: float, error: TransientError) -> None:
        until = min(now + asked_s, self._failing_since + self._patience_s)
        if until - max(now, self._held_until) > PROBE_EVERY_S:
            log.warning("The VTN asks to be left alone: everything waits for %.0f s. %s", until - now, error)
        self._held_until = max(self._held_until, until)

    def _is_outage(self, now: float, error: TransientError) -> bool:
        has_been_long = now - self._failing_since >= min(SILENT_FOR_S, self._patience_s)
        return self._failures >= FAILURES and has_been_long and (is_unreachable(error) or len(self._failed) > 1)

    def _give_up_late(self, now: float, error: TransientError) -> None:
        silent_s = now - self._failing_since
        if silent_s >= self._patience_s:
            self._given_up = ConfigurationError(
                f"The VTN has taken nothing for {timedelta(seconds=round(silent_s))} (h:mm:ss){advice('outage')}: "
                f"{error}. What it acknowledged is recorded; start again when it is back"
            )
            raise self._given_up from error


def _since(at: datetime) -> timedelta:
    return timedelta(seconds=round((datetime.now(UTC) - at).total_seconds()))
