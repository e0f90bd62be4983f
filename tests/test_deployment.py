"""Promises of prefect.yaml: what it names is there, and `prefect deployment run bulk-upload/all-vens` uploads."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
import yaml
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import Log
from prefect.client.schemas.sorting import FlowRunSort
from prefect.flows import load_flow_from_entrypoint
from prefect.states import Suspended

from config.parameters import days_of
from flows.bulk_upload import bulk_upload
from flows.register_loads import register_loads
from flows.verify_upload import verify_upload
from tasks.automations import automations_of
from tasks.states import SUSPENDED, WITH_FAILURES
from tests.artifacts import text_of
from tests.commands import run_environment
from tests.prefect_events import event
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from tests.waiting import until
from venclient.run import next_deadline

ROOT = Path(__file__).parents[1]
HELM_VALUES = ROOT / "deployments" / "kubernetes" / "prefect-server-values.yaml"
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["description"][:20])
def test_each_deployment_names_a_flow_that_is_there_and_parameters_that_it_has(
    deployment: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    flow: Flow[..., object] = load_flow_from_entrypoint(deployment["entrypoint"])
    assert deployment.get("parameters", {}).keys() <= flow.parameters.properties.keys()
    assert deployment["description"]


def test_deployments_have_the_names_that_people_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names = {f"{load_flow_from_entrypoint(each['entrypoint']).name}/{each['name']}" for each in DEPLOYMENTS}
    assert names == {
        "bulk-upload/upload-all", "bulk-upload/all-vens", "bulk-upload/nightly", "register-loads/register-all",
        "register-loads/all-vens", "upload-slice/any-worker", "verify-upload/verify-all", "verify-upload/weekly",
    }  # fmt: skip


def test_only_the_ledger_says_whether_a_run_may_begin() -> None:
    assert not [each["name"] for each in DEPLOYMENTS if "concurrency_limit" in each]


@pytest.mark.parametrize("flow", [bulk_upload, register_loads, verify_upload], ids=lambda flow: str(flow.name))
def test_the_form_has_titles_and_descriptions_no_choice_of_none_and_addresses_last(flow: Flow[..., object]) -> None:
    fields = flow.parameters.properties
    assert not [name for name, field in fields.items() if field["title"] == name or not field.get("description")]
    assert not [name for name, field in fields.items() if "anyOf" in field or "type" not in field]
    order = [name in ("resources_db", "meter_file", "ledger_url", "vtn_url", "wire") for name in fields]
    assert order == sorted(order)


def test_the_form_takes_the_deadlines_that_a_run_takes() -> None:
    pattern = bulk_upload.parameters.properties["deadline"]["pattern"]
    for text in ("", "06:00 Europe/Copenhagen", "6:5", " 23:30:15 ", "01:00 Etc/GMT+1", "01:00 America/Port-au-Prince"):
        assert re.search(pattern, text), text
        assert not text or next_deadline(text, datetime.now(UTC))
    for text in ("6", "25:00", "06:61", "six", "06:00 ../../etc/passwd", "2026-01-10 06:00"):
        assert not re.search(pattern, text), text


def test_the_form_takes_the_days_that_a_run_takes() -> None:
    for name in ("from_day", "to_day"):
        pattern = bulk_upload.parameters.properties[name]["pattern"]
        for text in ("", " ", "2025-03-10", " 2025-3-1 "):
            assert re.search(pattern, text), text
            assert days_of(text, text)
        for text in ("10.03.2025", "2025-03", "yesterday", "2025-03-10 06:00"):
            assert not re.search(pattern, text), text


def test_an_upload_has_the_sizes_of_the_guide_as_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    properties = load_flow_from_entrypoint("flows/bulk_upload.py:bulk_upload").parameters.properties
    assert {name: properties[name]["default"] for name in ("chunk_size", "batch_size")} == {
        "chunk_size": 50_000, "batch_size": 5_000,
    }  # fmt: skip


def test_a_server_that_is_started_by_hand_keeps_who_has_which_place_too() -> None:
    text = (ROOT / "deployments" / "README.md").read_text()
    (commands,) = re.findall(r"^```console\n([^`]*prefect server start\n)```$", text, re.MULTILINE)
    unit = (ROOT / "deployments" / "systemd" / "prefect-server.service").read_text()
    (setting,) = re.findall(r"^Environment=(PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=\S+)$", unit, re.MULTILINE)
    assert f"export {setting}\n" in commands


def test_automations_know_a_run_that_is_completed_with_failures() -> None:
    automations = str(automations_of(ROOT / "deployments" / "automations.yaml"))
    failed, with_failures = (automations.count(f"'prefect.flow-run.{name}'") for name in ("Failed", WITH_FAILURES))
    assert failed == with_failures > 0


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED", "events,flow_runs"),
        ("PREFECT_SERVER_LOGS_STREAM_OUT_ENABLED", "true"),
        ("PREFECT_SERVER_LOGS_STREAM_PUBLISHING_ENABLED", "true"),
    ],
)
def test_every_server_forgets_old_runs_and_shows_who_watches_a_run_its_log(setting: str, value: str) -> None:
    for file in ("README.md", "docker/Dockerfile", "systemd/prefect-server.service"):
        assert f"{setting}={value}" in (ROOT / "deployments" / file).read_text()
    (value_there,) = re.findall(rf'name: {setting}\n +value: "?([^"\n]+)', HELM_VALUES.read_text())
    assert value_there == value


@pytest.fixture
def environment(prefect_url: str, vtn: ReferenceVtn, site: Site, tmp_path: Path) -> dict[str, str]:
    """What an operator sets before the worker starts."""
    own = {"PREFECT_API_URL": prefect_url, "PREFECT_HOME": str(tmp_path / "prefect")}
    return os.environ | own | run_environment(site, vtn)


@pytest.fixture
def site(vtn: ReferenceVtn, new_site: Callable[..., Site]) -> Site:
    """Three VENs, registered."""
    site = new_site(loads=9, points=200, vens=3)
    site.register(vtn)
    return site


@pytest.fixture(scope="module")
def deployments(prefect_url: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Those of prefect.yaml, on the server."""
    environment = os.environ | {"PREFECT_API_URL": prefect_url, "PREFECT_HOME": str(tmp_path_factory.mktemp("home"))}
    _prefect(environment, "work-pool", "create", "uploads", "--type", "process", "--overwrite")
    _prefect(environment, "--no-prompt", "deploy", "--all")


