"""Calendar months of a series, and the digests by which their points are compared."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import compress, pairwise

import numpy as np
from numpy.typing import NDArray

from venclient.models import MeterSeries, Month, Points, Starts

# The highest number of a month; above it, numbers are of days.
LAST_MONTH = 999_912


def months_of(series: MeterSeries, begins: Sequence[tuple[int, int]]) -> tuple[Month, ...]:
    """Return the calendar months (UTC) of a series, with digests; `begins`: as `month_begins` returns them."""
    ranges = tuple(pairwise([*(begin for _, begin in begins), len(series)]))
    if _is_regular(series) and len(series.edges) == 2:
        last_starts_s, digests = _of_one_slice(series, ranges)
    else:
        last_starts_s = [start_at(series, stop - 1) for _, stop in ranges]
        digests = [digest(series, begin, stop) for begin, stop in ranges]
    return tuple(
        Month(number, begin, stop, last_start_s, of_points)
        for (number, begin), (_, stop), last_start_s, of_points in zip(
            begins, ranges, last_starts_s, digests, strict=True
        )
    )


def series_with_months(points: Points, codes: Sequence[str]) -> MeterSeries:
    """Return points as a series with its months, for a comparison with another; its stretches are not known."""
    series = MeterSeries((0, len(points)), lambda _: points, tuple(codes), (), None)
    return replace(series, months=months_of(series, month_begins(points.start_s)))


def start_at(series: MeterSeries, index: int) -> int:
    """Return the start of the point at this index, as unix time."""
    return int(next(series.slices(index, index + 1)).start_s[0])


def span_at(series: MeterSeries, index: int) -> tuple[int, int]:
    """Return when the point at this index starts and ends, as unix times; of an interval of 0 s, the first second."""
    point = next(series.slices(index, index + 1))
    start_s = int(point.start_s[0])
    return start_s, start_s + max(int(point.interval_s[0]), 1)


def month_begins(start_s: NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    """Return the number of each calendar month (UTC) that has points, and the index of its first point.

    `start_s`: (N,) unix seconds, ascending.
    """
    return _month_begins(Starts(start_s)) if len(start_s) else ()


def month_start_s(number: int) -> int:
    """Return the unix time at which a month (such as 202503) starts, in UTC."""
    year, month = divmod(number, 100)
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp())


def month_of(number: int) -> int:
    """Return the month of a mark's number: 202503 for itself, and for 20250310."""
    return number // 100 if number > LAST_MONTH else number


def day_number(start_s: int) -> int:
    """Return the number of a mark that begins on the day (UTC) of this unix time: 20250310."""
    return int(f"{datetime.fromtimestamp(start_s, UTC):%Y%m%d}")


