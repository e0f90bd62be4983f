"""Promises of the page docs/stopping.md: its commands for runs in Prefect work as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Running

from flows.bulk_upload import bulk_upload
from tests.commands import ROOT


def test_the_ids_that_the_page_about_stopping_lists_are_whole_on_a_terminal_of_80_columns(
    prefect: SyncPrefectClient, prefect_url: str
) -> None:
    name = "Aalborg, Odense and 10 more, until 06:00 UTC, 2026-11-29 02:00 UTC"
    run = prefect.create_flow_run(bulk_upload, name=name, state=Running())
    page = (ROOT / "docs" / "stopping.md").read_text()
    listing, cancel = re.findall(r"^prefect flow-run .*$", page, re.MULTILINE)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PREFECT_API_URL": prefect_url, "COLUMNS": "80", "PATH": path}
    for line in (listing, cancel.replace("ID", str(run.id))):
        ran = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, check=True)
        assert str(run.id) in ran.stdout
    state = prefect.read_flow_run(run.id).state
    assert state is not None
    assert state.is_cancelling()
