"""Promises of the flow, on a real Prefect server: how it ends, and what it sends."""

import gc
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ParameterTypeError

from config.settings import Settings
from flows.bulk_upload import bulk_upload
from tasks.plan import plan_upload
from tasks.run import opened_run
from tasks.states import WITH_FAILURES
from tasks.upload import upload_batches
from tests.reference_vtn import ReferenceVtn
from tests.run_settings import run_settings
from tests.sites import Site, hourly
from venclient.errors import ConfigurationError
from venclient.ledger.lease import Writer
from venclient.ledger.ledger import Ledger
from venclient.loads import Load
from venclient.resources import Choice, ResourceDatabase
from venclient.run import Snapshot, watched_by


@pytest.fixture
def site(vtn: ReferenceVtn, new_site: Callable[..., Site], prefect: SyncPrefectClient) -> Iterator[Site]:
    """Two VENs of five loads each, registered, and the settings to upload them."""
    site = new_site(loads=10, points=300, vens=2)
    site.register(vtn)
    with run_settings(site, vtn, loads_per_task=2):
        yield site


def test_a_whole_run_is_completed_and_says_what_was_sent(vtn: ReferenceVtn, site: Site) -> None:
    state = bulk_upload(return_state=True)
    assert state.is_completed()
    assert state.message == "10 loads done: 3,000 points uploaded, 0 already there"
    site.assert_stored(vtn)
    assert bulk_upload(return_state=True).message == "10 loads done: 0 points uploaded, 3,000 already there"


def test_the_totals_are_exact_before_the_first_request(vtn: ReferenceVtn, site: Site) -> None:
    assert bulk_upload(limit_loads=4, return_state=True).is_completed()
    seen: list[Snapshot] = []
    with watched_by(seen.append):
        bulk_upload()
    assert seen[0].selected_loads == 10
    seen = [snapshot for snapshot in seen if snapshot.is_planned]
    first = seen[0]
    assert (first.total_loads, first.total_vens, first.points_to_send) == (10, 2, 1800)
    assert {snapshot.points_to_send for snapshot in seen} == {1800}


def test_whoever_watches_sees_the_run_move(no_faults: ReferenceVtn, site: Site) -> None:
    no_faults.switch(points_per_second=100)  # 60 requests of half a second each, 16 at a time at most
    seen: list[Snapshot] = []
    with watched_by(seen.append):
        bulk_upload(chunk_size=50)
    assert len({snapshot.points_sent for snapshot in seen}) >= 3
    assert seen[-1].share == 1


def test_what_is_garbage_after_a_run_does_not_stay_in_memory(site: Site) -> None:
    class Itself:
        def __init__(self) -> None:
            self.itself = self

    kept = [Itself()]
    gone = ref(kept[0])
    bulk_upload()
    kept.clear()
    gc.collect()
    assert gone() is None


def test_a_failed_load_fails_the_run_with_its_reason_and_a_second_run_does_only_the_rest(
    vtn: ReferenceVtn, site: Site
) -> None:
    (lost, *_) = site.loads
    site.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE load_id = ?", lost.load_id)
    state = bulk_upload(return_state=True)
    assert state.is_failed()
    assert state.name == WITH_FAILURES
    assert (state.message or "").startswith(f"1 of 10 loads failed: Load {lost.load_id} ({lost.name}): H5 meter")

    site.execute("UPDATE loads SET h5_meter_id = ? WHERE load_id = ?", lost.h5_meter_id, lost.load_id)
    seen = len(vtn.log())
    assert bulk_upload(return_state=True).is_completed()
    assert [request.resource_id for request in vtn.log(after=seen)] == [lost.vtn_resource_id]


