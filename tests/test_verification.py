"""Promises about verification: what the VTN has is laid beside the file, and nothing that differs goes unseen."""

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from prefect.client.orchestration import SyncPrefectClient
from pydantic import SecretStr

from flows.verify_upload import verify_upload
from tests.artifacts import text_of
from tests.bulk_bodies import as_sent
from tests.commands import command, last_json
from tests.reference_vtn import OF_RESOURCE, ReferenceVtn
from tests.run_settings import run_settings
from tests.sites import FIRST_START_S, Site, client, hourly, load_of
from tests.small_server import answering
from venclient.errors import PermanentError
from venclient.ledger.ledger import Ledger
from venclient.loads import Load
from venclient.sources.cleaning import clean
from venclient.sources.hdf5 import MeterFile
from venclient.sync import LoadVerdict, sampled, verify_load
from venclient.wires.auth import GivenToken
from venclient.wires.bulk import BulkWire

MARCH_S = 1_740_787_200  # 2025-03-01T00:00Z
AT = MARCH_S + 3600


@pytest.fixture
def site(vtn: ReferenceVtn, new_site: Callable[..., Site]) -> Site:
    """Two VENs of two loads each, over three months, uploaded."""
    site = new_site(loads=4, points=1500, vens=2)
    site.register(vtn)
    site.upload(vtn)
    return site


def _verify(site: Site, vtn: ReferenceVtn, folder: Path, *more: str, returns: int) -> dict[str, Any]:
    options = ["--db", site.db, "--h5", site.h5, "--ledger", site.ledger, "--token", vtn.token]
    finished = command("verify", *options, "--vtn-url", vtn.base_url, *more, "--json", cwd=folder)
    assert finished.returncode == returns, finished.stderr
    return last_json(finished) if returns < 2 else {"error": finished.stderr}


def test_what_arrived_whole_passes_with_a_record_of_every_month(vtn: ReferenceVtn, site: Site, tmp_path: Path) -> None:
    told = _verify(site, vtn, tmp_path, returns=0)
    assert (told["passed"], told["loads"], told["equal"]) == (True, 4, 4)
    assert told["points_in_file"] == told["points_in_vtn"] == 6000
    record = json.loads((tmp_path / told["record"]).read_text())
    assert record["meter_file"]["sha256"] == hashlib.sha256(site.h5.read_bytes()).hexdigest()
    for load in record["loads"]:
        assert [month["month"] for month in load["months"]] == [202501, 202502, 202503]
        assert all(month["file"] == month["vtn"] and month["vtn"]["digest"] for month in load["months"])
        assert sum(month["file"]["points"] for month in load["months"]) == 1500
    assert hashlib.sha256((tmp_path / told["record"]).read_bytes()).hexdigest() in (
        (tmp_path / told["page"]).read_text()
    )


def test_a_zero_below_zero_is_a_zero(vtn: ReferenceVtn, site: Site, tmp_path: Path) -> None:
    load = site.loads[0]
    rows = hourly(1500)
    rows[700:720, 1] = -0.0
    site.write_rows(load, rows)
    site.upload(vtn)
    assert _verify(site, vtn, tmp_path, returns=0)["passed"]
    at = int(rows[1400, 0])
    vtn.alter_point(load.vtn_resource_id, at, 4711.5)
    (found,) = _verify(site, vtn, tmp_path, returns=1)["not_equal"]
    (difference,) = found["differences"]
    assert difference["vtn"] == "4711.5 W, GOOD, 3600 s"


def test_a_point_altered_in_the_store_is_found_named_and_repaired(
    vtn: ReferenceVtn, site: Site, tmp_path: Path
) -> None:
    load = site.loads[1]
    was = dict(site.rows(load).tolist())[AT]
    vtn.alter_point(load.vtn_resource_id, AT, 4711.5)
    told = _verify(site, vtn, tmp_path, returns=1)
    assert (told["equal"], told["differing"], told["repaired"]) == (3, 1, 0)
    (found,) = told["not_equal"]
    assert found["load_id"] == load.load_id
    assert [month["month"] for month in found["months"] if month["state"] != "equal"] == [202503]
    (difference,) = found["differences"]
    assert difference == {
        "interval_start": "2025-03-01T01:00:00Z", "file": f"{was} W, GOOD, 3600 s", "vtn": "4711.5 W, GOOD, 3600 s",
    }  # fmt: skip
    page = (tmp_path / told["page"]).read_text()
    assert "4711.5 W" in page
    assert load.load_id in page
    assert sum(result.points_sent for result in site.upload(vtn).values()) == 0, "only --repair changes the ledger"

    assert _verify(site, vtn, tmp_path, "--repair", returns=1)["repaired"] == 1
    in_march = int((site.rows(load)[:, 0] >= MARCH_S).sum())
    assert {id_: result.points_sent for id_, result in site.upload(vtn).items() if result.points_sent} == {
        load.load_id: in_march
    }
    assert _verify(site, vtn, tmp_path, returns=0)["passed"]


