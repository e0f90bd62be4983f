"""Promises of what a check finds: nothing that matters is hidden, by its size, its place or what stands around it."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.chromium import Tab, tab
from tests.commands import command, last_json
from tests.sites import Site, hourly
from tests.waiting import until
from venclient.loads import Load
from venclient.reports.series_facts import implausible_from_w
from venclient.resources.database import ResourceDatabase

DAY = 24


def _loads(site: Site) -> list[Load]:
    return ResourceDatabase(str(site.db)).all_loads()


def _findings(site: Site) -> list[list[str]]:
    """The findings of each load, in the order of the loads table."""
    return [list(check["findings"]) for check in _checks(site)]


def _checks(site: Site, *, returns: int = 0, **environment: str) -> list[dict[str, Any]]:
    finished = command("check", "--db", site.db, "--h5", site.h5, "--json", cwd=site.db.parent, **environment)
    assert finished.returncode == returns, finished.stderr
    return list(last_json(finished)["checks"])


def test_a_check_obeys_the_quality_rules_as_a_run_does(new_site: Callable[..., Site]) -> None:
    site = new_site(loads=1)
    (load,) = _loads(site)
    site.write_rows(load, hourly(960) * (1, math.nan))
    (told,) = _checks(site, returns=1)
    assert told["error"].startswith("No usable rows: 960 NaN")
    (told,) = _checks(site, BULK_UPLOAD_QUALITY_RULES="NaN → MISSING 0")
    assert (told["error"], told["series"]["points"], told["series"]["nan"]) == (None, 960, 0)
    assert told["findings"] == ["all zero"]


def test_a_finding_of_one_row_is_in_the_singular(new_site: Callable[..., Site]) -> None:
    site = new_site(loads=1)
    (load,) = _loads(site)
    rows = hourly(960)
    site.write_rows(load, np.vstack([rows[:1], rows[:-1], rows[-1:] * (1, -1), [(math.nan, 5)]]))
    assert _findings(site) == [["1 duplicate timestamp", "1 bad timestamp", "1 negative"]]


def test_a_series_that_ends_long_before_the_others_or_begins_long_after_them_is_found(
    new_site: Callable[..., Site],
) -> None:
    site = new_site(loads=6, points=365 * DAY)
    ends, begins, *_ = _loads(site)
    site.write_rows(ends, site.rows(ends)[: 122 * DAY])
    site.write_rows(begins, site.rows(begins)[60 * DAY :])
    first, second, *others = _findings(site)
    assert first == ["ends 243 days before the others"]
    assert second == ["begins 60 days after the others"]
    assert others == 4 * [[]]


def test_series_that_begin_and_end_within_days_of_each_other_are_as_the_others(new_site: Callable[..., Site]) -> None:
    site = new_site(loads=6, points=365 * DAY)
    for hours, load in enumerate(_loads(site)):
        site.write_rows(load, site.rows(load)[hours : len(site.rows(load)) - 3 * hours])
    assert _findings(site) == 6 * [[]]
    two_and_a_half, half, *_ = _loads(site)
    for load, hours in ((two_and_a_half, 60), (half, 12)):  # 60 hours are less than one per cent of the year
        site.write_rows(load, hourly(365 * DAY - hours))
    assert _findings(site) == 6 * [[]]


def test_a_series_that_changes_its_step_is_found(new_site: Callable[..., Site]) -> None:
    site = new_site(loads=2, points=60 * DAY)
    once, twice = _loads(site)
    at_s = int(site.rows(once)[30 * DAY, 0])
    quarters = hourly(4 * 30 * DAY, first_start_s=at_s)
    quarters[:, 0] = at_s + 900.0 * np.arange(len(quarters))
    site.write_rows(once, np.concatenate([site.rows(once)[: 30 * DAY], quarters]))
    site.write_rows(twice, np.concatenate([quarters[:400], site.rows(twice)[30 * DAY + 100 :]]))
    first, second = _checks(site)
    assert first["findings"] == ["step changes: 60 min → 15 min on 2025-02-14"]
    assert second["findings"][-1] == "step changes: 15 min → 60 min on 2025-02-18"
    assert [each["interval_s"] for each in first["series"]["steps"]] == [3600, 900]
    assert first["series"]["gap_count"] == 0


def test_a_row_of_the_loads_table_that_is_of_no_use_fails_in_a_check_as_in_a_run(new_site: Callable[..., Site]) -> None:
    site = new_site(loads=2)
    site.execute("UPDATE loads SET load_id = CAST(X'ff00' AS BLOB) WHERE load_component = 'load_0'")
    checks = _checks(site, returns=1)
    assert sorted(check["error"] is None for check in checks) == [False, True]


@pytest.mark.parametrize(
    "value",
    [
        9.969209968386869e36,
        *(pytest.param(value, marks=pytest.mark.long) for value in (-1e36, 1.7976931348623157e308)),
        2e9,
    ],
)
def test_implausible_values_are_found_and_break_no_table(new_site: Callable[..., Site], value: float) -> None:
    site = new_site(loads=2, points=48)
    load, all_of_it = _loads(site)
    rows = site.rows(load)
    rows[10:20, 1] = value
    site.write_rows(load, rows)
    site.write_rows(all_of_it, rows * (1, 0) + (0, value))
    narrow = {"COLUMNS": "80", "FORCE_COLOR": "1", "TERM": "dumb"}
    on_site = ["check", "--db", site.db, "--h5", site.h5]
    shown = command(*on_site, "--plot", site.db.parent / "pictures", cwd=site.db.parent, **narrow)
    assert not shown.stderr.strip()
    assert max(len(line) for line in shown.stdout.splitlines() if not line.startswith("Pictures: ")) <= 80
    assert shown.stdout.count("2025-01-15") == shown.stdout.count("60 min") == 2
    some, whole = _checks(site)
    assert (some["implausible"], whole["implausible"]) == (10, 48)
    assert some["findings"][0] == f"10 implausible (up to {abs(value):.2e} W)"
    text = json.dumps([some["series"], whole["series"]])
    assert "null" not in text
    assert "Infinity" not in text
    assert whole["series"]["mean_w"] == pytest.approx(value)
    assert whole["series"]["median_w"] == value


@pytest.mark.parametrize(
    ("typical_w", "capacity_w", "above_w"),
    [
        (500.0, None, 500_000.0),
        (2.0, None, 100_000.0),  # a stand-by of two watts beside a machine
        (0.0, None, 100_000.0),
        (5e6, None, 1e9),
        (500.0, 11_000.0, 500_000.0),
        (500.0, 2_000.0, 200_000.0),
        (500.0, 11.0, 100_000.0),  # the capacity was meant in kW
        (500.0, 3e6, 3e6),
        (5e8, 2e9, 2e9),
    ],
)
def test_what_is_implausible_depends_on_the_series_and_its_resource(
    typical_w: float, capacity_w: float | None, above_w: float
) -> None:
    assert implausible_from_w(typical_w, capacity_w) == above_w


def test_of_many_loads_those_that_fail_come_first_by_cause_and_nothing_is_cut(new_site: Callable[..., Site]) -> None:
    site = new_site(loads=180, points=48, vens=3)
    loads = _loads(site)
    lost, empty, gap = loads[20:150], loads[0], loads[1]
    for load in lost:
        site.execute("UPDATE loads SET h5_meter_id = ? WHERE load_id = ?", f"meter_{load.load_id}", load.load_id)
    site.write_rows(empty, np.empty((0, 2)))
    site.write_rows(gap, np.delete(site.rows(gap), slice(10, 20), axis=0))
    on_site = ["check", "--db", site.db, "--h5", site.h5]
    finished = command(*on_site, "--plot", site.db.parent / "pictures", cwd=site.db.parent)
    assert finished.returncode == 1
    lines = finished.stdout.splitlines()
    assert lines[0].startswith("130 loads cannot be uploaded, such as: H5 meter 'meter_")
    assert [line.startswith("  ") for line in lines[:7]] == [False, True, True, True, True, False, True]
    assert lines[4].startswith("  and 127 more")
    assert "1 load cannot be uploaded: Power dataset of 'load_0'" in lines[5]
    assert empty.load_id in lines[6]
    assert re.search(
        rf"^gaps +1 +{re.escape(gap.name)} \({re.escape(gap.ven)}\): 1 gap \(10.0 h\)", finished.stdout, re.M
    )
    assert "48 loads without findings: 48 points each, 2025-01-15 to 2025-01-17, 60 min" in finished.stdout
    assert lines[-2] == "180 loads with 180 series: 49 can be uploaded, 131 cannot"
    told = _checks(site, returns=1)
    assert {check["load_id"] for check in told if check["error"]} == {load.load_id for load in [*lost, empty]}
    page = (site.db.parent / "pictures" / "coverage.html").read_text()
    assert all(f"<code>{load.load_id}</code>" in page for load in [*lost, empty])
    assert "1 gap (10.0 h)" in page


def test_no_line_is_drawn_through_a_gap(new_site: Callable[..., Site], tmp_path: Path) -> None:
    site = new_site(loads=1)
    (load,) = _loads(site)
    rows = hourly(300 * DAY) * (1, 0) + (0, 1000.0)
    with tab(height=4000) as shown:
        assert _line_in_the_middle(shown, site, load, rows)
        assert not _line_in_the_middle(shown, site, load, np.delete(rows, slice(100 * DAY, 200 * DAY), axis=0))


def _line_in_the_middle(shown: Tab, site: Site, load: Load, rows: object) -> bool:
    """Whether the page's load curve has its line in the middle of its picture."""
    site.write_rows(load, rows)
    command("check", "--db", site.db, "--h5", site.h5, "--plot", site.db.parent, cwd=site.db.parent)
    shown.open(f"file://{site.db.parent}/coverage.html")
    until(lambda: shown.run("!!document.querySelector('.chart canvas')"))
    column = """new Promise(requestAnimationFrame).then(() => {
      const {ctx, bbox} = [...charts][0];
      return [...ctx.getImageData(bbox.left + bbox.width / 2, bbox.top, 1, bbox.height).data];
    })"""
    pixels = np.array(shown.run(column)).reshape(-1, 4)
    return bool((pixels[:, 2] - pixels[:, 0] > 60).any())  # it is blue
