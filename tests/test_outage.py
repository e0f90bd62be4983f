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
from venclient.errors import ConfigurationError, TransientError
from venclient.flow_control import ConcurrencyLimiter, Learned, OutageTimes
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


def test_no_start_waits_for_a_retry_after_of_hours() -> None:
    answer = saying(reply("503 Busy", "Retry-After: 3600"))
    with talking(answer) as url, BulkWire(url, GivenToken(SecretStr("x"))) as client:
        client.check()


def test_a_vtn_that_is_back_before_it_knows_its_tokens_gets_everything(
    own_vtn: ReferenceVtn, new_site: NewSite, caplog: pytest.LogCaptureFixture
) -> None:
    site = new_site(loads=LOADS, points=300)
    site.register(own_vtn)
    own_vtn.switch(rate=1.0, kinds=["503-bare"])
    with ThreadPoolExecutor(1) as pool:
        upload = pool.submit(site.upload, own_vtn, threads=8, retry_wait_s=0.05, outage_times=SOON)
        until(lambda: "everything waits, and one request probes" in caplog.text)
        own_vtn.switch(rate=1.0, kinds=["401"])
        time.sleep(2)  # ten attempts of several threads, if none of them waited
        own_vtn.switch()
        results = upload.result(timeout=60)
    assert {result.state for result in results.values()} == {"done"}
    site.assert_stored(own_vtn)


def test_a_load_that_the_vtn_never_answers_fails_though_the_probe_is_answered_500() -> None:
    """Other loads go through: it is this one, and what the probe asks for is out of order."""
    is_over = Event()

    def answer(method: str, path: str) -> tuple[int, object]:
        if method == "GET":
            return 500, {"title": "out of order"}
        if "=stuck" in path:
            is_over.wait(1)
        return 201, {"entries_created": 1}

    def upload(resource: str) -> None:
        client.upload(resource, b"[{}]", 1, 1)

    def upload_others() -> None:
        while not is_over.is_set():
            upload("other")

    with (
        answering(answer) as url,
        BulkWire(url, GivenToken(SecretStr("x")), timeout_s=0.2, attempts=3, retry_wait_s=0.01) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        stuck, others = pool.submit(upload, "stuck"), pool.submit(upload_others)
        try:
            with pytest.raises(TransientError, match="without an answer"):
                stuck.result(timeout=20)
        finally:
            is_over.set()
            others.result(timeout=10)
            client.stop()


def test_while_the_vtn_answers_500_to_every_registration_all_of_them_wait(caplog: pytest.LogCaptureFixture) -> None:
    is_in_trouble = Event()
    is_in_trouble.set()

    def answer(method: str, _path: str) -> tuple[int, object]:
        if is_in_trouble.is_set():
            return 500, {"title": "no database"}
        return 201, {"id": "1"} if method == "POST" else []

    with (
        answering(answer) as url,
        BulkWire(url, GivenToken(SecretStr("x")), retry_wait_s=0.01, attempts=8, outage_times=SOON) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        calls = [pool.submit(client.register_ven, f"VEN {number}") for number in range(8)]
        until(lambda: "everything waits, and one request probes" in caplog.text or all(call.done() for call in calls))
        is_in_trouble.clear()
        for call in calls:
            call.result(timeout=30)
