"""How calls to a VTN are tried again: each as often as it may, and all of them through one gate."""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, get_ident
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, sleep_using_event

from venclient.errors import (
    ConfigurationError,
    PermanentError,
    StoppedError,
    TooMuchError,
    TransientError,
    VenClientError,
)
from venclient.gate import Gate, is_absence
from venclient.pace import Pace

log = logging.getLogger(__name__)

RETRY_WAIT_MAX_S = 60.0
# Threads that all wait for the same do not come back in the same instant.
SPREAD_S = 0.25
ATTEMPTS_TOLD_FROM = 3
TOKEN_REFUSED = 401

T = TypeVar("T")


class Attempts:
    """Up to `at_most` attempts at each call, after waits that double from `first_wait_s` to a minute.

    `ask`: a small question to the VTN, which tells its absence from the trouble with one request. `patience_s`: for how
    long everybody waits while it takes nothing from anyone; attempts in such an outage do not count.
    """

    def __init__(
        self, pace: Pace, ask: Callable[[], object], *, at_most: int, first_wait_s: float, patience_s: float
    ) -> None:
        self._pace = pace
        self._ask = ask
        self._at_most = at_most
        self._first_wait_s = first_wait_s
        self._stopped = Event()
        self._gate = Gate(pace, self._stopped, patience_s=patience_s, first_wait_s=first_wait_s)
        self._waits: dict[int, str] = {}

    def stop(self) -> None:
        """Make no other attempt: calls raise `StoppedError` from now on."""
        self._stopped.set()

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
        sat out: there are so many attempts and no more.
        """
        tried = _Tried()

        def attempt() -> T:
            self._waits.pop(get_ident(), None)
            try:
                with self._gate.passed(what, points):
                    return call()
            except (TransientError, PermanentError) as error:
                tried.refusals.append(str(error.status or "no-answer"))
                is_last = tried.counted + 1 >= self._at_most
                tried.counted += at_most is not None or self._counts(error, is_last=is_last)
                self._learn_from(error, points)
                raise

        retrying = Retrying(
            retry=retry_if_exception(lambda error: _may_hold(error, points)),
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

    def _counts(self, error: TransientError | PermanentError, *, is_last: bool) -> bool:
        """Whether a failed attempt is the request's own trouble, and not that nobody is there."""
        if isinstance(error, PermanentError) or not is_absence(error):
            return True
        if self._gate.is_closed and not self._gate.is_of_one():
            return False
        return not (is_last or self._gate.is_closed) or self._answers()

    def _learn_from(self, error: TransientError | PermanentError, points: int) -> None:
        if self._gate.is_closed:  # what does not get through now would not with fewer points either
            self._pace.restore()
        elif isinstance(error, TooMuchError):
            self._pace.shrink(points)

    def _end_what_is_over(self, error: TransientError) -> None:
        """A load that the VTN does not get done fails alone; the run ends when it was told to, or no token is taken."""
        if self._stopped.is_set():
            raise StoppedError("The run was told to stop: what is left waits for the next") from error
        if error.status == TOKEN_REFUSED:
            raise ConfigurationError(
                f"The VTN refuses the token ({error}). Give a fresh one with --token or VTN_BEARER_TOKEN, "
                "or check the OAuth client"
            ) from error

    def _answers(self) -> bool:
        """Whether the VTN answers a small question, be it with a refusal."""
        try:
            self._ask()
        except TransientError as error:
            return not is_absence(error)
        except PermanentError:
            return True
        return True


@dataclass(slots=True)
class _Tried:
    """What the attempts at one call came to, and how many of them count."""

    refusals: list[str] = field(default_factory=list)
    counted: int = 0


def _may_hold(error: BaseException, points: int) -> bool:
    """Whether the same request is worth another attempt."""
    return isinstance(error, TransientError) and not (isinstance(error, TooMuchError) and points > 1)
