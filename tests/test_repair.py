"""Promises about a repair and an upload that meet: whatever `verify --repair` forgets is sent again."""

import subprocess
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.commands import command, last_json, run_options, start
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from tests.waiting import until
from venclient.errors import BusyError
from venclient.ledger.entries import Entry
from venclient.ledger.lease import Writer
from venclient.ledger.ledger import Ledger
from venclient.loads import Load
from venclient.reports.status import read_statuses

HOURS = 400  # all of one month
WRONG_W = 4711.5


@pytest.fixture
def site(vtn: ReferenceVtn, new_site: Callable[..., Site]) -> Site:
    site = new_site(loads=1, points=HOURS)
    site.register(vtn)
    return site


@contextmanager
def _slow_run(site: Site, vtn: ReferenceVtn, folder: Path, prefect_url: str) -> Iterator[subprocess.Popen[str]]:
    """An upload of one month in twenty requests, of which some are through; within, the VTN takes seconds for each."""
    vtn.switch(points_per_second=8)
    options = [*run_options(site, vtn), "--chunk-size", 20]
    with start("run", *options, cwd=folder, prefect_url=prefect_url, stderr=subprocess.DEVNULL) as running:
        try:
            until(lambda: any(each.points for each in read_statuses(str(site.ledger), None).values()), within_s=240)
            yield running
        finally:
            vtn.switch()
            running.communicate()


def _verify(site: Site, vtn: ReferenceVtn, folder: Path, *more: str, when_busy: str = "leave") -> subprocess.Popen[str]:
    options = [*run_options(site, vtn), "--json", *more]
    return start("verify", *options, cwd=folder, BULK_UPLOAD_WHEN_BUSY=when_busy)


@pytest.mark.parametrize("when_busy", ["wait", pytest.param("leave", marks=pytest.mark.long)])
def test_a_repair_during_an_upload_is_not_lost(
    no_faults: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str, when_busy: str
) -> None:
    (load,) = site.loads
    with _slow_run(site, no_faults, tmp_path, prefect_url) as running:
        no_faults.alter_point(load.vtn_resource_id, int(site.rows(load)[0, 0]), WRONG_W)
        repairing = _verify(site, no_faults, tmp_path, "--repair", when_busy=when_busy)
        assert repairing.stderr
        if when_busy == "wait":
            assert any("uploading it: waiting" in line for line in repairing.stderr)
            no_faults.switch()
        output, _ = repairing.communicate()
        assert repairing.returncode == 1
        assert when_busy == "wait" or running.poll() is None
    assert running.returncode == 0
    repaired = last_json(subprocess.CompletedProcess([], 1, output))
    (found,) = repaired["not_equal"]
    if when_busy == "leave":
        assert repaired["repaired"] == 0
        assert f"Not repaired. {load.ven}: Flow run " in found["error"]
        assert "is uploading it" in found["error"]
        assert _verify(site, no_faults, tmp_path, "--repair").wait() == 1
    else:
        assert repaired["repaired"] == 1

    again = command("run", *run_options(site, no_faults), "--json", cwd=tmp_path, prefect_url=prefect_url)
    assert last_json(again)["total_points_uploaded"] == HOURS
    site.assert_stored(no_faults)
    assert _verify(site, no_faults, tmp_path).wait() == 0


def test_a_month_that_is_forgotten_while_it_is_sent_is_sent_again_by_the_same_run(
    vtn: ReferenceVtn, site: Site
) -> None:
    """As when the lease was taken from a run that then finds that it has overwritten its successor's points."""
    (load,) = site.loads
    first = int(site.rows(load)[0, 0])

    def on_receipt(count: int) -> None:
        if count == 2:
            vtn.alter_point(load.vtn_resource_id, first, WRONG_W)
            with Ledger(str(site.ledger), vtn.base_url) as frozen:
                frozen.invalidate_marks(load, frozen.entries([load])[load.vtn_resource_id].marks.values())

    (result,) = site.upload(vtn, chunk_size=100, on_receipt=on_receipt).values()
    assert (result.state, result.points_sent) == ("done", 3 * 100 + HOURS)
    site.assert_stored(vtn)
    assert sum(each.points_sent for each in site.upload(vtn).values()) == 0


def test_nothing_is_recorded_without_a_lease(vtn: ReferenceVtn, site: Site) -> None:
    (load,) = site.loads
    writer = Writer("run", "A run")
    with Ledger(str(site.ledger), vtn.base_url) as ledger:
        writes: list[Callable[[], None]] = [
            lambda: ledger.settle(load, "done"),
            lambda: ledger.forget(load, [202501]),
        ]
        for write in writes:
            with pytest.raises(BusyError, match=f"holds no lease for the VEN '{load.ven}'"):
                write()
            with ledger.leased([load.ven], writer):
                write()
            with pytest.raises(BusyError, match="holds no lease"):
                write()
        assert ledger.entries([load]) == {load.vtn_resource_id: Entry("pending")}


def test_a_lease_holds_for_a_ven_in_either_unicode_form(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Ærøskøbing Ågade") for form in ("NFC", "NFD"))
    load = Load("l", decomposed, "r", "House", "load_0", "Base Load", "meter_1", "vtn-1")
    with (
        Ledger(str(tmp_path / "ledger.db"), "http://vtn.example") as ledger,
        ledger.leased([composed], Writer("a", "a")),
    ):
        ledger.settle(load, "done")
    assert read_statuses(str(tmp_path / "ledger.db"), None)["vtn-1"].state == "done"


def test_two_repairs_at_once_both_end_and_what_they_forgot_is_sent_again(
    vtn: ReferenceVtn, site: Site, tmp_path: Path
) -> None:
    (load,) = site.loads
    site.upload(vtn)
    vtn.alter_point(load.vtn_resource_id, int(site.rows(load)[0, 0]), WRONG_W)
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    repairs = [_verify(site, vtn, folder, "--repair") for folder in folders]
    assert [repair.wait() for repair in repairs] == [1, 1]
    assert {result.points_sent for result in site.upload(vtn).values()} == {HOURS}
    site.assert_stored(vtn)
