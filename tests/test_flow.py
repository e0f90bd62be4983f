"""Promises of the flow, on a real Prefect server: its states, its reports, and what it never shows."""

import gc
import json
import re
import sqlite3
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Timer
from typing import Any
from uuid import UUID
from weakref import ref

import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
    TaskRunFilter,
    TaskRunFilterId,
)
from prefect.client.schemas.objects import Artifact, State
from prefect.exceptions import ParameterTypeError
from prefect.logging.handlers import APILogHandler

from config.settings import given_options
from flows.bulk_upload import bulk_upload
from tasks.reports import artifact_key
from tests.prefect_events import event, events
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from tests.waiting import until
from venclient.errors import ConfigurationError
from venclient.models import Load
from venclient.run.progress import Snapshot, watched_by


@pytest.fixture
def site(vtn: ReferenceVtn, new_site: Callable[..., Site], prefect: SyncPrefectClient) -> Iterator[Site]:
    """Two VENs of five loads each, registered, and the settings to upload them."""
    site = new_site(loads=10, points=300, vens=2)
    site.register(vtn)
    with _settings(site, vtn):
        yield site


def _settings(site: Site, vtn: ReferenceVtn, **options: object) -> AbstractContextManager[None]:
    return given_options(
        vtn_url=vtn.base_url,
        bearer_token=vtn.token,
        resources_db=str(site.db),
        meter_file=site.h5,
        ledger_url=str(site.ledger),
        retry_wait_s=0.01,
        loads_per_task=2,
        **options,
    )


def test_a_whole_run_is_completed_and_says_what_was_sent(vtn: ReferenceVtn, site: Site) -> None:
    state = bulk_upload(return_state=True)
    assert state.is_completed()
    assert state.message == "10 loads done: 3,000 points uploaded, 0 already there"
    site.assert_stored(vtn)
    assert bulk_upload(return_state=True).message == "10 loads done: 0 points uploaded, 3,000 already there"


def test_each_ven_has_a_table_with_a_row_a_load(prefect: SyncPrefectClient, site: Site) -> None:
    artifacts = _artifacts(prefect, bulk_upload(return_state=True))
    for ven in {load.ven for load in site.loads}:
        rows = json.loads(str(artifacts[artifact_key(ven)].data))
        assert len(rows) == 5
        expected = {"state": "done", "points sent": 300, "already there": 0, "dropped": 0, "chunks": 1, "retries": 0}
        assert expected.items() <= rows[0].items()
        assert {"load", "seconds", "points/s", "error"} <= rows[0].keys()


def test_progress_and_live_numbers_are_one_artifact_each_and_the_summary_has_the_totals_and_a_picture(
    prefect: SyncPrefectClient, site: Site
) -> None:
    state = bulk_upload(return_state=True)
    artifacts = _artifacts(prefect, state)
    assert artifacts["bulk-upload-progress"].data == 100
    live = str(artifacts["bulk-upload-live"].data).replace("\\", "")  # as it is shown
    for line in ("| VENs done | 2 of 2 |", "| Loads pending | 0 |", "| Points sent | 3,000 of 3,000 (100.0 %) |"):
        assert line in live
    assert "| Time left | none |" in live
    summary = str(artifacts["bulk-upload-summary"].data)
    assert "| Points uploaded | 3,000 |" in summary
    picture = re.search(r"!\[points a second over time\]\(data:image/svg\+xml;base64,([^)]+)\)", summary)
    assert picture
    assert b"</svg>" in b64decode(picture[1])
    keys = [artifact.key for artifact in _all_artifacts(prefect, state)]
    assert len(set(keys)) == len(keys), "updated in place"


def test_the_totals_are_exact_before_the_first_request(vtn: ReferenceVtn, site: Site) -> None:
    assert bulk_upload(limit_loads=4, return_state=True).is_completed()
    seen: list[Snapshot] = []
    with watched_by(seen.append):
        bulk_upload()
    first = seen[0]
    assert (first.total_loads, first.total_vens, first.points_to_send) == (10, 2, 1800)
    assert {snapshot.points_to_send for snapshot in seen} == {1800}


def test_loads_that_have_nothing_to_send_take_no_task_and_no_report(prefect: SyncPrefectClient, site: Site) -> None:
    bulk_upload(return_state=True)
    state = bulk_upload(return_state=True)
    assert state.message == "10 loads done: 0 points uploaded, 3,000 already there"
    assert _task_names(prefect, state) == ["Plan"]
    assert not [key for key in _artifacts(prefect, state) if key.startswith("ven-")]