@pytest.fixture
def worker(deployments: None, environment: dict[str, str]) -> Iterator[None]:
    """A worker for the deployments."""
    worker = subprocess.Popen(_command("worker", "start", "--pool", "uploads"), cwd=ROOT, env=environment)
    yield
    worker.terminate()
    worker.wait()


@pytest.mark.usefixtures("worker")
def test_a_run_of_the_deployment_can_be_suspended_uploads_every_ven_and_its_progress_is_an_event(
    no_faults: ReferenceVtn, site: Site, environment: dict[str, str], prefect: SyncPrefectClient, prefect_url: str
) -> None:
    no_faults.switch(points_per_second=50)
    seen = len(no_faults.log())
    command = _command("deployment", "run", "bulk-upload/all-vens", "--param", "chunk_size=50", "--watch")
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as watching:
        until(lambda: len(no_faults.log()) >= seen + 2)
        run_id = _last_run(prefect)
        prefect.set_flow_run_state(run_id, Suspended(timeout_seconds=3600))  # as the UI does
        summary = until(lambda: text_of(prefect, run_id, "bulk-upload-summary"))
        assert summary.startswith("**Suspended in Prefect: 9 of 9 loads are left for the next run")
        until(lambda: not _process_of_run(run_id))
        assert prefect.read_flow_run(run_id).state_name == SUSPENDED
        sent = sum(request.stored for request in no_faults.log(after=seen))
        no_faults.switch()
        prefect.resume_flow_run(run_id)
        watched, _ = watching.communicate(timeout=120)
    assert watching.returncode == 0, watched
    assert "Completed" in watched
    site.assert_stored(no_faults)
    state = prefect.read_flow_run(run_id).state
    assert state
    assert state.message == f"9 loads done: {1_800 - sent:,} points uploaded, {sent:,} already there"
    deployed = prefect.read_deployment_by_name("bulk-upload/all-vens").version or ""
    assert re.sub("-[0-9a-f]{8}$", "", deployed) == _commit(), "and a digest of prefect.yaml, if it may be another"
    about = {
        "event": {"name": ["bulk-upload.run.progress"]},
        "resource": {"id": [f"prefect.flow-run.{run_id}"]},
    }
    related = {each["prefect.resource.id"] for each in event(prefect_url, about)["related"]}
    assert "prefect.tag.upload" in related, "as automations expect it"


