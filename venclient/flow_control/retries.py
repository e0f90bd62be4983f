"""How calls to a VTN are tried again: each as often as it may, and all of them through one gate."""

import logging
import random
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from threading import Event, get_ident
from typing import Self, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, sleep_using_event

from venclient.errors import (
    ConfigurationError,
    PermanentError,
    StoppedError,
    TooMuchError,
    TransientError,
    UnauthorizedError,
    VenClientError,
)
from venclient.flow_control.circuit_breaker import CircuitBreaker, is_unreachable
from venclient.flow_control.limiter import ConcurrencyLimiter

log = logging.getLogger(__name__)

RETRY_WAIT_MAX_S = 60.0
# Threads that all wait for the same do not come back in the same instant.
SPREAD_S = 0.25
ATTEMPTS_TOLD_FROM = 3

T = TypeVar("T")


class Retries:
    """Up to `at_most` attempts at each call, after waits that double from `first_wait_s` to a minute.

    `ask`: a small question to the VTN, which tells its absence from the trouble with one request. `patience_s`: for how
    long everybody waits while it takes nothing from anyone; attempts in such an outage do not count.
    """

    def __init__(
        self,
        pace: ConcurrencyLimiter,
        ask: Callable[[], object],
        *,
        at_most: int,
        first_wait_s: float,
        patience_s: float,
    ) -> None:
        self._pace = pace
        self._ask = ask
        self._at_most = at_most
        self._first_wait_s = first_wait_s
        self._stopped = Event()
        self._gate = CircuitBreaker(pace, self._stopped, patience_s=patience_s, first_wait_s=first_wait_s)
        self._waits: dict[int, str] = {}
        self._few: int | None = None

    def stop(self) -> None:
        """Make no other attempt: calls raise `StoppedError` from now on."""
        self._stopped.set()

    def few(self, at_most: int) -> Self:
        """The same for small calls that may as well fail: so many attempts at each, and no outage is waited for.

        The limit of requests in flight holds for them, and learns nothing of them.
        """
        few = copy(self)
        few._few = at_most
        return few

    @property
    def waiting_for(self) -> str | None:
        """What all threads wait for, or else why one waits for its next attempt while nothing is in flight."""
        last_told = None if self._pace.in_flight else next(reversed(self._waits.copy().values()), None)
        return self._gate.waiting_for or last_told

    def at(
        self, call: Callable[[], T], what: str = "", points: int = 1, *, at_most: int | None = None
    ) -> tuple[T, tuple[str, ...]]:
        """What the call returns, and what the attempts before came to; an error carries all of them.

        `what` it is about, such as a resource, tells the trouble with one from an outage. With `at_most`, no outage is
        sat out: there are so many attempts and no more, and none after a Retry-After of minutes. A `TooMuchError` that
        fewer points may get past is not tried again.
        """
        tried = _Tried()
        at_most = at_most or self._few

        def attempt() -> T:
            self._waits.pop(get_ident(), None)
            try:
                with self._gate.passed(what, 0 if self._few else points):
                    return call()
            except (TransientError, PermanentError) as error:
                tried.refusals.append(str(error.status or "no-answer"))
                is_its_own = self._is_request_specific(error, is_last=tried.counted + 1 >= self._at_most)
                tried.counted += at_most is not None or (is_its_own and self._counts(error, what))
                tried.is_over = isinstance(error, PermanentError) or (at_most is not None and _asks_for_long(error))
                if isinstance(error, TooMuchError):
                    tried.is_over = is_its_own and error.is_worth_splitting(points)
                    self._learn(points, is_too_much=tried.is_over)
                raise

        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, TransientError) and not tried.is_over),
            stop=lambda _: tried.counted >= (at_most or self._at_most) or self._stopped.is_set(),
            wait=lambda state: self._wait_s(state, tried.counted),
            sleep=sleep_using_event(self._stopped),
            reraise=True,
        )
        try:
            return retrying(attempt), tuple(tried.refusals)
        except VenClientError as error:
            error.answers = tuple(tried.refusals)
            if isinstance(error, TransientError):
                self._end_what_is_over(error)
            raise
        finally:
            self._waits.pop(get_ident(), None)

    def _wait_s(self, state: RetryCallState, counted: int) -> float:
        """How long to wait before the next attempt, the longer the more there were; the gate has what all wait for."""
        error = state.outcome.exception() if state.outcome else None
        assert isinstance(error, TransientError)
        if self._gate.is_closed:
            return random.uniform(0, min(SPREAD_S, self._first_wait_s))
        wait_s: float = min(self._first_wait_s * 2 ** (counted - 1), RETRY_WAIT_MAX_S)
        wait_s += random.uniform(0, self._first_wait_s)
        level = logging.WARNING if counted >= ATTEMPTS_TOLD_FROM else logging.INFO
        self._waits[get_ident()] = str(error)
        log.log(level, "  Attempt %d failed, the next in %.1f s: %s", state.attempt_number, wait_s, error)
        return wait_s

    def _is_request_specific(self, error: TransientError | PermanentError, *, is_last: bool) -> bool:
        """Whether a failed attempt is the request's own trouble, and not everybody's: asks, where that is open."""
        if isinstance(error, PermanentError | UnauthorizedError):
            return True
        is_open = self._gate.is_closed or (is_last and is_unreachable(error))
        return not is_open or self._answers()

    def _counts(self, error: TransientError | PermanentError, what: str) -> bool:
        """Whether trouble of its own is one attempt less; where all of an outage was of this alone, there was none."""
        if self._gate.is_closed and self._gate.only_one_resource_failing():
            self._gate.open(f"answers, though not to what is sent for {what}")
        return not self._gate.is_closed or isinstance(error, PermanentError) or not is_unreachable(error)

    def _learn(self, points: int, *, is_too_much: bool) -> None:
        if is_too_much:
            self._pace.shrink(points)
        elif self._gate.is_closed:  # what does not get through now would not with fewer points either
            self._pace.restore()

    def _end_what_is_over(self, error: TransientError) -> None:
        """A load that the VTN does not get done fails alone; the run ends when it was told to, or no token is taken."""
        if self._stopped.is_set():
            raise StoppedError("The run was told to stop: what is left waits for the next") from error
        if isinstance(error, UnauthorizedError):
            raise ConfigurationError(f"The VTN refuses the token ({error})").advised("token refused") from error

    def _answers(self) -> bool:
        """Whether the VTN answers a small question, be it with a refusal."""
        try:
            self._ask()
        except TransientError as error:
            return isinstance(error, UnauthorizedError)
        except PermanentError:
            return True
        return True


def _asks_for_long(error: TransientError) -> bool:
    return error.retry_after_s is not None and error.retry_after_s > RETRY_WAIT_MAX_S


@dataclass(slots=True)
class _Tried:
    """What the attempts at one call came to, how many of them count, and whether there is any use in another."""

    refusals: list[str] = field(default_factory=list)
    counted: int = 0
    is_over: bool = False