def test_failures_are_told_by_cause_with_how_many_there_are_of_each(site: Site) -> None:
    *lost, empty = site.loads[:4]
    for number, load in enumerate(lost):
        site.execute("UPDATE loads SET h5_meter_id = ? WHERE load_id = ?", f"meter_40{number}", load.load_id)
    site.write_rows(empty, hourly(0))
    message = bulk_upload(return_state=True).message or ""
    assert message.startswith("4 of 10 loads failed: Load ")
    assert re.search(r"H5 meter 'meter_40\d' not found .* \(and 2 more like it\); Load [-\w]+ \(.*\): ", message)
    assert message.count("Load ") == 2


def test_causes_that_are_not_named_are_counted(site: Site) -> None:
    first, second, third, fourth, *_ = site.loads
    site.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE load_id = ?", first.load_id)
    site.write_rows(second, hourly(0))
    site.write_rows(third, hourly(10) / (3600, 1))
    site.write_rows(fourth, hourly(10)[:, :1])
    message = bulk_upload(return_state=True).message or ""
    assert message.startswith("4 of 10 loads failed: Load ")
    assert message.endswith("; and 1 other cause")


def test_only_the_vens_and_loads_asked_for_are_uploaded(vtn: ReferenceVtn, site: Site) -> None:
    ven = max(load.ven for load in site.loads)
    seen = len(vtn.log())
    assert bulk_upload(vens=[ven], limit_loads=3, return_state=True).is_completed()
    wanted = [load.vtn_resource_id for load in site.loads if load.ven == ven][:3]
    assert sorted(request.resource_id or "" for request in vtn.log(after=seen)) == sorted(wanted)


def test_a_run_of_other_vens_runs_beside_one_and_a_run_of_the_same_is_cancelled(vtn: ReferenceVtn, site: Site) -> None:
    taken, free = sorted({load.ven for load in site.loads})
    with Ledger(str(site.ledger), vtn.base_url) as ledger, ledger.leased([taken], Writer("first", "Another run")):
        assert bulk_upload(vens=[free], return_state=True).is_completed()
        assert bulk_upload(return_state=True).is_cancelled()


class _FailsOnce(ResourceDatabase):
    """A resources database whose first call for the loads of a batch meets a fault of ours."""

    has_failed = False

    def loads_of_ids(self, load_ids: Sequence[str]) -> list[Load]:
        if not self.has_failed:
            self.has_failed = True
            raise ZeroDivisionError
        return super().loads_of_ids(load_ids)


@flow
def _upload_with_a_fault(db: str) -> tuple[int, int]:
    with opened_run(Settings.load()) as run, closing(_FailsOnce(db)) as resources:
        planned = plan_upload(Choice(), False, 2, waits=False, whole_vens=False)
        run.resources = resources
        upload_batches(run, planned.result().batches, planned)
        now = run.progress.snapshot()
        return now.successful, now.points_sent


def test_a_batch_that_a_fault_of_ours_ended_is_tried_again(vtn: ReferenceVtn, site: Site) -> None:
    assert _upload_with_a_fault(str(site.db)) == (10, 3_000)
    site.assert_stored(vtn)


