"""Promises about times that cannot be: their unit is told, and what is no time of this century's meters is not sent."""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.commands import command, last_json, run_options
from tests.reference_vtn import ReferenceVtn
from tests.sites import FIRST_START_S, Site, hourly
from venclient.errors import PermanentError
from venclient.sources.cleaning import clean
from venclient.sources.hdf5 import MeterFile
from venclient.sources.time_range import START_OF_2000_S, TimeRange

NewSite = Callable[..., Site]
DAY_S = 86_400
NOW_S = FIRST_START_S + 400 * DAY_S
AT_NOON = TimeRange(now=lambda: NOW_S)


def _with_times(times: NDArray[np.generic]) -> NDArray[np.float64]:
    rows = hourly(48)
    rows[:, 0] = times
    return rows


START_S = hourly(48)[:, 0]


@pytest.mark.parametrize("per_s", [1, 10**3, 10**6, 10**7, 10**9], ids=["s", "ms", "µs", "100 ns", "ns"])
@pytest.mark.parametrize("dtype", ["<f8", "<i8", "<u8"])
def test_times_in_any_of_five_units_are_told_apart(per_s: int, dtype: str) -> None:
    rows = np.rint(hourly(48)).astype(dtype)
    rows[:, 0] *= np.dtype(dtype).type(per_s)
    assert clean(rows).points().start_s.tolist() == START_S.tolist()


