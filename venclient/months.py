"""The months of a series, and the digests by which two of them are compared."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import compress, pairwise

import numpy as np
from numpy.typing import NDArray

from venclient.models import MeterSeries, Month


def months_of(series: MeterSeries, begins: Iterable[tuple[int, int]]) -> tuple[Month, ...]:
    """The calendar months (UTC) of a series, with their digests; `begins` as `month_begins` has them."""
    edges = [*begins, (0, len(series))]
    return tuple(
        Month(number, begin, stop, start_at(series, stop - 1), digest(series, begin, stop))
        for (number, begin), (_, stop) in pairwise(edges)
    )


def start_at(series: MeterSeries, place: int) -> int:
    """When the point at this place starts, as unix time."""
    return int(series.points(place, place + 1).start_s[0])


def month_begins(start_s: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Each calendar month (UTC) that points in order of time are in, and the place of its first point."""
    begin = 0
    while begin < len(start_s):
        month = start_s[begin].astype("datetime64[s]").astype("datetime64[M]")
        yield _month_number(int(month.astype(np.int64))), begin
        next_month_s = (month + 1).astype("datetime64[s]").astype(np.int64)
        begin = int(np.searchsorted(start_s, next_month_s))


def month_start_s(number: int) -> int:
    """The first second of a month, as unix time."""
    years, month = divmod(number, 100)
    return int(datetime(years, month, 1, tzinfo=UTC).timestamp())


def digest(series: MeterSeries, begin: int, stop: int) -> bytes:
    """16 bytes that stand for exactly these points, up to `stop`: start, interval, value and quality code.

    0.0 and -0.0 are one value: not every VTN gives the sign back.
    """
    return digests(series, begin, [stop])[0]


def digests(series: MeterSeries, begin: int, stops: Sequence[int]) -> list[bytes]:
    """The same for several stops, in order. A long series is gone through once for all, column by column.

    An interval that all points have is told once, and so are codes: ledgers have such digests.
    """
    parts = list(pairwise([begin, *stops]))
    codes = list(_codes(series, parts))
    intervals = list(_intervals(series, parts))
    shas = [
        hashlib.sha256(f"{'various' if interval is None else interval} {' '.join(each)}".encode())
        for interval, each in zip(intervals, codes, strict=True)
    ]
    for number, part in enumerate(parts):
        for points in series.slices(*part):
            _update(shas[number:], np.ascontiguousarray(points.start_s, dtype="<i8"))
    for number, part in enumerate(parts) if None in intervals else ():
        various = [sha for sha, interval in zip(shas[number:], intervals[number:], strict=True) if interval is None]
        for points in series.slices(*part) if various else ():
            _update(various, np.ascontiguousarray(points.interval_s, dtype="<i8"))
    for number, part in enumerate(parts):
        for points in series.slices(*part):
            _update(shas[number:], np.ascontiguousarray(points.power_w + 0.0, dtype="<f8"))
    for sha, each, (_, stop) in zip(shas, codes, parts, strict=True):
        if len(each) > 1:
            place = np.array([each.index(code) if code in each else 0 for code in series.codes], dtype=np.uint8)
            for points in series.slices(begin, stop):
                _update([sha], place[points.quality])
    return [sha.digest()[:16] for sha in shas]


def _codes(series: MeterSeries, parts: Iterable[tuple[int, int]]) -> Iterator[Sequence[str]]:
    """Those that occur from the first part on to each of them, in the order of the alphabet."""
    occurs = np.zeros(len(series.codes), dtype=bool)
    for part in parts:
        for points in series.slices(*part) if len(series.codes) > 1 else ():
            occurs[points.quality] = True
        yield sorted(compress(series.codes, occurs)) if len(series.codes) > 1 else series.codes


def _intervals(series: MeterSeries, parts: Iterable[tuple[int, int]]) -> Iterator[int | None]:
    """The interval of all points from the first part on to the end of each; None where they differ."""
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


def _month_number(months_since_1970: int) -> int:
    years, month = divmod(months_since_1970, 12)
    return (1970 + years) * 100 + month + 1