def test_the_parameters_that_prefect_shows_are_those_that_hold(
    vtn: ReferenceVtn, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BULK_UPLOAD_CHUNK_SIZE", "100")
    monkeypatch.setenv("BULK_UPLOAD_BATCH_SIZE", "7")
    seen = len(vtn.log())
    assert bulk_upload(return_state=True).is_completed()
    assert {(request.points, request.batch_size) for request in vtn.log(after=seen)} == {(300, "5000")}


def test_a_ledger_that_fails_half_way_ends_the_run_at_once_and_says_so(
    vtn: ReferenceVtn, no_faults: ReferenceVtn, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BULK_UPLOAD_CONCURRENCY", "4")
    no_faults.switch(points_per_second=300)
    seen = len(vtn.log())

    def lose_the_ledger(now: Snapshot) -> None:
        if now.points_sent:
            with closing(sqlite3.connect(site.ledger)) as ledger:
                ledger.execute("DROP TABLE IF EXISTS marks")

    with watched_by(lose_the_ledger):
        state = bulk_upload(return_state=True)
    assert state.is_failed()
    assert len(vtn.log()) - seen < 10
    ended_early = r"Ended early, \d+ of 10 loads are left for the next run: Ledger .* cannot be written"
    assert re.match(ended_early, str(state.message))


def test_a_vtn_that_goes_away_for_good_ends_the_run_and_the_next_goes_on(
    new_site: Callable[..., Site], prefect: SyncPrefectClient, tmp_path: Path
) -> None:
    with ReferenceVtn(tmp_path / "vtn.db") as vtn:
        site = new_site(loads=10, points=300)
        site.register(vtn)
        vtn.switch(points_per_second=600)

        def lose_the_vtn(now: Snapshot) -> None:
            if now.points_sent:
                vtn.kill()

        with run_settings(site, vtn, retry_wait_s=0.01, outage_patience=1), watched_by(lose_the_vtn):
            state = bulk_upload(return_state=True)
        assert state.is_failed()
        assert "The VTN has taken nothing for" in str(state.message)
        assert "start again when it is back" in str(state.message)
        vtn.start()
        with run_settings(site, vtn):
            assert bulk_upload(return_state=True).is_completed()
        site.assert_stored(vtn)


def test_a_deployments_run_waits_for_a_vtn_that_was_there_before(
    new_site: Callable[..., Site], prefect: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ReferenceVtn(tmp_path / "vtn.db") as vtn:
        site = new_site(loads=2, points=300)
        site.register(vtn)
        with run_settings(site, vtn, retry_wait_s=0.01):
            assert bulk_upload(return_state=True).is_completed()
            site.append(site.loads[0], 24)
            vtn.kill()
            told_at_once = bulk_upload(return_state=True)
            assert "The VTN is not there" in str(told_at_once.message)
            monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "nightly")
            waits_for: list[str] = []

            def start_again_in_an_outage(now: Snapshot) -> None:
                if not waits_for and (now.waiting_for or "").startswith("the VTN: nothing taken since"):
                    waits_for.append(str(now.waiting_for))
                    vtn.start()

            with watched_by(start_again_in_an_outage):
                assert bulk_upload(return_state=True).is_completed()
            assert waits_for
        site.assert_stored(vtn)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"vens": ["Atlantis"]}, "VEN 'Atlantis' has no loads"),
        ({"meter_file": "nowhere.h5"}, "Meter file nowhere.h5 not found"),
        ({"resources_db": "nowhere.db"}, "Resources database nowhere.db not found"),
        ({"chunk_size": 60_000}, "chunk_size: Input should be less than or equal to 50000"),
        ({"limit_loads": 0}, "limit_loads: Input should be greater than or equal to 1"),
        ({"vtn_url": "http://127.0.0.1:9/openadr3"}, "Name it in VTN_SERVER_ADDRESS or BULK_UPLOAD_ALLOWED_VTNS"),
        ({"ledger_url": "postgresql://me:hush@127.0.0.1/x"}, r"me:\*\*\*@127.0.0.1/x has a password in it"),
        ({"ledger_url": "postgresql://h/x?user=me&password=hush"}, r"user=me&password=\*\*\* has a password in it"),
    ],
    ids=["unknown VEN", "no meter file", "no database", "chunk size", "no load", "no VTN", "password", "query"],
)
@pytest.mark.usefixtures("site")
def test_what_is_missing_fails_the_run_before_anything_is_sent(
    vtn: ReferenceVtn, parameters: dict[str, Any], message: str
) -> None:
    seen = len(vtn.log())
    state = bulk_upload(**parameters, return_state=True)
    assert state.is_failed()
    with pytest.raises((ConfigurationError, ParameterTypeError), match=message):
        state.result()
    assert "hush" not in str(state.message)
    assert len(vtn.log()) == seen
