"""Promises about cleaning that hold for every dataset: of any number type, in any order, with any fault."""

import math
import statistics
import warnings
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.sites import expected_intervals
from venclient.errors import PermanentError
from venclient.models import MeterSeries
from venclient.sources.cleaning import ALL_GOOD, clean
from venclient.sources.quality import QualityRules
from venclient.sources.time_range import END_OF_YEAR_9999_S, TimeRange

START_S = 1_736_928_000
DTYPES = ["<f8", ">f8", "<f4", ">f4", "<f2", "g", "<i8", ">i8", "<i4", ">i4", "<u8", "<u4", "<i2", "<u1"]
NAN_RULES = QualityRules.parse("NaN → MISSING 0")
ANY_TIME = TimeRange(0, END_OF_YEAR_9999_S)
# How many of each a second has, and what times in it are at least.
UNITS = [(10**9, 2e17), (10**7, 6e15), (10**6, 1e14), (1_000, 1e11), (1, 0)]

rules = st.sampled_from([ALL_GOOD, NAN_RULES])
units = st.sampled_from([per_s for per_s, _ in UNITS])
grids = st.integers(0, 40).map(lambda n: START_S + 900 * n)
ragged = st.floats(0, 2e9) | st.integers(0, 2 * START_S).map(lambda n: n / 2)
absurd = st.sampled_from([0.0, -1.0, 1e11, 1e15, 1e300, -1e300, 253_402_300_799.5, math.nan, math.inf, -math.inf])
values = st.floats(width=64) | st.sampled_from([0.0, -0.0, 100.0, math.nan, math.inf, -math.inf])
tables = st.tuples(units, st.lists(st.tuples(grids | ragged | absurd, values), min_size=1, max_size=60)).map(
    lambda given: np.array([(time * given[0], value) for time, value in given[1]])
)


