"""Promises about compressed bodies: only for a VTN that takes them, which is asked once; no point is at stake in it."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import update

from tests.commands import command, run_options
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site, client
from tests.vtn_calls import hours
from venclient.ledger.database import LedgerDatabase
from venclient.ledger.ledger import Ledger
from venclient.ledger.tables import GZIP_SUPPORT
from venclient.models import LoadResult
from venclient.wires.compression import Compression, Encoded, gzipped
from vtn.switches import Seen

NewSite = Callable[..., Site]
YEAR = 8_739
FEW = 8  # loads


@pytest.fixture
def vtn(no_faults: ReferenceVtn) -> ReferenceVtn:
    """Most tests here switch something on."""
    return no_faults


@pytest.fixture
def site(vtn: ReferenceVtn, new_site: NewSite) -> Site:
    """Eight registered loads of 100 points."""
    site = new_site(loads=FEW)
    site.register(vtn)
    return site


def test_a_year_of_hours_is_an_eighth_of_the_bytes_and_stored_to_the_point(
    vtn: ReferenceVtn, new_site: NewSite
) -> None:
    plain, compressed = (_year(new_site, vtn, gzip=gzip) for gzip in (False, True))
    assert [seen.encoding for seen in compressed] == ["gzip"] * 2
    assert sum(seen.body_bytes for seen in compressed) * 8 <= sum(seen.body_bytes for seen in plain)


def test_nothing_is_compressed_unless_it_is_set(vtn: ReferenceVtn, site: Site) -> None:
    assert {seen.encoding for seen in _sent(site, vtn, gzip=False)} == {"identity"}
    assert _takes_gzip(site, vtn) is None


def test_all_wait_for_the_first_answer_and_nothing_goes_plain_that_need_not(vtn: ReferenceVtn, site: Site) -> None:
    vtn.switch(points_per_second=500)
    assert _compressed(_sent(site, vtn, threads=4)) == FEW


@pytest.mark.parametrize("threads", [1, pytest.param(4, marks=pytest.mark.long)])
@pytest.mark.parametrize("fault", ["400", "403", "413", "415", "422", "redirect", "short"])
def test_a_vtn_that_says_no_is_asked_once_and_never_again(
    vtn: ReferenceVtn, site: Site, fault: str, threads: int
) -> None:
    vtn.switch(gzip=fault)
    assert _compressed(_sent(site, vtn, threads=threads)) == 1
    assert _takes_gzip(site, vtn) is False
    _append_a_day(site)
    assert _compressed(_sent(site, vtn, threads=threads)) == 0


@pytest.mark.parametrize("fault", ["500", "html_before", "reset_before", "reset_after", "timeout"])
def test_a_vtn_that_fails_with_gzip_and_does_not_without_is_asked_three_times_and_never_again(
    vtn: ReferenceVtn, site: Site, fault: str
) -> None:
    vtn.switch(gzip=fault, stall_s=0.1)
    assert _compressed(_sent(site, vtn, threads=1)) == 3
    assert _takes_gzip(site, vtn) is False
    _append_a_day(site)
    assert _compressed(_sent(site, vtn)) == 0


@pytest.mark.parametrize("fault", ["401", "404", "429", "502", "503"])
def test_what_says_nothing_of_gzip_teaches_nothing(vtn: ReferenceVtn, site: Site, fault: str) -> None:
    vtn.switch(script=[fault], retry_after_s=0)
    results, log = _run(site, vtn, threads=1)
    assert [result.state for result in results.values()].count("failed") == (fault == "404")
    assert _takes_gzip(site, vtn) is True
    assert log[0].encoding == log[-1].encoding == "gzip"


def test_a_vtn_that_has_no_time_for_gzip_gets_everything_plain(vtn: ReferenceVtn, site: Site) -> None:
    vtn.switch(gzip="503", retry_after_s=0)
    log = _sent(site, vtn, threads=1)
    assert [seen.encoding for seen in log] == ["gzip", "identity"] * FEW
    assert _takes_gzip(site, vtn) is None


def test_a_vtn_that_takes_gzip_no_more_loses_nothing_and_is_not_troubled_again(vtn: ReferenceVtn, site: Site) -> None:
    _sent(site, vtn)
    assert _takes_gzip(site, vtn) is True
    vtn.switch(gzip="422")
    _append_a_day(site)
    assert _compressed(_sent(site, vtn, threads=1)) == 2  # what it met with, and the question whether that was it
    assert _takes_gzip(site, vtn) is False


@pytest.mark.parametrize("fault", ["500", "400", "reset_before", "reset_after", "html"])
def test_trouble_in_passing_does_not_end_it(vtn: ReferenceVtn, site: Site, fault: str) -> None:
    _sent(site, vtn)
    vtn.switch(script=[fault] * 4)
    _append_a_day(site)
    _sent(site, vtn)
    vtn.switch()
    _append_a_day(site)
    assert {seen.encoding for seen in _sent(site, vtn)} == {"gzip"}
    assert _takes_gzip(site, vtn) is True


def test_doubts_of_long_ago_do_not_count(vtn: ReferenceVtn, site: Site) -> None:
    vtn.switch(script=["500", None, "500", None, None, "400", None, "500"])
    log = _sent(site, vtn, threads=1)
    is_gzip = [True, False, True, False, True, True, False, True, False, True, True, True]
    assert [seen.encoding == "gzip" for seen in log] == is_gzip
    assert _takes_gzip(site, vtn) is True


def test_a_vtn_that_does_not_answer_to_gzip_is_not_sent_fewer_points_for_it(
    vtn: ReferenceVtn, new_site: NewSite
) -> None:
    site = new_site(loads=2, points=400)
    site.register(vtn)
    vtn.switch(gzip="timeout", stall_s=30)
    results = site.upload(vtn, threads=1, gzip=True, timeout_s=0.4)
    assert {(result.state, result.chunks, result.retries) for result in results.values()} == {("done", 1, 0)}
    site.assert_stored(vtn)


def test_a_request_that_is_put_off_is_compressed_once_and_stays_so(vtn: ReferenceVtn) -> None:
    compressed: list[bytes] = []

    def compress(plain: Encoded) -> bytes:
        compressed.append(gzipped(plain))
        return compressed[-1]

    resource, seen = vtn.add_resource(), len(vtn.log())
    vtn.switch(script=["503", "429", "503"], retry_after_s=0)
    with client(vtn, compression=Compression(is_taken=True, compress=compress)) as wire:
        wire.upload(resource, json.dumps(hours(48)).encode(), 48, 5_000)
    assert [request.encoding for request in vtn.log(after=seen)] == ["gzip"] * 4
    assert len(compressed) == 1


@pytest.mark.parametrize("gzip", [None, "422"], ids=["taken", "not taken"])
def test_a_point_that_is_refused_is_told_from_gzip_that_is(vtn: ReferenceVtn, site: Site, gzip: str | None) -> None:
    vtn.switch(refuses=["2025-01-16T00:00:00Z"], gzip=gzip)
    results, _ = _run(site, vtn)
    assert {(result.points_sent, result.points_refused) for result in results.values()} == {(99, 1)}
    assert _takes_gzip(site, vtn) is (gzip is None)


def test_a_no_is_asked_again_after_a_month(vtn: ReferenceVtn, site: Site) -> None:
    vtn.switch(gzip="415")
    _sent(site, vtn)
    vtn.switch()
    _let_days_pass(site, vtn, 29)
    assert _takes_gzip(site, vtn) is False
    _let_days_pass(site, vtn, 31)
    assert _takes_gzip(site, vtn) is None
    _append_a_day(site)
    assert _compressed(_sent(site, vtn)) > 0
    assert _takes_gzip(site, vtn) is True


def test_a_yes_holds(vtn: ReferenceVtn, site: Site) -> None:
    _sent(site, vtn)
    _let_days_pass(site, vtn, 400)
    assert _takes_gzip(site, vtn) is True


@pytest.mark.long
def test_what_a_run_found_holds_for_the_next_process(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    vtn.switch(gzip="415")
    seen = len(vtn.log())
    ran = command("run", *run_options(site, vtn), cwd=tmp_path, prefect_url=prefect_url, BULK_UPLOAD_GZIP="true")
    assert ran.returncode == 0, ran.stderr
    assert _compressed(vtn.log(after=seen)) == 1
    site.assert_stored(vtn)
    _append_a_day(site)
    assert _compressed(_sent(site, vtn)) == 0


def _year(new_site: NewSite, vtn: ReferenceVtn, *, gzip: bool) -> list[Seen]:
    site = new_site(loads=2, points=YEAR)
    site.register(vtn)
    return _sent(site, vtn, threads=1, gzip=gzip)


def _sent(site: Site, vtn: ReferenceVtn, *, threads: int = 4, gzip: bool = True) -> list[Seen]:
    """What arrives in a run in which all is well in the end, with the points and with their load."""
    results, log = _run(site, vtn, threads=threads, gzip=gzip)
    assert {(result.state, result.points_refused) for result in results.values()} == {("done", 0)}
    site.assert_stored(vtn)
    return log


def _run(
    site: Site, vtn: ReferenceVtn, *, threads: int = 4, gzip: bool = True
) -> tuple[dict[str, LoadResult], list[Seen]]:
    seen = len(vtn.log())
    results = site.upload(vtn, threads=threads, gzip=gzip)
    return results, vtn.log(after=seen)


def _compressed(log: list[Seen]) -> int:
    return sum(seen.encoding == "gzip" for seen in log)


def _takes_gzip(site: Site, vtn: ReferenceVtn) -> bool | None:
    with Ledger(str(site.ledger), vtn.base_url) as ledger:
        return ledger.measured.takes_gzip()


def _let_days_pass(site: Site, vtn: ReferenceVtn, days: int) -> None:
    """Let it be so many days ago that the VTN was asked."""
    database = LedgerDatabase(str(site.ledger), vtn.base_url)
    with database.writing() as connection:
        connection.execute(update(GZIP_SUPPORT).values(asked_at_s=int(time.time()) - 86_400 * days))
    database.close()


def _append_a_day(site: Site) -> None:
    for load in site.loads:
        site.append(load, 24)
