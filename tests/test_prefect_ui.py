"""Promises of what a person sees in the Prefect UI, in a real browser."""

import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.settings import PREFECT_API_URL, temporary_settings

from cli.prefect_server import free_port, prefect_server
from config.settings import given_options
from flows.bulk_upload import bulk_upload
from tasks.reports import artifact_key
from tests.artifacts import text_of
from tests.chromium import Tab, share_of_colour, tab
from tests.commands import AUTH_STRING, ROOT, command
from tests.conftest import tell_it_all
from tests.prefect_homes import prefect_home
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from tests.waiting import until

SETTLED_S = 2.0  # the UI draws its graph and unfolds its tables
MAX_PICTURE_BYTES = 150_000
BAR = (0x4C, 0x8E, 0xD9)
COMPLETED = (0x21, 0x9D, 0x4B)
SIZES = {1400: 1000, 390: 844}
SCHEMES = ("dark", "light")
IN_SCHEME = "localStorage.setItem('color-scheme', '\"{}\"')"
# What a person loses of a page: text beyond its right edge that is in no table, which scrolls; numbers of a run, which
# are in the first table, beyond the edge of that; and a value that is none.
LOST = """
(texts => [
  ...texts("body *").filter(each => !each.closest(".p-table") && each.getBoundingClientRect().right > innerWidth + 1),
  ...[...document.querySelectorAll(".markdown-renderer__table")].slice(0, 1)
    .filter(each => each.scrollWidth > each.clientWidth + 1),
  ...texts(".p-table *").filter(each => /^(None|null|undefined|NaN)$/.test(each.textContent.trim())),
].map(each => each.textContent))(
  selector => [...document.querySelectorAll(selector)]
    .filter(each => !each.children.length && each.textContent.trim() && each.getClientRects().length))
"""
CHART_SCALE = """
(chart => chart.clientWidth / chart.naturalWidth)(document.querySelector("img[alt^='points a second']"))
"""
CARD_IS_WHOLE = """
[...document.querySelectorAll("*")]
    .filter(each => !each.children.length && each.textContent.startsWith("100 %"))
    .flatMap(each => [each, each.parentElement])
    .every(each => each.scrollWidth <= each.clientWidth)
"""


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a whole Prefect server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(prefect_home(tmp_path_factory.mktemp("prefect"))))
        with (
            prefect_server(free_port(), whole=True) as server,
            temporary_settings({PREFECT_API_URL: server.api_url}),
        ):
            tell_it_all()  # or events of this server's runs would go to the one before
            yield server.url
            tell_it_all()


