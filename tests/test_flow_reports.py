"""Promises of what a run shows in Prefect: tables, numbers, events and names, and what they never show."""

import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

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
from prefect.logging.handlers import APILogHandler

from flows.bulk_upload import bulk_upload
from tasks.reports import artifact_key
from tests.prefect_events import event, events
from tests.reference_vtn import ReferenceVtn
from tests.run_settings import run_settings
from tests.sites import Site
from tests.waiting import until
from venclient.loads import Load


@pytest.fixture
def site(vtn: ReferenceVtn, new_site: Callable[..., Site], prefect: SyncPrefectClient) -> Iterator[Site]:
    """Two VENs of five loads each, registered, and the settings to upload them."""
    site = new_site(loads=10, points=300, vens=2)
    site.register(vtn)
    with run_settings(site, vtn, loads_per_task=2):
        yield site


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
    for line in ("Time left | none", "Loads pending | 0", "Points sent | 3,000", "Points to send | 3,000"):
        assert f"| {line} |" in live
    assert "Waiting for: nothing\n\n| Done | 100.0 % |\n" in live
    assert "| VENs finished | 2 of 2 |\n| of these with failures | 0 |" in live
    summary = str(artifacts["bulk-upload-summary"].data)
    assert "| Points uploaded | 3,000 |" in summary
    assert f"- Meter file: {site.h5}\n" in summary.replace("\\", "")
    for ven in {load.ven for load in site.loads}:
        assert f"| {ven} | 5 | 0 | 0 | 1,500 | 0 |" in summary.replace("\\", "")
    (card, _, _) = str(artifacts["bulk-upload-progress"].description).partition("\n")
    assert card == "100 %, time left: none, 0 failed"
    (report,) = Path("reports").glob("run-*.html")
    assert f"- Report: {report}\n" in summary.replace("\\", "")
    assert "10 of 10</dd>" in report.read_text()
    picture = re.search(r"!\[points a second over time\]\(data:image/svg\+xml;base64,([^)]+)\)", summary)
    assert picture
    assert b"</svg>" in b64decode(picture[1])
    keys = [artifact.key for artifact in _all_artifacts(prefect, state)]
    assert len(set(keys)) == len(keys), "updated in place"


def test_the_progress_of_a_run_that_goes_on_counts_what_earlier_runs_have_sent(
    prefect: SyncPrefectClient, site: Site
) -> None:
    bulk_upload(limit_loads=4, return_state=True)
    state = bulk_upload(return_state=True)
    progress = [line for line in _logs(prefect, state) if "points sent" in line and " %: " in line]
    assert progress
    for line in progress:
        share, sent = re.findall(r"^(\d+) %: ([\d,]+) of 3,000 points sent, 1,200 of them by earlier runs, ", line)[0]
        assert int(share) == 100 * int(sent.replace(",", "")) // 3000
    text = str(_artifacts(prefect, state)["bulk-upload-progress"].description)
    assert "10 of 10 loads, 0 failed; 3,000 of 3,000 points sent, 1,200 of them by earlier runs, " in text


def test_the_graph_leads_from_the_plan_to_the_batches_in_letters_that_it_can_show(
    prefect: SyncPrefectClient, site: Site
) -> None:
    ven = site.loads[0].ven
    site.execute("UPDATE resources SET ven = ? WHERE ven = ?", f"Nykøbing Ærø {ven}", ven)
    state = bulk_upload(return_state=True)
    run_id = state.state_details.flow_run_id

    def batches() -> list[dict[str, Any]]:
        graph = prefect.request("GET", "/flow_runs/{id}/graph-v2", path_params={"id": run_id}).json()
        return [node for _, node in graph["nodes"] if node["label"] != "Plan" and parents_of(node, graph) == {"Plan"}]

    def parents_of(node: dict[str, Any], graph: dict[str, Any]) -> set[str]:
        nodes = dict(graph["nodes"])
        return {nodes[parent["id"]]["label"] for parent in node["parents"]}

    until(lambda: len(batches()) == 6)  # Prefect records what its clients tell it a while later
    assert {batch["label"] for batch in batches() if ven in batch["label"]} == {
        f"Nykobing AEro {ven} {which} of 5" for which in ("1-2", "3-4", "5-5")
    }


def test_loads_that_have_nothing_to_send_take_no_task_and_no_report(prefect: SyncPrefectClient, site: Site) -> None:
    bulk_upload(return_state=True)
    state = bulk_upload(return_state=True)
    assert state.message == "10 loads done: 0 points uploaded, 3,000 already there"
    assert _task_names(prefect, state) == ["Plan"]
    assert not [key for key in _artifacts(prefect, state) if key.startswith("ven-")]


def test_loads_are_events_by_how_they_end_and_failed_ones_come_first_in_the_table(
    prefect: SyncPrefectClient, site: Site, prefect_url: str
) -> None:
    *others, lost = site.loads
    site.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE load_id = ?", lost.load_id)
    state = bulk_upload(return_state=True)
    failed = _event(prefect_url, "bulk-upload.load.failed", lost)
    assert failed["resource"]["prefect.resource.name"] == lost.name
    assert "H5 meter 'meter_404' not found" in failed["payload"]["error"]
    artifacts = _artifacts(prefect, state)
    rows = re.findall(r"^\| (.+?) \| \d \| (\d) \|", str(artifacts["bulk-upload-summary"].data).replace("\\", ""), re.M)
    assert rows[0] == (lost.ven, "1"), "what failed is in the summary's first row"
    rows = json.loads(str(artifacts[artifact_key(lost.ven)].data))
    assert [row["state"] for row in rows] == ["failed"] + ["done"] * 4
    assert "H5 meter 'meter_404' not found" in rows[0]["error"]
    card, _, reason = str(artifacts[artifact_key(lost.ven)].description).replace("\\", "").split("\n")
    assert card.endswith(": 4 of 5 loads done, 1 failed")
    assert reason.startswith(f"- {lost.name}: H5 meter 'meter_404' not found")
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


def test_loads_travel_in_batches_that_tell_what_they_do(prefect: SyncPrefectClient, site: Site) -> None:
    ven = min(load.ven for load in site.loads)
    state = bulk_upload(vens=[ven], return_state=True)
    assert _task_names(prefect, state) == sorted(["Plan", f"{ven} 1-2 of 5", f"{ven} 3-4 of 5", f"{ven} 5-5 of 5"])


def test_no_token_shows_in_parameters_logs_artifacts_or_states(
    no_faults: ReferenceVtn, site: Site, prefect: SyncPrefectClient
) -> None:
    no_faults.switch(script=["500", "401", "400"])
    state = bulk_upload(return_state=True)
    run = prefect.read_flow_run(_run_id(state))
    logs = _logs(prefect, state)
    assert logs
    shown = [run.model_dump_json(), repr(state), *logs]
    shown += [artifact.model_dump_json() for artifact in _artifacts(prefect, state).values()]
    assert no_faults.token not in "\n".join(shown)


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


def _logs(prefect: SyncPrefectClient, state: State[Any]) -> list[str]:
    """The messages of a run's log."""
    APILogHandler().flush()
    logs = prefect.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[_run_id(state)])))
    return [log.message for log in logs]


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
