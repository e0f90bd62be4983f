"""Months that are near the size limit: the length of their reports stays, and no report is above the limit."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.sites import FIRST_START_S, Site, hourly, load_of
from tests.standard_site import assert_stored, registered, reports_of, requests_since, upload, verified
from tests.standard_vtn import StandardVtn
from venclient.ledger import Entry
from venclient.models import StoredReport
from venclient.sources.cleaning import clean
from venclient.sync.due import DueRules
from venclient.sync.planning import RequestSizes
from venclient.wires.openadr3.form import Event, Form
from venclient.wires.openadr3.layout import ReportLayout

NewSite = Callable[..., Site]
MARCH_S = 1_740_787_200
SIZE = 60_000  # an hourly month needs 50,000, and 100,000 if each interval has a period of its own
DAY, MONTH = len("2025-03-01"), len("2025-03")


@pytest.fixture
def vtn(standard_vtn: StandardVtn) -> StandardVtn:
    """Of each version."""
    return standard_vtn


@pytest.fixture
def site(vtn: StandardVtn, new_site: NewSite) -> Site:
    """With one load."""
    return registered(new_site(loads=1, points=10), vtn)


@pytest.mark.parametrize("interval_s", [300, 600])
def test_a_series_that_grows_point_by_point_keeps_its_reports(vtn: StandardVtn, site: Site, interval_s: int) -> None:
    before = len(vtn.log())
    for points in (2, 3, 5, 8, 300):
        rows = hourly(points)
        rows[:, 0] = FIRST_START_S + interval_s * np.arange(points)
        _upload(site, vtn, rows, max_body_bytes=1_000_000)
    assert requests_since(vtn, before)["POST"] == 1
    assert requests_since(vtn, before)["DELETE"] == 0
    assert _lengths(site, vtn) == {MONTH}


def test_a_gap_early_in_a_month_changes_no_reports_that_fit(vtn: StandardVtn, site: Site) -> None:
    rows = _march(gap_on_day=3)
    for days in (2, 8, 12):
        _upload(site, vtn, rows[: days * 24])
    assert _lengths(site, vtn) == {MONTH}
    before = len(vtn.log())
    _upload(site, vtn, rows)
    assert _lengths(site, vtn) == {DAY}, "they are above the limit"
    assert requests_since(vtn, before)["POST"] == 31
    before = len(vtn.log())
    _upload(site, vtn, _march())
    assert _lengths(site, vtn) == {DAY}
    assert requests_since(vtn, before)["POST"] == 0, "the gap was filled, and days stay days"
    assert {verdict.state for verdict in verified(site, vtn, max_body_bytes=SIZE)} == {"equal"}


def test_a_plan_counts_the_requests_of_each_load_by_the_length_of_its_own_reports() -> None:
    """Two loads of one meter: one has reports of days, and the other none yet."""
    form = Form("3.1", Event("event", "program"))
    layout = ReportLayout(lambda: form, 100_000)
    of_days, new = (replace(load_of("meter", "load"), vtn_resource_id=id_, load_id=id_) for id_ in ("days", "new"))
    kept = {"2025-03-01": StoredReport("", "event", layout.digest(form, of_days))}
    series, rules, sizes = clean(_march()), DueRules(layout), RequestSizes(50_000)
    requests = [
        sizes.of(load, rules.due_of(load, series, Entry(reports=reports)))[0]
        for load, reports in ((of_days, kept), (new, {}), (of_days, kept))
    ]
    assert requests == [31, 1, 31]


def _march(*, gap_on_day: int | None = None) -> NDArray[np.float64]:
    """The hours of March, without some of this day."""
    rows = hourly(31 * 24, first_start_s=MARCH_S)
    return rows if gap_on_day is None else np.delete(rows, [gap_on_day * 24 - 12, gap_on_day * 24 - 11], axis=0)


def _upload(site: Site, vtn: StandardVtn, rows: NDArray[np.float64], **others: Any) -> None:
    """Upload these rows; what is stored is exact, and no report is above the limit."""
    (load,) = site.loads
    site.write_rows(load, rows)
    before = len(vtn.log())
    (result,) = upload(site, vtn, **{"max_body_bytes": SIZE} | others).values()
    assert result.error is None
    assert_stored(site, vtn)
    size = others.get("max_body_bytes", SIZE)
    assert all(seen.body_bytes <= size for seen in vtn.log(after=before))


def _lengths(site: Site, vtn: StandardVtn) -> set[int]:
    """How long the names of the reports' periods are."""
    (load,) = site.loads
    return {len((report.name or "").removeprefix(f"{load.vtn_resource_id}.")) for report in reports_of(site, vtn)}
