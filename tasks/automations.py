"""A deployment step of prefect.yaml that creates the automations on the Prefect server."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import Template
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import BlockDocument, FlowRun
from prefect.events import Event, RelatedResource, Resource
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore
from prefect.states import AwaitingRetry

from tasks import states

NOTIFIER = "bulk-upload"
TAG = "upload"  # of the runs that the automations of uploads are about
JUST_CRASHED = timedelta(minutes=5)


def automations_of(path: str | Path) -> list[dict[str, Any]]:
    """Return the automations in this YAML file, with the names and messages of states that `tasks.states` has."""
    text = Template(Path(path).read_text(encoding="utf-8")).substitute(vars(states))
    automations: list[dict[str, Any]] = yaml.safe_load(text)["automations"]
    return automations


def install_automations(path: str) -> None:
    """Create or update the automations of this file, matched by name, and start runs again that are Lost.

    Automations that send notifications use the notification block named `bulk-upload`; without it they are skipped.
    """
    automations = [AutomationCore(**each) for each in automations_of(path)]
    with get_client(sync_client=True) as client:
        blocks = client.read_block_documents(include_secrets=False)
        block_id = next((block.id for block in blocks if block.name == NOTIFIER and _notifies(block)), None)
        is_changed = False
        for automation in automations:
            for action in automation.actions:
                if isinstance(action, SendNotification) and block_id is not None:
                    action.block_document_id = block_id
            if block_id is None and any(isinstance(action, SendNotification) for action in automation.actions):
                continue
            existing = client.read_automations_by_name(automation.name)
            if existing and _is_same(existing[0], automation):
                continue
            if existing:
                client.update_automation(existing[0].id, automation)
            else:
                client.create_automation(automation)
            is_changed = True
        if is_changed:
            _repeat_last_events(client)
    restart_lost_runs()


def restart_lost_runs() -> None:
    """Start uploads again that are Lost.

    A server that was started anew misses the event of a run that it found Lost within five minutes of its begin: it
    waits for the one before, which the former server has seen.
    """
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=_uploads(states.LOST)):
            client.set_flow_run_state(run.id, AwaitingRetry(message=states.WORKER_GONE))


def _is_same(existing: AutomationCore, wanted: AutomationCore) -> bool:
    """Whether an update would change nothing. It would end what the server is waiting for, so it is left out then."""
    given = wanted.model_fields_set  # not whether it is enabled, for example
    return existing.model_dump(include=given) == wanted.model_dump(include=given)


def _repeat_last_events(client: SyncPrefectClient) -> None:
    """Send the heartbeat, or the crash, of uploads that may have died: automations that changed do not know of it.

    A run is then started again as after any other heartbeat or crash, and not if it is alive: its next heartbeat comes
    within 30 s.
    """
    own = FlowFilter(name=FlowFilterName(any_=["bulk-upload"]))  # other flows may have the tag, and no heartbeats
    running = client.read_flow_runs(flow_filter=own, flow_run_filter=_uploads("Running"))
    just_crashed = _uploads("Crashed")
    just_crashed.end_time = FlowRunFilterEndTime.model_validate({"after_": datetime.now(UTC) - JUST_CRASHED})
    crashed = client.read_flow_runs(flow_filter=own, flow_run_filter=just_crashed)
    events = [_event("heartbeat", run) for run in running]
    events += [_event("Crashed", run) for run in crashed if run.run_count in (1, 2)]  # of others, people are notified
    client.request("POST", "/events", json=[event.model_dump(mode="json") for event in events])


def _event(name: str, run: FlowRun) -> Event:
    about = {"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.run-count": str(run.run_count)}
    tag = {"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}
    return Event(
        event=f"prefect.flow-run.{name}",
        resource=Resource.model_validate(about),
        related=[RelatedResource.model_validate(tag)],
    )


def _uploads(state: str) -> FlowRunFilter:
    """Uploads that are in the state of this name."""
    return FlowRunFilter(
        state=FlowRunFilterState(name=FlowRunFilterStateName(any_=[state])), tags=FlowRunFilterTags(all_=[TAG])
    )


def _notifies(block: BlockDocument) -> bool:
    return block.block_schema is not None and "notify" in block.block_schema.capabilities
