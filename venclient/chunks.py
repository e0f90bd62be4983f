"""What is pending of a series, cut into requests, and a request's JSON bytes.

Encoding is what every point of a billion goes through, so no Python object stands for a point: a body is laid out in
one byte array, and heads, values and tails are each put in their places by one numpy assignment (for values, one for
each text length that occurs; for tails, one for each quality code).
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from venclient.models import Chunk, Mark, MeterSeries, Month, Points, joined
from venclient.months import digest, digests, start_at

Bytes = NDArray[np.uint8]
Texts = np.ndarray[tuple[int], np.dtype[np.void]]

# Of a request, encoded together: what that takes of memory stays small, and near the processor.
POINTS_AT_A_TIME = 10_000
# Of the requests that a month is sent in: a long series is gone through again for so many of them at once.
DIGESTS_AT_A_TIME = 20
DAY_S = 86_400

_Range = tuple[int, int]  # of places: from the first up to the second

_ISO = np.dtype([("date", "S11"), ("time", "S8"), ("zone", "S1")])
_TIME = np.dtype([("hour", "S2"), ("then", "S1"), ("minute", "S2"), ("and", "S1"), ("second", "S2")])
_HEAD = np.dtype([("open", "S19"), ("start", _ISO), ("then", "S18"), ("end", _ISO), ("value", "S10")])


@dataclass(frozen=True, slots=True)
class Pending:
    """The part of a month that the VTN has not acknowledged: `series[begin:month.stop]`."""

    month: Month
    begin: int

    @property
    def points(self) -> int:
        """How many points are left to send."""
        return self.month.stop - self.begin


def pending(series: MeterSeries, marks: Mapping[int, Mark]) -> list[Pending]:
    """Compare the series as it is today with what the VTN has acknowledged, month by month.

    The same points: nothing. The same points and more after them: the rest. Anything else is a past that was
    corrected: the month again.
    """
    rests = (Pending(month, _first_unsent(series, month, marks.get(month.number))) for month in series.months)
    return [rest for rest in rests if rest.points]


def places_of(series: MeterSeries, starts: Collection[int]) -> dict[int, int]:
    """Where in the series the points with these starts are, by start; it may not have all of them."""
    places: dict[int, int] = {}
    begin = 0
    for points in series.slices() if starts else ():
        for place in np.flatnonzero(np.isin(points.start_s, list(starts))).tolist():
            places[int(points.start_s[place])] = begin + place
        begin += len(points)
    return places


def besides(rests: Sequence[Pending], places: Iterable[int]) -> list[int]:
    """Those of these places that are in none of the rests."""
    return [place for place in places if not any(rest.begin <= place < rest.month.stop for rest in rests)]


class Unsent:
    """What is left to send of a series, oldest first; `again`: places of points besides, that are sent once more."""

    def __init__(self, series: MeterSeries, rests: Sequence[Pending], again: Sequence[int] = ()) -> None:
        self._series = series
        self._rests = rests
        ranges = [(rest.begin, rest.month.stop) for rest in rests] + [(place, place + 1) for place in again]
        self._ranges = _without_seams(sorted(ranges))
        self._points = sum(stop - begin for begin, stop in self._ranges)
        self._digests: dict[tuple[int, int], bytes] = {}

    def __len__(self) -> int:
        return self._points

    def head(self, points: int) -> Chunk:
        """The first so many points, across months, and the marks that hold once these are dealt with."""
        ranges = list(_first(self._ranges, points))
        begin, stop = ranges[0][0], ranges[-1][1]
        part = joined([self._series.points(*each) for each in ranges])
        reached = [rest.month for rest in self._rests if rest.begin < stop and begin < rest.month.stop]
        marks = tuple(self._mark(month, min(stop, month.stop), points) for month in reached)
        return self._chunk(part, marks, is_last=len(part) == len(self))

    def last(self) -> Chunk:
        """The last point alone, of which nothing is marked."""
        stop = self._ranges[-1][1]
        return self._chunk(self._series.points(stop - 1, stop), (), is_last=False)

    def drop(self, points: int) -> None:
        """The first so many points are dealt with."""
        for begin, stop in list(_first(self._ranges, points)):
            _, end = self._ranges.popleft()
            self._points -= stop - begin
            if stop < end:
                self._ranges.appendleft((stop, end))

    def _chunk(self, part: Points, marks: tuple[Mark, ...], *, is_last: bool) -> Chunk:
        return Chunk(
            start_s=part.start_s,
            power_w=part.power_w,
            quality=part.quality,
            interval_s=part.interval_s,
            codes=self._series.codes,
            marks=marks,
            is_last=is_last,
        )

    def _mark(self, month: Month, stop: int, points: int) -> Mark:
        last_start_s = month.last_start_s if stop == month.stop else start_at(self._series, stop - 1)
        return Mark(month.number, stop - month.begin, last_start_s, self._digest(month, stop, points))

    def _digest(self, month: Month, stop: int, points: int) -> bytes:
        """Worked out together with those of the requests to come, if they have as many points."""
        if stop == month.stop:
            return month.digest
        key = (month.begin, stop)
        if key not in self._digests:
            stops = range(stop, month.stop, points)[:DIGESTS_AT_A_TIME]
            keys = [(month.begin, each) for each in stops]
            self._digests = dict(zip(keys, digests(self._series, month.begin, stops), strict=True))
        return self._digests[key]


def cut(series: MeterSeries, rests: Sequence[Pending], chunk_size: int) -> Iterator[Chunk]:
    """Requests of up to `chunk_size` points, across months, oldest first."""
    unsent = Unsent(series, rests)
    while unsent:
        chunk = unsent.head(chunk_size)
        yield chunk
        unsent.drop(len(chunk))


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


def _first_unsent(series: MeterSeries, month: Month, mark: Mark | None) -> int:
    if mark is None or mark.points > month.stop - month.begin:
        return month.begin
    stop = month.begin + mark.points
    digest_now = month.digest if stop == month.stop else digest(series, month.begin, stop)
    return stop if digest_now == mark.digest else month.begin


def _without_seams(ranges: Iterable[_Range]) -> deque[_Range]:
    """The same ranges, in order; those that meet are one."""
    merged: deque[_Range] = deque()
    for begin, stop in ranges:
        begin = merged.pop()[0] if merged and merged[-1][1] == begin else begin
        merged.append((begin, stop))
    return merged


def _first(ranges: Iterable[_Range], points: int) -> Iterator[_Range]:
    """The first so many points of ranges."""
    for begin, stop in ranges:
        if not points:
            return
        stop = min(stop, begin + points)
        points -= stop - begin
        yield begin, stop


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
