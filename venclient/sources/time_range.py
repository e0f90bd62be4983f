"""What timestamps can be: their unit, and the range that they have to lie in.

Times in another unit, row numbers, or the columns the wrong way round give points of January 1970, which a VTN would
take. So what begins too early or in the future fails its load, with what the times look like.
"""

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from math import inf
from typing import Self

import numpy as np
from numpy.typing import NDArray

from venclient.errors import BadSeriesError

DAY_S = 86_400
END_OF_YEAR_9999_S = 253_402_300_800
START_OF_2000_S = 946_684_800


@dataclass(frozen=True, slots=True)
class TimeUnit:
    """A unit that time since 1970 is counted in. `least`: no time that was meant in it is below that."""

    name: str
    per_s: int
    least: float


# Each unit's times from 2000 to 2100 are above its least and below the next one's.
SECONDS = TimeUnit("seconds", 1, 0)
UNITS = (
    SECONDS,
    TimeUnit("milliseconds", 1_000, 1e11),  # from 1973 on; as seconds the year 5138
    TimeUnit("microseconds", 1_000_000, 1e14),  # from 1973 on
    TimeUnit("100-nanosecond ticks", 10_000_000, 6e15),  # from 1989 on; as microseconds the year 2160
    TimeUnit("nanoseconds", 1_000_000_000, 2e17),  # from 1976 on
)
EXPECTED = "Seconds, milliseconds, microseconds, 100-nanosecond ticks or nanoseconds since 1970 are expected"
_LEAST = [unit.least for unit in UNITS]
_LARGEST = END_OF_YEAR_9999_S * float(UNITS[-1].per_s)