def mark_start_s(number: int) -> int:
    """Return the unix time from which a mark with this number counts: the start of the month, or of the day."""
    if number <= LAST_MONTH:
        return month_start_s(number)
    return int(datetime(number // 10_000, number // 100 % 100, number % 100, tzinfo=UTC).timestamp())


def index_at(series: MeterSeries, start_s: float) -> int:
    """Return the index of the first point that starts at this unix time or later; the series' length without one."""
    month = next((month for month in series.months if month.last_start_s >= start_s), None)
    if month is None:
        return len(series)
    index = month.begin
    for points in series.slices(month.begin, month.stop):
        found = int(np.searchsorted(points.start_s, start_s))
        index += found
        if found < len(points):
            break
    return index


def digest(series: MeterSeries, begin: int, stop: int) -> bytes:
    """Return a 16-byte digest of the points `[begin, stop)`: of start, interval, value and quality code.

    0.0 and -0.0 have the same digest, because not every VTN keeps the sign.
    """
    if not _is_regular(series):
        return digests(series, begin, [stop])[0]
    # The same in a third of the time, for most series.
    sha = hashlib.sha256(_head(series.regular_interval_s, series.codes))
    for points in series.slices(begin, stop):
        _update([sha], np.ascontiguousarray(points.start_s, dtype="<i8"))
    for points in series.slices(begin, stop):
        _update([sha], np.ascontiguousarray(points.power_w + 0.0, dtype="<f8"))
    return sha.digest()[:16]


def _of_one_slice(series: MeterSeries, ranges: tuple[tuple[int, int], ...]) -> tuple[list[int], list[bytes]]:
    """Return the last start of each of these ranges, and its `digest`, for a regular series of one slice."""
    points = series.slice_of(0)
    power_w = np.ascontiguousarray(points.power_w + 0.0, dtype="<f8")
    digests = []
    head = _head(series.regular_interval_s, series.codes)
    shas_of_starts = _shas_of_starts(head, Starts(points.start_s), ranges)
    for sha_of_starts, (begin, stop) in zip(shas_of_starts, ranges, strict=True):
        sha = sha_of_starts.copy()
        sha.update(power_w[begin:stop].data)
        digests.append(sha.digest()[:16])
    return points.start_s[[stop - 1 for _, stop in ranges]].tolist(), digests


@lru_cache(maxsize=2)
def _shas_of_starts(head: bytes, starts: Starts, ranges: tuple[tuple[int, int], ...]) -> "list[hashlib._Hash]":
    """Return what has gone into the `digest` of each range before the values."""
    sha_of_head, start_s = hashlib.sha256(head), np.ascontiguousarray(starts.start_s, dtype="<i8")
    shas = [sha_of_head.copy() for _ in ranges]
    for sha, (begin, stop) in zip(shas, ranges, strict=True):
        sha.update(start_s[begin:stop].data)
    return shas


def _is_regular(series: MeterSeries) -> bool:
    """Whether all points have the same interval and quality code."""
    return series.regular_interval_s is not None and len(series.codes) == 1


def digests(series: MeterSeries, begin: int, stops: Sequence[int]) -> list[bytes]:
    """Return the digest up to each of several ascending stops, in one pass over the series for each column.

    The format is fixed, since existing ledgers contain such digests: first the interval, or `various`, and the codes
    that occur, sorted; then the columns, of which intervals and codes are omitted if all points have the same.
    """
    parts = list(pairwise([begin, *stops]))
    codes = list(_codes(series, parts))
    intervals = list(_intervals(series, parts))
    shas = [hashlib.sha256(_head(interval_s, each)) for interval_s, each in zip(intervals, codes, strict=True)]
    # The digest for a stop covers all parts up to it, so each part goes into the digests from its own on.
    for number, part in enumerate(parts):
        for points in series.slices(*part):
            _update(shas[number:], np.ascontiguousarray(points.start_s, dtype="<i8"))
    for number, part in enumerate(parts) if None in intervals else ():
        various = [sha for sha, interval in zip(shas[number:], intervals[number:], strict=True) if interval is None]
        for points in series.slices(*part) if various else ():
            _update(various, np.ascontiguousarray(points.interval_s, dtype="<i8"))
    for number, part in enumerate(parts):
        for points in series.slices(*part):
            _update(shas[number:], np.ascontiguousarray(points.power_w + 0.0, dtype="<f8"))  # -0.0 + 0.0 is 0.0
    for sha, each, (_, stop) in zip(shas, codes, parts, strict=True):
        if len(each) > 1:
            # Indices into the codes that occur: a rule that matches no point must not change the digest.
            code_indices = np.array([each.index(code) if code in each else 0 for code in series.codes], dtype=np.uint8)
            for points in series.slices(begin, stop):
                _update([sha], code_indices[points.quality])
    return [sha.digest()[:16] for sha in shas]


def _head(interval_s: int | None, codes: Sequence[str]) -> bytes:
    """Return what a digest begins with; `interval_s`: None if intervals differ."""
    return f"{'various' if interval_s is None else interval_s} {' '.join(codes)}".encode()


def _codes(series: MeterSeries, parts: Iterable[tuple[int, int]]) -> Iterator[Sequence[str]]:
    """Yield for each part the codes that occur up to its end, sorted."""
    occurs = np.zeros(len(series.codes), dtype=bool)
    for part in parts:
        for points in series.slices(*part) if len(series.codes) > 1 else ():
            occurs[points.quality] = True
        yield sorted(compress(series.codes, occurs)) if len(series.codes) > 1 else series.codes


def _intervals(series: MeterSeries, parts: Iterable[tuple[int, int]]) -> Iterator[int | None]:
    """Yield for each part the interval of all points up to its end, None if they differ."""
    interval_s, differ = series.regular_interval_s, False
    for part in parts:
        for points in series.slices(*part) if series.regular_interval_s is None and not differ else ():
            interval_s = int(points.interval_s[0]) if interval_s is None else interval_s
            differ = bool((points.interval_s != interval_s).any())
            if differ:
                break
        yield None if differ else interval_s


def _update(shas: Iterable["hashlib._Hash"], column: NDArray[np.generic]) -> None:
    for sha in shas:
        sha.update(column.data)


def _number_of(unix_s: int) -> int:
    """Return the number of the month (UTC) of this unix time."""
    moment = datetime.fromtimestamp(unix_s, UTC)
    return moment.year * 100 + moment.month


@lru_cache(maxsize=2)
def _month_begins(starts: Starts) -> tuple[tuple[int, int], ...]:
    first, last = (_number_of(int(starts.start_s[index])) for index in (0, -1))
    years = range(first // 100, last // 100 + 1)
    numbers = [number for year in years for number in range(year * 100 + 1, year * 100 + 13) if first <= number <= last]
    begins = np.searchsorted(starts.start_s, [month_start_s(number) for number in numbers]).tolist()
    found = zip(numbers, pairwise([*begins, len(starts.start_s)]), strict=True)
    return tuple((number, begin) for number, (begin, stop) in found if begin < stop)


def month_text(number: int) -> str:
    """Return a month by its number, 202501, as text: `2025-01`."""
    return f"{number // 100:04}-{number % 100:02}"