def test_loads_are_events_by_how_they_end(
    vtn: ReferenceVtn, no_faults: ReferenceVtn, site: Site, prefect_url: str
) -> None:
    lost, *others = site.loads
    site.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE load_id = ?", lost.load_id)
    state = bulk_upload(return_state=True)
    failed = _event(prefect_url, "bulk-upload.load.failed", lost)
    assert failed["resource"]["prefect.resource.name"] == lost.name
    assert "H5 meter 'meter_404' not found" in failed["payload"]["error"]
    of_run = {"event": {"name": ["bulk-upload.load.done"]}, "related": {"id": [f"prefect.flow-run.{_run_id(state)}"]}}
    until(lambda: _done(events(prefect_url, of_run)) == sorted((load.ven, load.load_id) for load in others))


def test_tables_and_updates_do_not_bury_the_events_of_loads(site: Site, prefect_url: str) -> None:
    related = {"id": [f"prefect.flow-run.{_run_id(bulk_upload(return_state=True))}"]}
    of_reports = {"event": {"prefix": ["prefect.artifact."]}, "related": related}
    told = until(lambda: _about(events(prefect_url, of_reports), "bulk-upload-summary"))
    assert {(each["event"], each["payload"]["key"]) for each in told} == {
        ("prefect.artifact.created", f"bulk-upload-{what}") for what in ("progress", "live", "summary")
    }


def test_a_load_that_is_stopped_half_way_is_an_event(no_faults: ReferenceVtn, site: Site, prefect_url: str) -> None:
    assert bulk_upload(limit_loads=1, return_state=True).is_completed()  # the first run of a process begins late
    no_faults.switch(points_per_second=10)
    seen = len(no_faults.log())
    for seconds in (8, 15):  # a busy machine may have sent nothing by the first
        deadline = f"{datetime.now(UTC) + timedelta(seconds=seconds):%H:%M:%S}"
        assert bulk_upload(chunk_size=50, deadline=deadline, return_state=True).is_cancelled()
        if no_faults.log(after=seen):
            break
    of_any = {"id": [f"bulk-upload.load.{load.load_id}" for load in site.loads]}
    assert event(prefect_url, {"event": {"name": ["bulk-upload.load.paused"]}, "resource": of_any})


def test_whoever_watches_sees_the_run_move(no_faults: ReferenceVtn, site: Site) -> None:
    no_faults.switch(points_per_second=50)  # 60 requests of a second each, 16 at a time at most
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
    vtn: ReferenceVtn, site: Site, prefect: SyncPrefectClient
) -> None:
    (lost, *_) = site.loads
    site.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE load_id = ?", lost.load_id)
    state = bulk_upload(return_state=True)
    assert state.is_failed()
    assert (state.message or "").startswith(f"1 of 10 loads failed: Load {lost.load_id} ({lost.name}): H5 meter")
    rows = json.loads(str(_artifacts(prefect, state)[artifact_key(lost.ven)].data))
    assert [row["state"] for row in rows] == ["failed"] + ["done"] * 4
    assert "H5 meter 'meter_404' not found" in rows[0]["error"]

    site.execute("UPDATE loads SET h5_meter_id = ? WHERE load_id = ?", lost.h5_meter_id, lost.load_id)
    seen = len(vtn.log())
    assert bulk_upload(return_state=True).is_completed()
    assert [request.resource_id for request in vtn.log(after=seen)] == [lost.vtn_resource_id]


def test_loads_travel_in_batches_that_tell_what_they_do(prefect: SyncPrefectClient, site: Site) -> None:
    ven = min(load.ven for load in site.loads)
    state = bulk_upload(vens=[ven], return_state=True)
    assert _task_names(prefect, state) == sorted(["Plan", f"{ven} 1-2 of 5", f"{ven} 3-4 of 5", f"{ven} 5-5 of 5"])


def test_only_the_vens_and_loads_asked_for_are_uploaded(vtn: ReferenceVtn, site: Site) -> None:
    ven = max(load.ven for load in site.loads)
    seen = len(vtn.log())
    assert bulk_upload(vens=[ven], limit_loads=3, return_state=True).is_completed()
    wanted = [load.vtn_resource_id for load in site.loads if load.ven == ven][:3]
    assert sorted(request.resource_id or "" for request in vtn.log(after=seen)) == sorted(wanted)


