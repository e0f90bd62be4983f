"""Promises of deployments/automations.yaml: somebody is told of what needs somebody, and of nothing else."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Completed, Crashed, Failed, Pending, Running

from flows.bulk_upload import bulk_upload
from tasks.automations import install_automations
from tests.small_server import answering

AUTOMATIONS = Path(__file__).parents[1] / "deployments" / "automations.yaml"
SOON_S = 10  # Prefect takes no less


@pytest.fixture(scope="module")
def prefect(whole_prefect_url: str) -> Iterator[SyncPrefectClient]:
    """A client of a whole Prefect server of these tests' own."""
    with temporary_settings({PREFECT_API_URL: whole_prefect_url}), get_client(sync_client=True) as client:
        yield client


@pytest.fixture(scope="module")
def told(prefect: SyncPrefectClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """What is told to somebody, by automations that are less patient than those of the file."""
    heard: list[str] = []

    def hear(body: bytes) -> None:
        heard.append(json.loads(body)["text"])

    given = yaml.safe_load(AUTOMATIONS.read_text())
    for automation in given["automations"]:
        automation["trigger"]["within"] = min(automation["trigger"]["within"], SOON_S)
    impatient = tmp_path_factory.mktemp("automations") / "automations.yaml"
    impatient.write_text(yaml.safe_dump(given))
    with answering(lambda _method, _path: (200, {}), hear) as address:
        install_automations(str(impatient))
        assert len(prefect.read_automations()) == 4, "without a block nobody is told"
        hook = CustomWebhookNotificationBlock(
            name="bulk-upload", url=address, headers=None, cookies=None, json_data={"text": "{{subject}}\n{{body}}"}
        )
        hook.save("bulk-upload", overwrite=True)
        for _ in range(2):
            install_automations(str(impatient))
        names = [automation.name for automation in prefect.read_automations()]
        assert sorted(names) == sorted(automation["name"] for automation in given["automations"])
        yield heard


def _run(prefect: SyncPrefectClient, *states: State[object], deployment: str = "all-vens") -> UUID:
    """A run of a deployment that goes through these states; nobody executes it."""
    flow_id = prefect.create_flow(bulk_upload)
    deployment_id = prefect.create_deployment(flow_id, deployment, tags=["upload"])
    run = prefect.create_flow_run_from_deployment(deployment_id, name=f"run {uuid4()}")
    for state in (Pending(), Running(), *states):
        time.sleep(0.2)
        prefect.set_flow_run_state(run.id, state)
    return run.id


def _of(prefect: SyncPrefectClient, told: list[str], run_id: UUID, *, within_s: float) -> str:
    """What is told of this run; nothing when nothing is."""
    name = prefect.read_flow_run(run_id).name
    give_up_at = time.monotonic() + within_s
    while time.monotonic() < give_up_at:
        for text in told:
            if name in text:
                return text
        time.sleep(0.2)
    return ""


def test_a_run_that_failed_is_told_with_its_reason(prefect: SyncPrefectClient, told: list[str]) -> None:
    run_id = _run(prefect, Failed(message="3 of 46 loads failed"))
    text = _of(prefect, told, run_id, within_s=30)
    assert text.startswith("bulk-upload/all-vens failed\n")
    assert "3 of 46 loads failed" in text
    assert f"/runs/flow-run/{run_id}" in text


def test_a_run_that_makes_no_progress_is_told_and_one_that_does_is_not(
    prefect: SyncPrefectClient, told: list[str]
) -> None:
    stalled, moving = _run(prefect), _run(prefect)
    for _ in range(SOON_S + 4):
        emit_event("bulk-upload.run.progress", resource={"prefect.resource.id": f"prefect.flow-run.{moving}"},
                   related=[{"prefect.resource.id": "prefect.tag.upload", "prefect.resource.role": "tag"}])  # fmt: skip
        time.sleep(1)
    prefect.set_flow_run_state(moving, Completed())
    assert "makes no progress" in _of(prefect, told, stalled, within_s=30)
    prefect.set_flow_run_state(stalled, Cancelled())
    assert not _of(prefect, told, moving, within_s=SOON_S + 6)


def test_a_night_that_does_not_come_is_told(prefect: SyncPrefectClient, told: list[str]) -> None:
    _run(prefect, Completed(), deployment="nightly")
    give_up_at = time.monotonic() + 30
    while not any("No nightly upload has completed for 28 hours" in text for text in told):
        assert time.monotonic() < give_up_at
        time.sleep(0.2)


def test_a_run_whose_process_died_is_started_again_and_nobody_is_told(
    prefect: SyncPrefectClient, told: list[str]
) -> None:
    run_id = _run(prefect, Crashed(message="Process exited with status code: -9"))
    give_up_at = time.monotonic() + 30
    while (state := prefect.read_flow_run(run_id).state) is None or state.name != "AwaitingRetry":
        assert time.monotonic() < give_up_at, state
        time.sleep(0.2)
    assert not _of(prefect, told, run_id, within_s=2)
