"""Promises about points that count as acknowledged: of each VEN one is read back, and no more is said than known."""

import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from config.settings import given_options
from flows.bulk_upload import bulk_upload
from tests.commands import command, run_options
from tests.reference_vtn import OF_RESOURCE, ReferenceVtn
from tests.sites import FIRST_START_S, Site
from tests.small_server import Answer, answering

pytestmark = pytest.mark.usefixtures("prefect")
LAST_S = FIRST_START_S + 99 * 3600


@pytest.fixture
def site(vtn: ReferenceVtn, new_site: Callable[..., Site]) -> Site:
    """Three VENs of two loads each, uploaded."""
    site = new_site(loads=6, points=100, vens=3)
    site.register(vtn)
    site.upload(vtn)
    return site


@contextmanager
def _settings(site: Site, base_url: str, token: str = "any") -> Iterator[None]:
    with given_options(
        vtn_url=base_url, bearer_token=token, resources_db=str(site.db), meter_file=site.h5,
        ledger_url=str(site.ledger), retry_wait_s=0.01,
    ):  # fmt: skip
        yield


def _run(site: Site, vtn: ReferenceVtn) -> str:
    with _settings(site, vtn.base_url, vtn.token):
        state = bulk_upload(return_state=True)
    assert state.is_completed()
    return state.message or ""


def _change(vtn: ReferenceVtn, sql: str, *parameters: object) -> None:
    with closing(sqlite3.connect(vtn.store, timeout=30)) as db, db:
        db.execute(sql, parameters)


def test_points_that_are_there_are_called_so(vtn: ReferenceVtn, site: Site) -> None:
    assert _run(site, vtn) == "6 loads done: 0 points uploaded, 600 already there"


def test_a_vtn_that_was_emptied_is_noticed_and_repaired_by_verify(vtn: ReferenceVtn, site: Site) -> None:
    for load in site.loads:
        _change(vtn, f"DELETE FROM points WHERE {OF_RESOURCE}", load.vtn_resource_id)
    message = _run(site, vtn)
    assert message.startswith("6 loads done: 0 points uploaded, 600 acknowledged earlier. The VTN does not have")
    assert all(ven in message for ven in {load.ven for load in site.loads})
    assert "`bulk-upload verify --repair` finds what is missing" in message
    assert command("verify", "--repair", *run_options(site, vtn), cwd=site.db.parent).returncode == 1
    assert _run(site, vtn) == "6 loads done: 600 points uploaded, 0 already there"
    site.assert_stored(vtn)


@pytest.mark.parametrize("change", ["DELETE FROM points WHERE", "UPDATE points SET value = value + 1 WHERE"])
def test_of_a_vtn_that_was_restored_the_ven_is_named(vtn: ReferenceVtn, site: Site, change: str) -> None:
    """A restore takes away what was sent last."""
    first, *others = (load for load in site.loads)
    for load in site.loads[:2]:
        _change(vtn, f"{change} start >= ? AND {OF_RESOURCE}", LAST_S - 36_000, load.vtn_resource_id)
    message = _run(site, vtn)
    assert f"what it acknowledged of {first.ven}: it was emptied or restored?" in message
    assert others[-1].ven not in message


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_says_once_that_the_vtn_was_emptied(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str, fails: bool
) -> None:
    for load in site.loads:
        _change(vtn, f"DELETE FROM points WHERE {OF_RESOURCE}", load.vtn_resource_id)
    if fails:
        site.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE load_id = ?", site.loads[-1].load_id)
    finished = command("run", *run_options(site, vtn), "-q", cwd=tmp_path, prefect_url=prefect_url)
    assert finished.returncode == int(fails)
    assert finished.stderr.count("does not have what it acknowledged") == 1, finished.stderr
    assert ("1 of 6 loads failed: " in finished.stderr) is fails


