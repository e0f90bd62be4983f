"""A step of prefect.yaml: the automations of a file, put on the Prefect server."""

from pathlib import Path

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import BlockDocument
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore

NOTIFIER = "bulk-upload"


def install_automations(path: str) -> None:
    """Make the automations of this file, or bring those up to date that are there already, by their names.

    Those that tell somebody use the notification block named `bulk-upload`, and are left out where there is none.
    """
    automations = [AutomationCore(**each) for each in yaml.safe_load(Path(path).read_text())["automations"]]
    with get_client(sync_client=True) as client:
        blocks = client.read_block_documents(include_secrets=False)
        notifier = next((block.id for block in blocks if block.name == NOTIFIER and _notifies(block)), None)
        for automation in automations:
            for action in automation.actions:
                if isinstance(action, SendNotification) and notifier is not None:
                    action.block_document_id = notifier
            if notifier is None and any(isinstance(action, SendNotification) for action in automation.actions):
                continue
            for there in client.read_automations_by_name(automation.name):
                client.update_automation(there.id, automation)
                break
            else:
                client.create_automation(automation)


def _notifies(block: BlockDocument) -> bool:
    return block.block_schema is not None and "notify" in block.block_schema.capabilities
