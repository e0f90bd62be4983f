"""Statistics of a series: as a whole, by day and by hour, for `check`. Points are processed slice by slice."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from venclient.days import DAY_S
from venclient.models import MeterSeries, Points

HOUR_S = 3_600
# Hourly values of longer series are not kept: three years of 906 series take 95 MB.
MAX_HOURS = 3 * 366 * 24
MAX_GAPS_LISTED = MAX_STEPS_LISTED = 20
# Medians of longer series are estimated from this many evenly spaced points, to bound memory.
MEDIAN_POINTS = 1_000_000
# The power of a large power station: no load of a town draws as much.
IMPLAUSIBLE_W = 1e9
# No value up to this is implausible, such as a machine's in a series that is a stand-by of a few watts otherwise.
PLAUSIBLE_W = 1e5
TIMES_TYPICAL, TIMES_CAPACITY = 1_000, 100


@dataclass(frozen=True, slots=True)
class Gap:
    """A gap in a series, from the start of the first missing interval."""

    start: datetime
    hours: float


@dataclass(frozen=True, slots=True)
class Step:
    """The interval of a series from `start` on."""

    start: datetime
    interval_s: int


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """Statistics of one dataset; powers are of the rows that an upload would send.

    `rows`: all rows in the file; `unsorted_rows`: rows that are earlier than the row before them; `gaps`: the first 20;
    `zero_share`: 0 to 1; `interval_s`: the most frequent; `steps`: the first 20 intervals, of `step_changes` + 1;
    `typical_w`: the median of the absolute values other than 0.
    """

    rows: int
    points: int
    first: datetime
    last: datetime
    interval_s: int
    gap_count: int
    gap_hours: float
    gaps: tuple[Gap, ...]
    duplicates: int
    unsorted_rows: int
    nan: int
    infinite: int
    bad_timestamps: int
    negative: int
    zero_share: float
    min_w: float
    mean_w: float
    median_w: float
    max_w: float
    typical_w: float
    step_changes: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, eq=False)
class DailyStatistics:
    """Daily statistics of a series (UTC), for plots: arrays (N,) with one element per day with data, in order.

    `day`: days since 1970. `share`: the part of the day that has data, 0 to 1. `low_w`, `mean_w`, `high_w`: of the
    day's plausible values; NaN if there is none.
    """

    day: NDArray[np.int64]
    share: NDArray[np.float64]
    low_w: NDArray[np.float64]
    mean_w: NDArray[np.float64]
    high_w: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class HourlyMeans:
    """Hourly means (UTC) of a series: (N,), from the hour `first` (since 1970) on, NaN where there is no data."""

    first: int
    mean_w: NDArray[np.float32]


def facts_of(series: MeterSeries) -> SeriesFacts:
    """Compute the statistics of a series in one pass over its slices."""
    stride = max(-(-len(series) // MEDIAN_POINTS), 1)
    low, high, mean, zeros, negative = np.inf, -np.inf, 0.0, 0, 0
    first_s = np.int64(0)
    sampled: list[NDArray[np.float64]] = []
    gap_count, gap_s, gaps = 0, 0, list[Gap]()
    start_s = last_end_s = np.array([], dtype=np.int64)
    index = 0
    for points in series.slices():
        if not len(points):
            continue
        power_w = points.power_w
        first_s = first_s if index else points.start_s[0]
        # With the last point of the slice before, so that a gap between two slices is found as well.
        start_s = np.append(start_s[-1:], points.start_s)
        end_s = np.append(last_end_s, points.start_s + points.interval_s)
        last_end_s = end_s[-1:]
        before_gap = np.flatnonzero(start_s[1:] > end_s[:-1])
        gap_count += len(before_gap)
        gap_s += int((start_s[before_gap + 1] - end_s[before_gap]).sum())
        for before in before_gap[: MAX_GAPS_LISTED - len(gaps)].tolist():
            gaps.append(Gap(_utc(end_s[before]), int(start_s[before + 1] - end_s[before]) / 3600))
        low, high = min(low, power_w.min()), max(high, power_w.max())
        mean += float((power_w / len(series)).sum())  # divided first: a sum of DBL_MAX would be infinite
        zeros += int((power_w == 0).sum())
        negative += int((power_w < 0).sum())
        # Every `stride`th point of the series, across slices.
        sampled.append(power_w[-index % stride :: stride])
        index += len(points)
    sample_w = np.concatenate(sampled)
    return SeriesFacts(
        rows=len(series) + sum(series.dropped.values()),
        points=len(series),
        first=_utc(first_s),
        last=_utc(start_s[-1]),
        interval_s=series.interval_s,
        gap_count=gap_count,
        gap_hours=gap_s / 3600,
        gaps=tuple(gaps),
        duplicates=series.dropped.get("duplicate timestamp", 0),
        unsorted_rows=series.unsorted_rows,
        nan=series.dropped.get("NaN", 0),
        infinite=series.dropped.get("infinite", 0),
        bad_timestamps=series.dropped.get("bad timestamp", 0),
        negative=negative,
        zero_share=zeros / len(series),
        min_w=float(low),
        mean_w=mean,
        median_w=_median(sample_w),
        max_w=float(high),
        typical_w=_median(np.abs(sample_w[sample_w != 0])),
        step_changes=len(series.stretches) - 1,
        steps=tuple(Step(_utc(each.start_s), each.interval_s) for each in series.stretches[:MAX_STEPS_LISTED]),
    )


def implausible_from_w(typical_w: float, capacity_w: float | None = None) -> float:
    """Return the absolute value in W above which a value is implausible; `capacity_w`: of the resource, if known.

    That is 1,000 times the typical value or 100 times the capacity, whichever is less, but at least 100 kW and at most
    1 GW. Values up to the capacity are always plausible.
    """
    if capacity_w is None:
        return min(max(TIMES_TYPICAL * typical_w, PLAUSIBLE_W), IMPLAUSIBLE_W)
    relative_w = min(TIMES_TYPICAL * typical_w, TIMES_CAPACITY * capacity_w)
    return max(min(max(relative_w, PLAUSIBLE_W), IMPLAUSIBLE_W), capacity_w)


def count_above(series: MeterSeries, capacity_w: float | None, implausible_w: float) -> tuple[int | None, int]:
    """Count the values above the capacity (None if it is unknown), and those whose magnitude is implausible."""
    above = implausible = 0
    for points in series.slices():
        above += 0 if capacity_w is None else int((points.power_w > capacity_w).sum())
        implausible += int((np.abs(points.power_w) > implausible_w).sum())
    return None if capacity_w is None else above, implausible


def daily_statistics_of(series: MeterSeries, implausible_w: float) -> DailyStatistics:
    """Compute the daily statistics of a series, without values above the implausible magnitude."""
    parts = [_by_day(points, implausible_w) for points in series.slices() if len(points)]
    day, seconds, low_w, high_w, sum_w, count = (np.concatenate(column) for column in zip(*parts, strict=True))
    if len(parts) > 1:  # a day may span slices
        day, begin = np.unique(day, return_index=True)
        seconds, sum_w, count = (np.add.reduceat(each, begin) for each in (seconds, sum_w, count))
        low_w, high_w = np.minimum.reduceat(low_w, begin), np.maximum.reduceat(high_w, begin)
    has_values = count > 0
    mean_w = np.divide(sum_w, count, out=np.full(len(day), np.nan), where=has_values)
    return DailyStatistics(
        day=day,
        share=np.minimum(seconds / DAY_S, 1),  # a day's last interval may end on the next day
        low_w=np.where(has_values, low_w, np.nan),
        mean_w=mean_w,
        high_w=np.where(has_values, high_w, np.nan),
    )


def hourly_means_of(series: MeterSeries, facts: SeriesFacts, implausible_w: float) -> HourlyMeans | None:
    """Compute the hourly means of the plausible values; None for too many hours, or for intervals of more than one.

    Between intervals of more than an hour there would be a gap each.
    """
    first, last = (int(at.timestamp()) // HOUR_S for at in (facts.first, facts.last))
    hours = last - first + 1
    if hours > MAX_HOURS or max(each.interval_s for each in series.stretches) > HOUR_S:
        return None
    sum_w, count = np.zeros(hours), np.zeros(hours)
    for points in series.slices():
        is_plausible = np.abs(points.power_w) <= implausible_w
        hour = points.start_s[is_plausible] // HOUR_S - first
        sum_w += np.bincount(hour, points.power_w[is_plausible], hours)
        count += np.bincount(hour, minlength=hours)
    return HourlyMeans(first, np.divide(sum_w, count, out=np.full(hours, np.nan), where=count > 0).astype(np.float32))


def _by_day(points: Points, implausible_w: float) -> tuple[NDArray[np.generic], ...]:
    """Per day: the day, seconds with data, and minimum, maximum, sum and count of the plausible values."""
    day, begin = np.unique(points.start_s // DAY_S, return_index=True)
    power_w = points.power_w
    is_plausible = np.abs(power_w) <= implausible_w
    return (
        day,
        np.add.reduceat(points.interval_s, begin),
        np.minimum.reduceat(np.where(is_plausible, power_w, np.inf), begin),
        np.maximum.reduceat(np.where(is_plausible, power_w, -np.inf), begin),
        np.add.reduceat(np.where(is_plausible, power_w, 0.0), begin),
        np.add.reduceat(is_plausible.astype(np.int64), begin),
    )


def _median(power_w: NDArray[np.float64]) -> float:
    # Halved first: the mean of two values of DBL_MAX would be infinite.
    return float(2 * np.median(power_w / 2)) if len(power_w) else 0.0


def _utc(unix_s: int | np.int64) -> datetime:
    return datetime.fromtimestamp(int(unix_s), UTC)