@pytest.mark.parametrize(
    ("sql", "in_vtn"),
    [
        ("DELETE FROM points WHERE start = ? AND", None),
        ("UPDATE points SET quality_code = 'BAD' WHERE start = ? AND", "BAD"),
        ("UPDATE points SET interval_s = 60 WHERE start = ? AND", "GOOD, 60 s"),
    ],
    ids=["lost", "quality", "interval"],
)
def test_whatever_is_not_as_in_the_file_is_found(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, sql: str, in_vtn: str | None
) -> None:
    vtn.tamper(f"{sql} {OF_RESOURCE}", AT, site.loads[0].vtn_resource_id)
    (found,) = _verify(site, vtn, tmp_path, returns=1)["not_equal"]
    told = {point["interval_start"]: point["vtn"] for point in found["differences"]}
    if in_vtn is None:
        assert told == {"2025-03-01T01:00:00Z": None}
    else:
        assert any(in_vtn in text for text in told.values())


def test_a_point_that_the_file_does_not_have_is_found(vtn: ReferenceVtn, site: Site, tmp_path: Path) -> None:
    load = site.loads[0]
    vtn.tamper(f"UPDATE points SET start = start + 1800 WHERE start = ? AND {OF_RESOURCE}", AT, load.vtn_resource_id)
    told = _verify(site, vtn, tmp_path, returns=1)
    assert told["points_besides"] == 1
    assert "No upload takes them away" in (tmp_path / told["page"]).read_text()


def test_what_was_not_sent_yet_is_no_difference(vtn: ReferenceVtn, site: Site, tmp_path: Path) -> None:
    load = site.loads[0]
    site.append(load, 100)
    told = _verify(site, vtn, tmp_path, "--repair", returns=1)
    assert (told["differing"], told["not_sent"], told["repaired"]) == (0, 1, 0)
    assert site.upload(vtn)[load.load_id].points_sent == 100
    assert _verify(site, vtn, tmp_path, returns=0)["passed"]


def test_what_the_ledger_says_to_be_there_and_is_not_is_a_difference_though_more_is_to_come(
    vtn: ReferenceVtn, site: Site, tmp_path: Path
) -> None:
    load = site.loads[0]
    site.append(load, 100)
    vtn.alter_point(load.vtn_resource_id, AT, 1.25)
    assert _verify(site, vtn, tmp_path, returns=1)["differing"] == 1


def test_a_load_that_cannot_be_read_is_told_and_the_others_are_verified(
    vtn: ReferenceVtn, site: Site, tmp_path: Path
) -> None:
    site.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE load_id = ?", site.loads[0].load_id)
    told = _verify(site, vtn, tmp_path, returns=1)
    assert (told["equal"], told["unread"]) == (3, 1)
    assert "H5 meter 'meter_404' not found" in told["not_equal"][0]["error"]


def test_a_long_series_is_compared_in_parts_and_what_differs_is_found_at_their_edges(
    vtn: ReferenceVtn, new_site: Callable[..., Site]
) -> None:
    """January has two requests of points, and so has February."""
    in_january, a_request, points = 72_000, 50_000, 130_000
    site = new_site(loads=1)
    site.register(vtn)
    (load,) = site.loads
    site.write_rows(load, _every_20_s(points))
    site.upload(vtn)
    whole = _verdict(site, vtn, load)
    assert (whole.state, whole.points_in_file, whole.points_in_vtn) == ("equal", points, points)

    starts = _every_20_s(points)[:, 0].astype(int)
    lost = [a_request - 1, in_january, in_january + a_request]
    for index in lost:
        vtn.tamper(f"DELETE FROM points WHERE start = ? AND {OF_RESOURCE}", int(starts[index]), load.vtn_resource_id)
    vtn.alter_point(load.vtn_resource_id, int(starts[a_request]), 4711.5)
    moved = int(starts[in_january - 1])
    vtn.tamper(f"UPDATE points SET start = start + 10 WHERE start = ? AND {OF_RESOURCE}", moved, load.vtn_resource_id)
    verdict = _verdict(site, vtn, load)
    assert (verdict.points_in_vtn, verdict.besides) == (points - len(lost), 1)
    assert verdict.differing_months == [202501, 202502]
    first_five = [starts[a_request - 1], starts[a_request], moved, moved + 10, starts[in_january]]
    assert [difference.interval_start.timestamp() for difference in verdict.differences] == first_five
    assert [difference.vtn for difference in verdict.differences] == [
        None, "4711.5 W, GOOD, 20 s", None, f"{float(in_january - 1)} W, GOOD, 20 s", None,
    ]  # fmt: skip


