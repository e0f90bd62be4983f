"""Promises of the circuit breaker that all requests pass: when it opens, whom it lets through, and what closes it."""

import re
import time
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

import pytest

from tests.waiting import until
from venclient.errors import (
    ClientRefusedError,
    NotFoundError,
    OverloadedError,
    StoppedError,
    ThrottledError,
    TransientError,
    UnreachableError,
)
from venclient.flow_control import ConcurrencyLimiter, Learned, OutageTimes
from venclient.flow_control.circuit_breaker import CircuitBreaker
from venclient.flow_control.retries import Retries

SOON = OutageTimes(silent_for_s=0.5, probe_every_s=0.5)


@pytest.fixture
def stopped() -> Event:
    return Event()


@pytest.fixture
def breaker(stopped: Event) -> CircuitBreaker:
    return CircuitBreaker(ConcurrencyLimiter(), stopped, patience_s=61, first_wait_s=0, times=SOON)


def _fail(breaker: CircuitBreaker, what: str, error: Exception) -> None:
    with pytest.raises(type(error)), breaker.admitted(what, 1):
        raise error


def _fail_for(breaker: CircuitBreaker, seconds: float, error: Exception, *whats: str) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not breaker.is_open:
        for what in whats:
            _fail(breaker, what, error)
        time.sleep(0.05)


def test_the_trouble_of_one_load_is_no_outage(breaker: CircuitBreaker) -> None:
    _fail_for(breaker, 1, TransientError("in trouble", 500), "a")
    assert not breaker.is_open
    _fail(breaker, "b", TransientError("in trouble", 500))
    assert breaker.is_open


def test_one_success_or_a_refusal_closes_the_breaker(breaker: CircuitBreaker) -> None:
    for closed_by in (None, NotFoundError("unknown resource", 404)):
        _fail_for(breaker, 1, UnreachableError("no connection"), "a")
        assert breaker.is_open
        if closed_by:
            _fail(breaker, "b", closed_by)
        else:
            with breaker.admitted("b", 1):
                pass
        assert not breaker.is_open


def test_a_client_that_the_token_server_refuses_ends_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    def fail(error: Exception) -> None:
        raise error

    def call(resource: str, error: Exception, ends_with: type[Exception]) -> None:
        with pytest.raises(ends_with):
            retries.call(lambda: fail(error), resource)

    away = UnreachableError("no connection")
    retries = Retries(
        ConcurrencyLimiter(),
        lambda: fail(away),
        max_attempts=10,
        first_wait_s=0.01,
        patience_s=60,
        outage_times=SOON,
    )
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(call, "of A", away, StoppedError)
        until(lambda: "everything waits" in caplog.text)
        call("of B", ClientRefusedError("no token"), ClientRefusedError)
        assert "The VTN answers" not in caplog.text
        assert "The VTN is there" not in caplog.text
        retries.stop()
        waiting.result(timeout=20)


@pytest.mark.parametrize(("points", "limit"), [(0, 16), (1, 8)])
def test_only_requests_with_points_lower_the_limit(stopped: Event, points: int, limit: int) -> None:
    """Others are small, and not needed: what becomes of them says little about how much the VTN takes."""
    limiter = ConcurrencyLimiter(16, Learned(16, 5_000))
    breaker = CircuitBreaker(limiter, stopped, patience_s=61, first_wait_s=0)
    with pytest.raises(ThrottledError), breaker.admitted("a", points):
        raise ThrottledError("busy", 429)
    assert limiter.learned.concurrency == limit


def test_an_outage_is_probed_at_a_distance_even_where_attempts_have_none(breaker: CircuitBreaker) -> None:
    _fail_for(breaker, 1, UnreachableError("no connection"), "a")
    began = time.monotonic()
    for _ in range(3):
        _fail(breaker, "a", UnreachableError("no connection"))
    assert time.monotonic() - began >= 0.2 + 0.4


def test_a_vtn_that_others_keep_busy_is_probed_when_they_make_room(stopped: Event) -> None:
    limiter = ConcurrencyLimiter(clock=lambda: 0.7)
    breaker = CircuitBreaker(limiter, stopped, patience_s=600, first_wait_s=60, times=SOON)
    _fail_for(breaker, 10, ThrottledError("busy", 429), "a")
    began = time.monotonic()
    for _ in range(3):
        _fail(breaker, "a", ThrottledError("busy", 429))
    assert 2 * limiter.room_in_s < time.monotonic() - began < 30


def test_retry_after_holds_every_thread(breaker: CircuitBreaker) -> None:
    _fail(breaker, "a", ThrottledError("busy", 429, retry_after_s=1.0))
    assert breaker.waiting_for
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: _pass(breaker), range(4)))
    assert time.monotonic() - began >= 0.9


def test_a_wait_for_the_breaker_can_be_stopped(breaker: CircuitBreaker, stopped: Event) -> None:
    _fail(breaker, "a", OverloadedError("busy", 503, retry_after_s=600.0))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_pass, breaker)
        stopped.set()
        with pytest.raises(StoppedError):
            waiting.result(timeout=2)


def _pass(breaker: CircuitBreaker) -> None:
    with breaker.admitted("x", 1):
        pass


def test_while_an_answer_is_read_the_vtn_gets_the_next_request(stopped: Event) -> None:
    breaker = CircuitBreaker(ConcurrencyLimiter(1), stopped, patience_s=61, first_wait_s=0)
    with ThreadPoolExecutor(1) as pool, breaker.admitted("a", 1):
        waiting = pool.submit(_pass, breaker)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.5)
        breaker.answered()
        waiting.result(timeout=10)


def test_an_answer_that_cannot_be_read_is_no_success_of_a_vtn_in_an_outage(breaker: CircuitBreaker) -> None:
    _fail_for(breaker, 1, UnreachableError("no connection"), "a")
    with ThreadPoolExecutor(1) as pool:

        def read_no_json() -> None:
            with breaker.admitted("a", 1):
                breaker.answered()
                waiting.append(pool.submit(_pass, breaker))
                with pytest.raises(TimeoutError):
                    waiting[0].result(timeout=0.5)
                raise TransientError("no JSON", 200)

        waiting: list[Future[None]] = []
        with pytest.raises(TransientError):
            read_no_json()
        assert breaker.is_open
        waiting[0].result(timeout=10)
    assert not breaker.is_open


def test_a_retry_after_of_hours_is_kept_to_and_said(breaker: CircuitBreaker, caplog: pytest.LogCaptureFixture) -> None:
    _fail(breaker, "a", OverloadedError("503 - busy", 503, retry_after_s=7200))
    assert breaker.waiting_for
    assert re.search(r"everything waits for 6[0-9] s. 503 - busy", caplog.text), "its patience is 1 min"


def test_a_probe_that_a_retry_after_holds_back_is_announced_for_its_end(
    breaker: CircuitBreaker,
) -> None:
    _fail_for(breaker, 1, UnreachableError("no connection"), "a")
    _fail(breaker, "a", OverloadedError("503 - busy", 503, retry_after_s=40))
    assert re.search(r"a probe in (39|40) s", breaker.waiting_for or ""), breaker.waiting_for
