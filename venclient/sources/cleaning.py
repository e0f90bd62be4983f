"""Rows of a power dataset → `MeterSeries`. Pure numpy; every row that is left out is counted by its reason."""

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
    """Sort the rows by time, leave out what no VTN can take, and give each point its interval and quality code.

    `rows`: (N, 2) of any number type; column 0 time since 1970 (in a unit of `time_range.UNITS`, told apart by their
    size), column 1 mean power in W. Where a timestamp occurs twice, the row further down the file wins. `capacity_w`:
    what the rules hold a value against. Raises `BadSeriesError` when nothing is left, and when a point would start
    outside of the range.
    """
    detector = TimestampUnitDetector()
    detector.add(rows)
    grid_s, start_s, power_w, kept, dropped = usable(rows, rules, detector.unit)
    check = RangeCheck(time_range, detector.unit)
    check.add(rows, start_s, kept)
    unsorted_rows = int((grid_s[1:] < grid_s[:-1]).sum())
    if not is_increasing(grid_s):
        grid_s = np.unique(grid_s)
        if not is_increasing(start_s):
            count = len(start_s)
            start_s, power_w = sorted_last_wins(start_s, power_w)
            dropped["duplicate timestamp"] = count - len(start_s)
    left_out = reasons(dropped)
    check.refuse(left_out)
    timestamps = StretchDetector()
    timestamps.add(grid_s)
    stretches = timestamps.stretches()
    require_end(stretches, grid_s[-1:], start_s[-1:], left_out)
    regular_s = timestamps.regular_interval_s(stretches)
    interval_s = intervals(start_s, grid_s, stretches, regular_s)
    points = Points(start_s, *rules.applied(power_w, capacity_w), interval_s)
    series = MeterSeries((0, len(points)), lambda _: points, rules.codes, stretches, regular_s, (), left_out)
    return replace(series, months=months_of(series, month_begins(start_s)), unsorted_rows=unsorted_rows)


class Usable(NamedTuple):
    """Of some rows those that can be sent, as they stand: unix seconds, measured W; and how many others by reason.

    `grid_s`: the times of these, and of rows whose value cannot be sent: their intervals are part of the grid, too.
    `kept`: which of the rows can be sent, (N,).
    """

    grid_s: NDArray[np.int64]
    start_s: NDArray[np.int64]
    power_w: NDArray[np.float64]
    kept: NDArray[np.bool_]
    dropped: Counter[str]


@np.errstate(over="ignore", invalid="ignore")  # what float64 does not hold becomes infinite, and is counted as that
def usable(rows: NDArray[np.generic], rules: QualityRules, unit: TimeUnit) -> Usable:
    """Rows with a time from 1970 to 9999 and a finite value, or NaN where the rules have a value for it.

    A time that is too small for its unit was meant as something else. A row of zeros was never written, nor was one of
    0 and NaN.
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
    """Those that rows were left out for, in an order of their own."""
    order = ("bad timestamp", "NaN", "infinite", "duplicate timestamp")
    return {reason: dropped[reason] for reason in order if dropped.get(reason)}


def require_end(
    stretches: tuple[Stretch, ...],
    last_of_grid_s: NDArray[np.int64],
    last_start_s: NDArray[np.int64],
    dropped: Mapping[str, int],
) -> None:
    """Raise `BadSeriesError` for a series without a point, with what was left out of it, and for one without an end.

    The last two of the times: (1,), or (0,) where there is none.
    """
    if not len(last_start_s):
        counts = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        expected = f". {EXPECTED}" if "bad timestamp" in dropped else ""
        raise BadSeriesError(f"No usable rows: {counts or 'the dataset is empty'}{expected}", dropped=dropped)
    interval_s = stretches[-1].interval_s
    if last_start_s[0] == last_of_grid_s[0] and last_start_s[0] + interval_s >= END_OF_YEAR_9999_S:
        raise BadSeriesError(f"An interval of {interval_s} s from the last timestamp on ends after the year 9999")


def intervals(
    start_s: NDArray[np.int64], grid_s: NDArray[np.int64], stretches: tuple[Stretch, ...], regular_s: int | None
) -> NDArray[np.int64]:
    """As `interval_of_each`; a regular one takes eight bytes for all points together."""
    if regular_s is not None:
        return np.broadcast_to(np.int64(regular_s), len(start_s))
    return interval_of_each(start_s, grid_s, stretches)


def is_increasing(start_s: NDArray[np.int64]) -> bool:
    """Whether each is after the one before."""
    return bool((start_s[1:] > start_s[:-1]).all())


def sorted_last_wins(
    start_s: NDArray[np.int64], power_w: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """In order of time; where a time occurs twice, the value further down the file."""
    order = np.argsort(start_s, kind="stable")
    start_s, power_w = start_s[order], power_w[order]
    last = np.append(start_s[1:] != start_s[:-1], True)
    return start_s[last], power_w[last]
