"""Promises about cleaning: finite, in order, one value a timestamp, and every row that is left out is counted."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.sites import expected_points, hourly
from venclient.errors import PermanentError
from venclient.sources.cleaning import clean
from venclient.sources.quality import QualityRules

START = 1_736_928_000

grids = st.integers(0, 40).map(lambda n: START + 900.0 * n)
times = grids | st.sampled_from([math.nan, math.inf, -math.inf])
values = st.one_of(st.floats(-1e6, 1e6, width=32), st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 1e300]))


@given(st.lists(st.tuples(grids, values), min_size=1))
def test_cleaned_series_are_what_a_plain_reading_of_the_rules_gives(rows: list[tuple[float, float]]) -> None:
    if not any(math.isfinite(value) for _, value in rows):
        with pytest.raises(PermanentError, match="No usable rows"):
            clean(np.array(rows))
        return
    series = clean(np.array(rows))
    points, interval_s = expected_points(rows)
    assert dict(zip(series.points().start_s.tolist(), series.points().power_w.tolist(), strict=True)) == points
    assert series.points().start_s.tolist() == sorted(points)
    assert series.points().interval_s.tolist() == list(interval_s.values())


@given(st.lists(st.tuples(times, values), min_size=1))
def test_every_row_is_kept_or_counted_by_its_reason(rows: list[tuple[float, float]]) -> None:
    assume(any(math.isfinite(time) and math.isfinite(value) for time, value in rows))
    series = clean(np.array(rows))
    assert len(series) + sum(series.dropped.values()) == len(rows)
    assert all(series.dropped.values())


def test_reasons_are_told_apart() -> None:
    rows = hourly(10)
    rows[1, 1], rows[2, 1], rows[3, 1], rows[4, 0], rows[5, 0] = math.nan, math.inf, -math.inf, math.nan, rows[6, 0]
    series = clean(rows)
    assert series.dropped == {"NaN": 1, "infinite": 2, "bad timestamp": 1, "duplicate timestamp": 1}


def test_the_row_further_down_wins_even_when_it_is_out_of_order() -> None:
    series = clean(np.array([[START + 3600, 1.0], [START, 2.0], [START + 3600, 3.0], [START, math.nan]]))
    assert series.points().start_s.tolist() == [START, START + 3600]
    assert series.points().power_w.tolist() == [2.0, 3.0]


def test_export_stays_negative() -> None:
    rows = hourly(5)
    rows[:, 1] *= -1
    assert (clean(rows).points().power_w < 0).all()


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<i8", ">i4", "<u4", ">u8"])
def test_any_number_type_gives_the_same_series(dtype: str) -> None:
    rows = np.rint(hourly(50))
    series = clean(rows.astype(dtype))
    assert series.points().start_s.tolist() == rows[:, 0].tolist()
    assert series.points().power_w.tolist() == rows[:, 1].tolist()


def test_milliseconds_are_told_from_seconds() -> None:
    rows = hourly(50)
    expected = clean(rows)
    rows[:, 0] *= 1000
    series = clean(rows)
    assert series.points().start_s.tolist() == expected.points().start_s.tolist()
    assert series.interval_s == 3600


@pytest.mark.parametrize("step_s", [60, 900, 1800, 3600])
def test_the_most_frequent_step_is_the_interval_whatever_the_gaps(step_s: int) -> None:
    start_s = START + step_s * np.arange(100.0)
    kept = np.delete(start_s, [3, 4, 50, 70, 71, 72])
    assert clean(np.stack([kept, np.ones(len(kept))], axis=1)).interval_s == step_s


def test_an_interval_without_a_value_is_one_all_the_same() -> None:
    rows = hourly(101)
    rows[:, 0] = START + 900 * np.arange(101.0)
    rows[1::2, 1] = math.nan
    series = clean(rows)
    assert (len(series), series.interval_s) == (51, 900)


@pytest.mark.parametrize("unit", [1, 1000])
@pytest.mark.parametrize("dtype", ["<f8", "<i8"])
def test_rows_that_nobody_wrote_are_none(unit: int, dtype: str) -> None:
    rows = np.zeros((500, 2), dtype)
    rows[:200] = np.rint(hourly(200)) * [unit, 1]
    if dtype == "<f8":
        rows[400:, 1] = math.nan
    series = clean(rows, QualityRules.parse("NaN → MISSING 0"))
    assert series.points().start_s.tolist() == hourly(200)[:, 0].tolist()
    assert series.dropped == {"bad timestamp": 300}


def test_a_few_seconds_among_milliseconds_are_no_days_of_1970() -> None:
    rows = hourly(10)
    rows[2:, 0] *= 1000
    series = clean(rows)
    assert series.points().start_s.tolist() == hourly(10)[2:, 0].tolist()
    assert series.dropped == {"bad timestamp": 2}


def test_zero_has_no_sign() -> None:
    rows = hourly(10)
    rows[3:6, 1] = 0.0
    months = clean(rows).months
    rows[3:6, 1] = -0.0
    assert clean(rows).months == months


def test_a_single_row_lasts_an_hour() -> None:
    assert clean(hourly(1)).interval_s == 3600


@pytest.mark.parametrize(
    "time", [-1.0, 1e15, 1e300, -1e300], ids=["before 1970", "microseconds", "absurd", "absurdly early"]
)
def test_a_time_outside_the_calendar_is_no_time(time: float) -> None:
    rows = hourly(10)
    rows[4, 0] = time
    series = clean(rows)
    assert series.dropped == {"bad timestamp": 1}
    assert len(series) == 9


def test_months_follow_the_calendar_in_utc() -> None:
    series = clean(hourly(24 * 60))
    assert [month.number for month in series.months] == [202501, 202502, 202503]
    assert [(month.begin, month.stop) for month in series.months] == [(0, 400), (400, 1072), (1072, 1440)]
