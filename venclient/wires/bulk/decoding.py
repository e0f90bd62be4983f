"""Reading points back from the VTN (docs/interfaces.md §3), as series that can be compared with those of the file."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache, partial
from itertools import pairwise
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from venclient.errors import PermanentError
from venclient.models import MeterSeries, Month, Points, Stored, utc_text
from venclient.months import month_start_s, series_with_months, start_at
from venclient.wires.answers import MAX_SHOWN
from venclient.wires.lenient_json import as_number

# Points of the file in the time range of one request; the response is about 7 MB.
POINTS_A_REQUEST = 50_000
# Limits memory if the VTN has far more points than the file in a time range.
MAX_POINTS_A_REQUEST = 200_000
MAX_CODES = 256
NO_CODE = "no quality code"
# The latest time in a VTN that stores nanoseconds in 64 bits, as InfluxDB does.
END_OF_NANOSECONDS_S = 9_214_646_400  # 2262-01-01T00:00Z


_TimeText = Annotated[str, msgspec.Meta(max_length=64)]  # a fraction of a second may have any number of digits


class Point(msgspec.Struct, gc=False):
    """A point in a response. A missing or invalid value or code is no error: it just differs from the file's."""

    interval_start: _TimeText
    interval_end: _TimeText | None = None
    value: float | str | None = None
    quality_code: str | None = None


_Time = Annotated[datetime, msgspec.Meta(tz=True)]
_Columns = list[tuple[NDArray[Any], ...]]
Fetch = Callable[[str, str, Callable[[Iterator[list[Point]]], _Columns]], _Columns]


def read_back(fetch: Fetch, like: MeterSeries) -> Iterator[Stored]:
    """All points of a resource that the VTN has, in time order, in requests of `POINTS_A_REQUEST` points of `like`.

    Yields as many months at a time as fit into one request, but at least one. `fetch`: `BulkWire.points` of the
    resource. Raises what that raises, and `PermanentError` for far more points than in `like`.
    """
    groups = list(_month_groups(like.months))
    # From 1970 to the end of time, so that points outside the range of the file are found as well.
    begins_s = [0, *(month_start_s(group[0].number) for group in groups[1:])]
    end_s = max(END_OF_NANOSECONDS_S, like.months[-1].last_start_s + 1)
    for group, (from_s, to_s) in zip(groups, pairwise([*begins_s, end_s]), strict=True):
        begin, stop = group[0].begin, group[-1].stop
        indices = range(begin + POINTS_A_REQUEST, stop, POINTS_A_REQUEST)
        edges = [from_s, *(start_at(like, index) for index in indices), to_s]
        yield Stored(begin, stop, read_ranges(fetch, edges))


def _month_groups(months: Sequence[Month]) -> Iterator[Sequence[Month]]:
    """Consecutive months with up to `POINTS_A_REQUEST` points together, or one month with more."""
    first = 0
    for number, month in enumerate(months):
        if number > first and month.stop - months[first].begin > POINTS_A_REQUEST:
            yield months[first:number]
            first = number
    yield months[first:]


def read_ranges(fetch: Fetch, edges: Sequence[int]) -> MeterSeries:
    """The points that start from the first edge (unix time) up to the last, with one request from each to the next.

    Raises as `read_back` does.
    """
    code_indices: dict[str, int] = {}
    columns = _collect(0, 0, code_indices, iter([[]]))
    for begin_s, end_s in pairwise(edges):
        collect = partial(_collect, begin_s, end_s, code_indices)
        columns += fetch(utc_text(begin_s), utc_text(end_s), collect)
    start_s, interval_s, power_w, quality = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.argsort(start_s, kind="stable")
    points = Points(start_s[order], power_w[order], quality[order].astype(np.uint8), interval_s[order])
    return series_with_months(points, tuple(code_indices))


def _collect(begin_s: int, end_s: int, code_indices: dict[str, int], batches: Iterator[list[Point]]) -> _Columns:
    """The columns of each batch of points that start in `[begin_s, end_s)`."""
    columns, count = [], 0
    for batch in batches:
        start_s, *others = _columns(batch, code_indices)
        is_asked_for = (start_s >= begin_s) & (start_s < end_s)  # some VTNs include points that start at the end
        columns.append((_rounded(start_s[is_asked_for]), *(column[is_asked_for] for column in others)))
        count += int(is_asked_for.sum())
        if count > MAX_POINTS_A_REQUEST:
            raise PermanentError(
                f"The VTN has more than {MAX_POINTS_A_REQUEST:,} points from {utc_text(begin_s)} to {utc_text(end_s)}, "
                f"where the file has {POINTS_A_REQUEST:,} at most"
            )
        if len(code_indices) > MAX_CODES:
            raise PermanentError(f"The VTN has more than {MAX_CODES} different quality codes of one resource")
    return columns


def _columns(points: list[Point], code_indices: dict[str, int]) -> tuple[NDArray[Any], ...]:
    """Start and interval in s, value, and index of the quality code, each (N,); adds new codes to `code_indices`.

    Starts are not rounded yet. The interval is 0 if there is no end.
    """
    start_s = np.array([_unix_s(point.interval_start) for point in points], dtype=np.float64)
    ends = [point.interval_start if point.interval_end is None else point.interval_end for point in points]
    end_s = np.array([_unix_s(end) for end in ends], dtype=np.float64)
    codes = [point.quality_code for point in points]
    index_of = {
        code: code_indices.setdefault(NO_CODE if code is None else code[:MAX_SHOWN], len(code_indices))
        for code in dict.fromkeys(codes)
    }
    power_w = _values([point.value for point in points])
    return start_s, _rounded(end_s) - _rounded(start_s), power_w, np.array([index_of[code] for code in codes], np.int32)


# Cached, as loads share their timestamps: parsing is most of what a point costs.
@lru_cache(maxsize=20_000)
def _unix_s(time: str) -> float:
    return msgspec.convert(time, _Time).timestamp()


def _rounded(unix_s: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(unix_s).astype(np.int64)


def _values(values: list[float | str | None]) -> NDArray[np.float64]:
    """NaN for what is not a finite number."""
    if set(map(type, values)) != {float}:
        values = [as_number(value) for value in values]
    numbers = np.array(values, dtype=np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)