@pytest.fixture(scope="module")
def prefect(ui: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def browser(ui: str) -> Iterator[Tab]:
    """A tab that has logged in."""
    with tab("--window-size=1400,2000") as opened:
        opened.open(ui)
        opened.run(f"localStorage.setItem('prefect-password', btoa({AUTH_STRING!r}))")
        yield opened


def test_a_run_its_progress_its_tables_and_its_summary_can_be_read(
    ui: str, prefect: SyncPrefectClient, browser: Tab, vtn: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path
) -> None:
    site = new_site(loads=12, points=500, vens=2)
    site.register(vtn)
    *others, lost = site.loads
    site.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE load_id = ?", lost.load_id)
    with given_options(
        vtn_url=vtn.base_url, bearer_token=vtn.token, resources_db=str(site.db), meter_file=site.h5,
        ledger_url=str(site.ledger),
    ):  # fmt: skip
        state = bulk_upload(return_state=True)
    run_id = state.state_details.flow_run_id
    assert run_id

    until(lambda: _nodes(prefect, run_id) == 3)  # the plan and the batches: the page asks for them only once
    browser.open(f"{ui}/runs/flow-run/{run_id}")
    browser.text(
        "All VENs",
        f"1 of 12 loads failed: Load {lost.load_id}",
        f"{others[0].ven} 1-6 of 6: 6 done, 0 failed, 0 left, 3,000 points sent",
    )

    until(partial(_has, COMPLETED, browser, tmp_path / "run.png"))  # the batches in the graph
    browser.click("Artifacts")
    browser.text("bulk-upload-progress", "100 %, time left: none, 1 failed")
    assert browser.run(CARD_IS_WHOLE), "the card of the progress is cut"
    browser.picture(tmp_path / "artifacts.png")

    pages = _artifact_pages(ui, prefect, run_id)
    browser.open(pages["bulk-upload-progress"])
    browser.text("12 of 12 loads, 1 failed; 5,500 of 5,500 points sent")
    browser.open(pages["bulk-upload-live"])
    browser.text("VENs finished", "2 of 2", f"VENs with failures: {lost.ven}", "Loads failed", "5,500", "Waiting for")
    browser.open(pages[artifact_key(lost.ven)])
    table = browser.text("meter_404", *(load.load_id for load in others if load.ven == lost.ven))
    assert table.index("meter_404") < table.index(others[-1].load_id), "what failed comes first, with its reason"
    for scheme in SCHEMES:
        picture = tmp_path / f"summary-{scheme}.png"
        browser.run(IN_SCHEME.format(scheme))
        browser.open(pages["bulk-upload-summary"])
        summary = browser.text("VENs finished", "Failures by cause", str(site.h5))
        assert summary.rindex(lost.ven) < summary.rindex(others[0].ven), "its VEN comes first"
        until(partial(_has, BAR, browser, picture))  # throughput over time

    deployment: Any = bulk_upload.to_deployment(name="of-this-test")
    browser.open(f"{ui}/deployments/deployment/{deployment.apply()}/run")
    form = browser.text("VENs to leave out", "The VENs to upload; all of them when empty.", "Address of the VTN")
    assert not re.search(r">\s*None\s*<", form), "a choice of None"
    browser.picture(tmp_path / "form.png")


def _nodes(prefect: SyncPrefectClient, run_id: UUID) -> int:
    """How many tasks the graph of a run has by now."""
    graph = prefect.request("GET", "/flow_runs/{id}/graph-v2", path_params={"id": run_id}).json()
    return len(graph["nodes"])


def _has(colour: tuple[int, int, int], browser: Tab, picture: Path) -> bool:
    browser.picture(picture)
    return share_of_colour(picture, *colour) > 0.0001


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_pictures_of_the_tour_show_what_the_tour_says(
    ui: str,
    prefect: SyncPrefectClient,
    browser: Tab,
    no_faults: ReferenceVtn,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """`pytest tests/test_prefect_ui.py -m long -k tour --pictures docs/images` takes them anew for docs/tour.md."""
    folder = request.config.rootpath / request.config.option.pictures if request.config.option.pictures else tmp_path
    prefect_url = f"{ui}/api"
    vtn = {"VTN_SERVER_ADDRESS": no_faults.base_url, "VTN_BEARER_TOKEN": no_faults.token}
    sizes = ["--vens", "3", "--loads-per-ven", "12", "--meters", "6"]
    command("sample-data", *sizes, cwd=tmp_path).check_returncode()
    command("register", cwd=tmp_path, **vtn).check_returncode()
    with closing(sqlite3.connect(tmp_path / "config" / "resources.db")) as db, db:
        db.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE id = 1")
    no_faults.switch(points_per_second=4_000, max_in_flight=8)
    browser.command("Emulation.setDeviceMetricsOverride", width=1300, height=850, deviceScaleFactor=1, mobile=False)

    def take(name: str, address: str, *texts: str) -> None:
        browser.open(address)
        browser.text(*texts)
        time.sleep(SETTLED_S)
        browser.picture(folder / f"{name}.png")
        assert (folder / f"{name}.png").stat().st_size < MAX_PICTURE_BYTES, name

    _deploy(prefect_url)
    upload = prefect.read_deployment_by_name("bulk-upload/upload-all")
    take("form", f"{ui}/deployments/deployment/{upload.id}/run", "VENs to leave out")
    as_deployed = {"PREFECT_API_URL": prefect_url, "PREFECT_LOGGING_EXTRA_LOGGERS": "venclient,tasks,flows"}
    flow = [sys.executable, "-c", "from flows.bulk_upload import bulk_upload; bulk_upload(return_state=True)"]
    with subprocess.Popen(flow, cwd=tmp_path, env=os.environ | vtn | as_deployed | {"PYTHONPATH": str(ROOT)}) as run:
        (of_run,) = until(lambda: [each for each in prefect.read_flow_runs() if each.state and each.state.is_running()])
        until(lambda: "bulk-upload-live" in _artifact_pages(ui, prefect, of_run.id))
        until(lambda: not re.search(r"Points sent \| 0 ", text_of(prefect, of_run.id, "bulk-upload-live")))
        take("live", _artifact_pages(ui, prefect, of_run.id)["bulk-upload-live"], "Waiting for")
        assert run.wait(120) == 0
    take("run", f"{ui}/runs/flow-run/{of_run.id}", "Completed with failures", "meter_404")
    pages = _artifact_pages(ui, prefect, of_run.id)
    take("ven", pages[artifact_key("Aalborg")], "meter_404")
    take("summary", pages["bulk-upload-summary"], "Failures by cause")

    kept = Path(os.environ.get("KEEP_PICTURES", tmp_path))
    wanted = {
        "run": (f"{ui}/runs/flow-run/{of_run.id}", "Completed with failures"),
        "artifacts": (f"{ui}/runs/flow-run/{of_run.id}", "Completed with failures"),
        "live": (pages["bulk-upload-live"], "100.0 %", "Waiting for: nothing", "VENs with failures: Aalborg"),
        "progress": (pages["bulk-upload-progress"], "100 %, time left: none, 1 failed"),
        "ven": (pages[artifact_key("Aalborg")], "meter_404"),
        "summary": (pages["bulk-upload-summary"], "Failures by cause", "Meter file", "points a second"),
        "form": (f"{ui}/deployments/deployment/{upload.id}/run", *_titles(bulk_upload)),
    }
    for name, (address, *texts) in wanted.items():
        for width, scheme in product(SIZES, SCHEMES):
            look = f"{name}, {width} pixels, {scheme}"
            browser.run(IN_SCHEME.format(scheme))
            # On a phone, tabs are a choice of the system's own: it is opened on a desk.
            browser.show(width=1400 if name == "artifacts" else width, height=SIZES[width], scheme=scheme)
            browser.open(address)
            browser.text(*texts)
            if name == "artifacts":
                browser.click("Artifacts")
                browser.text("bulk-upload-progress", "100 %, time left: none, 1 failed")
                browser.show(width=width, height=SIZES[width], scheme=scheme)
                assert browser.run(CARD_IS_WHOLE), look
            picture = kept / f"prefect-{name}-{width}-{scheme}.png"
            until(partial(_has, COMPLETED, browser, picture)) if name == "run" else time.sleep(SETTLED_S)
            assert browser.run(LOST) == [], look
            assert name != "summary" or browser.run(CHART_SCALE) > 0.7, "letters of 13 pixels would be too small"
            height = browser.run("Math.max(...[...document.querySelectorAll('*')].map(each => each.scrollHeight))")
            browser.show(width=width, height=height, scheme=scheme)
            time.sleep(SETTLED_S)
            browser.picture(picture)


def _titles(flow: Any) -> list[str]:
    return [field["title"] for field in flow.parameters.properties.values()]


def _deploy(prefect_url: str) -> None:
    """Put the deployments of prefect.yaml on the server."""
    for arguments in (["work-pool", "create", "uploads", "--type", "process"], ["--no-prompt", "deploy", "--all"]):
        deploy = [sys.executable, "-m", "prefect", *arguments]
        subprocess.run(
            deploy, cwd=ROOT, env=os.environ | {"PREFECT_API_URL": prefect_url}, check=True, capture_output=True
        )


def _artifact_pages(ui: str, prefect: SyncPrefectClient, run_id: UUID) -> dict[str, str]:
    """The page of each artifact of a run, by its key."""
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
    return {
        artifact.key or "": f"{ui}/artifacts/artifact/{artifact.id}"
        for artifact in prefect.read_artifacts(artifact_filter=of_run)
    }
