"""Promises about what `verify` says of a load that is not as in the file: doing it mends it, or nothing of ours can."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import app
from tests.reference_vtn import OF_RESOURCE, ReferenceVtn
from tests.sites import FIRST_START_S, Site
from tests.small_server import Answer, answering
from venclient.ledger.lease import Writer
from venclient.ledger.ledger import Ledger

AT_S = FIRST_START_S + 48 * 3600
REFUSED_AT = "2025-01-17T08:00:00Z"
COPY = (
    "INSERT INTO points SELECT resource, start + 1800, interval_s, value, quality_code FROM points "
    f"WHERE start = ? AND {OF_RESOURCE}"
)


@pytest.fixture
def site(vtn: ReferenceVtn, new_site: Callable[..., Site]) -> Site:
    """Three loads of a hundred hours, uploaded."""
    site = new_site(loads=3, points=100)
    site.register(vtn)
    site.upload(vtn)
    return site


def _verify(site: Site, base_url: str, *more: str) -> tuple[str, dict[str, Any]]:
    """What the command says, and its report's summary."""
    options = ["--db", site.db, "--h5", site.h5, "--ledger", site.ledger, "--vtn-url", base_url, "--token", TOKEN]
    finished = CliRunner().invoke(app, ["verify", *map(str, options), *more])
    assert finished.exit_code < 2, finished.output
    record = max(Path("reports").glob("*.json"), key=lambda path: (path.stem[:29], len(path.stem), path.stem))
    summary: dict[str, Any] = json.loads(record.read_text())["summary"]
    assert summary["passed"] is (finished.exit_code == 0)
    return finished.stdout, summary


TOKEN = "static-test-token"


def test_a_resource_that_the_vtn_does_not_know_any_more_is_registered_anew(vtn: ReferenceVtn, site: Site) -> None:
    lost = site.loads[0]
    with closing(sqlite3.connect(vtn.store, timeout=30)) as db, db:
        db.execute(f"DELETE FROM points WHERE {OF_RESOURCE}", [lost.vtn_resource_id])
        db.execute("DELETE FROM resources WHERE id = ?", [lost.vtn_resource_id])
    told, summary = _verify(site, vtn.base_url, "--repair")
    assert summary["causes"] == {"unknown": 1}
    assert "1 load: the VTN does not know the resource (404)" in told
    assert "empty vtn_resource_id in the loads row, then `bulk-upload register` and `bulk-upload run`" in told
    assert "sends the rest" not in told
    site.execute("UPDATE loads SET vtn_resource_id = '' WHERE load_id = ?", lost.load_id)
    site.register(vtn)
    site.upload(vtn)
    assert _verify(site, vtn.base_url)[1]["passed"]


def test_a_load_that_the_meter_file_does_not_give_is_mended_there(vtn: ReferenceVtn, site: Site) -> None:
    load = site.loads[0]
    site.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE load_id = ?", load.load_id)
    told, summary = _verify(site, vtn.base_url)
    assert summary["causes"] == {"file": 1}
    assert "no run can send it: correct the file or the loads row" in told
    assert site.upload(vtn)[load.load_id].state == "failed"
    site.execute("UPDATE loads SET h5_meter_id = ? WHERE load_id = ?", load.h5_meter_id, load.load_id)
    site.upload(vtn)
    assert _verify(site, vtn.base_url)[1]["passed"]


@pytest.mark.parametrize(
    ("answer", "cause", "words"),
    [
        ((200, {"points": []}), "answer", "tells nothing of the points"),
        ((400, {"detail": "no"}), "answer", "tells nothing of the points"),
        ((403, {"detail": "no"}), "forbidden", "does not let this client read them (403)"),
        ((500, {"detail": "no"}), "no answer", "verify again when it does"),
    ],
    ids=["no list", "refusal", "forbidden", "trouble"],
)
def test_of_an_answer_that_is_no_list_of_points_no_upload_is_promised(
    site: Site, monkeypatch: pytest.MonkeyPatch, answer: Answer, cause: str, words: str
) -> None:
    monkeypatch.setenv("BULK_UPLOAD_ATTEMPTS", "2")
    with answering(lambda _method, path: answer if "/report_data" in path else (200, [])) as base_url:
        told, summary = _verify(site, base_url, "--repair")
    assert (summary["causes"], summary["unread"], summary["repaired"]) == ({cause: 3}, 3, 0)
    assert words in told
    assert "bulk-upload run" not in told


def test_points_that_the_vtn_refuses_are_sent_once_more_by_failed_alone(
    no_faults: ReferenceVtn, new_site: Callable[..., Site]
) -> None:
    site = new_site(loads=2, points=100)
    site.register(no_faults)
    no_faults.switch(refuses=[REFUSED_AT])
    site.upload(no_faults)
    told, summary = _verify(site, no_faults.base_url, "--repair")
    assert (summary["causes"], summary["repaired"]) == ({"refused": 2}, 0)
    assert "`bulk-upload run --failed` sends these once more" in told
    no_faults.switch()
    assert sum(result.points_sent for result in site.upload(no_faults).values()) == 0, "no run as usual sends them"
    site.upload(no_faults, retries_refused=True)
    assert _verify(site, no_faults.base_url)[1]["passed"]


