"""Promises about series of any length: read by slices they are what they are in one piece, to the bit."""

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.sites import FIRST_START_S, expected_points, hourly
from venclient.errors import PermanentError
from venclient.models import MeterSeries, Points
from venclient.months import digest, digests
from venclient.sources.cleaning import clean
from venclient.sources.quality import QualityRules
from venclient.sources.row_order import in_file_order
from venclient.sources.streaming import outline
from venclient.sources.time_range import END_OF_YEAR_9999_S, TimeRange
from venclient.sync.pending import cut, pending
from venclient.wires.bulk.encoding import EncodedPoints

DAY = 24
ALL_RULES = (
    "zero → ESTIMATED, negative → EXPORT, repeated 3 times → SUSPECT, above capacity → TOO-MUCH, NaN → MISSING 7.5"
)
rules = st.sampled_from(["", "NaN → GOOD 0", "repeated 3 times → X", "repeated 9 times → X, zero → Y", ALL_RULES])
# Steps that go from month to month within some rows.
values = st.sampled_from([0.0, -0.0, 5.0, -2.0, 1e300, math.nan, math.inf])
steps = st.sampled_from([900, 900, 900, 3600, 86_400, 700_000])
units = st.sampled_from([1, 1_000, 10**6, 10**7, 10**9])
# Stretches of the same step, with drifting clocks, gaps and extra readings.
step_changes = st.lists(
    st.tuples(st.sampled_from([300, 899, 900, 901, 3599, 3600, 3600, 3601, 7200]), st.integers(1, 12)), max_size=25
).map(lambda runs: [step for step, length in runs for _ in range(length)])
ANY_TIME = TimeRange(0, END_OF_YEAR_9999_S)
faulty_times = st.sampled_from([math.nan, math.inf, -1.0, 1e300, -1e300])


@st.composite
def tables_in_order(draw: st.DrawFn) -> NDArray[np.float64]:
    """Rows in order of time, but for times that are none."""
    runs = draw(st.lists(st.tuples(values, st.integers(1, 5)), min_size=1, max_size=20))
    power_w = [value for value, length in runs for _ in range(length)]
    seconds = draw(st.lists(steps, min_size=len(power_w), max_size=len(power_w)))
    unit = draw(units)
    table = np.stack([(FIRST_START_S + np.cumsum(seconds)) * float(unit), power_w], axis=1)
    for place in draw(st.sets(st.integers(0, len(table) - 1), max_size=3)):
        table[place, 0] = draw(faulty_times)
    return table


@given(tables_in_order(), st.integers(1, 25), rules, st.sampled_from([None, 2.0]))
def test_a_series_in_slices_is_the_same_as_in_one_piece(
    rows: NDArray[np.float64], slice_rows: int, rules: str, capacity_w: float | None
) -> None:
    whole = _outcome(lambda: clean(rows, QualityRules.parse(rules), capacity_w, ANY_TIME))
    sliced = _outcome(lambda: _in_slices(rows, slice_rows, QualityRules.parse(rules), capacity_w))
    assert sliced == whole


@given(tables_in_order(), st.data(), st.integers(1, 25), rules)
def test_a_series_out_of_order_is_the_same_in_slices_as_in_one_piece(
    rows: NDArray[np.float64], data: st.DataObject, slice_rows: int, rules: str
) -> None:
    """Rows are moved, and repeated with another value, anywhere."""
    order = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=2 * len(rows)))
    rows = rows[order]
    rows[:, 1] += np.arange(len(rows)) % 3
    whole = _outcome(lambda: clean(rows, QualityRules.parse(rules), None, ANY_TIME))
    assert _outcome(lambda: _in_slices(rows, slice_rows, QualityRules.parse(rules))) == whole


@given(st.integers(1, 100), st.integers(1, 25), st.integers(0, 40), st.randoms(use_true_random=False))
def test_rows_a_little_out_of_order_are_read_with_no_more_rows_than_that(
    count: int, slice_rows: int, moved_by: int, dice: random.Random
) -> None:
    rows = np.array(sorted(hourly(count).tolist(), key=lambda row: row[0] / 3600 + dice.uniform(0, moved_by)))
    lengths: list[int] = []
    most_rows = 2 * (moved_by + slice_rows)
    series = _in_slices(rows, slice_rows, most_rows=most_rows, lengths=lengths)
    assert series.months == clean(rows).months
    assert max(lengths) <= most_rows


@given(step_changes, st.sets(st.integers(0, 150), max_size=30), st.integers(1, 60))
def test_a_long_series_has_the_intervals_of_a_short_one(
    steps: list[int], without_value: set[int], slice_rows: int
) -> None:
    rows = hourly(len(steps) + 1)
    rows[1:, 0] = FIRST_START_S + np.cumsum(steps)
    rows[[place for place in without_value if place < len(rows)], 1] = math.nan
    assume(np.isfinite(rows[:, 1]).any())
    sliced = _in_slices(rows, slice_rows)
    expected = expected_points(rows.tolist())[1]
    assert sliced.points().interval_s.tolist() == list(expected.values())
    assert _outcome(lambda: sliced) == _outcome(lambda: clean(rows, time_range=ANY_TIME))


@given(tables_in_order(), st.integers(1, 25), st.integers(0, 100), st.integers(0, 100))
def test_a_long_series_is_refused_for_its_times_as_a_short_one_is(
    rows: NDArray[np.float64], slice_rows: int, days_cut: int, days: int
) -> None:
    earliest_s = FIRST_START_S + days_cut * 86_400
    time_range = TimeRange(earliest_s, earliest_s + days * 86_400)
    whole = _outcome(lambda: clean(rows, time_range=time_range))
    sliced = _outcome(lambda: _in_slices(rows, slice_rows, time_range=time_range))
    assert sliced == whole


