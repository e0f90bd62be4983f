"""How reports are written: units, quality, packed, by the day or the hour; and what happens when that changes."""

import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from tests.sites import FIRST_START_S, Site, hourly
from tests.standard_bodies import Prepared, event_body
from tests.standard_site import (
    a_run,
    assert_stored,
    by_load,
    registered,
    reports_of,
    requests_since,
    stored_points,
    upload,
    verified,
)
from tests.standard_vtn import StandardVtn
from venclient.loads import Load
from venclient.wires.openadr3.layout import client_name
from venclient.wires.openadr3.wire import ReportWire

NewSite = Callable[..., Site]


@pytest.fixture
def vtn(standard_vtn: StandardVtn) -> StandardVtn:
    """Of each version."""
    return standard_vtn


def test_an_event_that_asks_for_demand_gets_the_mean_power_in_kw(vtn: StandardVtn, new_site: NewSite) -> None:
    vtn.prepare("demand", payloadType="DEMAND", readingType="MEAN", units="KW")
    names: dict[str, Any] = {"program_name": "demand", "event_name": "demand"}
    site = registered(new_site(loads=2, points=800), vtn, **names)
    upload(site, vtn, **names)
    assert_stored(site, vtn, payload="DEMAND")
    (descriptor,) = reports_of(site, vtn)[0].content["payloadDescriptors"]
    assert (descriptor["payloadType"], descriptor["readingType"], descriptor["units"]) == ("DEMAND", "MEAN", "KW")
    assert {verdict.state for verdict in verified(site, vtn, **names)} == {"equal"}


def test_an_event_that_asks_for_quality_gets_it_at_every_point(vtn: StandardVtn, new_site: NewSite) -> None:
    _prepare(vtn, "quality", {"payloadType": "DATA_QUALITY"})
    names: dict[str, Any] = {"program_name": "quality", "event_name": "quality"}
    site = registered(new_site(loads=1, points=500), vtn, **names)
    upload(site, vtn, **names)
    assert_stored(site, vtn, quality="OK")
    assert {verdict.state for verdict in verified(site, vtn, **names)} == {"equal"}


def test_quality_codes_are_sent_by_the_table_gaps_by_their_own_periods_and_export_as_it_is(
    vtn: StandardVtn, new_site: NewSite
) -> None:
    site = registered(new_site(loads=1, points=60), vtn)
    (load,) = site.loads
    rows = np.delete(hourly(60), [20, 21, 40], axis=0)
    rows[3, 1], rows[4, 1], rows[5, 1], rows[30, 1] = 0, -417.3, np.nan, 99_000
    site.write_rows(load, rows)
    rules = "zero → ESTIMATED, negative → EXPORT, above capacity → SUSPECT, NaN → MISSING 0"
    settings: dict[str, Any] = {"quality_rules": rules, "report_qualities": "EXPORT → OK"}
    upload(site, vtn, **settings)
    stored = stored_points(reports_of(site, vtn))
    codes = {start: quality for start, (_, _, quality) in stored.items() if quality}
    at = rows[:, 0].astype(int).tolist()
    assert codes == {at[3]: "ESTIMATED", at[5]: "MISSING", at[30]: "BAD"}
    assert stored[at[4]] == (-0.4173, 3600, "")
    assert stored[at[5]] == (0.0, 3600, "MISSING")
    assert sorted(stored) == at, "a gap stays one"
    assert {verdict.state for verdict in verified(site, vtn, **settings)} == {"equal"}
    before = len(vtn.log())
    upload(site, vtn, quality_rules=rules)
    assert requests_since(vtn, before)["PUT"] == 1, "another table"
    assert stored_points(reports_of(site, vtn))[at[4]] == (-0.4173, 3600, "EXPORT")


def test_packed_reports_have_many_values_in_an_interval(vtn: StandardVtn, new_site: NewSite) -> None:
    site = registered(new_site(loads=2, points=1_000), vtn)
    rows = np.delete(site.rows(site.loads[0]), [100, 101, 700], axis=0)
    site.write_rows(site.loads[0], rows)
    upload(site, vtn, packed_reports=True)
    assert_stored(site, vtn)
    assert max(len(report.content["resources"][0]["intervals"]) for report in reports_of(site, vtn)) == 2
    assert {verdict.state for verdict in verified(site, vtn, packed_reports=True)} == {"equal"}


@pytest.mark.parametrize(
    ("interval_s", "points", "names"),
    [
        (1_800, 2_000, ["2025-01", "2025-02"]),
        (60, 2_000, ["2025-01-15", "2025-01-16"]),
        (10, 800, ["2025-01-15T08", "2025-01-15T09", "2025-01-15T10"]),
    ],
)
def test_short_intervals_have_a_report_a_day_or_an_hour(
    vtn: StandardVtn, new_site: NewSite, interval_s: int, points: int, names: list[str]
) -> None:
    site = registered(new_site(loads=1, points=10), vtn)
    (load,) = site.loads
    site.write_rows(load, _rows(points, interval_s))
    upload(site, vtn)
    assert_stored(site, vtn)
    assert _periods(site, vtn) == names
    before = len(vtn.log())
    site.write_rows(load, _rows(points + 3, interval_s))
    (result,) = upload(site, vtn).values()
    sent = requests_since(vtn, before)
    assert (result.points_sent, sent["PUT"], sent["POST"]) == (3, 1, 0), "only the last report is replaced"
    assert_stored(site, vtn)
    assert {verdict.state for verdict in verified(site, vtn)} == {"equal"}


