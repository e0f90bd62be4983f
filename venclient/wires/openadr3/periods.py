"""The periods of reports: a calendar month in UTC, or a day or an hour of it for series with short intervals.

A report is stored and replaced as a whole, so its period must stay the same as the series grows. It depends on the
intervals of the series; only a month whose report would exceed the size limit is divided further.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from venclient.models import MeterSeries, Month, Period
from venclient.months import month_start_s, start_at

Length = Literal["month", "day", "hour"]

# From the longest to the shortest: the seconds of each, the shortest interval for which it is used
# (docs/other-vtns.md), and the form of its names.
SECONDS: dict[Length, int] = {"month": 31 * 86_400, "day": 86_400, "hour": 3_600}
MIN_INTERVAL_S: dict[Length, int] = {"month": 300, "day": 15, "hour": 0}
NAMES: dict[Length, str] = {"month": "%Y-%m", "day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H"}
FORMS: dict[Length, str] = {
    "month": r"\d{4}-\d\d", "day": r"\d{4}-\d\d-\d\d", "hour": r"\d{4}-\d\d-\d\dT\d\d",
}  # fmt: skip


def shortest_interval_s(series: MeterSeries, month: Month) -> int:
    """Return the shortest interval of the stretches that reach into a month."""
    starts_s = [each.start_s for each in series.stretches]
    first = max(bisect_right(starts_s, start_at(series, month.begin)) - 1, 0)
    return min(each.interval_s for each in series.stretches[first : bisect_right(starts_s, month.last_start_s)])


def length_for(interval_s: int) -> Length:
    """Return the length of reports of points with this interval."""
    return next(length for length, least_s in MIN_INTERVAL_S.items() if interval_s >= least_s)


def periods_of(series: MeterSeries, month: Month, length: Length) -> Iterator[Period]:
    """Yield the periods of a month that have points, in order."""
    if length == "month":
        yield Period(period_name(month_start_s(month.number), length), month.begin, month.stop)
        return
    # Within a month; a period may span slices of a long series.
    begin, number = month.begin, -1
    index = month.begin
    for points in series.slices(month.begin, month.stop):
        numbers = points.start_s // SECONDS[length]
        for change in np.flatnonzero(np.diff(numbers, prepend=number)).tolist():
            if number >= 0:
                yield Period(period_name(number * SECONDS[length], length), begin, index + change)
            begin, number = index + change, int(numbers[change])
        index += len(points)
    yield Period(period_name(number * SECONDS[length], length), begin, month.stop)


def period_name(start_s: int, length: Length) -> str:
    """Return the name of the period that contains this unix time, such as `2025-01` or `2025-01-15T08`."""
    return f"{datetime.fromtimestamp(start_s, UTC):{NAMES[length]}}"


def length_of(name: str) -> Length | None:
    """Return the length of the period with this name; None if it is none."""
    return next((length for length, form in FORMS.items() if re.fullmatch(form, name)), None)


def month_number(name: str) -> int:
    """Return the number of the month that contains a period: 202501 for `2025-01-15`."""
    return int(name[:4]) * 100 + int(name[5:7])