def test_a_run_says_once_that_the_address_may_be_wrong(
    new_site: Callable[..., Site], vtn: ReferenceVtn, tmp_path: Path, prefect_url: str
) -> None:
    site = new_site(loads=1, points=100)
    site.register(vtn)

    def vtn_of(method: str, path: str) -> Answer:
        return (201, {"entries_created": 100}) if method == "POST" else (404, {"detail": "no such call"})

    with answering(vtn_of) as base_url:
        options = [*run_options(site, vtn), "--vtn-url", base_url, "--log-file", "all.log"]
        finished = command("run", *options, cwd=tmp_path, prefect_url=prefect_url)
    assert finished.returncode == 0, finished.stderr
    for said in (finished.stderr, (tmp_path / "all.log").read_text()):
        assert said.count("is this the VTN's base address?") == 1, said


def test_resources_that_the_vtn_does_not_know_any_more_are_told(vtn: ReferenceVtn, site: Site) -> None:
    *_, lost = site.loads
    for load in site.loads[4:]:
        _change(vtn, "DELETE FROM resources WHERE id = ?", load.vtn_resource_id)
    message = _run(site, vtn)
    assert f"The VTN does not know resources of {lost.ven} any more (404)" in message
    assert "acknowledged earlier" in message


def test_a_vtn_that_was_set_up_anew_is_told(vtn: ReferenceVtn, site: Site) -> None:
    """It answers 404 to every read, like a VTN without the call, but it does not list the resources either."""
    for load in site.loads:
        _change(vtn, "DELETE FROM resources WHERE id = ?", load.vtn_resource_id)
    assert "The VTN does not know resources of" in _run(site, vtn)


@pytest.mark.parametrize(
    ("answer", "asked", "is_warned"),
    [
        ((405, {}), 1, False),
        pytest.param((501, {}), 1, False, marks=pytest.mark.long),
        pytest.param((403, {}), 1, False, marks=pytest.mark.long),
        ((500, {}), 3, False),
        pytest.param((200, {}), 1, False, marks=pytest.mark.long),
        ((200, []), 3, True),
    ],
    ids=["405", "501", "403", "500", "no list", "nothing there"],
)
def test_where_the_vtn_cannot_be_read_it_is_asked_once_and_nothing_is_said_to_be_there(
    new_site: Callable[..., Site], vtn: ReferenceVtn, answer: Answer, asked: int, is_warned: bool
) -> None:
    site = new_site(loads=6, points=100, vens=3)
    site.register(vtn)
    seen: Counter[str] = Counter()

    def vtn_of(method: str, path: str) -> Answer:
        seen[f"{method} {path.partition('?')[0]}"] += 1
        if method == "POST":
            return 201, {"entries_created": 100}
        return answer if path.startswith("/report_data") else (200, [])

    with answering(vtn_of) as base_url, _settings(site, base_url):
        assert bulk_upload(return_state=True).message == "6 loads done: 600 points uploaded, 0 already there"
        seen.clear()
        state = bulk_upload(return_state=True)
    assert state.is_completed()
    assert (state.message or "").startswith("6 loads done: 0 points uploaded, 600 acknowledged earlier")
    assert ("was emptied or restored" in (state.message or "")) is is_warned
    assert seen["GET /report_data"] == asked, "one for each VEN at most"


def test_a_ledger_that_was_lost_is_mentioned_before_everything_goes_out_again(
    vtn: ReferenceVtn, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.ledger = site.ledger.with_name("another.db")
    with caplog.at_level(logging.INFO):
        assert _run(site, vtn) == "6 loads done: 600 points uploaded, 0 already there"
    (told,) = (record for record in caplog.records if "is new" in record.message)
    assert told.levelno == logging.WARNING
    assert "another.db is new, but the VTN has points already: was a ledger moved or deleted? All 600" in told.message


def test_the_first_run_with_a_ledger_says_that_it_is(
    vtn: ReferenceVtn, new_site: Callable[..., Site], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    site = new_site(loads=2, points=100)
    site.register(vtn)
    planned = command("plan", *run_options(site, vtn)[:-2], cwd=tmp_path)
    assert f"The ledger {site.ledger} is new" in planned.stderr
    with caplog.at_level(logging.INFO):
        _run(site, vtn)
        assert "this is the first run with it" in caplog.text
        caplog.clear()
        _run(site, vtn)
    assert "is new" not in caplog.text
