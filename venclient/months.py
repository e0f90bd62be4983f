"""The months of a series, and the digests by which two of them are compared."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from venclient.models import MeterSeries, Month


def months_of(series: MeterSeries, begins: Iterable[tuple[int, int]]) -> tuple[Month, ...]:
    """The calendar months (UTC) of a series, with their digests; `begins` as `month_begins` has them."""
    edges = [*begins, (0, len(series))]
    return tuple(
        Month(number, begin, stop, digest(series, begin, stop)) for (number, begin), (_, stop) in pairwise(edges)
    )


def month_begins(start_s: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Each calendar month (UTC) that points in order of time are in, and the place of its first point."""
    begin = 0
    while begin < len(start_s):
        month = start_s[begin].astype("datetime64[s]").astype("datetime64[M]")
        yield _month_number(int(month.astype(np.int64))), begin
        next_month_s = (month + 1).astype("datetime64[s]").astype(np.int64)
        begin = int(np.searchsorted(start_s, next_month_s))


def digest(series: MeterSeries, begin: int, stop: int) -> bytes:
    """16 bytes that stand for exactly these points, from place `begin` up to `stop`: start, interval, value and code.

    It goes through the points column by column, so that of a long series no more than a slice is in memory.
    """
    codes = _codes(series, begin, stop)
    sha = hashlib.sha256(f"{series.interval_s} {' '.join(codes)}".encode())
    for points in series.slices(begin, stop):
        sha.update(np.ascontiguousarray(points.start_s, dtype="<i8").data)
    for points in series.slices(begin, stop):
        sha.update(np.ascontiguousarray(points.power_w, dtype="<f8").data)
    if len(codes) > 1:
        place = np.array([codes.index(code) if code in codes else 0 for code in series.codes], dtype=np.uint8)
        for points in series.slices(begin, stop):
            sha.update(place[points.quality].data)
    return sha.digest()[:16]


def _codes(series: MeterSeries, begin: int, stop: int) -> Sequence[str]:
    """Those that occur, in the order of the alphabet."""
    if len(series.codes) == 1:
        return series.codes
    occurs = np.zeros(len(series.codes), dtype=bool)
    for points in series.slices(begin, stop):
        occurs[points.quality] = True
    return sorted(code for code, does in zip(series.codes, occurs.tolist(), strict=True) if does)


def _month_number(months_since_1970: int) -> int:
    years, month = divmod(months_since_1970, 12)
    return (1970 + years) * 100 + month + 1
