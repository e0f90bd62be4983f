"""A deployment step of prefect.yaml that creates the automations on the Prefect server."""

from pathlib import Path

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import BlockDocument
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore

NOTIFIER = "bulk-upload"


def install_automations(path: str) -> None:
    """Create or update the automations in this YAML file, matched by name.

    Automations that send notifications use the notification block named `bulk-upload`; without it they are skipped.
    """
    automations = [AutomationCore(**each) for each in yaml.safe_load(Path(path).read_text())["automations"]]
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


def _notifies(block: BlockDocument) -> bool:
    return block.block_schema is not None and "notify" in block.block_schema.capabilities