@st.composite
def typed_tables(draw: st.DrawFn) -> NDArray[np.generic]:
    """Rows of any number type; what a type does not hold is what a cast makes of it, as in a file."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    with np.errstate(all="ignore"):
        rows: NDArray[np.generic] = draw(tables).astype(dtype)
    return rows


@given(typed_tables(), rules)
@example(np.array([[1e11, 1.0]]), ALL_GOOD)
@example(np.array([[-1e300, 0.0], [253_402_300_799, 0.0]]), ALL_GOOD)
@example(np.random.default_rng(0).integers(START_S, START_S + 300, (2_000, 2)), ALL_GOOD)
def test_a_series_is_what_a_plain_reading_of_the_rules_gives(rows: NDArray[np.generic], rules: QualityRules) -> None:
    points, interval_s, dropped = _plainly(rows, rules)
    if not points or max(points) + interval_s[max(points)] >= END_OF_YEAR_9999_S:
        with pytest.raises(PermanentError) as told:
            clean(rows, rules, time_range=ANY_TIME)
        assert points or told.value.dropped == dropped
        return
    series = clean(rows, rules, time_range=ANY_TIME)
    found = series.points()
    assert found.start_s.tolist() == sorted(points)
    assert dict(zip(found.start_s.tolist(), found.power_w.tolist(), strict=True)) == points
    assert found.interval_s.tolist() == [interval_s[start] for start in sorted(points)]
    assert series.dropped == dropped


@given(typed_tables(), rules)
def test_a_series_is_finite_in_order_and_whole(rows: NDArray[np.generic], rules: QualityRules) -> None:
    series = _cleaned(rows, rules)
    points = series.points()
    columns = (points.start_s, points.power_w, points.quality, points.interval_s)
    assert [values.dtype.str for values in columns] == ["<i8", "<f8", "|u1", "<i8"]
    assert {len(points), *(len(column) for column in columns)} == {len(series)}
    assert np.isfinite(points.power_w).all()
    assert (np.diff(points.start_s) > 0).all()
    assert points.start_s[0] >= 0
    ends_s = points.start_s + points.interval_s
    assert (ends_s > points.start_s).all()
    assert (ends_s[:-1] <= points.start_s[1:]).all(), "no interval reaches into the next"
    assert ends_s[-1] < END_OF_YEAR_9999_S
    assert len(series) + sum(series.dropped.values()) == len(rows)
    edges = [0, *(month.stop for month in series.months)]
    assert [(month.begin, month.stop) for month in series.months] == list(pairwise(edges))
    assert edges[-1] == len(series)


@given(typed_tables())
@example(np.array([[START_S, 1], [START_S + 900, "1e4000"]], np.longdouble))
@example(np.array([[1.7e308, 1], [1.7e308, 1], [START_S, 1]]))
@example(np.array([[0x7FF0000000000001, 0], [0, 0]], np.uint64).view(np.float64))  # a NaN that signals
def test_cleaning_leaves_the_rows_as_they_are_and_warns_of_nothing(rows: NDArray[np.generic]) -> None:
    before = rows.tobytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _cleaned(rows)
    assert rows.tobytes() == before


@given(tables)
def test_what_is_clean_stays_as_it_is(rows: NDArray[np.float64]) -> None:
    once = _cleaned(rows)
    points = once.points()
    assume(not {"NaN", "infinite"} & set(once.dropped))  # their intervals are missing now
    told_s = points.start_s[points.start_s != 0]
    assume(len(told_s) and np.median(told_s) < 1e11)  # from the year 5138 on, seconds look like milliseconds
    again = clean(np.stack([points.start_s, points.power_w], axis=1), time_range=ANY_TIME)
    assert again.months == once.months
    assert not again.dropped


@given(tables, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter_where_no_timestamp_is_twice(
    rows: NDArray[np.float64], random: "np.random.Generator"
) -> None:
    series = _cleaned(rows)
    assume("duplicate timestamp" not in series.dropped)
    order = list(range(len(rows)))
    random.shuffle(order)
    mixed = clean(rows[order], time_range=ANY_TIME)
    assert (mixed.months, mixed.dropped) == (series.months, series.dropped)


@given(st.lists(st.tuples(grids, st.floats(-1e9, 1e9)), min_size=1, max_size=60))
def test_times_in_any_unit_give_the_same_series_as_seconds(rows: list[tuple[int, float]]) -> None:
    seconds = np.array(rows, dtype=np.float64)
    for per_s, _ in UNITS:
        assert clean(seconds * [per_s, 1]).months == clean(seconds).months


def _cleaned(rows: NDArray[np.generic], rules: QualityRules = ALL_GOOD) -> MeterSeries:
    """The series of rows that have one."""
    try:
        return clean(rows, rules, time_range=ANY_TIME)
    except PermanentError:
        assume(False)
        raise


def _plainly(rows: NDArray[np.generic], rules: QualityRules) -> tuple[dict[int, float], dict[int, int], dict[str, int]]:
    """Value and interval by start, and how many rows are left out and why: in plain Python, a row at a time."""
    with np.errstate(all="ignore"):
        pairs = rows.astype(np.float64).tolist()
    times = [time for time, _ in pairs if 0 < time < END_OF_YEAR_9999_S * 1e9]
    median = statistics.median(times) if times else 0
    unit, earliest_s = next((per_s, least / per_s) for per_s, least in UNITS if median >= least)
    points: dict[int, float] = {}
    grid_s: set[int] = set()
    dropped: Counter[str] = Counter()
    for time, value in pairs:
        if not math.isfinite(time) or not earliest_s <= round(time / unit) < END_OF_YEAR_9999_S:
            dropped["bad timestamp"] += 1
            continue
        if round(time / unit) == 0 and not abs(value) > 0:
            dropped["bad timestamp"] += 1
            continue
        grid_s.add(round(time / unit))
        if math.isinf(value):
            dropped["infinite"] += 1
        elif math.isnan(value) and not rules.sends_nan:
            dropped["NaN"] += 1
        else:
            start_s = round(time / unit)
            dropped["duplicate timestamp"] += start_s in points
            points[start_s] = 0.0 if math.isnan(value) else value
    return points, expected_intervals(grid_s), {reason: count for reason, count in dropped.items() if count}
