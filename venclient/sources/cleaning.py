"""Turn the rows of a power dataset into a `MeterSeries`. Pure numpy; dropped rows are counted by reason."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from venclient.errors import BadSeriesError
from venclient.models import MeterSeries, Points, Stretch
from venclient.months import month_begins, months_of
from venclient.sources.intervals import StretchDetector, interval_of_each
from venclient.sources.quality import QualityRules
from venclient.sources.time_range import (
    DEFAULT_RANGE,
    END_OF_YEAR_9999_S,
    EXPECTED,
    RangeCheck,
    TimeRange,
    TimestampUnitDetector,
    TimeUnit,
)

ALL_GOOD = QualityRules()


def clean(
    rows: NDArray[np.generic],
    rules: QualityRules = ALL_GOOD,
    capacity_w: float | None = None,
    time_range: TimeRange = DEFAULT_RANGE,
) -> MeterSeries:
    """Sort rows by time, drop what no VTN accepts, and give each point its interval and quality code.

    `rows`: (N, 2) of any number type; column 0 is time since 1970 in one of `time_range.UNITS`, detected by magnitude,
    column 1 mean power in W. Of duplicate timestamps, the last row in the file wins. `capacity_w`: of the resource, for
    the rules. Raises `BadSeriesError` if no row is left, or if a point starts outside the time range.
    """
    detector = TimestampUnitDetector()
    detector.add(rows)
    grid_s, start_s, power_w, kept, dropped = usable(rows, rules, detector.unit)
    check = RangeCheck(time_range, detector.unit)
    check.add(rows, start_s, kept)
    unsorted_rows = int((grid_s[1:] < grid_s[:-1]).sum())
    grid_s, start_s, power_w = sorted_by_time(grid_s, start_s, power_w, dropped)
    dropped_by_reason = reasons(dropped)
    check.refuse(dropped_by_reason)
    timestamps = StretchDetector()
    timestamps.add(grid_s)
    stretches = timestamps.stretches()
    require_end(stretches, grid_s[-1:], start_s[-1:], dropped_by_reason)
    regular_s = timestamps.regular_interval_s(stretches)
    interval_s = intervals(start_s, grid_s, stretches, regular_s)
    points = Points(start_s, *rules.applied(power_w, capacity_w), interval_s)
    series = MeterSeries((0, len(points)), lambda _: points, rules.codes, stretches, regular_s, (), dropped_by_reason)
    return replace(series, months=months_of(series, month_begins(start_s)), unsorted_rows=unsorted_rows)


class Usable(NamedTuple):
    """Of N rows, the M that can be sent, in file order.

    `start_s`, `power_w`: unix seconds and measured W, (M,). `grid_s`: these timestamps and those of rows whose value
    cannot be sent, which still end intervals. `kept`: a mask of the rows that can be sent, (N,). `dropped`: the number
    of other rows, by reason.
    """

    grid_s: NDArray[np.int64]
    start_s: NDArray[np.int64]
    power_w: NDArray[np.float64]
    kept: NDArray[np.bool_]
    dropped: Counter[str]


@np.errstate(over="ignore", invalid="ignore")  # what exceeds float64 becomes infinite, and is dropped as such
def usable(rows: NDArray[np.generic], rules: QualityRules, unit: TimeUnit) -> Usable:
    """Select rows with a time from 1970 to 9999 and a finite value, or NaN if the rules replace it.

    A time below the unit's minimum is in another unit. A row of zeros, or of 0 and NaN, was never written: its time is
    bad, too.
    """
    time, power_w = rows[:, 0].astype(np.float64), rows[:, 1].astype(np.float64)
    if unit.per_s > 1:
        time /= unit.per_s
    np.rint(time, out=time)
    least_s = unit.least / unit.per_s
    in_calendar = (time >= least_s) & (time < END_OF_YEAR_9999_S) & ((time != 0) | (np.abs(power_w) > 0))
    kept = in_calendar & np.isfinite(power_w)
    if kept.all():
        start_s = time.astype(np.int64)
        return Usable(start_s, start_s, power_w, kept, Counter())
    is_nan = np.isnan(power_w)
    if rules.sends_nan:
        kept |= in_calendar & is_nan
    dropped = {
        "bad timestamp": int((~in_calendar).sum()),
        "NaN": int((in_calendar & is_nan & ~kept).sum()),
        "infinite": int((in_calendar & np.isinf(power_w)).sum()),
    }
    return Usable(
        time[in_calendar].astype(np.int64), time[kept].astype(np.int64), power_w[kept], kept, Counter(dropped)
    )


def reasons(dropped: Mapping[str, int]) -> dict[str, int]:
    """Rows dropped by reason, in a fixed order, without reasons that did not occur."""
    order = ("bad timestamp", "NaN", "infinite", "duplicate timestamp")
    return {reason: dropped[reason] for reason in order if dropped.get(reason)}


def require_end(
    stretches: tuple[Stretch, ...],
    last_of_grid_s: NDArray[np.int64],
    last_start_s: NDArray[np.int64],
    dropped: Mapping[str, int],
) -> None:
    """Raise `BadSeriesError` if a series has no points, or if its last interval ends after the year 9999.

    `last_of_grid_s`, `last_start_s`: the last timestamp and the last point's start, (1,), or (0,) if there is none.
    """
    if not len(last_start_s):
        counts = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        expected = f". {EXPECTED}" if "bad timestamp" in dropped else ""
        raise BadSeriesError(f"No usable rows: {counts or 'the dataset is empty'}{expected}", dropped=dropped)
    interval_s = stretches[-1].interval_s
    # A point with a later timestamp after it ends there at the latest, and timestamps are before the year 10000.
    if last_start_s[0] == last_of_grid_s[0] and last_start_s[0] + interval_s >= END_OF_YEAR_9999_S:
        raise BadSeriesError(f"An interval of {interval_s} s from the last timestamp on ends after the year 9999")


def intervals(
    start_s: NDArray[np.int64], grid_s: NDArray[np.int64], stretches: tuple[Stretch, ...], regular_s: int | None
) -> NDArray[np.int64]:
    """As `interval_of_each`; a regular interval is broadcast, and takes eight bytes for all points."""
    if regular_s is not None:
        return np.broadcast_to(np.int64(regular_s), len(start_s))
    return interval_of_each(start_s, grid_s, stretches)


def is_increasing(start_s: NDArray[np.int64]) -> bool:
    """Whether the times strictly increase."""
    return bool((start_s[1:] > start_s[:-1]).all())


def sorted_by_time(
    grid_s: NDArray[np.int64], start_s: NDArray[np.int64], power_w: NDArray[np.float64], dropped: Counter[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Sort all three by time, without duplicates: of points with the same start, the last in the file wins.

    Counts the others in `dropped`.
    """
    if is_increasing(grid_s):
        return grid_s, start_s, power_w
    grid_s = np.unique(grid_s)
    if is_increasing(start_s):
        return grid_s, start_s, power_w
    order = np.argsort(start_s, kind="stable")  # keeps the file order of equal starts
    start_s, power_w = start_s[order], power_w[order]
    is_last = np.append(start_s[1:] != start_s[:-1], True)
    dropped["duplicate timestamp"] = int((~is_last).sum())
    return grid_s, start_s[is_last], power_w[is_last]