def test_each_month_and_each_point_that_differs_is_named(vtn: ReferenceVtn, site: Site) -> None:
    """A value in January, a point lost in February, another moved in March."""
    load = site.loads[0]
    vtn.alter_point(load.vtn_resource_id, FIRST_START_S + 7_200, 4711.5)
    vtn.tamper(f"DELETE FROM points WHERE start = ? AND {OF_RESOURCE}", MARCH_S - 3600, load.vtn_resource_id)
    vtn.tamper(f"UPDATE points SET start = start + 60 WHERE start = ? AND {OF_RESOURCE}", AT, load.vtn_resource_id)
    verdict = _verdict(site, vtn, load)
    assert (verdict.points_in_file, verdict.points_in_vtn, verdict.besides) == (1500, 1499, 1)
    assert verdict.differing_months == [202501, 202502, 202503]
    assert [difference.interval_start.timestamp() for difference in verdict.differences] == [
        FIRST_START_S + 7_200, MARCH_S - 3600, AT, AT + 60,
    ]  # fmt: skip


def test_a_vtn_that_tells_more_than_it_was_asked_for_is_understood() -> None:
    """It is asked twice, and tells everything both times."""
    series = clean(_every_20_s(60_000))
    with (
        _other_vtn(200, as_sent(series)[::-1]) as base_url,
        BulkWire(base_url, GivenToken(SecretStr("token"))) as vtn,
    ):
        (stored,) = vtn.read_back(load_of("any", ""), series)
    assert stored.series.points().start_s.tolist() == series.points().start_s.tolist()
    assert stored.series.months == series.months


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [{"interval_start": "yesterday"}],
        [{"interval_start": "2025-01-15T08", "interval_end": "2025-01-15T09", "value": 1, "quality_code": "GOOD"}],
    ],
    ids=["object", "no time", "no zone"],
)  # fmt: skip
def test_what_is_no_list_of_points_is_told(answer: object) -> None:
    with (
        _other_vtn(200, answer) as base_url,
        BulkWire(base_url, GivenToken(SecretStr("token"))) as vtn,
        pytest.raises(PermanentError, match="is not a list of points"),
    ):
        list(vtn.read_back(load_of("any", ""), clean(hourly(100))))


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_vtn_without_the_read_call_gets_a_clear_answer(site: Site, tmp_path: Path, status: int) -> None:
    with _other_vtn(status, {"detail": "no"}) as base_url:
        options = ["--db", site.db, "--h5", site.h5, "--ledger", site.ledger, "--token", "t", "--vtn-url", base_url]
        finished = command("verify", *options, cwd=tmp_path)
    assert finished.returncode == 2
    assert f"This VTN does not say what it has: to be read, it answers {status}" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not list((tmp_path / "reports").iterdir())


def test_a_sample_takes_some_of_every_ven_and_the_same_for_the_same_seed() -> None:
    loads = [Load(f"l{n}", f"Town {n // 40}", "r", "House", "load_0", "Base", "m", f"v{n}") for n in range(120)]
    few = sampled(loads, 5, seed=1)
    assert len(few) == 6
    assert {load.ven for load in few} == {"Town 0", "Town 1", "Town 2"}
    assert few == sampled(loads, 5, seed=1)
    assert few != sampled(loads, 5, seed=2)
    assert len(sampled(loads, 0.01, seed=1)) == 3


def test_the_flow_ends_completed_when_all_is_equal_and_failed_when_not(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect: SyncPrefectClient
) -> None:
    with run_settings(site, vtn, loads_per_task=1):
        state = verify_upload(return_state=True)
        assert state.is_completed()
        assert state.message == "6,000 points of 4 loads compared: all there, all as in the file"
        assert verify_upload(sample=50, return_state=True).message == (
            "3,000 points of 2 loads compared: all there, all as in the file"
        )
        vtn.alter_point(site.loads[0].vtn_resource_id, AT, 4711.5)
        vtn.tamper(f"DELETE FROM points WHERE start = ? AND {OF_RESOURCE}", AT + 3600, site.loads[0].vtn_resource_id)
        state = verify_upload(repair=True, return_state=True)
    assert state.is_failed()
    assert "3 of 4 loads are as in the file. 1 load: the VTN has other points than the file; the next" in str(
        state.message
    )
    data = text_of(prefect, state.state_details.flow_run_id, "verify-upload-summary")
    assert f"| {site.loads[0].ven} | 3,000 | 2,999 | 2,998 | 1 | 1 | 2 | 1 |" in data
    (page,) = re.findall(r"^Page: (.*\.html)$", data, re.MULTILINE)
    assert Path(page).is_file()
    assert site.upload(vtn)[site.loads[0].load_id].points_sent > 0


def _verdict(site: Site, vtn: ReferenceVtn, load: Load) -> LoadVerdict:
    with MeterFile(site.h5) as meters, client(vtn) as vtn_client, Ledger(str(site.ledger), vtn.base_url) as ledger:
        return verify_load(load, ledger.entries([load])[load.vtn_resource_id], meters, vtn_client)


def _every_20_s(points: int) -> NDArray[np.float64]:
    """Rows of so many points with ascending values."""
    return np.stack([FIRST_START_S + 20.0 * np.arange(points), np.arange(float(points))], axis=1)


def _other_vtn(status: int, answer: object) -> AbstractContextManager[str]:
    """A VTN that gives one and the same answer to whoever reads back, and knows no resources."""
    return answering(lambda _method, path: (status, answer) if path.startswith("/report_data") else (200, []))
