"""Promises of what the Prefect server does by itself: it schedules, takes up what was lost, and tells who is needed."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions, FlowRun, State
from prefect.events import emit_event
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import AwaitingRetry, Cancelled, Completed, Crashed, Failed, Pending, Running, Submitting

from flows.bulk_upload import bulk_upload
from tasks.automations import automations_of, install_automations
from tests.small_server import answering
from tests.waiting import until

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[1]
AUTOMATIONS = ROOT / "deployments" / "automations.yaml"
NIGHT_MISSED = "No nightly upload has completed for 28 hours"
SOON_S = 10  # Prefect takes no less


@pytest.fixture(scope="module")
def prefect(whole_prefect_url: str) -> Iterator[SyncPrefectClient]:
    """A client of a whole Prefect server of these tests' own; all that it does by itself has to work."""
    with temporary_settings({PREFECT_API_URL: whole_prefect_url}), get_client(sync_client=True) as client:
        yield client
        home = client.request("GET", "/admin/settings").json()["home"]
    assert not list(_broken_services((Path(home) / "server.log").read_text()))


def _broken_services(log: str) -> Iterator[str]:
    """What the server says of services that fail; a database that is away or busy is not their fault."""
    for entry in re.split(r"^(?=\d\d:\d\d:\d\d\.\d{3} \| )", log, flags=re.MULTILINE):
        if re.match(r"\S+ \| (?:ERROR|CRITICAL) *\| (?:docket|prefect\.server\.\S*services)", entry):
            last_words = entry.strip().splitlines()[-1]
            if not re.search(r"OperationalError|TimeoutError|ConnectionError|CancelledError", last_words):
                yield entry


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, with automations that wait less long."""
    given = automations_of(AUTOMATIONS)
    for automation in given:
        automation["trigger"]["within"] = min(automation["trigger"]["within"], SOON_S)
    path = tmp_path_factory.mktemp("automations") / "automations.yaml"
    path.write_text(yaml.safe_dump({"automations": given}))
    return path


@pytest.fixture(scope="module")
def notified(prefect: SyncPrefectClient, impatient: Path) -> Iterator[list[str]]:
    """The notifications of automations that are less patient than those of the file."""
    heard: list[str] = []

    def hear(body: bytes) -> None:
        heard.append(json.loads(body)["text"])

    given = automations_of(impatient)
    with answering(lambda _method, _path: (200, {}), hear) as address:
        install_automations(str(impatient))
        assert len(prefect.read_automations()) == 5, "without a block there are no notifications"
        hook = CustomWebhookNotificationBlock(
            name="bulk-upload", url=address, headers=None, cookies=None, json_data={"text": "{{subject}}\n{{body}}"}
        )
        hook.save("bulk-upload", overwrite=True)
        for _ in range(2):
            install_automations(str(impatient))
        names = [automation.name for automation in prefect.read_automations()]
        assert sorted(names) == sorted(automation["name"] for automation in given)
        yield heard


def _created(
    prefect: SyncPrefectClient, deployment: str = "all-vens", tag: str = "upload", **options: object
) -> FlowRun:
    """A run of a deployment; nobody executes it."""
    flow_id = prefect.create_flow(bulk_upload)
    deployment_id = prefect.create_deployment(flow_id, deployment, tags=[tag], **options)  # type: ignore[arg-type]
    return prefect.create_flow_run_from_deployment(deployment_id, name=f"run {uuid4()}")


def _run(
    prefect: SyncPrefectClient,
    *states: State[object],
    deployment: str = "all-vens",
    tag: str = "upload",
    starts: int = 1,
) -> UUID:
    """A run that is started so many times, and then goes through these states."""
    run = _created(prefect, deployment, tag)
    starting: list[State[object]] = [Pending(), Running(), AwaitingRetry()] * starts
    for state in (*(starting[:-1] or [Pending()]), *states):
        time.sleep(0.2)
        prefect.set_flow_run_state(run.id, state)
    return run.id


def _set(prefect: SyncPrefectClient, run_id: UUID, state: State[object]) -> State[object]:
    """The state that the server gives to the run when this one is asked for."""
    given: State[object] | None = prefect.set_flow_run_state(run_id, state).state
    assert given
    return given


def _emit(event: str, run_id: UUID) -> None:
    """Send an event about an upload, as its process does."""
    tag = {"prefect.resource.id": "prefect.tag.upload", "prefect.resource.role": "tag"}
    emit_event(event, resource={"prefect.resource.id": f"prefect.flow-run.{run_id}"}, related=[tag])


def _state_names(prefect: SyncPrefectClient, *run_ids: UUID) -> set[str | None]:
    return {run.state_name for run in map(prefect.read_flow_run, run_ids)}


def _of(prefect: SyncPrefectClient, notified: list[str], run_id: UUID, *, within_s: float) -> str:
    """The notification about this run; empty if there is none."""
    name = prefect.read_flow_run(run_id).name
    give_up_at = time.monotonic() + within_s
    while time.monotonic() < give_up_at:
        for text in notified:
            if name in text:
                return text
        time.sleep(0.2)
    return ""


def test_a_run_that_failed_is_told_with_its_reason(prefect: SyncPrefectClient, notified: list[str]) -> None:
    run_id = _run(prefect, Failed(message="3 of 46 loads failed"))
    text = _of(prefect, notified, run_id, within_s=30)
    assert text.startswith("bulk-upload/all-vens failed\n")
    assert "3 of 46 loads failed" in text
    assert f"/runs/flow-run/{run_id}" in text


def test_a_run_that_makes_no_progress_is_told_and_one_that_does_is_not(
    prefect: SyncPrefectClient, notified: list[str]
) -> None:
    stalled, moving = _run(prefect), _run(prefect)
    for _ in range(SOON_S + 4):
        _emit("bulk-upload.run.progress", moving)
        time.sleep(1)
    prefect.set_flow_run_state(moving, Completed())
    assert "makes no progress" in _of(prefect, notified, stalled, within_s=30)
    prefect.set_flow_run_state(stalled, Cancelled())
    assert not _of(prefect, notified, moving, within_s=SOON_S + 6)


def test_a_night_that_was_cancelled_is_told_with_its_reason(prefect: SyncPrefectClient, notified: list[str]) -> None:
    run_id = _run(prefect, Cancelled(message="Stopped by the deadline: 7 loads are left"), deployment="nightly")
    text = _of(prefect, notified, run_id, within_s=30)
    assert text.startswith("The nightly upload was cancelled\n")
    assert "Stopped by the deadline: 7 loads are left" in text


def test_nights_that_do_not_come_are_told_from_the_installation_on_and_after_each_that_came(
    prefect: SyncPrefectClient, notified: list[str]
) -> None:
    _wait_for_night_missed(notified, times=1)
    _run(prefect, Completed(), deployment="nightly")
    _wait_for_night_missed(notified, times=1 + sum(NIGHT_MISSED in text for text in notified))


def _wait_for_night_missed(notified: list[str], times: int) -> None:
    until(lambda: sum(NIGHT_MISSED in text for text in notified) >= times)


def test_what_its_process_or_its_worker_has_left_is_started_again_and_nobody_is_told(
    prefect: SyncPrefectClient, notified: list[str]
) -> None:
    crashed = _run(prefect, Crashed(message="Process exited with status code: -9"))
    alone = ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    options = {"concurrency_limit": 1, "concurrency_options": alone}
    not_begun = _created(prefect, "one-at-a-time", "upload", **options).id
    _set(prefect, not_begun, Pending())
    _set(prefect, not_begun, Submitting())
    second = _created(prefect, "one-at-a-time", "upload", **options).id
    assert _set(prefect, second, Pending()).is_cancelled(), "the place is taken"
    until(lambda: _state_names(prefect, crashed, not_begun) == {"AwaitingRetry"})
    third = _created(prefect, "one-at-a-time", "upload", **options).id
    assert _set(prefect, third, Pending()).is_pending(), "the place is free"
    _set(prefect, third, Cancelled())
    assert not _of(prefect, notified, crashed, within_s=2)


@pytest.mark.parametrize("within_s", [SOON_S, SOON_S + 1], ids=["unchanged", "changed"])
def test_runs_that_have_just_died_are_started_again_though_automations_are_installed_again(
    prefect: SyncPrefectClient, notified: list[str], impatient: Path, tmp_path: Path, within_s: int
) -> None:
    silent, crashed = _run(prefect), _run(prefect, Crashed(message="Process exited with status code: -9"))
    _emit("prefect.flow-run.heartbeat", silent)
    time.sleep(1)
    before = prefect.request("POST", "/automations/filter").json()
    again = tmp_path / "automations.yaml"
    again.write_text(impatient.read_text().replace(f"within: {SOON_S}\n", f"within: {within_s}\n"))
    install_automations(str(again))
    assert (prefect.request("POST", "/automations/filter").json() == before) == (within_s == SOON_S)
    until(lambda: _state_names(prefect, silent, crashed) == {"AwaitingRetry"}, within_s=120)
    assert not _of(prefect, notified, crashed, within_s=2)


@pytest.mark.parametrize(
    ("tag", "starts"),
    [("registration", 1), ("verification", 2), ("upload", 0), ("upload", 4)],
    ids=lambda value: str(value),
)
def test_a_crash_that_is_not_taken_up_again_is_told_once(
    prefect: SyncPrefectClient, notified: list[str], tag: str, starts: int
) -> None:
    # A worker says it twice.
    crashes: list[State[object]] = [
        Crashed(message="Process exited with status code: -9"),
        Crashed(message="It has crashed"),
    ]
    run_id = _run(prefect, *crashes, deployment=f"for-{tag}", tag=tag, starts=starts)
    text = _of(prefect, notified, run_id, within_s=30)
    assert text.startswith(f"bulk-upload/for-{tag} crashed, and is not started again\n")
    time.sleep(1)
    name = prefect.read_flow_run(run_id).name
    assert sum(name in text for text in notified) == 1


def test_deployments_have_their_scheduled_runs_within_seconds(
    prefect: SyncPrefectClient, whole_prefect_url: str
) -> None:
    environment = os.environ | {"PREFECT_API_URL": whole_prefect_url}
    for arguments in (["work-pool", "create", "uploads", "--type", "process"], ["--no-prompt", "deploy", "--all"]):
        command = [sys.executable, "-m", "prefect", *arguments]
        subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=120, check=True)
    assert _next_scheduled(prefect, "bulk-upload/nightly").strftime("%H:%M") == "02:00"
    assert _next_scheduled(prefect, "verify-upload/weekly").strftime("%a %H:%M") == "Sun 12:00"


def _next_scheduled(prefect: SyncPrefectClient, deployment: str) -> datetime:
    """When the next run of a deployment is to start, by the clock in Denmark."""
    of_it = DeploymentFilter(id=DeploymentFilterId(any_=[prefect.read_deployment_by_name(deployment).id]))
    give_up_at = time.monotonic() + 20
    while time.monotonic() < give_up_at:
        for run in prefect.read_flow_runs(deployment_filter=of_it):
            if run.state and run.state.is_scheduled() and run.auto_scheduled:
                assert run.expected_start_time
                assert run.expected_start_time > datetime.now(UTC)
                return run.expected_start_time.astimezone(ZoneInfo("Europe/Copenhagen"))
        time.sleep(0.5)
    raise AssertionError(f"{deployment} has no scheduled run")
