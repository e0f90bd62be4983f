"""Promises of a run that is lost with its worker or machine: it is started again, with its deadline, a few times."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.states import AwaitingRetry, Cancelled, Crashed, Failed, Paused, Running, Scheduled, Suspended

from flows.bulk_upload import bulk_upload
from tasks.automations import automations_of, install_automations
from tasks.run import begun_at
from tasks.states import LOST, PROCESS_DIED, STARTED_AGAIN, WORKER_GONE
from tests.commands import ROOT
from tests.prefect_homes import prefect_home
from tests.running_up import client_of, running_up
from venclient.errors import ConfigurationError

SCHEDULED_FOR = datetime(2026, 1, 10, 1, tzinfo=UTC)


@pytest.fixture
def begun(prefect: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch) -> Callable[..., datetime]:
    """Lets a run of a deployment go through these states; `begun_at` in its process then."""

    def go_through(*states: State[object]) -> datetime:
        deployment_id = prefect.create_deployment(prefect.create_flow(bulk_upload), "all-vens")
        scheduled: State[object] = Scheduled(scheduled_time=SCHEDULED_FOR)
        run = prefect.create_flow_run_from_deployment(deployment_id, state=scheduled)
        for state in states:
            prefect.set_flow_run_state(run.id, state, force=True)
        monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(run.id))
        return begun_at()

    return go_through


def test_a_run_that_was_lost_keeps_its_deadline_and_one_that_is_retried_gets_the_next(
    begun: Callable[..., datetime],
) -> None:
    lost: State[object] = Paused(name=LOST)
    again: State[object] = AwaitingRetry(message=WORKER_GONE)
    also_again: State[object] = AwaitingRetry(message=PROCESS_DIED)
    assert begun(Running()) == SCHEDULED_FOR
    assert begun(Running(), lost, again, Running(), Crashed(), also_again, Running()) == SCHEDULED_FOR
    evicted: State[object] = AwaitingRetry()  # as Prefect has it of a pod that runs
    assert begun(Running(), evicted, Running()) == SCHEDULED_FOR
    by_hand: State[object] = AwaitingRetry()
    before = datetime.now(UTC)
    assert before < begun(Running(), Suspended(), Scheduled(name="Resuming"), Running()) < datetime.now(UTC)
    ends: list[State[object]] = [Cancelled(), Crashed()]
    for ended in ends:
        before = datetime.now(UTC)
        retried = begun(Running(), lost, again, Running(), ended, by_hand, Running())
        assert before < retried < datetime.now(UTC)


def test_what_starts_a_run_again_by_itself_says_so_as_the_run_expects() -> None:
    automations = automations_of(ROOT / "deployments" / "automations.yaml")
    actions = [action for automation in automations for action in automation["actions"]]
    assert {each["message"] for each in actions if each.get("name") == "AwaitingRetry"} == set(STARTED_AGAIN)


def test_a_run_that_was_lost_three_times_gives_up_until_somebody_retries_it(begun: Callable[..., datetime]) -> None:
    once: list[State[object]] = [Running(), Paused(name=LOST), AwaitingRetry(message=WORKER_GONE)]
    with pytest.raises(ConfigurationError, match="This run was lost 3 times, with its worker or its machine"):
        begun(*once, *once, *once, Running())
    begun(*once, *once, *once, Running(), Failed(), AwaitingRetry(), Running())


def test_a_run_that_is_still_lost_when_deployments_are_put_on_the_server_is_started_again(
    prefect: SyncPrefectClient, tmp_path: Path
) -> None:
    run, of_others = (prefect.create_flow_run(bulk_upload, state=Running(), tags=tags) for tags in (["upload"], []))
    for each in (run, of_others):
        prefect.set_flow_run_state(each.id, Paused(name=LOST), force=True)
    (tmp_path / "none.yaml").write_text("automations: []")
    install_automations(str(tmp_path / "none.yaml"))
    state = prefect.read_flow_run(run.id).state
    assert state is not None
    assert (state.name, state.message) == ("AwaitingRetry", WORKER_GONE)
    other = prefect.read_flow_run(of_others.id).state
    assert other is not None
    assert other.name == LOST


@pytest.mark.long
def test_a_run_that_is_still_lost_when_up_starts_is_started_again(tmp_path: Path) -> None:
    home = prefect_home(tmp_path / "prefect")
    with running_up(tmp_path, PREFECT_HOME=str(home)) as up, client_of(up) as prefect:
        (lost_again,) = prefect.read_automations_by_name("bulk-upload-lost-again")
        prefect.pause_automation(lost_again.id)  # a server that is started anew misses the event
        run_id = prefect.create_flow_run(bulk_upload, state=Running(), tags=["upload"]).id
        prefect.set_flow_run_state(run_id, Paused(name=LOST), force=True)
        up.end()
    with running_up(tmp_path, PREFECT_HOME=str(home)) as up, client_of(up) as prefect:
        assert "Deployed already" in up.printed
        state = prefect.read_flow_run(run_id).state
        assert state is not None
        assert (state.name, state.message) == ("AwaitingRetry", WORKER_GONE)
        up.end()