@pytest.mark.parametrize(
    ("times", "look"),
    [
        pytest.param(START_S / 60, "minutes since 1970", id="minutes"),
        pytest.param(START_S / 3600, "hours since 1970", id="hours"),
        pytest.param(START_S / DAY_S, "days since 1970", id="days"),
        pytest.param(START_S / DAY_S + 25_569, "days as Excel counts them", id="Excel"),
        pytest.param(START_S // 1000, "microseconds since 1970 that were divided as if", id="µs divided as ns"),
        pytest.param(START_S * 1e7 + 621_355_968e9, "100-nanosecond ticks since the year 1", id="ticks of .NET"),
        pytest.param(START_S * 1e7 + 116_444_736e9, "100-nanosecond ticks since 1601", id="ticks of Windows"),
        pytest.param(np.arange(48), "row numbers", id="row numbers from 0"),
        pytest.param(np.arange(1, 49), "row numbers", id="row numbers from 1"),
        pytest.param(20_250_115 + np.arange(48) % 15, "a date that was written as one number", id="20250115"),
        pytest.param(202_501_150_000 + np.arange(48), "a date that was written as one number", id="202501150000"),
        pytest.param(20_250_115_000_000 + np.arange(48), "a date that was written as one number", id="20250115000000"),
    ],
)
def test_times_that_are_something_else_fail_the_load_with_what_they_look_like(
    times: NDArray[np.generic], look: str
) -> None:
    with pytest.raises(PermanentError, match=f"48 of 48 points .* row 0: its time .* it looks like {look}"):
        clean(_with_times(times), time_range=AT_NOON)


@pytest.mark.parametrize("per_s", [1, 1000])
def test_swapped_columns_are_named(per_s: int) -> None:
    rows = np.stack([np.linspace(100, 3000, 48), START_S * per_s], axis=1)
    with pytest.raises(PermanentError, match="the columns look swapped"):
        clean(rows, time_range=AT_NOON)


def test_times_in_no_unit_say_what_is_expected() -> None:
    with pytest.raises(PermanentError, match=r"48 bad timestamp\. Seconds, milliseconds, microseconds, 100-nano"):
        clean(_with_times(START_S * 1e20))


@pytest.mark.parametrize(
    ("start_s", "is_allowed"),
    [
        pytest.param(START_OF_2000_S - 1, False, id="before 2000"),
        pytest.param(START_OF_2000_S, True, id="2000-01-01"),
        pytest.param(NOW_S + DAY_S, True, id="a day ahead"),
        pytest.param(NOW_S + DAY_S + 1, False, id="more than a day ahead"),
        pytest.param(5.0, False, id="1970"),
    ],
)
def test_one_point_outside_the_range_fails_the_load_and_is_named(start_s: float, is_allowed: bool) -> None:
    rows = hourly(48)
    rows[17, 0] = start_s
    if is_allowed:
        assert len(clean(rows, time_range=AT_NOON)) == 48
        return
    with pytest.raises(PermanentError) as failure:
        clean(rows, time_range=AT_NOON)
    told = str(failure.value)
    assert told.startswith("1 of 48 points would start before 2000-01-01 or more than a day from now, 2026-02-19.")
    assert f"row 17: its time {start_s:.15g} is {datetime.fromtimestamp(start_s, UTC):%Y-%m-%dT%H:%M:%SZ}" in told
    assert "looks like" not in told
    assert "BULK_UPLOAD_EARLIEST" in told


def test_rows_that_would_not_be_sent_fail_nothing() -> None:
    rows = hourly(48)
    rows[3], rows[4], rows[5, 0], rows[6, 0] = 0.0, [5.0, np.nan], -3600.0, 1e300
    assert dict(clean(rows).dropped) == {"bad timestamp": 3, "NaN": 1}


def test_a_fill_value_in_the_times_of_most_rows_does_not_hide_the_unit_of_the_others() -> None:
    for fill in (-9999.0, 9.969209968386869e36):
        rows = hourly(48)
        rows[:, 0] *= 1000
        rows[10:, 0] = fill
        series = clean(rows)
        assert series.points().start_s.tolist() == START_S[:10].tolist()
        assert dict(series.dropped) == {"bad timestamp": 38}


@given(
    st.lists(st.integers(0, 60).map(lambda day: FIRST_START_S + day * DAY_S), min_size=1, unique=True),
    st.integers(0, 60),
    st.integers(0, 60),
)
def test_a_point_outside_the_range_is_never_sent(starts_s: list[int], first_day: int, days: int) -> None:
    earliest_s = FIRST_START_S + first_day * DAY_S
    latest_s = earliest_s + days * DAY_S
    rows = np.array([[start_s, 1.0] for start_s in starts_s])
    outside = sum(not earliest_s <= start_s <= latest_s for start_s in starts_s)
    expected = pytest.raises(PermanentError, match=f"^{outside} of {len(rows)} points would start")
    with expected if outside else nullcontext():
        clean(rows, time_range=TimeRange(earliest_s, latest_s))


def test_a_range_of_days_goes_to_the_end_of_its_last_day() -> None:
    bounds = TimeRange.of_days(date(2025, 1, 1), date(2025, 12, 31)).bounds()
    assert bounds == (1_735_689_600, 1_767_225_599)
    assert TimeRange.of_days(date(2025, 1, 1), None).latest_s is None


def test_a_meter_file_has_the_range_of_the_settings_unless_it_is_given_another(new_site: NewSite) -> None:
    site = new_site(loads=1)
    site.execute("UPDATE loads SET vtn_resource_id = 'x'")
    (load,) = site.loads
    site.write_rows(load, hourly(48, first_start_s=-86_400 + START_OF_2000_S))
    with MeterFile(site.h5) as meters, pytest.raises(PermanentError, match="24 of 48 points"):
        meters.series(load.h5_meter_id, load.load_component)
    with MeterFile(site.h5, time_range=TimeRange(0)) as meters:
        assert len(meters.series(load.h5_meter_id, load.load_component)) == 48


def test_check_plan_run_and_verify_refuse_the_same_times_and_take_them_where_the_settings_allow_them(
    vtn: ReferenceVtn, new_site: NewSite, prefect_url: str, tmp_path: Path
) -> None:
    site = new_site(loads=2, points=48)
    site.register(vtn)
    old, good = site.loads
    site.write_rows(old, hourly(48, first_start_s=500_000_000))  # 1985
    files = run_options(site, vtn)

    def told(name: str, **settings: str) -> dict[str, object]:
        options = files[: {"check": 4, "plan": 8}.get(name)]
        finished = command(name, *options, "--json", cwd=tmp_path, prefect_url=prefect_url, **settings)
        return {"exit code": finished.returncode, "text": finished.stdout + finished.stderr, **last_json(finished)}

    refusal = "48 of 48 points would start before 2000-01-01"
    checked = told("check")
    assert (checked["exit code"], checked["failing"]) == (1, 1)
    assert refusal in str(checked["text"])
    assert refusal in str(told("plan")["text"])
    ran = told("run")
    assert (ran["exit code"], ran["failed"], ran["total_points_uploaded"]) == (1, 1, 48)
    assert vtn.points(old.vtn_resource_id).start_s.tolist() == []
    assert refusal in str(told("verify")["text"])

    allowed = {"BULK_UPLOAD_EARLIEST": "1985-01-01"}
    assert told("check", **allowed)["failing"] == 0
    assert told("plan", **allowed)["points"] == 48
    assert told("run", **allowed)["total_points_uploaded"] == 48
    assert told("verify", **allowed)["passed"] is True
    site.assert_stored(vtn)
    assert good.vtn_resource_id != old.vtn_resource_id

    ended = {"BULK_UPLOAD_LATEST": "2025-01-15"}
    checked = told("check", **ended, **allowed)
    assert checked["failing"] == 1
    assert "or after 2025-01-15" in str(checked["text"])