@pytest.mark.parametrize("is_ledger_lost", [False, True])
@pytest.mark.parametrize("begins", ["month", "day"])
def test_reports_of_another_length_take_the_place_of_those_that_are_there(
    vtn: StandardVtn, new_site: NewSite, begins: str, is_ledger_lost: bool
) -> None:
    site = registered(new_site(loads=2, points=450), vtn)
    sizes = [1_000_000, 20_000] if begins == "month" else [20_000, 1_000_000]
    for size in sizes:
        if is_ledger_lost:
            site.ledger.unlink(missing_ok=True)
        upload(site, vtn, max_body_bytes=size)
        assert_stored(site, vtn)
        lengths = {len(period) for period in _periods(site, vtn)}
        assert lengths == ({len("2025-01")} if size == 1_000_000 else {len("2025-01-15")})
        assert {verdict.state for verdict in verified(site, vtn, max_body_bytes=size)} == {"equal"}
        before = len(vtn.log())
        upload(site, vtn, max_body_bytes=size)
        assert requests_since(vtn, before) == Counter()


def test_where_old_reports_may_not_be_deleted_the_load_fails_and_says_so(vtn: StandardVtn, new_site: NewSite) -> None:
    site = registered(new_site(loads=1, points=450), vtn)
    upload(site, vtn)
    vtn.switch(habits=["delete_refused"])
    (result,) = upload(site, vtn, max_body_bytes=20_000).values()
    assert result.state == "failed"
    assert "may not delete it" in (result.error or "")
    assert_stored(site, vtn)


@pytest.mark.parametrize("is_repaired", [False, True], ids=["", "after a repair"])
def test_another_event_gets_all_reports_again(vtn: StandardVtn, new_site: NewSite, is_repaired: bool) -> None:
    site = registered(new_site(loads=2, points=600), vtn)
    upload(site, vtn)
    name = f"later {is_repaired}"
    prepared = vtn.prepare(name)
    names: dict[str, Any] = {"program_name": name, "event_name": name}
    if is_repaired:
        altered = reports_of(site, vtn)[0]
        altered.content["resources"][0]["intervals"][3]["payloads"][0]["values"] = [9.5]
        vtn.alter_report(altered.id, altered.content)
        assert verified(site, vtn, repair=True, **names)
    before = len(vtn.log())
    upload(site, vtn, **names)
    assert_stored(site, vtn)
    assert {report.content["eventID"] for report in reports_of(site, vtn)} == {prepared.event_id}
    assert requests_since(vtn, before)["POST"] == 0
    assert {verdict.state for verdict in verified(site, vtn, **names)} == {"equal"}


def test_a_load_whose_resource_id_was_corrected_gets_all_reports_again(vtn: StandardVtn, new_site: NewSite) -> None:
    site = registered(new_site(loads=2, points=600), vtn)
    upload(site, vtn)
    for table in ("resources", "loads"):
        site.execute(f"UPDATE {table} SET resource_id = resource_id || '_corrected'")
    before = len(vtn.log())
    upload(site, vtn)
    assert requests_since(vtn, before)["PUT"] == 4, "two months of each"
    names = {report.content["resources"][0]["resourceName"] for report in reports_of(site, vtn)}
    assert names == {load.external_resource_id for load in site.loads}
    assert all("_corrected_" in name for name in names)
    before = len(vtn.log())
    upload(site, vtn)
    assert requests_since(vtn, before) == Counter()


def test_reports_of_an_older_ledger_are_not_sent_again(vtn: StandardVtn, new_site: NewSite) -> None:
    """Its digest of the form is without the resource's name."""
    site = registered(new_site(loads=2, points=600), vtn)
    upload(site, vtn)
    with a_run(site, vtn) as run:
        assert isinstance(run.wire, ReportWire)
        form = run.wire.layout.form()
    older = form.digest(client_name(site.loads[0].ven), 1_000_000)
    with closing(sqlite3.connect(site.ledger)) as ledger, ledger:
        assert ledger.execute("UPDATE reports SET form = ? WHERE period GLOB '20*'", (older,)).rowcount == 4
    before = len(vtn.log())
    upload(site, vtn)
    assert requests_since(vtn, before) == Counter()


def _prepare(vtn: StandardVtn, name: str, *more: dict[str, Any]) -> Prepared:
    """A program and an event that asks for more than USAGE."""
    with vtn.bl() as session:
        program_id = session.post("/programs", json={"programName": name}).json()["id"]
        event = event_body(vtn.version, program_id, name)
        event["reportDescriptors"] += more
        return Prepared(program_id, session.post("/events", json=event).json()["id"])


def _rows(points: int, interval_s: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.column_stack([FIRST_START_S + interval_s * np.arange(points), hourly(points)[:, 1]])


def _periods(site: Site, vtn: StandardVtn) -> list[str]:
    """The periods of the first load's reports."""
    load: Load = site.loads[0]
    names = (report.name or "" for report in by_load(site, vtn)[load.external_resource_id])
    return sorted(name.removeprefix(f"{load.vtn_resource_id}.") for name in names)


def test_an_event_that_asks_for_other_units_gets_reports_that_say_so(vtn: StandardVtn, new_site: NewSite) -> None:
    site = registered(new_site(loads=2, points=300), vtn)
    upload(site, vtn)
    names: dict[str, Any] = {"program_name": "units", "event_name": "units"}
    vtn.prepare("units", payloadType="DEMAND", readingType="MEAN", units="KW")
    vtn.switch(habits=["put_keeps_descriptors"])
    upload(site, vtn, **names)
    assert_stored(site, vtn, payload="DEMAND")
    for report in reports_of(site, vtn):
        assert [each["payloadType"] for each in report.content["payloadDescriptors"]] == ["DEMAND"]
