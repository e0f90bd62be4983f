"""A run that was taken for dead overwrites no report, as it would replace all that its successor has sent."""

import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.sites import Site
from tests.standard_site import a_run, assert_stored, registered, requests_since, upload
from tests.standard_vtn import StandardVtn
from venclient.sources.hdf5 import MeterFile

NewSite = Callable[..., Site]


@pytest.fixture
def site(standard_vtn: StandardVtn, new_site: NewSite) -> Site:
    """A load of one month, registered."""
    return registered(new_site(loads=1, points=300), standard_vtn)


def _take_over(site: Site) -> None:
    """Another run, which is gone without a trace, has the lease now."""
    with closing(sqlite3.connect(site.ledger, timeout=30)) as db, db:
        assert db.execute("UPDATE leases SET writer_id = 4711").rowcount == 1


def _acknowledge_all(site: Site) -> None:
    """What its successor would have recorded: the whole month, in a report of its own."""
    (load,) = site.loads
    with MeterFile(site.h5) as meters:
        (month,) = meters.series(load.h5_meter_id, load.load_component).months
    row = (load.vtn_resource_id, month.number, 300, month.last_start_s, month.digest)
    with closing(sqlite3.connect(site.ledger, timeout=30)) as db, db:
        db.execute("INSERT INTO marks VALUES (1, ?, ?, ?, ?, ?)", row)
        db.execute("INSERT OR REPLACE INTO uploads VALUES (1, ?, 'done', NULL, 0)", row[:1])
        db.execute("UPDATE reports SET report_id = 'successor' WHERE vtn_resource_id != ''")


@pytest.mark.parametrize("is_known", [False, True])
def test_without_its_lease_a_run_writes_nothing(standard_vtn: StandardVtn, site: Site, is_known: bool) -> None:
    if is_known:
        upload(site, standard_vtn)
        site.append(site.loads[0], 24)
    with a_run(site, standard_vtn) as run:
        _take_over(site)
        before = len(standard_vtn.log())
        run.upload(site.loads)
        assert "taken over the VEN" in str(run.ended_by[0])
    sent = requests_since(standard_vtn, before)
    assert (sent["POST"], sent["PUT"]) == (0, 0)


def test_what_was_in_flight_when_the_lease_was_lost_is_sent_again(standard_vtn: StandardVtn, site: Site) -> None:
    standard_vtn.switch(points_per_second=200)
    with a_run(site, standard_vtn) as run, ThreadPoolExecutor(1) as pool:
        before = len(standard_vtn.log())
        uploading = pool.submit(run.upload, site.loads)
        while not any(seen.points for seen in standard_vtn.log(after=before)):
            time.sleep(0.02)
        _take_over(site)
        _acknowledge_all(site)
        uploading.result()
        assert "taken over the VEN" in str(run.ended_by[0])
    with closing(sqlite3.connect(site.ledger)) as db:
        assert db.execute("SELECT count(*) FROM marks").fetchone() == (0,)
        assert db.execute("SELECT DISTINCT report_id FROM reports WHERE vtn_resource_id != ''").fetchall() == [("",)]
    standard_vtn.switch()
    (result,) = upload(site, standard_vtn).values()
    assert (result.state, result.points_already_there) == ("done", 300), "found at the VTN"
    assert_stored(site, standard_vtn)
