"""Encoding a chunk as the JSON body of the bulk endpoint (docs/interfaces.md §3).

No Python object is created per point, as there may be billions. A block of points is laid out in one byte array, and
all of its values are written to their positions by one numpy assignment. So is what is between them: the end of a point
and the head of the next, or with several quality codes the ends for each of them, and then all heads.
"""

from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from venclient.days import DAY_S
from venclient.models import Chunk, Starts

Bytes = NDArray[np.uint8]
Texts = np.ndarray[tuple[int], np.dtype[np.void]]

# Points are encoded in blocks, whose arrays are small and stay in the processor's cache.
POINTS_AT_A_TIME = 10_000
MAX_VALUE_BYTES = 24  # "-2.2250738585072014e-308"

_ISO = np.dtype([("date", "S11"), ("time", "S8"), ("zone", "S1")])
_TIME = np.dtype([("hour", "S2"), ("then", "S1"), ("minute", "S2"), ("and", "S1"), ("second", "S2")])
_HEAD = np.dtype([("open", "S19"), ("start", _ISO), ("then", "S18"), ("end", _ISO), ("value", "S10")])


class EncodedPoints:
    """The body of `POST /report_data/bulk`, a JSON list of the chunk's points, in pieces of bytes.

    Its length is known, and a piece is made when it is to be sent: a body of 50,000 points would take 6 MB. Values are
    the shortest text that parses to the same float64 (orjson). Times are whole seconds in UTC.
    """

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk
        self._parts = [slice(begin, begin + POINTS_AT_A_TIME) for begin in range(0, len(chunk), POINTS_AT_A_TIME)]
        self._values = [orjson.dumps(chunk.power_w[part], option=orjson.OPT_SERIALIZE_NUMPY) for part in self._parts]
        self._tails = [f',"quality_code":"{code}"}},'.encode() for code in chunk.codes]

    def __len__(self) -> int:
        # Of a list of n values, n + 1 bytes are brackets and commas.
        values = sum(map(len, self._values)) - len(self._chunk) - len(self._values)
        points_by_code = [len(self._chunk)]
        if len(self._tails) > 1:
            points_by_code = np.bincount(self._chunk.quality, minlength=len(self._tails)).tolist()
        tails = sum(points * len(tail) for points, tail in zip(points_by_code, self._tails, strict=True))
        return 1 + len(self._chunk) * _HEAD.itemsize + values + tails

    def __iter__(self) -> Iterator[memoryview]:
        for part, values in zip(self._parts, self._values, strict=True):
            yield self._encode(part, values)

    def __bytes__(self) -> bytes:
        return b"".join(self)

    def _encode(self, part: slice, listed: bytes) -> memoryview:
        """Encode a block of points with a comma after each; the body begins with `[`, and ends with `]` for a comma."""
        chunk = self._chunk
        is_first, is_last = part.start == 0, part.stop >= len(chunk)
        quality = chunk.quality[part]
        values = np.frombuffer(bytes(MAX_VALUE_BYTES) + listed[:-1] + b",", dtype=np.uint8)
        value_stop = np.flatnonzero(values == ord(","))
        lengths = np.diff(value_stop, prepend=MAX_VALUE_BYTES) - 1
        times = Starts(chunk.start_s[part]), _single_if_equal(chunk.interval_s[part]).tobytes()
        tail_lengths = np.array([len(tail) for tail in self._tails])
        if len(self._tails) > 1:
            tail_lengths = tail_lengths[quality]
        # Where in the block each value ends.
        ends = is_first + np.cumsum(lengths + tail_lengths + _HEAD.itemsize) - tail_lengths
        stop = ends[-1] + tail_lengths[-1]

        body = np.empty(stop + _HEAD.itemsize, dtype=np.uint8)
        # A numpy assignment needs items of one size: with a shorter value comes what is before it, which is replaced.
        width = int(lengths.max())
        _windows(body, width)[ends - width] = _windows(values, width)[value_stop - width]
        if len(self._tails) == 1:
            (tail,) = self._tails
            _windows(body, len(tail) + _HEAD.itemsize)[ends] = _between(*times, tail)
        else:
            for code, tail in enumerate(self._tails):
                _windows(body, len(tail))[ends[quality == code]] = np.void(tail)
            _windows(body, _HEAD.itemsize)[ends + tail_lengths] = _between(*times)
        # What follows the last value goes on with the head of the first.
        body[is_first : is_first + _HEAD.itemsize] = body[stop:]
        if is_first:
            body[0] = ord("[")
        if is_last:
            body[stop - 1] = ord("]")
        return body.data[:stop]


@lru_cache(maxsize=8)
def _between(starts: Starts, interval_s: bytes, tail: bytes = b"") -> Texts:
    """The end of each point, and the text before the value of the next, or for the last of the first: (N,).

    `interval_s`: int64 (N,) as bytes, which are hashable; or (1,) if all points have the same. `tail`: the end of a
    point, if all have the same. Cached, as series often share their timestamps.
    """
    item = np.dtype([("tail", f"S{len(tail)}"), ("head", _HEAD)])
    texts = np.empty(len(starts.start_s), dtype=item)
    texts["tail"] = tail
    heads, start_s = texts["head"], np.roll(starts.start_s, -1)
    heads["open"] = b'{"interval_start":"'
    _write_iso(heads["start"], start_s)
    heads["then"] = b'","interval_end":"'
    _write_iso(heads["end"], start_s + np.roll(np.frombuffer(interval_s, dtype=np.int64), -1))
    heads["value"] = b'","value":'
    return texts.view(f"V{item.itemsize}")


def _single_if_equal(interval_s: NDArray[np.int64]) -> NDArray[np.int64]:
    is_single = interval_s.strides == (0,) or (interval_s == interval_s[0]).all()
    return interval_s[:1] if is_single else interval_s


def _write_iso(texts: NDArray[Any], unix_s: NDArray[np.int64]) -> None:
    """Write times as `2025-01-15T08:00:00Z`; each date is formatted only once."""
    day, second = np.divmod(unix_s, DAY_S)
    days, which = np.unique(day, return_inverse=True)
    dates = np.datetime_as_string(days.astype("datetime64[D]").astype("datetime64[s]")).astype("S11")
    texts["date"], texts["time"], texts["zone"] = dates[which], _times_of_day()[second], b"Z"


@cache
def _times_of_day() -> NDArray[np.bytes_]:
    """The texts `00:00:00` to `23:59:59`, by second of the day."""
    two_digits = np.array([f"{number:02}" for number in range(60)], dtype="S2")
    times = np.empty((24, 60, 60), dtype=_TIME)
    times["hour"], times["minute"], times["second"] = two_digits[:24, None, None], two_digits[:, None], two_digits
    times["then"], times["and"] = b":", b":"
    return times.view("S8").ravel()


def _windows(buffer: Bytes, width: int) -> Texts:
    """A view of the buffer whose item i is its bytes i to i + width; assigning to an item writes to the buffer."""
    return np.ndarray((len(buffer) - width + 1,), dtype=f"V{width}", buffer=buffer, strides=(1,))
