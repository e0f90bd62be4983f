"""Promises about the check: what an upload would find is told before it begins, series by series."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.chromium import opened, share_of_colour, tab
from tests.commands import command, last_json
from tests.meter_files import rows_read
from tests.sites import Site, hourly
from venclient.reports.check import check_loads
from venclient.resources.database import ResourceDatabase
from venclient.sources.hdf5 import MeterFile

WHOLE = (0x2B, 0x6C, 0xB0)
NOTHING = (0xF3, 0xB0, 0xAA)


def _check(site: Site, folder: Path, *more: str, returns: int = 0) -> dict[str, Any]:
    finished = command("check", "--db", site.db, "--h5", site.h5, *more, "--json", cwd=folder)
    assert finished.returncode == returns, finished.stderr
    return last_json(finished)


def _first(site: Site, rows: object, folder: Path, **options: object) -> dict[str, Any]:
    """What is told of a load with these rows."""
    (load, *_) = ResourceDatabase(str(site.db)).all_loads()
    site.write_rows(load, rows, **options)
    (told,) = _check(site, folder, "--limit", "1", returns=0)["checks"]
    return dict(told)


def test_a_series_is_told_in_numbers(new_site: Callable[..., Site], tmp_path: Path) -> None:
    rows = hourly(240)
    rows[:, 1] = 100.0
    rows[3, 1], rows[4, 1], rows[5, 1], rows[6, 1] = np.nan, -50.0, 0.0, 12_000.0
    rows = np.delete(rows, slice(100, 110), axis=0)  # ten hours
    rows = np.concatenate([rows, rows[50:52]])  # twice, and out of order
    told = _first(new_site(loads=1), rows, tmp_path)
    assert (told["exists"], told["readable"], told["registered"], told["error"]) == (True, True, False, None)
    facts = told["series"]
    wanted = {
        "rows": 232, "points": 229, "first": "2025-01-15T08:00:00Z", "last": "2025-01-25T07:00:00Z",
        "interval_s": 3600, "gap_count": 2, "gap_hours": 11.0, "duplicates": 2, "unsorted_rows": 1, "nan": 1,
        "infinite": 0, "bad_timestamps": 0, "negative": 1, "zero_share": 1 / 229, "min_w": -50.0, "max_w": 12_000.0,
        "median_w": 100.0,
    }  # fmt: skip
    assert {name: facts[name] for name in wanted} == wanted
    assert facts["mean_w"] == pytest.approx((226 * 100 - 50 + 12_000) / 229)
    assert facts["gaps"] == [
        {"start": "2025-01-15T11:00:00Z", "hours": 1.0}, {"start": "2025-01-19T12:00:00Z", "hours": 10.0},
    ]  # fmt: skip
    assert (told["capacity_w"], told["above_capacity"]) == (11_000.0, 1)
    assert "2 gaps (11.0 h)" in told["findings"]
    assert "1 above capacity (11,000 W)" in told["findings"]


def test_a_series_without_a_fault_has_no_findings(new_site: Callable[..., Site], tmp_path: Path) -> None:
    assert _first(new_site(loads=1), hourly(100), tmp_path)["findings"] == []


def test_a_terminal_of_80_columns_shows_every_column_to_its_end(new_site: Callable[..., Site], tmp_path: Path) -> None:
    site = new_site(loads=1, points=8_739)
    (load,) = ResourceDatabase(str(site.db)).all_loads()
    site.write_rows(load, hourly(8_739) * (1, -1))
    narrow = {"COLUMNS": "80", "FORCE_COLOR": "1", "TERM": "dumb"}
    shown = command("check", "--db", site.db, "--h5", site.h5, cwd=tmp_path, **narrow).stdout
    assert "findings" in shown
    assert "negative" in shown


def test_on_a_narrow_terminal_what_is_the_same_for_all_loads_is_said_once(
    new_site: Callable[..., Site], tmp_path: Path
) -> None:
    site = new_site(loads=6, points=8_739)
    site.execute("UPDATE resources SET resource_name = 'Andersen, Åboulevarden 84'")
    narrow = {"COLUMNS": "80", "FORCE_COLOR": "1", "TERM": "dumb"}
    same, _, *rows, _ = command("check", "--db", site.db, "--h5", site.h5, cwd=tmp_path, **narrow).stdout.splitlines()
    assert same == "Same for all below: rows 8,739, from 2025-01-15, to 2026-01-14, step 60 min"
    assert [row.startswith("Andersen, Åboulevarden 84 - Base Load ") for row in rows] == [True] * 6
    wide = command("check", "--db", site.db, "--h5", site.h5, cwd=tmp_path, COLUMNS="80").stdout
    assert "Same for all" not in wide, "a file or a pipe has all columns"


def test_what_would_not_upload_gives_exit_code_1_and_the_same_words(
    new_site: Callable[..., Site], tmp_path: Path
) -> None:
    site = new_site(loads=6)
    missing, empty, useless, *_ = ResourceDatabase(str(site.db)).all_loads()
    site.execute("UPDATE loads SET load_component = 'load_9' WHERE load_id = ?", missing.load_id)
    site.write_rows(empty, np.empty((0, 2)))
    site.write_rows(useless, np.full((5, 2), np.nan))
    told = _check(site, tmp_path, returns=1)
    assert (told["loads"], told["usable"], told["failing"]) == (6, 3, 3)
    by_id = {check["load_id"]: check for check in told["checks"]}
    facts = {id_: (check["exists"], check["readable"]) for id_, check in by_id.items() if check["error"]}
    assert facts == {
        missing.load_id: (False, False), empty.load_id: (True, False), useless.load_id: (True, True),
    }  # fmt: skip
    assert "Load component 'load_9' not found in H5 meter" in by_id[missing.load_id]["error"]
    finished = command("check", "--db", site.db, "--h5", site.h5, cwd=tmp_path)
    assert finished.returncode == 1
    assert "6 loads with 6 series: 3 can be uploaded, 3 cannot" in finished.stdout
    assert "No usable rows: 5 bad timestamp" in " ".join(finished.stdout.split())


def test_a_series_that_loads_share_is_read_once(new_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    site = new_site(loads=12)
    site.execute("UPDATE loads SET h5_meter_id = 'meter_000000000000000000'")
    read = rows_read(monkeypatch)
    with MeterFile(site.h5) as meters:
        checked = list(check_loads(ResourceDatabase(str(site.db)).all_loads(), meters))
    assert sum(len(series.loads) for series in checked) == 12
    assert len(read) == 6


def test_loads_that_are_left_out_of_registration_are_left_out(new_site: Callable[..., Site], tmp_path: Path) -> None:
    site = new_site(loads=12)
    site.execute("UPDATE resources SET enabled = 0 WHERE id = 1")
    assert _check(site, tmp_path)["loads"] == 6


def test_measured_data_is_told_as_it_is(konstanz: Path, tmp_path: Path) -> None:
    told = _check(Site.of_folder(konstanz), tmp_path)
    assert (told["loads"], told["failing"], told["series"]) == (58, 0, 29)
    assert sum(check["registered"] for check in told["checks"]) == 45
    assert {check["series"]["rows"] for check in told["checks"]} == {8739, 8740, 8741}


def test_the_page_shows_coverage_and_curves_without_an_error(new_site: Callable[..., Site], tmp_path: Path) -> None:
    site = new_site(loads=6, points=24 * 60)
    assert _page(site, tmp_path / "whole.png") == []
    assert share_of_colour(tmp_path / "whole.png", *WHOLE) > 0.02
    assert share_of_colour(tmp_path / "whole.png", *NOTHING) < 0.001
    load = ResourceDatabase(str(site.db)).all_loads()[2]
    site.write_rows(load, np.delete(site.rows(load), slice(24 * 10, 24 * 40), axis=0))
    assert _page(site, tmp_path / "gap.png") == []
    assert share_of_colour(tmp_path / "gap.png", *NOTHING) > 0.002


def test_names_of_any_characters_are_shown_as_they_are(new_site: Callable[..., Site], tmp_path: Path) -> None:
    site = new_site(loads=1)
    site.execute("UPDATE resources SET ven = ?, resource_name = ?", "<script>throw 1</script> $x^{ Ærø", "$\\frac{ <b>")
    assert _page(site, tmp_path / "names.png") == []
    text = (site.db.parent / "pictures" / "coverage.html").read_text()
    assert "&lt;script&gt;throw 1&lt;/script&gt; $x^{ Ærø" in text


def test_a_day_far_from_all_others_does_not_squeeze_the_picture(new_site: Callable[..., Site], tmp_path: Path) -> None:
    site = new_site(loads=1)
    (load,) = ResourceDatabase(str(site.db)).all_loads()
    rows = np.concatenate([hourly(24 * 400), [[250_000_000_000.0, 1.0]]])
    site.write_rows(load, rows)
    assert _page(site, tmp_path / "far.png", BULK_UPLOAD_LATEST="9999-12-30") == []
    assert "1 day far from the others is not drawn" in (site.db.parent / "pictures" / "coverage.html").read_text()
    assert share_of_colour(tmp_path / "far.png", *WHOLE) > 0.003


def test_a_month_of_which_only_some_days_count_says_which(new_site: Callable[..., Site], tmp_path: Path) -> None:
    site = new_site(loads=1, points=24 * 60)
    assert _page(site, tmp_path / "months.png") == []
    page = site.db.parent / "pictures" / "coverage.html"
    january, february, march = re.findall('<th scope="col" title="(.+?)"', page.read_text())
    assert (january, february, march) == ("Jan 2025 (days 15 to 31)", "Feb 2025", "Mar 2025 (days 1 to 16)")
    assert "Of the first and the last month, only the days in that time count." in page.read_text()
    title = """(() => {
      const cell = document.querySelector("#vens tr[data-ven] .k5");
      cell.dispatchEvent(new MouseEvent("mouseover", {bubbles: true}));
      return cell.title;
    })()"""
    with tab() as shown:
        shown.open(f"file://{page}")
        assert str(shown.run(title)).endswith(", Jan 2025 (days 15 to 31): 100 % of the time has data")


def test_an_error_on_a_page_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text("<script>throw new Error('noticed')</script>")
    (line,) = opened(f"file://{tmp_path}/bad.html", tmp_path / "bad.png")
    assert "noticed" in line


def _page(site: Site, picture: Path, **environment: str) -> list[str]:
    """What the console says when the page is opened."""
    pictures = site.db.parent / "pictures"
    finished = command("check", "--db", site.db, "--h5", site.h5, "--plot", pictures, cwd=site.db.parent, **environment)
    assert finished.returncode == 0, finished.stderr
    return opened(f"file://{pictures}/coverage.html", picture)
