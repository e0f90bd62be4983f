"""The months of a series, and the digests by which two of them are compared."""

import hashlib
from itertools import pairwise

import numpy as np

from venclient.models import MeterSeries, Month


def months_of(series: MeterSeries) -> tuple[Month, ...]:
    """The calendar months (UTC) of a series in order of time, with their digests."""
    if not len(series):
        return ()
    calendar = series.start_s.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)
    edges = [0, *(np.flatnonzero(np.diff(calendar)) + 1).tolist(), len(series)]
    return tuple(
        Month(_month_number(int(calendar[begin])), begin, stop, digest(series, begin, stop))
        for begin, stop in pairwise(edges)
    )


def digest(series: MeterSeries, begin: int, stop: int) -> bytes:
    """16 bytes that stand for exactly the points `series[begin:stop]`: start, interval, value and quality code."""
    quality = series.quality[begin:stop]
    codes = sorted(series.codes[index] for index in np.unique(quality))
    sha = hashlib.sha256(f"{series.interval_s} {' '.join(codes)}".encode())
    sha.update(np.ascontiguousarray(series.start_s[begin:stop], dtype="<i8").data)
    sha.update(np.ascontiguousarray(series.power_w[begin:stop], dtype="<f8").data)
    if len(codes) > 1:
        place = [codes.index(code) if code in codes else 0 for code in series.codes]
        sha.update(np.array(place, dtype=np.uint8)[quality].data)
    return sha.digest()[:16]


def _month_number(months_since_1970: int) -> int:
    years, month = divmod(months_since_1970, 12)
    return (1970 + years) * 100 + month + 1
