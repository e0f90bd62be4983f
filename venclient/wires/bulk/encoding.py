"""The points of a chunk as the bulk endpoint takes them: a request's JSON bytes (contracts §3).

Encoding is what every point of a billion goes through, so no Python object stands for a point: a body is laid out in
one byte array, and heads, values and tails are each put in their places by one numpy assignment (for values, one for
each text length that occurs; for tails, one for each quality code).
"""

from functools import cache, lru_cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from venclient.models import Chunk

Bytes = NDArray[np.uint8]
Texts = np.ndarray[tuple[int], np.dtype[np.void]]

# Of a request, encoded together: what that takes of memory stays small, and near the processor.
POINTS_AT_A_TIME = 10_000
DAY_S = 86_400

_ISO = np.dtype([("date", "S11"), ("time", "S8"), ("zone", "S1")])
_TIME = np.dtype([("hour", "S2"), ("then", "S1"), ("minute", "S2"), ("and", "S1"), ("second", "S2")])
_HEAD = np.dtype([("open", "S19"), ("start", _ISO), ("then", "S18"), ("end", _ISO), ("value", "S10")])


def encode(chunk: Chunk) -> bytearray:
    """The body of `POST /report_data/bulk`: a JSON list of the chunk's points.

    Values are the shortest text that reads back as the same float64 (orjson); times are whole seconds, in UTC.
    """
    parts = (slice(begin, begin + POINTS_AT_A_TIME) for begin in range(0, len(chunk), POINTS_AT_A_TIME))
    first, *more = (_encoded(chunk, part) for part in parts)
    return bytearray().join([first, *more]) if more else first


def _encoded(chunk: Chunk, part: slice) -> bytearray:
    """Some points of the chunk: before the first of all stands `[`, after the last `]`, and after others a comma."""
    is_first, is_last = part.start == 0, part.stop >= len(chunk)
    quality = chunk.quality[part]
    values = np.frombuffer(orjson.dumps(chunk.power_w[part], option=orjson.OPT_SERIALIZE_NUMPY), dtype=np.uint8)
    value_stop = np.flatnonzero((values == ord(",")) | (values == ord("]")))
    lengths = np.diff(value_stop, prepend=0) - 1
    heads = _heads(chunk.start_s[part].tobytes(), _once_if_equal(chunk.interval_s[part]).tobytes())
    tails = [f',"quality_code":"{code}"}},'.encode() for code in chunk.codes]
    tail_lengths = np.array([len(tail) for tail in tails])[quality]
    point_stop = is_first + np.cumsum(lengths + tail_lengths + _HEAD.itemsize)
    tail_at = point_stop - tail_lengths
    value_at = tail_at - lengths

    encoded = bytearray(int(point_stop[-1]))
    body = np.frombuffer(encoded, dtype=np.uint8)
    _windows(body, _HEAD.itemsize)[value_at - _HEAD.itemsize] = heads
    for code, tail in enumerate(tails):
        _windows(body, len(tail))[tail_at[quality == code]] = np.void(tail)
    for length in np.flatnonzero(np.bincount(lengths)).tolist():
        these = np.flatnonzero(lengths == length)
        _windows(body, length)[value_at[these]] = _windows(values, length)[value_stop[these] - length]
    if is_first:
        body[0] = ord("[")
    if is_last:
        body[-1] = ord("]")
    return encoded


@lru_cache(maxsize=8)
def _heads(start_s: bytes, interval_s: bytes) -> Texts:
    """All before the value of each point; cached, because series share their grid of timestamps.

    `interval_s`: of each point, or of all of them.
    """
    starts = np.frombuffer(start_s, dtype=np.int64)
    heads = np.empty(len(starts), dtype=_HEAD)
    heads["open"] = b'{"interval_start":"'
    _write_iso(heads["start"], starts)
    heads["then"] = b'","interval_end":"'
    _write_iso(heads["end"], starts + np.frombuffer(interval_s, dtype=np.int64))
    heads["value"] = b'","value":'
    return heads.view(f"V{_HEAD.itemsize}")


def _once_if_equal(interval_s: NDArray[np.int64]) -> NDArray[np.int64]:
    return interval_s[:1] if (interval_s == interval_s[0]).all() else interval_s


def _write_iso(texts: NDArray[Any], unix_s: NDArray[np.int64]) -> None:
    """`2025-01-15T08:00:00Z` for each; a date is put into words once."""
    day, second = np.divmod(unix_s, DAY_S)
    days, which = np.unique(day, return_inverse=True)
    dates = np.datetime_as_string(days.astype("datetime64[D]").astype("datetime64[s]")).astype("S11")
    texts["date"], texts["time"], texts["zone"] = dates[which], _times_of_day()[second], b"Z"


@cache
def _times_of_day() -> NDArray[np.bytes_]:
    """`00:00:00` to `23:59:59`."""
    two_digits = np.array([f"{number:02}" for number in range(60)], dtype="S2")
    times = np.empty((24, 60, 60), dtype=_TIME)
    times["hour"], times["minute"], times["second"] = two_digits[:24, None, None], two_digits[:, None], two_digits
    times["then"], times["and"] = b":", b":"
    return times.view("S8").ravel()


def _windows(buffer: Bytes, width: int) -> Texts:
    """Every run of `width` bytes in the buffer as one item: a view, so that assigning to it fills the buffer."""
    return np.ndarray((len(buffer) - width + 1,), dtype=f"V{width}", buffer=buffer, strides=(1,))