@given(st.lists(steps, min_size=1), units, st.integers(1, 25))
def test_of_rows_in_order_no_more_than_a_slice_is_read_at_a_time(steps: list[int], unit: int, slice_rows: int) -> None:
    rows = np.stack([(FIRST_START_S + np.cumsum(steps)) * unit, np.ones(len(steps))], axis=1)
    lengths: list[int] = []
    _in_slices(rows, slice_rows, most_rows=slice_rows, lengths=lengths)
    assert max(lengths) <= slice_rows


@pytest.mark.parametrize("slice_rows", [3, 7])
def test_a_first_slice_in_another_unit_than_all_the_others_is_left_out(slice_rows: int) -> None:
    rows = hourly(20)
    rows[3:, 0] *= 1000
    series = _in_slices(rows, slice_rows, most_rows=slice_rows)
    assert dict(series.dropped) == {"bad timestamp": 3}
    assert _outcome(lambda: series) == _outcome(lambda: clean(rows))


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(np.concatenate([hourly(100)[50:], hourly(100)[:50]]), id="two halves, swapped"),
        pytest.param(np.full((100, 2), FIRST_START_S), id="one time for all"),
        pytest.param(np.random.default_rng(0).permutation(hourly(100)), id="shuffled"),
    ],
)
def test_rows_too_far_out_of_order_are_refused_before_they_are_all_in_memory(rows: NDArray[np.float64]) -> None:
    lengths: list[int] = []
    with pytest.raises(PermanentError, match=r"Of its 100 rows, .* more than 30 rows apart: sort them"):
        _in_slices(rows, 10, most_rows=30, lengths=lengths)
    assert max(lengths) == 10


@given(tables_in_order(), st.sets(st.integers(1, 60), min_size=1), st.integers(1, 25), rules)
def test_digests_of_many_stops_are_those_of_each(
    rows: NDArray[np.float64], stops: set[int], slice_rows: int, rules: str
) -> None:
    try:
        series = _in_slices(rows, slice_rows, QualityRules.parse(rules))
    except PermanentError:
        series = None
    assume(series is not None)
    assert series is not None
    within = sorted(stop for stop in stops if stop <= len(series))
    whole = clean(rows, QualityRules.parse(rules), time_range=ANY_TIME)
    assert digests(series, 0, within) == [digest(whole, 0, stop) for stop in within]


@pytest.mark.parametrize("points", [9_999, 10_000, 10_001, 30_001])
def test_a_body_is_the_same_in_whatever_parts_it_is_made(points: int) -> None:
    """A body of many points is made in parts of ten thousand."""
    dice = np.random.default_rng(points)
    power_w = dice.choice([0.0, -0.0, 5.0, -2.0, 1e300, math.nan, 0.1], points)
    rows = np.stack([FIRST_START_S + np.cumsum(dice.choice([900, 900, 3600], points)), power_w], axis=1)
    series = clean(rows, QualityRules.parse(ALL_RULES), time_range=ANY_TIME)
    (whole,) = cut(series, pending(series, {}), points)
    few = [bytes(EncodedPoints(chunk)) for chunk in cut(series, pending(series, {}), 700)]
    assert len(EncodedPoints(whole)) == len(bytes(EncodedPoints(whole)))
    assert bytes(EncodedPoints(whole)) == b"[" + b",".join(body[1:-1] for body in few) + b"]"


@pytest.mark.parametrize(
    ("rules", "digest_of_march"),
    [
        ("", "199ce8e78e51d292a6d1304c3c6e0f57"),
        ("zero → ESTIMATED", "3bb7540b00113c0dc4dec41f0ab12e1c"),
        ("zero → ESTIMATED, repeated 3 times → SUSPECT", "aa0ca0894be27f81ed456ee04e48e241"),
    ],
    ids=["all good", "two codes", "three codes"],
)
def test_a_digest_is_the_one_that_ledgers_have(rules: str, digest_of_march: str) -> None:
    """Ledgers of all versions have them; another digest would send a month of every load again."""
    rows = hourly(DAY * 90)
    rows[DAY * 50 : DAY * 50 + 5, 1] = 0.0
    rows[DAY * 60 : DAY * 60 + 5, 1] = 7.25
    series = clean(rows, QualityRules.parse(rules))
    assert {month.number: month.digest.hex() for month in series.months}[202503] == digest_of_march


def _in_slices(
    rows: NDArray[np.float64],
    slice_rows: int,
    rules: QualityRules | None = None,
    capacity_w: float | None = None,
    *,
    most_rows: int = 1_000_000,
    time_range: TimeRange = ANY_TIME,
    lengths: list[int] | None = None,
) -> MeterSeries:
    """A series of which each slice is read anew; `lengths` hears of each read."""

    def read(begin: int, stop: int) -> NDArray[np.float64]:
        found = rows[begin:stop]
        if lengths is not None:
            lengths.append(len(found))
        return found

    slices = in_file_order(len(rows), slice_rows)
    known = outline(read, slices, rules or QualityRules(), capacity_w, most_rows, time_range)

    def slice_of(number: int) -> Points:
        return known.points(number, read(*known.slices[number][:2]))

    return known.with_months(slice_of).series(slice_of)


def _outcome(series: Callable[[], MeterSeries]) -> object:
    """All that is said of a series, or why there is none."""
    try:
        found = series()
    except PermanentError as error:
        return str(error), error.dropped
    points = found.points()
    columns = (points.start_s.tolist(), points.power_w.tobytes(), points.quality.tolist(), points.interval_s.tolist())
    dropped = dict(found.dropped)
    return columns, found.codes, found.stretches, found.regular_interval_s, found.months, dropped, found.unsorted_rows
