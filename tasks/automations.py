"""A deployment step of prefect.yaml that creates the automations on the Prefect server."""

from pathlib import Path
from string import Template
from typing import Any

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import BlockDocument
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore
from prefect.states import AwaitingRetry

from tasks import states

NOTIFIER = "bulk-upload"
# Those that the automations of uploads are about, by their tag.
LOST_RUNS = FlowRunFilter(
    state=FlowRunFilterState(name=FlowRunFilterStateName(any_=[states.LOST])), tags=FlowRunFilterTags(all_=["upload"])
)


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
        for automation in automations:
            for action in automation.actions:
                if isinstance(action, SendNotification) and block_id is not None:
                    action.block_document_id = block_id
            if block_id is None and any(isinstance(action, SendNotification) for action in automation.actions):
                continue
            existing = client.read_automations_by_name(automation.name)
            if existing:
                client.update_automation(existing[0].id, automation)
            else:
                client.create_automation(automation)
        # A server that was started anew misses the event of a run that it found Lost within five minutes of its begin:
        # it waits for the one before, which the former server has seen.
        for run in client.read_flow_runs(flow_run_filter=LOST_RUNS):
            client.set_flow_run_state(run.id, AwaitingRetry(message=states.WORKER_GONE))


def _notifies(block: BlockDocument) -> bool:
    return block.block_schema is not None and "notify" in block.block_schema.capabilities
