"""Promises of a run that the VTN leaves alone: it pauses as a whole, probes, and goes on where it was."""

import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest
from pydantic import SecretStr

from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from tests.small_server import answering
from tests.untrusted_server import reply, saying, talking
from tests.waiting import until
from venclient.errors import (
    ConfigurationError,
    NotFoundError,
    OverloadedError,
    StoppedError,
    ThrottledError,
    TransientError,
    UnreachableError,
)
from venclient.flow_control import ConcurrencyLimiter, Learned, OutageTimes
from venclient.flow_control.circuit_breaker import CircuitBreaker
from venclient.models import LoadResult
from venclient.wires.auth import ClientCredentials, GivenToken
from venclient.wires.bulk import BulkWire

NewSite = Callable[..., Site]
LOADS = 40
SOON = OutageTimes(silent_for_s=0.5, probe_every_s=0.5)


@pytest.fixture
def own_vtn(tmp_path: Path) -> Iterator[ReferenceVtn]:
    """A VTN that a test may kill."""
    with ReferenceVtn(tmp_path / "vtn.db") as server:
        yield server


@contextmanager
def _uploading(site: Site, vtn: ReferenceVtn) -> Iterator[Future[dict[str, LoadResult]]]:
    """An upload that is half-way."""
    vtn.switch(points_per_second=1_000)
    with ThreadPoolExecutor(1) as pool:
        upload = pool.submit(site.upload, vtn, threads=8, retry_wait_s=0.01, outage_times=SOON)
        until(lambda: len(vtn.log()) >= LOADS // 4, every_s=0.02)
        yield upload


def test_a_vtn_that_is_killed_and_comes_back_gets_everything_and_no_load_fails(
    own_vtn: ReferenceVtn, new_site: NewSite, caplog: pytest.LogCaptureFixture
) -> None:
    site = new_site(loads=LOADS, points=300)
    site.register(own_vtn)
    with _uploading(site, own_vtn) as upload:
        own_vtn.kill()
        until(lambda: "everything waits, and one request probes" in caplog.text)
        own_vtn.start()
        results = upload.result(timeout=60)
    assert {result.state for result in results.values()} == {"done"}
    site.assert_stored(own_vtn)
    assert re.search(r"The VTN takes something again, after 0:00:\d\d ", caplog.text)


@pytest.mark.parametrize(
    "fault",
    ["500", "429", *(pytest.param(f, marks=pytest.mark.long) for f in ("503-bare", "html_before", "reset_before"))],
)
def test_while_the_vtn_takes_nothing_one_request_probes_and_no_load_fails(
    no_faults: ReferenceVtn, new_site: NewSite, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    site = new_site(loads=LOADS, points=100)
    site.register(no_faults)
    no_faults.switch(rate=1.0, kinds=[fault], retry_after_s=0)
    with ThreadPoolExecutor(1) as pool:
        upload = pool.submit(site.upload, no_faults, threads=8, attempts=30, retry_wait_s=0.01, outage_times=SOON)
        try:
            until(lambda: "everything waits, and one request probes" in caplog.text)
            time.sleep(1)  # until probes are as far apart as they get
            before = len(no_faults.log())
            time.sleep(1)
            assert len(no_faults.log()) - before <= 3, "probes alone, at their distance"
        finally:
            no_faults.switch()
        assert {result.state for result in upload.result(timeout=60).values()} == {"done"}
    site.assert_stored(no_faults)


def test_a_vtn_that_is_too_slow_for_everything_that_is_sent_gets_less_at_a_time(
    no_faults: ReferenceVtn, new_site: NewSite, caplog: pytest.LogCaptureFixture
) -> None:
    site = new_site(loads=6, points=500)
    site.register(no_faults)
    no_faults.switch(points_per_second=300)
    limiter = ConcurrencyLimiter(6, Learned(6, 500))
    results = site.upload(no_faults, threads=6, timeout_s=0.5, limiter=limiter, outage_times=OutageTimes(0))
    assert {result.state for result in results.values()} == {"done"}
    assert "everything waits, and one request probes" in caplog.text
    assert limiter.chunk_size < 500
    site.assert_stored(no_faults)


def test_a_token_server_that_is_away_is_an_outage_too(vtn: ReferenceVtn) -> None:
    is_away = Event()
    good = (200, {"access_token": vtn.token, "expires_in": 0.01})
    with answering(lambda _method, _path: (503, {}) if is_away.is_set() else good) as url:
        tokens = ClientCredentials(url, "id", SecretStr("secret"))
        with (
            BulkWire(vtn.base_url, tokens, retry_wait_s=0.01, outage_times=SOON) as client,
            ThreadPoolExecutor(8) as pool,
        ):
            client.check()
            is_away.set()
            calls = [pool.submit(client.register_ven, "Aalborg") for _ in range(8)]
            until(lambda: "nothing taken since" in (client.waiting_for or ""))
            assert f"Token server {url} answers 503" in (client.waiting_for or "")
            is_away.clear()
            for call in calls:
                call.result(timeout=10)


def test_after_the_patience_every_thread_ends_with_the_reason() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with (
            BulkWire(address, GivenToken(SecretStr("x")), retry_wait_s=0.05, outage_patience_s=1) as client,
            ThreadPoolExecutor(8) as pool,
        ):
            calls = [pool.submit(client.register_ven, "Aalborg") for _ in range(8)]
            (reason,) = {str(call.exception(timeout=60)) for call in calls}
            assert re.search(r"nothing for 0:00:\d\d .*BULK_UPLOAD_OUTAGE_PATIENCE", reason)


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


@pytest.mark.parametrize("asked", ["86400", "9" * 400, "Fri, 01 Jan 2100 00:00:00 GMT"], ids=["day", "ages", "date"])
@pytest.mark.parametrize("whose", ["vtn", "token server"])
def test_a_retry_after_never_outlasts_the_patience(asked: str, whose: str) -> None:
    """After it, one request more finds out whether the VTN is back."""
    busy = talking(saying(reply("503 Busy", f"Retry-After: {asked}")))
    with busy as url:
        tokens = GivenToken(SecretStr("x")) if whose == "vtn" else ClientCredentials(url, "id", SecretStr("secret"))
        with (
            BulkWire(url, tokens, retry_wait_s=0.05, outage_patience_s=0.5) as client,
            ThreadPoolExecutor(8) as pool,
        ):
            for call in [pool.submit(client.register_ven, "Aalborg") for _ in range(8)]:
                with pytest.raises(ConfigurationError, match=r"longer than BULK_UPLOAD_OUTAGE_PATIENCE: .*503"):
                    call.result(timeout=120)


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


def test_no_start_waits_for_a_retry_after_of_hours() -> None:
    answer = saying(reply("503 Busy", "Retry-After: 3600"))
    with talking(answer) as url, BulkWire(url, GivenToken(SecretStr("x"))) as client:
        client.check()