# Other ways to count time: so many seconds each, from a count that is 1970-01-01 there.
_OTHER_COUNTS = {
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
    """When a point may start, in unix seconds, both included. `latest_s`: None is a day after `now`."""

    earliest_s: int = START_OF_2000_S
    latest_s: int | None = None
    now: Callable[[], float] = time.time

    @classmethod
    def of_days(cls, earliest: date, latest: date | None) -> Self:
        """From the first of these days to the end of the last one (UTC); without a last one, to a day after now."""
        last_s = None if latest is None else _midnight_s(latest) + DAY_S - 1
        return cls(_midnight_s(earliest), last_s)

    @property
    def outside(self) -> str:
        """In words when a point may not start."""
        if self.latest_s is None:
            return f"before {_day(self.earliest_s)} or more than a day from now, {_day(int(self.now()))}"
        return f"before {_day(self.earliest_s)} or after {_day(self.latest_s)}"

    def bounds(self) -> tuple[int, int]:
        """The earliest and the latest start, as it is now."""
        return self.earliest_s, int(self.now()) + DAY_S if self.latest_s is None else self.latest_s


DEFAULT_RANGE = TimeRange()


class TimestampUnitDetector:
    """Tells the unit of timestamps by the median of all that it was given, without having them together.

    A time of 0, as rows have that nobody wrote, tells nothing, nor does one that is none in any unit.
    """

    def __init__(self) -> None:
        self._count: Counter[int] = Counter()  # by the number of the unit
        self._first = [inf] * len(UNITS)
        self._last = [-inf] * len(UNITS)

    @np.errstate(over="ignore", invalid="ignore")
    def add(self, rows: NDArray[np.generic]) -> None:
        """The times of these rows too: (N, 2), of which column 0 counts."""
        times = rows[:, 0].astype(np.float64)
        if not len(times) or not (times.min() > 0 and times.max() < _LARGEST):
            times = times[(times > 0) & (times < _LARGEST)]
        if not len(times):
            return
        first, last = float(times.min()), float(times.max())
        if _number(first) == _number(last):
            self._add(_number(first), len(times), first, last)
            return
        numbers = np.searchsorted(_LEAST, times, side="right") - 1
        for number in np.unique(numbers).tolist():
            of_unit = times[numbers == number]
            self._add(number, len(of_unit), float(of_unit.min()), float(of_unit.max()))

    @property
    def unit(self) -> TimeUnit:
        """The unit of the median; of an even number of times, the mean of the two in the middle."""
        total = self._count.total()
        if not total:
            return SECONDS
        lower, upper = self._number_at((total - 1) // 2), self._number_at(total // 2)
        if lower == upper:
            return UNITS[lower]
        return UNITS[_number((self._last[lower] + self._first[upper]) / 2)]

    def _add(self, number: int, count: int, first: float, last: float) -> None:
        self._count[number] += count
        self._first[number] = min(self._first[number], first)
        self._last[number] = max(self._last[number], last)

    def _number_at(self, place: int) -> int:
        """The unit of the time at this place in their order."""
        number = 0
        while place >= self._count[number]:
            place -= self._count[number]
            number += 1
        return number


class RangeCheck:
    """Holds the starts of a series against the range, slice by slice."""

    def __init__(self, time_range: TimeRange, unit: TimeUnit) -> None:
        self._range = time_range
        self._earliest_s, self._latest_s = time_range.bounds()
        self._unit = unit
        self._rows = self._kept = self._outside = 0
        self._first_outside: tuple[int, float, float] | None = None  # its row, and what is there
        self._least_s, self._most_s = inf, -inf

    def add(self, rows: NDArray[np.generic], start_s: NDArray[np.int64], kept: NDArray[np.bool_]) -> None:
        """More rows, (N, 2), which of them are kept, (N,), and their starts in the order of the rows."""
        if len(start_s):
            least_s, most_s = int(start_s.min()), int(start_s.max())
            self._least_s, self._most_s = min(self._least_s, least_s), max(self._most_s, most_s)
            if least_s < self._earliest_s or most_s > self._latest_s:
                is_outside = (start_s < self._earliest_s) | (start_s > self._latest_s)
                row = int(np.flatnonzero(kept)[is_outside.argmax()])
                found = (self._rows + row, float(rows[row, 0]), float(rows[row, 1]))
                self._first_outside = self._first_outside or found
                self._outside += int(is_outside.sum())
        self._rows += len(rows)
        self._kept += len(start_s)

    def refuse(self, dropped: Mapping[str, int]) -> None:
        """Raise `BadSeriesError` if a start is outside the range; `dropped`: rows left out, by reason."""
        if self._first_outside is None:
            return
        row, timestamp, power_w = self._first_outside
        look = self._look(timestamp, power_w) if self._outside == self._kept else None
        raise BadSeriesError(
            f"{self._outside:,} of {self._kept:,} points would start {self._range.outside}. "
            f"The first is row {row:,}: its time {timestamp:.15g} is "
            f"{_iso(round(timestamp / self._unit.per_s))} in {self._unit.name}{f'; {look}' if look else ''}. "
            f"{EXPECTED}. Correct the file",
            dropped=dropped,
        ).advised("time range")

    def _look(self, timestamp: float, power_w: float) -> str | None:
        """What times like this one are likely to be."""
        if power_w > 0 and self._allows(power_w / UNITS[_number(power_w)].per_s):
            return "the columns look swapped"
        if self._least_s <= 1 and self._most_s <= self._rows:
            return "it looks like row numbers"
        if _is_date(timestamp, self._allows):
            return "it looks like a date that was written as one number"
        for count, (seconds, at_1970) in _OTHER_COUNTS.items():
            if self._allows((timestamp - at_1970) * seconds):
                return f"it looks like {count}"
        return None

    def _allows(self, unix_s: float) -> bool:
        return self._earliest_s <= unix_s <= self._latest_s


def _number(timestamp: float) -> int:
    """The number of the unit that a time of this size is in."""
    return bisect_right(_LEAST, timestamp) - 1


def _is_date(timestamp: float, allows: Callable[[float], bool]) -> bool:
    digits = f"{timestamp:.0f}"
    try:
        return allows(datetime.strptime(digits, _DATE_FORMATS[len(digits)]).replace(tzinfo=UTC).timestamp())
    except (KeyError, ValueError):
        return False


def _midnight_s(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def _day(unix_s: int) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d}"


def _iso(unix_s: int) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
