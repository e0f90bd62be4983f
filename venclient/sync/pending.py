"""The pending part of a series: found by comparing it with the ledger's marks by month, and cut into chunks."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from venclient.models import Chunk, Mark, MeterSeries, Month, Period, joined
from venclient.months import day_number, digest, digests, index_at, mark_start_s, month_of, start_at
from venclient.wires import ANY_POINTS, Layout

# Digests of a month's chunks are computed together in one pass, as each pass over a long series reads the file.
DIGESTS_PER_PASS = 20

_Range = tuple[int, int]  # of indices, [begin, stop)


@dataclass(frozen=True, slots=True)
class Pending:
    """Points of a month that the VTN has not acknowledged, by index `[begin, stop)`.

    `is_corrected`: whether it has acknowledged others in their place.
    """

    month: Month
    begin: int
    stop: int
    is_corrected: bool = False

    @property
    def points(self) -> int:
        """Number of points."""
        return self.stop - self.begin


def pending(series: MeterSeries, marks: Mapping[int, Mark]) -> list[Pending]:
    """Compare a series with the points that the VTN has acknowledged, by month, and return what is pending, in order.

    Where points are the same as those of a mark, they are left out: if others were appended, only those are pending. If
    acknowledged points were changed, all of their mark are.
    """
    # First what is quick: of most loads the VTN has nothing, or all months.
    if not marks:
        return [Pending(month, month.begin, month.stop) for month in series.months]
    others = [month for month in series.months if not _is_whole(month, marks.get(month.number))]
    return [
        part
        for month in others
        for part in _parts(series, month, [mark for mark in marks.values() if month_of(mark.month) == month.number])
    ]


def indices_of(series: MeterSeries, starts: Collection[int]) -> dict[int, int]:
    """Return the index of each point with one of these starts, by start; starts that the series lacks are left out."""
    indices: dict[int, int] = {}
    begin = 0
    for points in series.slices() if starts else ():
        for index in np.flatnonzero(np.isin(points.start_s, list(starts))).tolist():
            indices[int(points.start_s[index])] = begin + index
        begin += len(points)
    return indices


def indices_outside(series: MeterSeries, parts: Sequence[Pending], starts: Collection[int]) -> list[int]:
    """Return the indices of the points with one of these starts that are in none of the pending parts."""
    indices = indices_of(series, starts).values()
    return [index for index in indices if not any(part.begin <= index < part.stop for part in parts)]


class PendingRanges:
    """A queue of the points to send, oldest first.

    `layout`: how the wire lays them out in requests; `refused`: indices of points that the VTN has refused, which are
    left out where others are sent again. `again`: those of them that are to be sent nevertheless. `reasons`: months
    that are not simply the next ones, as text with why they are sent, by number; `waiting`: parts that are pending as
    well, and not sent.
    """

    def __init__(
        self,
        series: MeterSeries,
        parts: Sequence[Pending],
        layout: Layout = ANY_POINTS,
        refused: Collection[int] = (),
        again: Sequence[int] = (),
        reasons: Mapping[int, str] = MappingProxyType({}),
        waiting: Sequence[Pending] = (),
    ) -> None:
        self._series = series
        self._parts = parts
        self._waiting = waiting
        self._layout = layout
        self._refused = set(refused)
        self._reasons = reasons
        ranges = [(part.begin, part.stop) for part in parts] + [(index, index + 1) for index in again]
        self._ranges = _merge_adjacent(sorted(ranges))
        self._points = sum(stop - begin for begin, stop in self._ranges)
        self._digests: dict[int, bytes] = {}  # by index: from where its mark begins up to there

    def __len__(self) -> int:
        return self._points

    def peek(self, points: int) -> Chunk:
        """Return the first points, up to the end of a period, and the marks that hold once they are sent or refused."""
        period = self._layout.period_of(self._series, self._ranges[0][0])
        ranges = list(_first(self._ranges, points))
        if period is not None:
            ranges = [(begin, min(stop, period.stop)) for begin, stop in ranges if begin < period.stop]
        begin, stop = ranges[0][0], ranges[-1][1]
        reached = {part.month.number: part.month for part in self._parts if part.begin < stop and begin < part.stop}
        marks = tuple(self._mark(month, min(stop, month.stop), points) for month in reached.values())
        reason = "; ".join(self._reasons[number] for number in reached if number in self._reasons)
        return self._chunk(ranges, period, marks, reason or None)

    def last(self) -> Chunk:
        """Return the last point alone. It has no marks, as those would cover the points before it."""
        stop = self._ranges[-1][1]
        period = self._layout.period_of(self._series, stop - 1)
        return replace(self._chunk([(stop - 1, stop)], period, ()), is_last=False)

    def consume(self, points: int) -> None:
        """Remove the first points, which were sent or refused."""
        for begin, stop in list(_first(self._ranges, points)):
            _, end = self._ranges.popleft()
            self._points -= stop - begin
            if stop < end:
                self._ranges.appendleft((stop, end))

    def refuse(self) -> None:
        """Remove the first point, which the VTN refuses."""
        self._refused.add(self._ranges[0][0])
        self.consume(1)

    def _chunk(
        self, ranges: Sequence[_Range], period: Period | None, marks: tuple[Mark, ...], reason: str | None = None
    ) -> Chunk:
        sent = ranges if period is None else self._whole(period, ranges)
        part = joined([self._series.points(*each) for each in sent])
        pending = sum(stop - begin for begin, stop in ranges)
        return Chunk(
            *(part.start_s, part.power_w, part.quality, part.interval_s),
            codes=self._series.codes,
            marks=marks,
            is_last=pending == len(self) and not self._waiting,
            pending=pending,
            first_pending=sum(min(stop, ranges[0][0]) - begin for begin, stop in sent if begin < ranges[0][0]),
            period=period.name if period else None,
            reason=reason,
        )

    def _whole(self, period: Period, ranges: Sequence[_Range]) -> list[_Range]:
        """The points of a period that the VTN is to have once these ranges are sent, as ranges."""
        if list(ranges) == [(period.begin, period.stop)]:
            return list(ranges)
        is_left_out = np.zeros(period.stop - period.begin, dtype=bool)
        for begin, stop in self._ranges:
            is_left_out[max(begin - period.begin, 0) : max(stop - period.begin, 0)] = True
        for index in self._refused:
            if period.begin <= index < period.stop:
                is_left_out[index - period.begin] = True
        for begin, stop in ranges:
            is_left_out[begin - period.begin : stop - period.begin] = False
        edges = np.flatnonzero(np.diff(is_left_out, prepend=True, append=True)) + period.begin
        return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))

    def _mark(self, month: Month, stop: int, points: int) -> Mark:
        """Return the mark of a month that holds once all up to this stop is sent.

        It begins after the last point that waits, and goes on over the points that the VTN has acknowledged before.
        """
        if stop == month.stop and not self._waiting:
            return Mark(month.number, month.stop - month.begin, month.last_start_s, month.digest)
        waits_until = [part.stop for part in self._waiting if part.month.number == month.number and part.begin < stop]
        begin = max(waits_until, default=month.begin)
        others = [part for part in (*self._parts, *self._waiting) if part.month.number == month.number]
        stop = max(stop, min((part.begin for part in others if part.stop > stop), default=month.stop))
        number = month.number if begin == month.begin else day_number(start_at(self._series, begin))
        last_start_s = month.last_start_s if stop == month.stop else start_at(self._series, stop - 1)
        return Mark(number, stop - begin, last_start_s, self._digest(month, begin, stop, points))

    def _digest(self, month: Month, begin: int, stop: int, points: int) -> bytes:
        """Return the digest up to this stop.

        Computes those of the following chunks as well, on the assumption that they have as many points.
        """
        if (begin, stop) == (month.begin, month.stop):
            return month.digest
        if stop not in self._digests:
            stops = range(stop, month.stop + 1, points)[:DIGESTS_PER_PASS]
            self._digests = dict(zip(stops, digests(self._series, begin, stops), strict=True))
        return self._digests[stop]


def cut(series: MeterSeries, parts: Sequence[Pending], chunk_size: int, layout: Layout = ANY_POINTS) -> Iterator[Chunk]:
    """Yield chunks of up to `chunk_size` pending points, oldest first."""
    return chunks_of(PendingRanges(series, parts, layout), chunk_size)


def chunks_of(ranges: PendingRanges, chunk_size: int) -> Iterator[Chunk]:
    """Consume these ranges, and yield them as chunks of up to `chunk_size` points."""
    while ranges:
        chunk = ranges.peek(chunk_size)
        yield chunk
        ranges.consume(chunk.pending)


def _is_whole(month: Month, mark: Mark | None) -> bool:
    return mark is not None and mark.digest == month.digest and mark.points == month.stop - month.begin


def _parts(series: MeterSeries, month: Month, marks: Iterable[Mark]) -> Iterator[Pending]:
    """Yield the points of a month that are in none of its marks, or in one that does not hold any more."""
    acknowledged: list[_Range] = []
    changed: list[int] = []
    for mark in marks:
        begin = month.begin if mark.month == month.number else index_at(series, mark_start_s(mark.month))
        stop = begin + mark.points
        if _holds(series, month, begin, mark):
            acknowledged.append((begin, stop))
        else:
            changed.append(begin)
    begin = month.begin
    for first, stop in (*sorted(acknowledged), (month.stop, month.stop)):
        if begin < first:
            yield Pending(month, begin, first, any(begin <= index < first for index in changed))
        begin = max(begin, stop)


def _holds(series: MeterSeries, month: Month, begin: int, mark: Mark) -> bool:
    stop = begin + mark.points
    if stop > month.stop:
        return False
    is_whole = (begin, stop) == (month.begin, month.stop)
    return (month.digest if is_whole else digest(series, begin, stop)) == mark.digest


def _merge_adjacent(ranges: Iterable[_Range]) -> deque[_Range]:
    """Join ranges of which one ends where the next begins; they must be in order."""
    merged: deque[_Range] = deque()
    for begin, stop in ranges:
        begin = merged.pop()[0] if merged and merged[-1][1] == begin else begin
        merged.append((begin, stop))
    return merged


def _first(ranges: Iterable[_Range], points: int) -> Iterator[_Range]:
    """Yield the ranges that hold the first points."""
    for begin, stop in ranges:
        if not points:
            return
        stop = min(stop, begin + points)
        points -= stop - begin
        yield begin, stop