def test_the_parameters_that_prefect_shows_are_those_that_hold(
    vtn: ReferenceVtn, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BULK_UPLOAD_CHUNK_SIZE", "100")
    monkeypatch.setenv("BULK_UPLOAD_BATCH_SIZE", "7")
    seen = len(vtn.log())
    assert bulk_upload(return_state=True).is_completed()
    assert {(request.points, request.batch_size) for request in vtn.log(after=seen)} == {(300, "5000")}


def test_no_token_shows_in_parameters_logs_artifacts_or_states(
    vtn: ReferenceVtn, no_faults: ReferenceVtn, site: Site, prefect: SyncPrefectClient
) -> None:
    no_faults.switch(script=["500", "401", "400"])
    state = bulk_upload(return_state=True)
    run = prefect.read_flow_run(_run_id(state))
    APILogHandler().flush()
    logs = prefect.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])))
    assert logs
    told = [run.model_dump_json(), repr(state), *(log.message for log in logs)]
    told += [artifact.model_dump_json() for artifact in _artifacts(prefect, state).values()]
    assert vtn.token not in "\n".join(told)


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

        with _settings(site, vtn, outage_patience=1), watched_by(lose_the_vtn):
            state = bulk_upload(return_state=True)
        assert state.is_failed()
        assert "The VTN has taken nothing for" in str(state.message)
        assert "start again when it is back" in str(state.message)
        vtn.start()
        with _settings(site, vtn):
            assert bulk_upload(return_state=True).is_completed()
        site.assert_stored(vtn)


def test_a_deployments_run_waits_for_a_vtn_that_was_there_before(
    new_site: Callable[..., Site], prefect: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("venclient.flow_control.circuit_breaker.SILENT_FOR_S", 0.2)
    with ReferenceVtn(tmp_path / "vtn.db") as vtn:
        site = new_site(loads=2, points=300)
        site.register(vtn)
        with _settings(site, vtn):
            assert bulk_upload(return_state=True).is_completed()
            site.append(site.loads[0], 24)
            vtn.kill()
            told_at_once = bulk_upload(return_state=True)
            assert "The VTN is not there" in str(told_at_once.message)
            monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "nightly")
            again = Timer(3, vtn.start)
            again.start()
            waits_for: set[str | None] = set()
            with watched_by(lambda now: waits_for.add(now.waiting_for)):
                assert bulk_upload(return_state=True).is_completed()
            again.join()
            assert any("the VTN" in (reason or "") for reason in waits_for)
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


@pytest.mark.parametrize(
    ("names", "shared"),
    [
        (["Aalborg"], "ven-aalborg"),
        (["Nykøbing Falster"], None),
        (["aalborg", "Aalborg", "Ålborg", "Aal borg", "Aal-borg", "Ἀθῆναι", "🌍", "", "a/../b"], None),
    ],
    ids=["plain", "letters", "alike"],
)
def test_every_ven_has_a_key_of_its_own_that_prefect_takes(names: list[str], shared: str | None) -> None:
    keys = [artifact_key(name) for name in names]
    assert len(set(keys)) == len(names)
    assert all(set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for key in keys)
    assert shared is None or keys == [shared]


def _run_id(state: State[Any]) -> UUID:
    assert state.state_details.flow_run_id
    return state.state_details.flow_run_id


@flow
def _later_task() -> UUID | None:
    return task(lambda: None)(return_state=True).state_details.task_run_id


def _task_names(prefect: SyncPrefectClient, state: State[Any]) -> list[str]:
    """The names of a run's tasks, once the server, which is told of them in turn, knows of a later one."""
    last = _later_task()
    assert last
    until(lambda: prefect.read_task_runs(task_run_filter=TaskRunFilter(id=TaskRunFilterId(any_=[last]))))
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[_run_id(state)]))
    return sorted(run.name for run in prefect.read_task_runs(flow_run_filter=of_run))


def _about(reports: list[Any], key: str) -> list[Any]:
    """All of them, once there is one about the report of this key, which is the last."""
    return reports if any(each["payload"].get("key") == key for each in reports) else []


def _done(told: list[Any]) -> list[tuple[str, str]]:
    """The VEN and the load id of each load of these events."""
    return sorted(
        (event["resource"]["prefect.resource.name"], load_id)
        for event in told
        for load_id in event["payload"]["load_ids"]
    )


def _artifacts(prefect: SyncPrefectClient, state: State[Any]) -> dict[str, Artifact]:
    return {str(artifact.key): artifact for artifact in _all_artifacts(prefect, state)}


def _all_artifacts(prefect: SyncPrefectClient, state: State[Any]) -> list[Artifact]:
    return prefect.read_artifacts(
        artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[_run_id(state)]))
    )


def _event(prefect_url: str, name: str, load: Load) -> Any:
    about = {"any_resource": {"id": [f"bulk-upload.load.{load.load_id}"]}, "event": {"name": [name]}}
    return event(prefect_url, about)
