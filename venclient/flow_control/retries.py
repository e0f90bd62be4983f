"""Retries of calls to a VTN: a budget of attempts for each call, and one circuit breaker for all of them."""

import logging
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Event, get_ident
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, sleep_using_event

from venclient.context import set_within
from venclient.errors import (
    ConfigurationError,
    PermanentError,
    StoppedError,
    TooLargeError,
    TooMuchError,
    TransientError,
    UnauthorizedError,
    VenClientError,
)
from venclient.flow_control.circuit_breaker import OUTAGE_TIMES, UNREACHABLE, CircuitBreaker, OutageTimes
from venclient.flow_control.limiter import ConcurrencyLimiter

log = logging.getLogger(__name__)

RETRY_WAIT_MAX_S = 60.0
# Jitter, so that threads that wait for the same event do not all resume at once.
SPREAD_S = 0.25
WARN_FROM_ATTEMPT = 3
FEW_ATTEMPTS = 3
RETRIES_TOO_LARGE = 3  # as a proxy may have been in trouble

T = TypeVar("T")

_is_optional: ContextVar[bool] = ContextVar("is_optional", default=False)


def few_attempts() -> AbstractContextManager[None]:
    """Within, a call has three attempts, and waits neither for the end of an outage nor for a long Retry-After.

    They count against the concurrency limit, but do not influence it.
    """
    return set_within(_is_optional, True)


