"""Rows of a power dataset → `MeterSeries`. Pure numpy; every row that is left out is counted by its reason."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from venclient.errors import PermanentError
from venclient.models import MeterSeries, Points
from venclient.months import month_begins, months_of
from venclient.quality import QualityRules

SINGLE_ROW_INTERVAL_S = 3600
# Unix seconds stay below this until the year 5138, and milliseconds are above it since 1973.
MILLISECONDS_FROM = 1e11
END_OF_YEAR_9999_S = 253_402_300_800
ALL_GOOD = QualityRules()


def clean(rows: NDArray[np.generic], rules: QualityRules = ALL_GOOD, capacity_w: float | None = None) -> MeterSeries:
    """Sort the rows by time, leave out what no VTN can take, and give each point its quality code.

    `rows`: (N, 2) of any number type; column 0 unix seconds (or milliseconds, told apart by their size), column 1
    mean power in W. Where a timestamp occurs twice, the row further down the file wins. `capacity_w`: what the rules
    hold a value against. Raises `PermanentError` when nothing is left.
    """
    clock = Clock()
    clock.add(rows)
    grid_s, start_s, power_w, dropped = usable(rows, rules, in_milliseconds=clock.is_in_milliseconds)
    if not is_increasing(start_s):
        count = len(start_s)
        start_s, power_w = _sorted_last_wins(start_s, power_w)
        dropped["duplicate timestamp"] = count - len(start_s)
    told = reasons(dropped)
    if not is_increasing(grid_s):
        grid_s = np.unique(grid_s)
    interval_s = most_frequent(steps(grid_s), int(start_s[-1]) if len(start_s) else None, told)
    points = Points(start_s, *rules.applied(power_w, capacity_w))
    series = MeterSeries((0, len(points)), lambda _: points, rules.codes, interval_s, (), told)
    return replace(series, months=months_of(series, month_begins(start_s)))


class Clock:
    """Tells seconds from milliseconds by the median of all times that it was given, without having them together.

    A time of 0, as rows have that nobody wrote, tells nothing.
    """

    def __init__(self) -> None:
        self._seconds = self._milliseconds = 0
        self._last_s, self._first_ms = -inf, inf

    @np.errstate(over="ignore", invalid="ignore")
    def add(self, rows: NDArray[np.generic]) -> None:
        """The times of these rows too."""
        time = rows[:, 0].astype(np.float64)
        time = time[np.isfinite(time) & (time != 0)]
        is_seconds = time < MILLISECONDS_FROM
        seconds = int(is_seconds.sum())
        self._seconds += seconds
        self._milliseconds += len(time) - seconds
        self._last_s = max(self._last_s, time.max(where=is_seconds, initial=-inf))
        self._first_ms = min(self._first_ms, time.min(where=~is_seconds, initial=inf))

    @property
    def is_in_milliseconds(self) -> bool:
        """Whether the median of the times is so large."""
        if self._seconds == self._milliseconds:  # the mean of the two in the middle
            return self._seconds > 0 and (self._last_s + self._first_ms) / 2 >= MILLISECONDS_FROM
        return self._milliseconds > self._seconds


class Usable(NamedTuple):
    """Of some rows those that can be sent, as they stand: unix seconds, measured W; and how many others by reason.

    `grid_s`: the times of these, and of rows whose value cannot be sent: their intervals are part of the grid, too.
    """

    grid_s: NDArray[np.int64]
    start_s: NDArray[np.int64]
    power_w: NDArray[np.float64]
    dropped: Counter[str]


@np.errstate(over="ignore", invalid="ignore")  # what float64 does not hold becomes infinite, and is counted as that
def usable(rows: NDArray[np.generic], rules: QualityRules, *, in_milliseconds: bool) -> Usable:
    """Rows with a time from 1970 to 9999 and a finite value, or NaN where the rules have a value for it.

    In milliseconds the times begin in 1973: what is smaller was meant as something else. A row of
    zeros was never written, nor was one of 0 and NaN.
    """
    time, power_w = rows[:, 0].astype(np.float64), rows[:, 1].astype(np.float64)
    if in_milliseconds:
        time /= 1000
    np.rint(time, out=time)
    earliest_s = MILLISECONDS_FROM / 1000 if in_milliseconds else 0
    in_calendar = (time >= earliest_s) & (time < END_OF_YEAR_9999_S) & ((time != 0) | (np.abs(power_w) > 0))
    keep = in_calendar & np.isfinite(power_w)
    if keep.all():
        start_s = time.astype(np.int64)
        return Usable(start_s, start_s, power_w, Counter())
    is_nan = np.isnan(power_w)
    if rules.sends_nan:
        keep |= in_calendar & is_nan
    dropped = {
        "bad timestamp": int((~in_calendar).sum()),
        "NaN": int((in_calendar & is_nan & ~keep).sum()),
        "infinite": int((in_calendar & np.isinf(power_w)).sum()),
    }
    return Usable(time[in_calendar].astype(np.int64), time[keep].astype(np.int64), power_w[keep], Counter(dropped))


def reasons(dropped: Mapping[str, int]) -> dict[str, int]:
    """Those that rows were left out for, in an order of their own."""
    order = ("bad timestamp", "NaN", "infinite", "duplicate timestamp")
    return {reason: dropped[reason] for reason in order if dropped.get(reason)}


def steps(start_s: NDArray[np.int64]) -> Counter[int]:
    """How often each step from one start to the next occurs."""
    seconds = np.diff(start_s)
    if len(seconds) and (seconds == seconds[0]).all():
        return Counter({int(seconds[0]): len(seconds)})
    values, counts = np.unique(seconds, return_counts=True)
    return Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))


def most_frequent(steps: Mapping[int, int], last_start_s: int | None, dropped: Mapping[str, int]) -> int:
    """The interval of a series in s: its most frequent step, the smaller one of two that are as frequent.

    Raises `PermanentError` for a series without an end, and for one without a point, with what was left out of it.
    """
    if last_start_s is None:
        in_words = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise PermanentError(f"No usable rows: {in_words or 'the dataset is empty'}", dropped=dropped)
    interval_s = min(steps, key=lambda step: (-steps[step], step), default=SINGLE_ROW_INTERVAL_S)
    if last_start_s + interval_s >= END_OF_YEAR_9999_S:
        raise PermanentError(f"An interval of {interval_s} s from the last timestamp on ends after the year 9999")
    return interval_s


def is_increasing(start_s: NDArray[np.int64]) -> bool:
    """Whether each is after the one before."""
    return bool((start_s[1:] > start_s[:-1]).all())


def _sorted_last_wins(
    start_s: NDArray[np.int64], power_w: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    order = np.argsort(start_s, kind="stable")
    start_s, power_w = start_s[order], power_w[order]
    last = np.append(start_s[1:] != start_s[:-1], True)
    return start_s[last], power_w[last]
