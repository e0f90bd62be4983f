"""Promises of `VENManager`: a call that ends early has stopped its threads before it gives anything back."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.reference_vtn import ReferenceVtn
from tests.sites import Site, hourly
from tests.waiting import until
from venclient.client import VENManager
from venclient.errors import ConfigurationError

CONCURRENCY = 4


@pytest.fixture
def own_vtn(tmp_path: Path) -> Iterator[ReferenceVtn]:
    """A VTN in which nothing else is in flight."""
    with ReferenceVtn(tmp_path / "vtn.db") as server:
        yield server


@pytest.fixture
def site(own_vtn: ReferenceVtn, new_site: Callable[..., Site]) -> Site:
    """A VEN with more loads than are uploaded at a time; the first is short, and the others take some seconds."""
    site = new_site(loads=3 * CONCURRENCY, points=800)
    site.register(own_vtn)
    site.write_rows(site.loads[0], hourly(300))
    own_vtn.switch(points_per_second=100)
    return site


def test_after_a_first_error_no_thread_uploads_any_more(own_vtn: ReferenceVtn, site: Site) -> None:
    def lose_the_marks() -> None:
        until(lambda: own_vtn.in_flight() == CONCURRENCY)
        with closing(sqlite3.connect(site.ledger)) as ledger:
            ledger.execute("DROP TABLE marks")

    losing = Thread(target=lose_the_marks)
    losing.start()
    with pytest.raises(ConfigurationError, match="no such table: marks"):
        asyncio.run(_upload(own_vtn, site))
    losing.join()


@pytest.mark.parametrize("times", [pytest.param(1, marks=pytest.mark.long), 3], ids=["once", "again and again"])
def test_a_call_that_is_cancelled_ends_with_its_threads(
    own_vtn: ReferenceVtn, site: Site, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def cancel() -> None:
        call = asyncio.create_task(_upload(own_vtn, site))
        await asyncio.to_thread(until, lambda: own_vtn.in_flight() == CONCURRENCY)
        for _ in range(times):
            call.cancel()
            await asyncio.sleep(0.1)
        with pytest.raises(asyncio.CancelledError):
            await call

    seen = len(own_vtn.log())
    asyncio.run(cancel())
    begun = [record for record in caplog.records if "] Uploading " in record.getMessage()]
    assert (len(own_vtn.log(after=seen)), len(begun)) == (CONCURRENCY, CONCURRENCY), "no other load was begun"
    own_vtn.switch()
    result = asyncio.run(_upload(own_vtn, site))
    assert result["success"]
    site.assert_stored(own_vtn)


def test_a_call_that_is_cancelled_while_the_vtn_is_away_does_not_wait_for_it(own_vtn: ReferenceVtn, site: Site) -> None:
    own_vtn.switch(rate=1, kinds=["503"])

    async def cancel() -> None:
        seen = len(own_vtn.log())
        call = asyncio.create_task(_upload(own_vtn, site))
        await asyncio.to_thread(until, lambda: len(own_vtn.log()) > seen)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(cancel())


def test_a_registration_that_is_cancelled_ends_with_its_threads(
    own_vtn: ReferenceVtn, new_site: Callable[..., Site]
) -> None:
    site = new_site(loads=60, points=1)

    async def cancel() -> None:
        manager = VENManager(own_vtn.base_url, own_vtn.token, concurrency=CONCURRENCY)
        known = len(own_vtn.resource_ids())
        call = asyncio.create_task(manager.register_loads_parallel(None, str(site.db)))
        await asyncio.to_thread(until, lambda: len(own_vtn.resource_ids()) > known, 60, 0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        after = len(own_vtn.resource_ids())
        await manager.cleanup()
        assert len(own_vtn.resource_ids()) == after

    asyncio.run(cancel())
    assert site.register(own_vtn).failures == ()


async def _upload(vtn: ReferenceVtn, site: Site) -> dict[str, Any]:
    manager = VENManager(vtn.base_url, vtn.token, ledger_url=str(site.ledger), concurrency=CONCURRENCY)
    try:
        ven = site.loads[0].ven
        return await manager.bulk_upload_historical_meterdata(ven, str(site.db), str(site.h5))
    finally:
        at_rest = vtn.in_flight(), _leases(site.ledger)  # before what is in flight is waited for
        await manager.cleanup()
        assert at_rest == (0, 0)


def _leases(ledger: Path) -> int:
    with closing(sqlite3.connect(ledger)) as database:
        return int(database.execute("SELECT count(*) FROM leases").fetchone()[0])
