"""A series in numbers, and by the day: what `check` says of it. Points are gone through slice by slice."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from venclient.models import MeterSeries, Points

DAY_S = 86_400
GAPS_LISTED = STEPS_LISTED = 20
# Of a longer series, medians are those of so many points, evenly spaced.
MEDIAN_POINTS = 1_000_000
# What no load of a town draws: a large power station.
IMPLAUSIBLE_W = 1e9
# Below this nothing is called implausible: a machine beside a stand-by of some watts is none.
PLAUSIBLE_W = 1e5
TIMES_TYPICAL, TIMES_CAPACITY = 1_000, 100


@dataclass(frozen=True, slots=True)
class Gap:
    """Hours without data, from the first missing interval on."""

    start: datetime
    hours: float


@dataclass(frozen=True, slots=True)
class Step:
    """From this time on, a series has this interval."""

    start: datetime
    interval_s: int


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """One dataset in numbers. Powers in W, of the rows that an upload would send.

    `rows`: as they stand in the file; `unsorted_rows`: how many are earlier than the one before them; `gaps`: the
    first of them; `zero_share`: 0 to 1; `interval_s`: what most rows have; `steps`: the first of its intervals,
    which changes `step_changes` times; `typical_w`: the median of the magnitudes of all values other than 0.
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
class Days:
    """A series by the day (UTC), for pictures: arrays of one length, a day each, in order.

    `day`: int64, days since 1970. `share`: how much of the day has data, 0 to 1. `low_w`, `mean_w`, `high_w`: W, of the
    day's plausible values; NaN where there is none.
    """

    day: NDArray[np.int64]
    share: NDArray[np.float64]
    low_w: NDArray[np.float64]
    mean_w: NDArray[np.float64]
    high_w: NDArray[np.float64]


def facts_of(series: MeterSeries) -> SeriesFacts:
    """All numbers of a series."""
    every = max(-(-len(series) // MEDIAN_POINTS), 1)
    low, high, mean, zeros, negative = np.inf, -np.inf, 0.0, 0, 0
    first_s = np.int64(0)
    sampled: list[NDArray[np.float64]] = []
    gap_count, gap_s, gaps = 0, 0, list[Gap]()
    start_s = last_end_s = np.array([], dtype=np.int64)
    at = 0
    for points in series.slices():
        if not len(points):
            continue
        power_w = points.power_w
        first_s = first_s if at else points.start_s[0]
        start_s = np.append(start_s[-1:], points.start_s)
        end_s = np.append(last_end_s, points.start_s + points.interval_s)
        last_end_s = end_s[-1:]
        before = np.flatnonzero(start_s[1:] > end_s[:-1])
        gap_count += len(before)
        gap_s += int((start_s[before + 1] - end_s[before]).sum())
        for place in before[: GAPS_LISTED - len(gaps)].tolist():
            gaps.append(Gap(_utc(end_s[place]), int(start_s[place + 1] - end_s[place]) / 3600))
        low, high = min(low, power_w.min()), max(high, power_w.max())
        mean += float((power_w / len(series)).sum())  # a sum of DBL_MAX would be infinite
        zeros += int((power_w == 0).sum())
        negative += int((power_w < 0).sum())
        sampled.append(power_w[-at % every :: every])
        at += len(points)
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
        steps=tuple(Step(_utc(each.start_s), each.interval_s) for each in series.stretches[:STEPS_LISTED]),
    )


def implausible_from_w(typical_w: float, capacity_w: float | None = None) -> float:
    """The magnitude in W above which a value is implausible, for a resource of this capacity where that is known.

    It is 1,000 times the typical value or 100 times the capacity, whichever is less, but at least 100 kW and at most
    1 GW. What is within the capacity is plausible.
    """
    if capacity_w is None:
        return min(max(TIMES_TYPICAL * typical_w, PLAUSIBLE_W), IMPLAUSIBLE_W)
    relative_w = min(TIMES_TYPICAL * typical_w, TIMES_CAPACITY * capacity_w)
    return max(min(max(relative_w, PLAUSIBLE_W), IMPLAUSIBLE_W), capacity_w)


def count_above(series: MeterSeries, capacity_w: float | None, implausible_w: float) -> tuple[int | None, int]:
    """How many values are above the capacity, None where it is not known, and how many are of such a magnitude."""
    above = implausible = 0
    for points in series.slices():
        above += 0 if capacity_w is None else int((points.power_w > capacity_w).sum())
        implausible += int((np.abs(points.power_w) > implausible_w).sum())
    return None if capacity_w is None else above, implausible


def days_of(series: MeterSeries, implausible_w: float) -> Days:
    """A series by the day; values of such a magnitude are not in it."""
    parts = [_by_day(points, implausible_w) for points in series.slices() if len(points)]
    day, seconds, low_w, high_w, sum_w, count = (np.concatenate(column) for column in zip(*parts, strict=True))
    if len(parts) > 1:  # a day may be in two slices
        day, begin = np.unique(day, return_index=True)
        seconds, sum_w, count = (np.add.reduceat(each, begin) for each in (seconds, sum_w, count))
        low_w, high_w = np.minimum.reduceat(low_w, begin), np.maximum.reduceat(high_w, begin)
    is_drawn = count > 0
    mean_w = np.divide(sum_w, count, out=np.full(len(day), np.nan), where=is_drawn)
    return Days(
        day=day,
        share=np.minimum(seconds / DAY_S, 1),
        low_w=np.where(is_drawn, low_w, np.nan),
        mean_w=mean_w,
        high_w=np.where(is_drawn, high_w, np.nan),
    )


def _by_day(points: Points, implausible_w: float) -> tuple[NDArray[np.generic], ...]:
    """For each day: the day, seconds with data, lowest, highest and summed plausible values, how many these are."""
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
    return float(2 * np.median(power_w / 2)) if len(power_w) else 0.0  # the mean of two of DBL_MAX would be infinite


def _utc(unix_s: int | np.int64) -> datetime:
    return datetime.fromtimestamp(int(unix_s), UTC)