@pytest.mark.long
@pytest.mark.usefixtures("worker")
def test_a_nightly_run_is_skipped_while_the_full_one_runs(
    no_faults: ReferenceVtn, site: Site, environment: dict[str, str], prefect: SyncPrefectClient
) -> None:
    no_faults.switch(points_per_second=15)
    seen = len(no_faults.log())
    _prefect(environment, "deployment", "run", "bulk-upload/all-vens")
    full = _last_run(prefect)
    until(lambda: len(no_faults.log()) >= seen + 2)
    no_faults.switch(max_in_flight=0)  # it waits until the VTN takes something again
    skipped = _prefect(environment, "deployment", "run", "bulk-upload/nightly", "--watch", returns=1)
    assert "Cancelled" in skipped
    state = prefect.read_flow_run(_last_run(prefect)).state
    assert state
    assert re.search(r"Flow run 'All VENs, .* UTC' on .* is uploading them\. Start again", state.message or "")
    no_faults.switch()
    until(lambda: (state := prefect.read_flow_run(full).state) and state.is_completed(), within_s=200)
    site.assert_stored(no_faults)
    assert sum(request.status == 201 for request in no_faults.log(after=seen)) == len(site.loads)


@pytest.mark.long
@pytest.mark.usefixtures("worker")
def test_the_log_of_a_run_has_what_came_of_each_batch_and_what_is_wrong(
    site: Site, environment: dict[str, str], prefect: SyncPrefectClient, vtn: ReferenceVtn
) -> None:
    lost, other, *_ = site.loads
    site.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE load_id = ?", lost.load_id)
    site.execute("UPDATE loads SET vtn_resource_id = NULL WHERE load_id = ?", other.load_id)
    watched = _prefect(environment, "deployment", "run", "bulk-upload/all-vens", "--watch", returns=1)
    assert "Failed" in watched
    told = "\n".join(log.message for log in _logs_of_last_run(prefect))
    assert "2 done, 1 failed, 0 left, 400 points sent" in told or "1 done, 1 failed, 0 left, 200 points sent" in told
    assert "H5 meter 'meter_404' not found" in told
    assert "Left out, as not registered with the VTN: 1 load." in told
    assert "TypeError" not in told
    assert vtn.client_secret not in told


@pytest.mark.usefixtures("worker")
def test_a_password_in_a_parameter_is_refused_before_it_is_stored(
    environment: dict[str, str], prefect: SyncPrefectClient
) -> None:
    before = _last_run(prefect)
    for address in ("postgresql://me:hush@127.0.0.1/x", "postgresql://127.0.0.1/x?password=hush"):
        parameter = f"ledger_url={address}"
        _prefect(environment, "deployment", "run", "bulk-upload/all-vens", "--param", parameter, returns=1)
    assert _last_run(prefect) == before


def _process_of_run(run_id: UUID) -> list[int]:
    return [each.pid for each in psutil.process_iter(["environ"]) if str(run_id) in str(each.info["environ"])]


def _commit() -> str:
    if not (ROOT / ".git").exists():
        return version("bulk-upload")
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _last_run(prefect: SyncPrefectClient) -> UUID:
    return prefect.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1)[0].id


def _logs_of_last_run(prefect: SyncPrefectClient) -> list[Log]:
    """Once the last of them has come: they are sent a moment after they were written."""
    of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[_last_run(prefect)]))
    give_up_at = time.monotonic() + 20
    logs: list[Log] = []
    while time.monotonic() < give_up_at and not any("Finished in state" in log.message for log in logs):
        time.sleep(0.5)
        logs = prefect.read_logs(of_run)
    return logs


def _prefect(environment: dict[str, str], *arguments: str, returns: int = 0) -> str:
    finished = subprocess.run(
        _command(*arguments), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert finished.returncode == returns, finished.stdout + finished.stderr
    return finished.stdout


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "prefect", *arguments]
