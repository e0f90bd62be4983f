"""Promises about loads that get another VEN while a run is under way: they wait for the next, and all others go on."""

from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient

from flows.bulk_upload import bulk_upload
from tests.commands import command, last_json, run_options, start
from tests.reference_vtn import ReferenceVtn
from tests.run_settings import run_settings
from tests.sites import Site
from venclient.ledger.lease import Writer
from venclient.ledger.ledger import Ledger
from venclient.loads import Load
from venclient.run import Snapshot, watched_by


@pytest.fixture
def site(vtn: ReferenceVtn, new_site: Callable[..., Site]) -> Site:
    """Two VENs, each with a resource of six loads and one of three."""
    site = new_site(loads=18, points=50, vens=2)
    site.register(vtn)
    return site


def _move(site: Site, load: Load) -> list[Load]:
    """Give the resource of this load another VEN; returns the loads that stay where they are."""
    site.execute("UPDATE resources SET ven = 'Elsewhere' WHERE resource_id = ?", load.resource_id)
    return [each for each in site.loads if each.ven != "Elsewhere"]


def test_loads_that_are_moved_after_the_plan_are_left_for_the_next_run(
    vtn: ReferenceVtn, site: Site, prefect: SyncPrefectClient
) -> None:
    moved = site.loads[-1]
    others: list[Load] = []

    def move(_: Snapshot) -> None:
        others[:] = others or _move(site, moved)

    with run_settings(site, vtn, loads_per_task=4):
        with watched_by(move):
            state = bulk_upload(return_state=True)
        assert str(state.message).startswith(f"Ended early, {18 - len(others)} of 18 loads are left for the next run: ")
        assert str(state.message).endswith("or the loads table no longer has them in their VEN")
        site.assert_stored(vtn, others)
        assert not len(vtn.points(moved.vtn_resource_id).start_s)
        assert bulk_upload(return_state=True).is_completed()
    site.assert_stored(vtn)


def test_loads_that_are_moved_before_the_plan_are_left_for_the_next_run(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    first, *_ = site.loads
    options = [*run_options(site, vtn), "--json"]
    with Ledger(str(site.ledger), vtn.base_url) as ledger, ledger.leased([first.ven], Writer("a", "Another run")):
        running = start("run", *options, cwd=tmp_path, prefect_url=prefect_url, BULK_UPLOAD_WHEN_BUSY="wait")
        assert running.stderr
        assert any("Another run is uploading it: waiting" in line for line in running.stderr)
        others = _move(site, first)
    output, errors = running.communicate()
    assert running.returncode == 1, errors
    assert "Traceback" not in output + errors
    assert len(others) in (12, 15)
    site.assert_stored(vtn, others)

    again = last_json(command("run", *options, cwd=tmp_path, prefect_url=prefect_url))
    assert again["total_points_uploaded"] == 50 * (18 - len(others))
    site.assert_stored(vtn)
