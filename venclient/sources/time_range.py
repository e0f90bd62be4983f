"""Timestamps: detect their unit, and check that they lie in the allowed range.

Times in an unknown unit, row numbers, or swapped columns would give points in January 1970, which a VTN accepts.
A series with points before the range or in the future therefore fails its load; the message says what its times look
like.
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import accumulate
from math import inf
from typing import Self

import numpy as np
from numpy.typing import NDArray

from venclient.days import DAY_S, midnight_s
from venclient.errors import BadSeriesError
from venclient.models import utc_text

END_OF_YEAR_9999_S = 253_402_300_800
START_OF_2000_S = 946_684_800


@dataclass(frozen=True, slots=True)
class TimeUnit:
    """A unit of time since 1970. `least`: smaller numbers are not times in this unit."""

    name: str
    per_s: int
    least: float


# Times from 2000 to 2100 in a unit lie between its `least` and that of the next unit.
SECONDS = TimeUnit("seconds", 1, 0)
UNITS = (
    SECONDS,
    TimeUnit("milliseconds", 1_000, 1e11),  # from 1973 on; as seconds the year 5138
    TimeUnit("microseconds", 1_000_000, 1e14),  # from 1973 on
    TimeUnit("100-nanosecond ticks", 10_000_000, 6e15),  # from 1989 on; as microseconds the year 2160
    TimeUnit("nanoseconds", 1_000_000_000, 2e17),  # from 1976 on
)
EXPECTED = "Seconds, milliseconds, microseconds, 100-nanosecond ticks or nanoseconds since 1970 are expected"
_LOWER_BOUNDS = [unit.least for unit in UNITS]
_UPPER_BOUND = END_OF_YEAR_9999_S * float(UNITS[-1].per_s)

# Other representations of time, to explain a bad one: seconds per count, and the count at 1970-01-01.
_OTHER_REPRESENTATIONS = {
    "minutes since 1970": (60.0, 0.0),
    "hours since 1970": (3_600.0, 0.0),
    "days since 1970": (86_400.0, 0.0),
    "days as Excel counts them, since 1900": (86_400.0, 25_569.0),
    "microseconds since 1970 that were divided as if they were nanoseconds": (1_000.0, 0.0),
    "100-nanosecond ticks since the year 1": (1e-7, 621_355_968e9),
    "100-nanosecond ticks since 1601": (1e-7, 116_444_736e9),
}
_DATE_FORMATS = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


@dataclass(frozen=True, slots=True)
class TimeRange:
    """When points may start, in unix seconds, bounds included. `latest_s`: None means one day after `now`."""

    earliest_s: int = START_OF_2000_S
    latest_s: int | None = None
    now: Callable[[], float] = time.time

    @classmethod
    def of_days(cls, earliest: date, latest: date | None) -> Self:
        """The range from the first day to the end of the last day (UTC); without a last day, to one day after now."""
        latest_s = None if latest is None else midnight_s(latest) + DAY_S - 1
        return cls(midnight_s(earliest), latest_s)

    @property
    def outside(self) -> str:
        """Describe when points may not start, for messages."""
        if self.latest_s is None:
            return f"before {_day(self.earliest_s)} or more than a day from now, {_day(int(self.now()))}"
        return f"before {_day(self.earliest_s)} or after {_day(self.latest_s)}"

    def bounds(self) -> tuple[int, int]:
        """Return the earliest and the latest start, as of now."""
        return self.earliest_s, int(self.now()) + DAY_S if self.latest_s is None else self.latest_s


DEFAULT_RANGE = TimeRange()


class TimestampUnitDetector:
    """Detects the unit of timestamps from their median, in constant memory.

    Times of 0, as in rows that were never written, and numbers that are no time in any unit do not count.
    """

    def __init__(self) -> None:
        self._counts = [0] * len(UNITS)
        self._min = [inf] * len(UNITS)
        self._max = [-inf] * len(UNITS)

    @np.errstate(over="ignore", invalid="ignore")
    def add(self, rows: NDArray[np.generic]) -> None:
        """Add the times of these rows: column 0 of (N, 2)."""
        times = rows[:, 0].astype(np.float64)
        smallest, largest = float(times.min(initial=inf)), float(times.max(initial=-inf))
        if not (smallest > 0 and largest < _UPPER_BOUND):
            times = times[(times > 0) & (times < _UPPER_BOUND)]
            smallest, largest = float(times.min(initial=inf)), float(times.max(initial=-inf))
        if not len(times):
            return
        if _unit_index(smallest) == _unit_index(largest):
            self._add(_unit_index(smallest), len(times), smallest, largest)
            return
        unit_indices = np.searchsorted(_LOWER_BOUNDS, times, side="right") - 1
        for index in np.unique(unit_indices).tolist():
            of_unit = times[unit_indices == index]
            self._add(index, len(of_unit), float(of_unit.min()), float(of_unit.max()))

    @property
    def unit(self) -> TimeUnit:
        """The unit of the median, which is the mean of the two middle times if their number is even."""
        up_to = list(accumulate(self._counts))
        if not up_to[-1]:
            return SECONDS
        lower, upper = bisect_right(up_to, (up_to[-1] - 1) // 2), bisect_right(up_to, up_to[-1] // 2)
        if lower == upper:
            return UNITS[lower]
        # The two middle times are the largest in one unit and the smallest in the next one that occurs.
        return UNITS[_unit_index((self._max[lower] + self._min[upper]) / 2)]

    def _add(self, index: int, count: int, smallest: float, largest: float) -> None:
        self._counts[index] += count
        self._min[index] = min(self._min[index], smallest)
        self._max[index] = max(self._max[index], largest)


class RangeCheck:
    """Checks the starts of a series against the time range, slice by slice."""

    def __init__(self, time_range: TimeRange, unit: TimeUnit) -> None:
        self._range = time_range
        self._earliest_s, self._latest_s = time_range.bounds()
        self._unit = unit
        self._rows = self._kept = self._outside = 0
        self._first_outside: tuple[int, float, float] | None = None  # row, timestamp, power
        self._min_s, self._max_s = inf, -inf

    def add(self, rows: NDArray[np.generic], start_s: NDArray[np.int64], kept: NDArray[np.bool_]) -> None:
        """Add rows in file order: (N, 2), the starts of the M that are kept, (M,), and which these are, (N,)."""
        if len(start_s):
            min_s, max_s = int(start_s.min()), int(start_s.max())
            self._min_s, self._max_s = min(self._min_s, min_s), max(self._max_s, max_s)
            if min_s < self._earliest_s or max_s > self._latest_s:
                is_outside = (start_s < self._earliest_s) | (start_s > self._latest_s)
                row = int(np.flatnonzero(kept)[is_outside.argmax()])
                first_outside = (self._rows + row, float(rows[row, 0]), float(rows[row, 1]))
                self._first_outside = self._first_outside or first_outside
                self._outside += int(is_outside.sum())
        self._rows += len(rows)
        self._kept += len(start_s)

    def refuse(self, dropped: Mapping[str, int]) -> None:
        """Raise `BadSeriesError` if a start is outside the range; `dropped`: counts of dropped rows, by reason."""
        if self._first_outside is None:
            return
        row, timestamp, power_w = self._first_outside
        # If some points are inside the range, it is not the representation that is wrong.
        guess = self._guess(timestamp, power_w) if self._outside == self._kept else None
        raise BadSeriesError(
            f"{self._outside:,} of {self._kept:,} points would start {self._range.outside}. "
            f"The first is row {row:,}: its time {timestamp:.15g} is "
            f"{utc_text(round(timestamp / self._unit.per_s))} in {self._unit.name}{f'; {guess}' if guess else ''}. "
            f"{EXPECTED}. Correct the file",
            dropped=dropped,
        ).advised("time range")

    def _guess(self, timestamp: float, power_w: float) -> str | None:
        """Guess what times like this one represent."""
        if power_w > 0 and self._allows(power_w / UNITS[_unit_index(power_w)].per_s):
            return "the columns look swapped"
        if self._min_s <= 1 and self._max_s <= self._rows:
            return "it looks like row numbers"
        if _is_date(timestamp, self._allows):
            return "it looks like a date that was written as one number"
        for name, (seconds, at_1970) in _OTHER_REPRESENTATIONS.items():
            if self._allows((timestamp - at_1970) * seconds):
                return f"it looks like {name}"
        return None

    def _allows(self, unix_s: float) -> bool:
        return self._earliest_s <= unix_s <= self._latest_s


def _unit_index(timestamp: float) -> int:
    """The index in `UNITS` of the unit that a number of this magnitude is in."""
    return bisect_right(_LOWER_BOUNDS, timestamp) - 1


def _is_date(timestamp: float, allows: Callable[[float], bool]) -> bool:
    digits = f"{timestamp:.0f}"
    try:
        return allows(datetime.strptime(digits, _DATE_FORMATS[len(digits)]).replace(tzinfo=UTC).timestamp())
    except (KeyError, ValueError):
        return False


def _day(unix_s: int) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d}"
