"""Promises of what a person sees in the Prefect UI, in a real browser."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.settings import PREFECT_API_URL, temporary_settings

from cli.prefect_server import free_port, prefect_server
from config.settings import given_options
from flows.bulk_upload import bulk_upload
from tasks.reports import artifact_key
from tests.chromium import Tab, share_of_colour, tab
from tests.commands import AUTH_STRING
from tests.conftest import tell_it_all
from tests.prefect_homes import prefect_home
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from tests.waiting import until

BAR = (0x4C, 0x8E, 0xD9)


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a whole Prefect server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(prefect_home(tmp_path_factory.mktemp("prefect"))))
        with (
            prefect_server(free_port(), whole=True) as server,
            temporary_settings({PREFECT_API_URL: server.api_url}),
        ):
            yield server.url
            tell_it_all()


@pytest.fixture(scope="module")
def prefect(ui: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def browser(ui: str) -> Iterator[Tab]:
    """A tab that has logged in."""
    with tab() as opened:
        opened.open(ui)
        opened.run(f"localStorage.setItem('prefect-password', btoa({AUTH_STRING!r}))")
        yield opened


def test_a_run_its_progress_its_tables_and_its_summary_can_be_read(
    ui: str, prefect: SyncPrefectClient, browser: Tab, vtn: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path
) -> None:
    site = new_site(loads=12, points=500, vens=2)
    site.register(vtn)
    lost, *others = site.loads
    site.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE load_id = ?", lost.load_id)
    with given_options(
        vtn_url=vtn.base_url, bearer_token=vtn.token, resources_db=str(site.db), meter_file=site.h5,
        ledger_url=str(site.ledger),
    ):  # fmt: skip
        state = bulk_upload(return_state=True)
    run_id = state.state_details.flow_run_id
    assert run_id

    browser.open(f"{ui}/runs/flow-run/{run_id}")
    browser.text(
        "All VENs",
        f"1 of 12 loads failed: Load {lost.load_id}",
        f"{others[-1].ven} 1-6 of 6: 6 done, 0 failed, 0 left, 3,000 points sent",
    )

    pages = _artifact_pages(ui, prefect, run_id)
    browser.open(pages["bulk-upload-progress"])
    browser.text("12 of 12 loads, 1 failed; 5,500 of 5,500 points sent")
    browser.open(pages["bulk-upload-live"])
    browser.text("VENs finished", "2 of 2", f"1 ({lost.ven})", "Loads failed", "5,500 of 5,500", "Waiting for")
    browser.open(pages[artifact_key(lost.ven)])
    table = browser.text("meter_404", *(load.load_id for load in others if load.ven == lost.ven))
    assert table.index("meter_404") < table.index(others[0].load_id), "what failed comes first, with its reason"
    picture = tmp_path / "summary.png"
    browser.open(pages["bulk-upload-summary"])

    def has_bars() -> bool:
        browser.picture(picture)
        return share_of_colour(picture, *BAR) > 0.01

    until(has_bars)  # throughput over time


def _artifact_pages(ui: str, prefect: SyncPrefectClient, run_id: UUID) -> dict[str, str]:
    """The page of each artifact of a run, by its key."""
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
    return {
        artifact.key or "": f"{ui}/artifacts/artifact/{artifact.id}"
        for artifact in prefect.read_artifacts(artifact_filter=of_run)
    }
