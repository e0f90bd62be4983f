"""Promises about requests: every point in exactly one, and JSON that reads back to the bit."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sites import hourly
from venclient.models import Chunk, Mark, MeterSeries
from venclient.sources.cleaning import clean
from venclient.sources.time_range import TimeRange
from venclient.sync.pending import cut, pending
from venclient.wires.bulk.encoding import EncodedPoints

DAY = 24


def _points(series: MeterSeries, chunk_size: int, marks: dict[int, Mark] | None = None) -> list[dict[str, object]]:
    chunks = cut(series, pending(series, marks or {}), chunk_size)
    return [point for chunk in chunks for point in json.loads(_body(chunk))]


def _body(chunk: Chunk) -> bytes:
    encoded = EncodedPoints(chunk)
    body = bytes(encoded)
    assert len(encoded) == len(body)  # the Content-Length
    return body


def _marks(series: MeterSeries, chunk_size: int, acknowledged_chunks: int) -> dict[int, Mark]:
    """The ledger after so many chunks."""
    marks: dict[int, Mark] = {}
    for _, chunk in zip(range(acknowledged_chunks), cut(series, pending(series, {}), chunk_size), strict=False):
        marks |= {mark.month: mark for mark in chunk.marks}
    return marks


series_strategy = st.builds(
    lambda start, steps, values: clean(
        np.stack([start + 900.0 * np.cumsum(steps[: len(values)]), values[: len(steps)]], axis=1),
        time_range=TimeRange(0, 5_000_000_000),
    ),
    st.integers(0, 4_000_000_000),
    st.lists(st.integers(1, 500), min_size=30, max_size=30),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=30, max_size=30),
)


@given(series_strategy, st.integers(1, 40))
def test_bodies_read_back_as_the_very_points_of_the_series(series: MeterSeries, chunk_size: int) -> None:
    points = series.points()
    starts = [datetime.fromtimestamp(start, UTC) for start in points.start_s.tolist()]
    intervals = [timedelta(seconds=interval_s) for interval_s in points.interval_s.tolist()]
    assert _points(series, chunk_size) == [
        {
            "interval_start": start.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "interval_end": (start + interval).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "value": value,
            "quality_code": "GOOD",
        }
        for start, interval, value in zip(starts, intervals, points.power_w.tolist(), strict=True)
    ]


@given(series_strategy, st.integers(1, 40), st.integers(0, 31), st.integers(1, 40))
def test_stopped_after_any_chunk_the_rest_is_sent_and_nothing_twice(
    series: MeterSeries, chunk_size: int, acknowledged: int, next_chunk_size: int
) -> None:
    rest = _points(series, next_chunk_size, _marks(series, chunk_size, acknowledged))
    assert rest == _points(series, 100)[acknowledged * chunk_size :]


@given(series_strategy, st.integers(0, 29))
def test_any_corrected_value_is_noticed(series: MeterSeries, which: int) -> None:
    marks = _marks(series, 100, 1)
    power_w = series.points().power_w.copy()
    power_w[which] = np.nextafter(power_w[which], 0) if power_w[which] else 1.0
    rows = np.stack([series.points().start_s.astype(float), power_w], axis=1)
    corrected = clean(rows, time_range=TimeRange(0, 5_000_000_000))
    sent = _points(corrected, 100, marks)
    assert power_w[which] in [point["value"] for point in sent]
    assert len({str(point["interval_start"])[:7] for point in sent}) == 1


def test_a_request_holds_no_more_than_the_chunk_size_and_only_the_last_is_the_last() -> None:
    series = clean(hourly(1000))
    chunks = list(cut(series, pending(series, {}), 300))
    assert [len(chunk) for chunk in chunks] == [300, 300, 300, 100]
    assert [chunk.is_last for chunk in chunks] == [False, False, False, True]


def test_a_month_that_lost_a_row_is_sent_again() -> None:
    rows = hourly(40 * DAY)
    marks = _marks(clean(rows), 50_000, 1)
    shorter = clean(np.delete(rows, 3, axis=0))
    assert {str(point["interval_start"])[:7] for point in _points(shorter, 50_000, marks)} == {"2025-01"}


def test_another_interval_sends_the_month_again() -> None:
    rows = hourly(100)
    marks = _marks(clean(rows), 50_000, 1)
    refined = clean(np.concatenate([rows, rows + np.array([1800, 0])]))
    assert refined.interval_s == 1800
    assert len(_points(refined, 50_000, marks)) == len(refined)


@pytest.mark.parametrize("value", [0.0, -0.0, 620.0, 1e22, 5e-324, 1.7976931348623157e308, 0.1, 123456789.123])
def test_a_value_keeps_every_bit(value: float) -> None:
    (point,) = _points(clean(np.array([[1_736_928_000, value]])), 1)
    assert str(point["value"]) == str(value)


def test_a_point_is_about_as_long_as_the_contract_says() -> None:
    series = clean(hourly(8739))
    (chunk,) = cut(series, pending(series, {}), 50_000)
    assert 110 <= len(bytes(EncodedPoints(chunk))) / len(chunk) <= 125