class Retries:
    """Up to `max_attempts` attempts per call, after waits that double from `first_wait_s` to a minute.

    `probe`: a small request that shows whether the VTN responds at all. `patience_s`: how long all threads wait during
    an outage, in which attempts do not count.
    """

    def __init__(
        self,
        limiter: ConcurrencyLimiter,
        probe: Callable[[], object],
        *,
        max_attempts: int,
        first_wait_s: float,
        patience_s: float,
        outage_times: OutageTimes = OUTAGE_TIMES,
    ) -> None:
        self._limiter = limiter
        self._probe = probe
        self._max_attempts = max_attempts
        self._first_wait_s = first_wait_s
        self._stopped = Event()
        self._breaker = CircuitBreaker(
            limiter, self._stopped, patience_s=patience_s, first_wait_s=first_wait_s, times=outage_times
        )
        self._waits: dict[int, str] = {}  # the reason for each thread's wait, by thread id

    def stop(self) -> None:
        """Make no further attempts: calls raise `StoppedError` from now on."""
        self._stopped.set()

    @property
    def wait_reason(self) -> str | None:
        """The failure because of which requests wait as `waiting_for` says, without what changes while they do."""
        return self._breaker.last_failure if self._breaker.waiting_for else self._last_wait

    @property
    def _last_wait(self) -> str | None:
        return None if self._limiter.in_flight else next(reversed(self._waits.copy().values()), None)

    @property
    def waiting_for(self) -> str | None:
        """What all threads wait for; or, while nothing is in flight, why one waits for its next attempt."""
        return self._breaker.waiting_for or self._last_wait

    def answered(self) -> None:
        """Say, within a request, that the VTN has answered it, and that only its answer is still to be read.

        From now on the request does not count as in flight; how it ends counts as before.
        """
        self._breaker.answered()

    def call(
        self,
        request: Callable[[], T],
        resource: str,
        points: int = 1,
        *,
        before_each: Callable[[], object] = lambda: None,
        is_divisible: bool = True,
    ) -> tuple[T, tuple[str, ...]]:
        """Return the result of the request and the statuses of its failed attempts; errors carry these as `answers`.

        `resource`: what the request is about, as failures of a single resource are no outage. A `TooMuchError` is not
        retried if fewer points may succeed, unless the request is not divisible; a `TooLargeError` is then retried
        three times. `before_each`: called before each attempt, outside of all limits, as it makes calls of its own; its
        errors are not retried.
        """
        attempts = _Attempts()
        is_optional = _is_optional.get()
        max_attempts = FEW_ATTEMPTS if is_optional else self._max_attempts

        def attempt() -> T:
            self._waits.pop(get_ident(), None)
            try:
                before_each()
            except VenClientError:
                attempts.is_over = True
                raise
            try:
                with self._breaker.admitted(resource, 0 if is_optional else points):
                    return request()
            except PermanentError as error:
                attempts.failures.append(str(error.status or "no-answer"))
                raise
            except TransientError as error:
                attempts.failures.append(str(error.status or "no-answer"))
                is_specific = self._is_request_specific(error, is_last=attempts.counted + 1 >= self._max_attempts)
                attempts.counted += is_optional or (is_specific and self._counts(error, resource))
                attempts.is_over = is_optional and (error.retry_after_s or 0) > RETRY_WAIT_MAX_S
                if isinstance(error, TooMuchError) and is_divisible:
                    attempts.is_over = is_specific and error.is_worth_splitting(points)
                    if attempts.is_over:
                        self._limiter.shrink(points)
                    elif self._breaker.is_open:  # smaller requests would fail as well
                        self._limiter.restore()
                elif isinstance(error, TooLargeError):
                    attempts.times_too_large += 1
                    attempts.is_over = attempts.times_too_large > RETRIES_TOO_LARGE
                raise

        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, TransientError) and not attempts.is_over),
            stop=lambda _: attempts.counted >= max_attempts or self._stopped.is_set(),
            wait=lambda _: self._wait_s(attempts.counted),
            # Unlike `wait`, not called after the last attempt.
            before_sleep=lambda state: self._log_wait(state, attempts.counted),
            sleep=sleep_using_event(self._stopped),
            reraise=True,
        )
        try:
            return retrying(attempt), tuple(attempts.failures)
        except VenClientError as error:
            error.answers = tuple(attempts.failures)
            if isinstance(error, TransientError):
                self._raise_if_run_ends(error)
            raise
        finally:
            self._waits.pop(get_ident(), None)

    def _wait_s(self, counted: int) -> float:
        """Delay before the next attempt. In an outage it is jitter only, as the breaker does the waiting."""
        if self._breaker.is_open:
            return random.uniform(0, min(SPREAD_S, self._first_wait_s))
        wait_s: float = min(self._first_wait_s * 2 ** (counted - 1), RETRY_WAIT_MAX_S)
        return wait_s + random.uniform(0, self._first_wait_s)

    def _log_wait(self, state: RetryCallState, counted: int) -> None:
        """Log when the next attempt is; in an outage, the breaker logs what everything waits for."""
        if self._breaker.is_open:
            return
        error = state.outcome.exception() if state.outcome else None
        level = logging.WARNING if counted >= WARN_FROM_ATTEMPT else logging.INFO
        self._waits[get_ident()] = str(error)
        wait_s = max(state.upcoming_sleep, self._breaker.suspended_for_s)
        log.log(level, "  Attempt %d failed, the next in %.1f s: %s", state.attempt_number, wait_s, error)

    def _is_request_specific(self, error: TransientError, *, is_last: bool) -> bool:
        """Whether an attempt failed because of the request itself; probes the VTN if the error does not show it."""
        if isinstance(error, UnauthorizedError):
            return True
        if self._breaker.is_open:
            return self._failure_of_probe() is None
        # Before a call gives up on a VTN that seems unreachable, one more request rules out an undetected outage.
        return not (is_last and isinstance(error, UNREACHABLE) and isinstance(self._failure_of_probe(), UNREACHABLE))

    def _counts(self, error: TransientError, resource: str) -> bool:
        """Whether a request-specific failure uses up an attempt.

        Ends an outage that consists of failures of this one resource: the VTN is there.
        """
        if self._breaker.is_open and self._breaker.only_one_resource_failing():
            self._breaker.close(f"answers, though not to what is sent for {resource}")
        return not self._breaker.is_open or not isinstance(error, UNREACHABLE)

    def _raise_if_run_ends(self, error: TransientError) -> None:
        """Raise the error that ends the run, if it was stopped or the token is refused; other errors fail one load."""
        if self._stopped.is_set():
            raise StoppedError("The run was told to stop: what is left waits for the next") from error
        if isinstance(error, UnauthorizedError):
            raise ConfigurationError(f"The VTN refuses the token ({error})").advised("token refused") from error

    def _failure_of_probe(self) -> TransientError | None:
        """Make a small request, and return its failure; None if the VTN answers, if only with a refusal."""
        try:
            self._probe()
        except UnauthorizedError:
            return None
        except TransientError as error:
            return error
        except PermanentError:
            return None
        return None


@dataclass(slots=True)
class _Attempts:
    """The attempts at one call: the status of each failed one, how many of them count, whether to make no other.

    `times_too_large`: how many were refused for the size of a request that is not divisible.
    """

    failures: list[str] = field(default_factory=list)
    counted: int = 0
    times_too_large: int = 0
    is_over: bool = False