def test_points_that_only_the_vtn_has_are_not_repaired_and_stay_until_they_are_removed_there(
    vtn: ReferenceVtn, site: Site
) -> None:
    load = site.loads[0]
    vtn.tamper(COPY, AT_S, load.vtn_resource_id)
    for _ in range(2):
        told, summary = _verify(site, vtn.base_url, "--repair")
        assert (summary["causes"], summary["repaired"], summary["points_besides"]) == ({"extra": 1}, 0, 1)
        assert "no upload takes them away, remove them in the VTN" in told
        assert sum(result.points_sent for result in site.upload(vtn).values()) == 0
    vtn.tamper(f"DELETE FROM points WHERE start = ? AND {OF_RESOURCE}", AT_S + 1800, load.vtn_resource_id)
    assert _verify(site, vtn.base_url)[1]["passed"]


def test_of_a_month_with_several_causes_each_is_told_and_what_can_be_is_repaired(vtn: ReferenceVtn, site: Site) -> None:
    load = site.loads[0]
    vtn.tamper(COPY, AT_S, load.vtn_resource_id)
    vtn.alter_point(load.vtn_resource_id, AT_S + 3600, 4711.5)
    site.append(load, 10)
    told, summary = _verify(site, vtn.base_url, "--repair")
    assert summary["causes"] == {"repaired": 1, "not sent": 1, "extra": 1}
    assert told.count("1 load: ") == 3
    site.upload(vtn)
    assert _verify(site, vtn.base_url)[1]["causes"] == {"extra": 1}


def test_what_was_sent_of_a_month_that_is_not_sent_to_its_end_is_compared_whole(vtn: ReferenceVtn, site: Site) -> None:
    """A run would go on after it, and never send it again."""
    load = site.loads[0]
    vtn.tamper(f"UPDATE points SET quality_code = 'BAD' WHERE start = ? AND {OF_RESOURCE}", AT_S, load.vtn_resource_id)
    site.append(load, 10)
    assert _verify(site, vtn.base_url, "--repair")[1]["causes"] == {"repaired": 1, "not sent": 1}
    site.upload(vtn)
    assert _verify(site, vtn.base_url)[1]["passed"]


def test_loads_with_the_same_id_are_mended_in_the_loads_table(vtn: ReferenceVtn, site: Site) -> None:
    one, other, _ = site.loads
    site.execute("UPDATE loads SET vtn_resource_id = ? WHERE load_id = ?", one.vtn_resource_id, other.load_id)
    told, summary = _verify(site, vtn.base_url, "--repair")
    assert (summary["causes"], summary["repaired"]) == ({"same id": 1}, 0)
    assert "no run sends them: correct the loads table" in told
    assert site.upload(vtn)[other.load_id].state == "failed"
    site.execute("UPDATE loads SET vtn_resource_id = ? WHERE load_id = ?", other.vtn_resource_id, other.load_id)
    assert _verify(site, vtn.base_url)[1]["passed"]


def test_why_the_last_run_failed_is_told_with_what_is_not_sent(
    no_faults: ReferenceVtn, new_site: Callable[..., Site]
) -> None:
    site = new_site(loads=1, points=100)
    site.register(no_faults)
    with Ledger(str(site.ledger), no_faults.base_url) as ledger, ledger.leased([site.loads[0].ven], WRITER):
        ledger.settle(site.loads[0], "failed", "413 - too large")
    told, summary = _verify(site, no_faults.base_url)
    assert summary["causes"] == {"not sent": 1}
    assert "413 - too large" in Path(summary["page"]).read_text()
    assert "`bulk-upload run` sends the rest" in told


WRITER = Writer("run-1", "The nightly run")


def test_what_a_run_keeps_from_being_repaired_is_told_with_that_run(vtn: ReferenceVtn, site: Site) -> None:
    load = site.loads[0]
    vtn.alter_point(load.vtn_resource_id, AT_S, 4711.5)
    with Ledger(str(site.ledger), vtn.base_url) as ledger, ledger.leased([load.ven], WRITER):
        told, summary = _verify(site, vtn.base_url, "--repair")
    assert (summary["causes"], summary["repaired"]) == ({"busy": 1}, 0)
    assert "`bulk-upload verify --repair` again when it has ended" in told
    assert "The nightly run" in Path(summary["page"]).read_text()
    assert _verify(site, vtn.base_url, "--repair")[1]["repaired"] == 1
    site.upload(vtn)
    assert _verify(site, vtn.base_url)[1]["passed"]


def test_a_vtn_that_knows_no_resource_may_have_been_set_up_anew(site: Site) -> None:
    """It answers the same as one without the call, so that both are said."""
    with answering(lambda _method, path: (404, {}) if "/report_data" in path else (200, [])) as base_url:
        options = ["--db", site.db, "--h5", site.h5, "--ledger", site.ledger, "--vtn-url", base_url, "--token", TOKEN]
        finished = CliRunner().invoke(app, ["verify", *map(str, options)])
    assert "This VTN does not say what it has" in str(finished.exception)
    assert "then empty `vtn_resource_id` in the loads rows" in str(finished.exception)
